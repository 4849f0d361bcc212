"""What the recipes of this folder add to `core`: pairs of frames, and tests of flow.

    python experiments/flow/RECIPE.py --workdir runs/one                  # all stages
    python experiments/flow/RECIPE.py --workdir runs/try --steps 3        # a quick try
    python experiments/flow/RECIPE.py --workdir runs/one --stage NAME --steps 1000 \
        --preset translation --batch-size 4 --size 128 192

Without --data, scenes are drawn on the device: each stage has presets that stand in for
its data sets. With it, pairs are read and augmented as the stage says; each stage takes
those of its own layouts:

    --data chairs=FlyingChairs_release things_clean=FlyingThings3D

While it trains, the network is tested at each checkpoint on scenes that no training
draws, or on the pairs of --validate.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import estimate, evaluate, run_record, train
from jaxflow.data import augment, folders, synthetic
from jaxflow.layers import norm

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import core

Preset = Literal["translation", "chairs", "things", "sdhom"]
# Training draws from keys of seeds below this one, testing from keys of seeds above.
HELD_OUT = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(core.Options):
    """What every recipe of flow can be told.

    Attributes:
        variant: Public name of the network; without it the recipe's own.
        preset: Synthetic scenes to train on instead of the stage's.
        data: Data sets to train on instead, each as LAYOUT=FOLDER; a layout is one of
            `jaxflow.data.folders`, and "chairs" is prepared through TFDS.
        prepared: Where TFDS keeps what it makes of FlyingChairs.
        size: Height and width of the crop; without it the published ones.
        validate: Data sets to test on at each checkpoint, each as LAYOUT=FOLDER.
        held_out: Scenes to test on without `validate`; 0 tests nothing.
    """

    variant: str | None = None
    preset: Preset | None = None
    data: tuple[str, ...] = ()
    prepared: pathlib.Path = pathlib.Path("tensorflow_datasets")
    size: tuple[int, int] | None = None
    validate: tuple[str, ...] = ()
    held_out: int = 16
    save_every: int = 5000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(core.Stage):
    """A published schedule, with its data.

    Attributes:
        size: Height and width of what the network sees.
        presets: Synthetic scenes that stand in for the data, in equal parts.
        layouts: Data sets that it is for, of `jaxflow.data.folders`; () for any.
        augmentation: Name of a recipe of `data.augment`, for data from files.
        repeats: How many times an epoch sees a data set, where that is not once.
        tested: Whether the network estimates flow as a whole after this stage.
    """

    size: tuple[int, int]
    decay: float = 4e-4
    presets: tuple[str, ...] = ("chairs",)
    layouts: tuple[str, ...] = ()
    augmentation: str = "flownet"
    repeats: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tested: bool = True


CHAIRS = ("chairs",)
THINGS = ("things_clean", "things_final")
# The schedules of FlowNet 2.0 (Ilg et al., CVPR 2017, Fig. 5), which others took over.
SHORT = Stage(
    steps=600_000,
    rate=1e-4,
    batch_size=8,
    size=(320, 448),
    drops=(300_000, 400_000, 500_000),
    layouts=CHAIRS,
)
LONG = Stage(
    steps=1_200_000,
    rate=1e-4,
    batch_size=8,
    size=(320, 448),
    drops=(400_000, 600_000, 800_000, 1_000_000),
    layouts=CHAIRS,
)
FINE = Stage(
    steps=600_000,
    rate=1e-5,
    batch_size=4,
    size=(384, 768),
    drops=(200_000, 300_000, 400_000, 500_000),
    presets=("things",),
    layouts=THINGS,
)

# (name, stage) -> model, loss, optimiser
Learn = Callable[
    [str, Stage], tuple[nnx.Module, train.Loss, optax.GradientTransformation]
]


def run(
    options: Options,
    stages: Mapping[str, Stage],
    learn: Learn,
    *,
    own: Sequence[str] = (),
    begin: Callable = core.begin,
) -> train.TrainState:
    """Runs the stages that the options name, or goes on, and returns the last state.

    Args:
        options: What the recipe was told.
        stages: All that are published, by name, in order.
        learn: What a stage trains, with which loss and optimiser.
        own: Names of the stages to run if the options name none; () for all.
        begin: Fills the model of a stage that has not begun; see `core.begin`.

    Raises:
        ValueError: If an option makes no sense; before anything is trained.
        OSError: If a folder of the data is not there; likewise.
    """
    names = core.choose(stages, options, own)
    chosen = {name: adapt(stages[name], options) for name in names}
    check_folders((*options.data, *options.validate))
    items = {
        name: items_of(options, name, stage, names) for name, stage in chosen.items()
    }
    state: Any = None
    for name, stage in chosen.items():
        model, loss, optimiser = learn(name, stage)
        if not core.has_begun(name, options):
            begin(model, name, stage, options, first=name == names[0])
        recorded = as_recorded(items[name], stage, options.workdir / name)
        state = core.fit(
            model,
            loss,
            optimiser,
            data_of(options, stage, items[name]),
            name=name,
            stage=stage,
            options=dataclasses.replace(options, data=recorded),
            seed=options.seed + list(stages).index(name),
            first=name == names[0],
            evaluate=evaluation(options, stage, model),
        )
    return state


def adapt(stage: Stage, options: Options) -> Stage:
    """Returns a published schedule as the options want it."""
    stage = core.adapt(stage, options)
    return dataclasses.replace(
        stage,
        size=options.size or stage.size,
        presets=(options.preset,) if options.preset else stage.presets,
    )


def build(
    module: Any, options: Options, config: Any = None, **changes: Any
) -> nnx.Module:
    """Makes the network of a model file, with fresh weights.

    Args:
        module: File of `jaxflow.models.flow`.
        options: Of them variant and seed; without a variant, the file's first.
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
    return module.Model(config, rngs=core.seeded(options))


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
    mixed = jax.tree.map(lambda *arrays: jnp.stack(arrays, 1), *batches)
    # In turn, so that each part of an accumulated batch has all of them.
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mixed)


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


