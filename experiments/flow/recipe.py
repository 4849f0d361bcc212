"""What the recipes beside this file share: options, schedules, batches, and the run.

A recipe has a header (the published schedule, the paper's numbers, ours), `STAGES`, a
loss and a `main`; what differs from paper to paper stands there, in plain sight. All
take the options below, and go on where they were stopped if they are run again:

    python experiments/flow/RECIPE.py --workdir runs/one --stage NAME --steps 1000 \
        --preset translation --batch-size 4 --size 128 192

Without --data, scenes are drawn on the device: each stage has presets that stand in for
its data set. With it, pairs are read and augmented as the stage says:

    --data chairs=FlyingChairs_release
    --data things_clean=FlyingThings3D things_final=FlyingThings3D
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import convert, train
from jaxflow.data import augment, folders, synthetic
from jaxflow.layers import norm

Preset = Literal["translation", "chairs", "things", "sdhom"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A published schedule.

    Attributes:
        steps: Its length.
        rate: Learning rate, at its highest.
        batch_size: Pairs in a batch.
        size: Height and width of what the network sees.
        halve_at: Steps at which the rate is halved.
        warm_up: Steps in which the rate rises from a hundredth.
        decay: Factor of the weight decay.
        presets: Synthetic scenes that stand in for the data, in equal parts.
        augmentation: Name of a recipe of `data.augment`, for data from files.
        repeats: How many times an epoch sees a data set, where that is not once.
    """

    steps: int
    rate: float
    batch_size: int
    size: tuple[int, int]
    halve_at: tuple[int, ...] = ()
    warm_up: int = 0
    decay: float = 4e-4
    presets: tuple[str, ...] = ("chairs",)
    augmentation: str = "flownet"
    repeats: Mapping[str, int] = dataclasses.field(default_factory=dict)