def split_item(item: str) -> tuple[str, str]:
    """Returns layout and folder of LAYOUT=FOLDER.

    Raises:
        ValueError: If it is not of that form, or there is no such layout.
    """
    layout, equals, folder = item.partition("=")
    if not equals:
        raise ValueError(
            f"data sets must be given as LAYOUT=FOLDER, e.g. chairs=FlyingChairs; got "
            f"{item!r}"
        )
    if layout not in folders.LAYOUTS:
        raise ValueError(
            f"LAYOUT must be one of {sorted(folders.LAYOUTS)}; got {item!r}"
        )
    return layout, folder


def check_folders(items: Sequence[str]) -> None:
    """Refuses data sets that are not there, before anything is trained.

    Raises:
        ValueError: As `split_item`.
        FileNotFoundError: If a folder does not exist.
    """
    for item in items:
        if not pathlib.Path(split_item(item)[1]).is_dir():
            raise FileNotFoundError(f"{item}: there is no such folder")


def items_of(
    options: Options, name: str, stage: Stage, names: Sequence[str]
) -> tuple[str, ...]:
    """Returns the data sets of a stage: those of its layouts, or all if it runs alone.

    Raises:
        ValueError: If data is given, and none for this stage of several.
    """
    if not stage.layouts or len(names) == 1:
        return options.data
    own = of_layouts(options.data, stage)
    if options.data and not own:
        raise ValueError(
            f"`data` has nothing for stage {name!r}, which is for {stage.layouts}; add "
            "LAYOUT=FOLDER with one of those, or name by --stage the one to run"
        )
    return own


def of_layouts(items: Sequence[str], stage: Stage) -> tuple[str, ...]:
    """Returns the data sets that a stage is for."""
    return tuple(item for item in items if split_item(item)[0] in stage.layouts)