# The schedules of FlowNet 2.0 (Ilg et al., CVPR 2017, Fig. 5), which others took over.
SHORT = Stage(
    steps=600_000,
    rate=1e-4,
    batch_size=8,
    size=(320, 448),
    halve_at=(300_000, 400_000, 500_000),
)
LONG = Stage(
    steps=1_200_000,
    rate=1e-4,
    batch_size=8,
    size=(320, 448),
    halve_at=(400_000, 600_000, 800_000, 1_000_000),
)
FINE = Stage(
    steps=600_000,
    rate=1e-5,
    batch_size=4,
    size=(384, 768),
    halve_at=(200_000, 300_000, 400_000, 500_000),
    presets=("things",),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every recipe can be told.

    Attributes:
        workdir: Folder for checkpoints and logs.
        stage: Published schedule to follow; None for the recipe's first, or for all in
            turn if the recipe is a curriculum.
        variant: Public name of the network; None for the recipe's own.
        preset: Synthetic scenes to train on instead of the stage's.
        data: Data sets to train on instead, each as LAYOUT=FOLDER; a layout is one of
            `jaxflow.data.folders`, and "chairs" is prepared through TFDS.
        prepared: Where TFDS keeps what it makes of FlyingChairs.
        start: Run, saved model, file or published name of weights to begin with.
        steps: Number of steps to shrink each schedule to.
        batch_size: Pairs in a batch; None for the published number.
        size: Height and width of the crop; None for the published ones.
        seed: Of weights, data and augmentation.
        workers: Processes that read `data`.
        save_every: Steps between checkpoints.
    """

    workdir: pathlib.Path
    stage: str | None = None
    variant: str | None = None
    preset: Preset | None = None
    data: tuple[str, ...] = ()
    prepared: pathlib.Path = pathlib.Path("tensorflow_datasets")
    start: pathlib.Path | None = None
    steps: int | None = None
    batch_size: int | None = None
    size: tuple[int, int] | None = None
    seed: int = 0
    workers: int = 0
    save_every: int = 5000


def choose(stages: Mapping[str, Stage], options: Options) -> Stage:
    """Returns the stage that the options name, or the first, as `adapt` has it.

    Raises:
        ValueError: If there is no stage of that name.
    """
    return adapt(stages[names(stages, options)[0]], options)


def names(stages: Mapping[str, Any], options: Options) -> list[str]:
    """Returns the names of the stages to run: the one that is named, or all.

    Raises:
        ValueError: If there is no stage of that name.
    """
    if options.stage is None:
        return list(stages)
    if options.stage not in stages:
        raise ValueError(
            f"`stage` must be one of {list(stages)}; got {options.stage!r}"
        )
    return [options.stage]


def adapt(stage: Stage, options: Options) -> Stage:
    """Returns a published schedule as the options want it.

    Shrinking moves each change of the rate in proportion.
    """
    steps = options.steps or stage.steps
    return dataclasses.replace(
        stage,
        steps=steps,
        halve_at=tuple(round(at * steps / stage.steps) for at in stage.halve_at),
        warm_up=round(stage.warm_up * steps / stage.steps),
        batch_size=options.batch_size or stage.batch_size,
        size=options.size or stage.size,
        presets=(options.preset,) if options.preset else stage.presets,
    )


def build(
    module: Any, options: Options, config: Any = None, **changes: Any
) -> nnx.Module:
    """Makes the network of a model file and fills it from `options.start`, if given.

    Args:
        module: File of `jaxflow.models.flow`.
        options: Of them variant, seed and start; without a variant, the file's first.
        config: Numbers of the network, instead of a variant's.
        **changes: Of the variant's numbers, for training.

    Raises:
        ValueError: If the file has no variant of that name.
    """
    variant = options.variant or next(iter(module.VARIANTS))
    if variant not in module.VARIANTS:
        raise ValueError(
            f"`variant` must be one of {list(module.VARIANTS)}; got {variant!r}"
        )
    config = config or dataclasses.replace(module.VARIANTS[variant], **changes)
    model = module.Model(config, rngs=seeded(options))
    if options.start is not None:
        convert.load_weights(model, options.start)
    return model


def seeded(options: Options) -> nnx.Rngs:
    """Returns the source of initial weights."""
    return nnx.Rngs(jax.random.key(options.seed, impl="rbg"))


def halving(stage: Stage) -> optax.Schedule:
    """Returns the learning rate of a stage: warm-up, then halvings."""
    times = collections.Counter(stage.halve_at)
    halved = optax.piecewise_constant_schedule(
        stage.rate, {step: 0.5**count for step, count in times.items()}
    )
    if not stage.warm_up:
        return halved
    rise = optax.linear_schedule(stage.rate / 100, stage.rate, stage.warm_up)
    # A joined schedule counts from its own beginning.
    return optax.join_schedules(
        [rise, lambda step: halved(step + stage.warm_up)], [stage.warm_up]
    )


def adam(stage: Stage) -> optax.GradientTransformation:
    """Returns Adam with L2 on kernels, as Caffe has it, and clipped gradients."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.add_decayed_weights(stage.decay, mask=kernels),
        optax.adam(halving(stage)),
    )


def kernels(params):
    """Marks what decays: all but biases and what normalisation scales by."""
    return jax.tree.map(lambda array: array.ndim > 1, params)


def only(
    optimiser: optax.GradientTransformation, parts: Sequence[str]
) -> optax.GradientTransformation:
    """Restricts an optimiser to some parts of a model; the others stay bit for bit.

    Args:
        optimiser: For those parts; its clipping sees nothing else.
        parts: Dotted paths in the model: "flownetc", "levels.0".
    """

    def label(path, _):
        name = jax.tree_util.keystr(path, simple=True, separator=".") + "."
        return "trained" if name.startswith(starts) else "fixed"

    starts = tuple(f"{part}." for part in parts)
    return optax.partition(
        {"trained": optimiser, "fixed": optax.set_to_zero()},
        lambda params: jax.tree_util.tree_map_with_path(label, params),
    )


def freeze_batch_norm(model: nnx.Module) -> None:
    """Makes batch normalisation use its running statistics, and leave them alone."""
    model.set_attributes(norm.BatchNorm, use_running_average=True)