def as_recorded(
    items: tuple[str, ...], stage: Stage, folder: pathlib.Path
) -> tuple[str, ...]:
    """Returns the data sets of a stage in the words of the record of its run.

    Runs of several stages were once recorded with the data sets of all of them.

    Args:
        items: Of the stage.
        stage: Its layouts.
        folder: Of its run.
    """
    config = run_record.read(folder).get("run", {}).get("config") or {}
    before = tuple(config.get("data") or ())
    return before if items and of_layouts(before, stage) == items else items


def sources_of(items: Sequence[str], options: Options, stage: Stage) -> list[Sequence]:
    """Returns the data sets of a stage, each as often as the stage repeats it.

    Raises:
        ValueError: If one is not given as LAYOUT=FOLDER, or its layout is not known.
    """
    sources = []
    for item in items:
        layout, folder = split_item(item)
        if layout == "chairs":
            from jaxflow.data.builders import flying_chairs

            builder = flying_chairs.FlyingChairs.prepare(folder, options.prepared)
            source = builder.as_data_source("train")
        else:
            source = folders.Folder(layout, folder)
        sources += [source] * stage.repeats.get(layout, 1)
    return sources


def data_of(options: Options, stage: Stage, items: Sequence[str]) -> core.Data:
    """Returns where the batches of a stage come from."""
    if not items:
        return core.Data(draw=functools.partial(draw, stage=stage))
    from jaxflow.data import loaders

    # Frames of a batch must be of one size before the device augments them.
    differ = len(set(items)) > 1 or items[0].startswith(("kitti", "hd1k"))
    loader = loaders.flow_loader(
        Pairs(sources_of(items, options, stage)),
        batch_size=stage.batch_size // jax.process_count(),
        crop=stage.size if differ else None,
        seed=options.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=options.workers,
        uint8=True,
    )
    change = functools.partial(
        augment.augment_batch, recipe=stage.augmentation, size=stage.size
    )
    return core.Data(batches=iter(loader), augment=change)


def evaluation(options: Options, stage: Stage, model: nnx.Module) -> Callable | None:
    """Returns what tests a network while it trains: (state) -> metrics, or None.

    End-point error and Fl-all, as `jaxflow.evaluate` measures them, of the network in
    evaluation mode: "held_out_epe" and "held_out_fl" of scenes, or "sintel_clean_epe"
    and so on, by the layout.
    """
    if not stage.tested:
        return None
    items = map(split_item, options.validate)
    sets: dict[str, Sequence] = {name: list_held_out(name, at) for name, at in items}
    if not sets and options.held_out:
        sets = {"held_out": draw_held_out(options, stage)}
    copy = nnx.merge(*nnx.split(model), copy=True)

    def measure(state: train.TrainState) -> dict[str, float]:
        train.finish(copy, state)
        found = {}
        for name, pairs in sets.items():
            estimator = functools.partial(estimate.estimate_flow, copy)
            row = evaluate.evaluate_flow(estimator, pairs)
            found |= {f"{name}_epe": row["epe"], f"{name}_fl": row["fl_all"]}
        return found

    return measure if sets else None


def list_held_out(layout: str, folder: str) -> Sequence:
    """Returns the pairs of a data set that are for testing, or all it has flow for."""
    split = "train"
    if layout == "chairs" or layout.startswith("things"):
        split = "val"
    if layout == "chairs_sdhom" or (pathlib.Path(folder) / "optical_flow").is_dir():
        split = "test"
    return folders.Folder(layout, folder, split=split)


def draw_held_out(options: Options, stage: Stage) -> list[evaluate.Pair]:
    """Draws scenes of the stage's presets that no training draws, one after another."""
    one = dataclasses.replace(stage, batch_size=len(stage.presets))
    scenes = jax.jit(functools.partial(draw, stage=one))
    key = jax.random.key(HELD_OUT + options.seed)
    pairs: list[evaluate.Pair] = []
    for number in range(-(-options.held_out // one.batch_size)):
        batch = jax.device_get(scenes(jax.random.fold_in(key, number)))
        known = np.ones(batch["flow"].shape[:3], bool)
        rows = (batch["image1"], batch["image2"], batch["flow"], known)
        pairs += list(zip(*rows, strict=True))
    return pairs[: options.held_out]