def draw(key: jax.Array, *, stage: Stage) -> dict[str, jax.Array]:
    """Draws a batch of scenes, in equal parts of each preset of the stage.

    Raises:
        ValueError: If the batch does not divide by the number of presets.
    """
    parts = len(stage.presets)
    if stage.batch_size % parts:
        raise ValueError(
            f"`batch_size` must be a multiple of {parts}, the number of presets "
            f"{stage.presets}; got {stage.batch_size}"
        )
    batches = [
        synthetic.flow_batch(
            key if parts == 1 else jax.random.fold_in(key, index),
            preset=preset,
            batch_size=stage.batch_size // parts,
            size=stage.size,
        )
        for index, preset in enumerate(stage.presets)
    ]
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *batches)


class Pairs:
    """Elements of several data sets in a row, for `data.loaders`."""

    def __init__(self, sources: Sequence[Sequence]):
        self.sources = sources
        self.ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Reads one pair: image1, image2, flow, and valid where flow is known."""
        place = int(np.searchsorted(self.ends, index, side="right"))
        source = self.sources[place]
        element = source[index - int(self.ends[place]) + len(source)]
        if isinstance(element, folders.Sample):
            image1, image2, flow, valid = element
        else:
            image1, image2, flow = (element[k] for k in ("image1", "image2", "flow"))
            valid = np.ones(flow.shape[:2], bool)
        return {"image1": image1, "image2": image2, "flow": flow, "valid": valid}


def sources_of(options: Options, stage: Stage) -> list[Sequence]:
    """Returns the data sets of the options, each as often as the stage repeats it.

    Raises:
        ValueError: If one is not given as LAYOUT=FOLDER, or its layout is not known.
    """
    sources = []
    for item in options.data:
        layout, equals, folder = item.partition("=")
        if not equals:
            raise ValueError(f"`data` must be given as LAYOUT=FOLDER; got {item!r}")
        if layout == "chairs":
            from jaxflow.data.builders import flying_chairs

            builder = flying_chairs.FlyingChairs.prepare(folder, options.prepared)
            source = builder.as_data_source("train")
        else:
            source = folders.Folder(layout, folder)
        sources += [source] * stage.repeats.get(layout, 1)
    return sources


def batches_of(options: Options, stage: Stage):
    """Returns an iterator over data from files, and its augmentation on the device."""
    from jaxflow.data import loaders

    sources = sources_of(options, stage)
    # Frames of a batch must be of one size before the device augments them.
    differ = len(set(options.data)) > 1 or options.data[0].startswith(("kitti", "hd1k"))
    loader = loaders.flow_loader(
        Pairs(sources),
        batch_size=stage.batch_size // jax.process_count(),
        crop=stage.size if differ else None,
        seed=options.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=options.workers,
    )
    change = functools.partial(
        augment.augment_batch, recipe=stage.augmentation, size=stage.size
    )
    return iter(loader), change


def run(
    options: Options,
    stage: Stage,
    model: nnx.Module,
    loss: train.Loss,
    optimiser: optax.GradientTransformation,
    *,
    draw: Callable[..., dict[str, jax.Array]] = draw,
    folder: str = "",
) -> train.TrainState:
    """Trains a stage, or goes on training it.

    Args:
        options: Of them workdir, data, seed and what reading needs.
        stage: From `adapt`.
        model: Its initial weights.
        loss: (model, batch) -> loss.
        optimiser: For this stage.
        draw: (key, stage=stage) -> batch, without `data`.
        folder: Of the run, inside `workdir`.

    Returns:
        The last state.
    """
    batches = change = None
    drawn = None if options.data else functools.partial(draw, stage=stage)
    if options.data:
        batches, change = batches_of(options, stage)
    step = train.make_step(model, loss, optimiser, draw=drawn, augment=change)
    return train.fit(
        step,
        train.init(model, optimiser, seed=options.seed),
        batches,
        steps=stage.steps,
        workdir=options.workdir / folder,
        save_every=options.save_every,
    )
