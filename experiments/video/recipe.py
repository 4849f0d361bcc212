"""What the recipes of this folder share: options, data, schedules, the loss, the run.

    config, data = recipe.prepare(args, config, SCHEDULE)
    model = recipe.build(slowfast.Model, config, args)
    optimiser = recipe.sgd(SCHEDULE, data)
    state = recipe.fit(model, recipe.loss, optimiser, data, args)

A `Schedule` is in epochs, as papers print it. Without --data the clips are those of a
task of `jaxflow.data.motion_classes`, drawn inside the step; an epoch is then 4000.
"""

import dataclasses
import functools
import json
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import checkpoint, classify, convert, train
from jaxflow.data import motion_classes

DRAWN_EPOCH = 4000
Task = Literal["motion8", "motion8-local", "order2", "product", "fastslow", "longclip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options of every recipe.

    Attributes:
        workdir: Folder for checkpoints and logs.
        task: Clips to train on, without `data`.
        data: Folder of a folder a class, or a list of videos, to train on; see
            `jaxflow.data.lists.list_videos`.
        test: The same, to test the trained net on. Its classes are those of `data`.
        first_label: Number of the first class in lists that do not tell, 0 or 1.
        videos: Folder that the paths of lists are relative to; None for the list's own.
        start: Run, saved model, file or published name of weights to begin with; the
            classifier begins anew if it is for another number of classes.
        steps: Number of steps; None for all of the published schedule. Fewer shrink it.
        batch_size: Clips in a batch; None for the published number. The learning rate
            grows with it.
        frames: Frames of a clip; None for the published number, or the task's.
        size: Height and width of a clip; None for the published ones, or the task's.
        width: Width of the network; None for the published one.
        views: Clips and crops a video is tested by.
        seed: Of weights, data and dropout.
        workers: Processes that decode `data`.
        save_every: Steps between checkpoints.
    """

    workdir: pathlib.Path
    task: Task = "motion8"
    data: pathlib.Path | None = None
    test: pathlib.Path | None = None
    first_label: Literal[0, 1] | None = None
    videos: pathlib.Path | None = None
    start: pathlib.Path | None = None
    steps: int | None = None
    batch_size: int | None = None
    frames: int | None = None
    size: int | None = None
    width: float | None = None
    views: tuple[int, Literal[1, 3, 5, 10]] = (10, 3)
    seed: int = 0
    workers: int = 0
    save_every: int = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A published schedule.

    Attributes:
        epochs: Its length.
        rate: Learning rate for batches of `batch_size`.
        batch_size: Clips in a batch.
        drops: Epochs at which the rate is multiplied by `factor`; () has it follow half
            a period of the cosine, down to 0.
        factor: See `drops`.
        warmup: Epochs of linear growth from `warmup_rate` to where the rate then is.
        warmup_rate: Rate at the first step, if there is a warm-up.
        decay: Weight decay.
        decay_norms: Whether scales and shifts of normalisations decay, too.
        nesterov: Whether the momentum of 0.9 is Nesterov's.
        clip: Norm that gradients are clipped to; None leaves them.
        short_side: Range of the length that a video's shorter side is resized to, over
            the side of the crop.
        flip: Whether clips of `Args.data` are mirrored.
    """

    epochs: float
    rate: float
    batch_size: int
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    warmup: float = 0
    warmup_rate: float = 0
    decay: float = 1e-4
    decay_norms: bool = True
    nesterov: bool = False
    clip: float | None = None
    short_side: tuple[float, float] = (256 / 224, 320 / 224)
    flip: bool = True


class Data(NamedTuple):
    """Where batches come from, and how many there are.

    Attributes:
        steps: Steps of the run.
        batch_size: Clips in a batch.
        batches: Iterator of batches, or None.
        draw: Random key -> batch, or None.
    """

    steps: int
    batch_size: int
    batches: Iterator | None
    draw: Callable | None


def prepare(args: Args, config: Any, schedule: Schedule) -> tuple[Any, Data]:
    """Fits a model's config to the data, and the schedule's length to the options."""
    batch_size = args.batch_size or schedule.batch_size
    task = motion_classes.TASKS[args.task]
    if args.data is None:
        frames, size, names = task.frames, task.size[0], task.classes
        epoch = DRAWN_EPOCH
    else:
        from jaxflow.data import clips, lists

        frames, size = config.num_frames, config.crop_size
        source = clips.Videos(
            args.data, part="train", first_label=args.first_label, videos=args.videos
        )
        names, epoch = source.names, len(source)
        if jax.process_index() == 0:
            lists.save_classes(args.workdir, names)
    frames, size = args.frames or frames, args.size or size
    config = dataclasses.replace(
        config, num_classes=len(names), num_frames=frames, crop_size=size
    )
    if args.width is not None:
        width = type(config.width)(args.width)
        config = dataclasses.replace(config, width=width)
    steps = args.steps or round(schedule.epochs * epoch / batch_size)
    if args.data is None:
        draw = functools.partial(
            motion_classes.clip_batch,
            task=args.task,
            batch_size=batch_size,
            frames=frames,
            size=(size, size),
        )
        return config, Data(steps, batch_size, None, draw)
    loader = clips.clip_loader(
        source,
        batch_size=batch_size // jax.process_count(),
        num_frames=frames,
        stride=config.frame_stride,
        rate=getattr(config, "frame_rate", clips.TARGET_FPS),
        size=size,
        short_side=tuple(round(size * scale) for scale in schedule.short_side),
        flip=schedule.flip,
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
    )
    return config, Data(steps, batch_size, iter(loader), None)


def build(model_type: Callable, config: Any, args: Args) -> Any:
    """Returns a model with fresh weights, or with those of `args.start`."""

    rngs = nnx.Rngs(jax.random.key(args.seed, impl="rbg"))
    model = model_type(config, rngs=rngs)
    if args.start is not None:
        convert.load_weights(model, args.start, head="match")
    return model


def inflate(
    model: nnx.Module,
    state: Mapping[str, np.ndarray],
    table: Sequence[tuple[str, str]],
) -> None:
    """Starts a 3-D network, but for its classifier, from the weights of a 2-D one.

    Args:
        model: The 3-D network; kernels of T frames become T copies, divided by T.
        state: Key -> array in torch's layout.
        table: (pattern of a key, our path), as `KEYS` of a model's file has them.

    Raises:
        ValueError: If a key of the table's is missing from `state`, or misshapen.
    """
    left = set(convert.weight_slots(model))
    for key, array in state.items():
        for pattern, path in table:
            if not (found := re.fullmatch(pattern, key)):
                continue
            slot = convert.find_slot(model, found.expand(path))
            if slot is None:
                raise ValueError(f"{key}: the network has no {found.expand(path)}")
            array = np.asarray(array)
            if not slot.accepts(array.shape):
                raise ValueError(f"{key}: {array.shape} is not {slot.foreign_shape}")
            slot.fill(array)
            left.discard(slot.path)
    missing = sorted(path for path in left if not path.startswith(("head", "class")))
    if missing:
        raise ValueError(f"{len(missing)} weights are not in it: {missing[:3]} ...")


def rate(schedule: Schedule, data: Data) -> optax.Schedule:
    """Returns step -> learning rate, with the published epochs shrunk to the run."""
    scale = data.batch_size / schedule.batch_size

    def settled(epoch):
        if not schedule.drops:
            turn = jnp.pi * epoch / schedule.epochs
            return schedule.rate * 0.5 * (1 + jnp.cos(turn))
        passed = sum(jnp.where(epoch >= drop, 1.0, 0.0) for drop in schedule.drops)
        return schedule.rate * schedule.factor**passed

    def at(step):
        epoch = jnp.asarray(step, jnp.float32) * (schedule.epochs / data.steps)
        value = settled(epoch)
        if schedule.warmup:
            share = epoch / schedule.warmup
            goal = settled(jnp.float32(schedule.warmup))
            ramp = schedule.warmup_rate + (goal - schedule.warmup_rate) * share
            value = jnp.where(share < 1, ramp, value)
        return scale * value

    return at


def sgd(
    schedule: Schedule, data: Data, *, share: float = 1.0
) -> optax.GradientTransformation:
    """Returns gradient descent with momentum 0.9, at a share of the schedule's rate."""
    pace = rate(schedule, data)
    mask = None if schedule.decay_norms else decaying
    parts = [
        optax.add_decayed_weights(schedule.decay, mask=mask),
        optax.sgd(
            lambda step: share * pace(step), momentum=0.9, nesterov=schedule.nesterov
        ),
    ]
    if schedule.clip is not None:
        parts.insert(0, optax.clip_by_global_norm(schedule.clip))
    return optax.chain(*parts)


def decaying(params: Any) -> Any:
    """Marks what decays: all but the scales and shifts of normalisations."""
    if not isinstance(params, Mapping):
        return True
    if "scale" in params:
        return jax.tree.map(lambda _: False, params)
    return {name: decaying(part) for name, part in params.items()}


def loss(model: Any, batch: Mapping[str, jax.Array]):
    """Returns the cross entropy, and the share of clips whose best class is right."""
    scores = model(batch["clip"])
    return classification(scores, batch["label"])


def classification(scores: jax.Array, labels: jax.Array):
    """Returns the cross entropy of logits, and {"top1"}."""
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    right = jnp.argmax(scores, axis=-1) == labels
    return jnp.mean(entropy), {"top1": jnp.mean(right.astype(jnp.float32))}


def fit(
    model: nnx.Module,
    loss: Callable,
    optimiser: optax.GradientTransformation,
    data: Data,
    args: Args,
) -> train.TrainState:
    """Trains, or goes on training, and leaves the trained weights in `model`."""
    step = train.make_step(
        model,
        loss,
        optimiser,
        draw=data.draw,
    )
    state = train.fit(
        step,
        train.init(model, optimiser, seed=args.seed),
        data.batches,
        steps=data.steps,
        workdir=args.workdir,
        save_every=args.save_every,
    )
    train.finish(model, state)
    return state


def finish(model: nnx.Module, args: Args) -> None:
    """Saves the trained model as `workdir`/model, tests it and prints the result."""
    checkpoint.save(args.workdir / "model", model)
    print(json.dumps(test(model, args)))


def test(model: Any, args: Args, *, clips: int = 800) -> dict[str, float]:
    """Returns the shares of test videos whose class is the best, and among five best.

    A video that cannot be decoded is named in a warning and left out of the shares.

    Args:
        model: The trained model.
        args: With `test`, its videos are scored, by the mean over `views`; without
            `data`, clips of the task that no training draws.
        clips: How many of those.

    Returns:
        "top1" and "top5"; with `test` also how many "videos" were scored, and how many
        are "damaged".

    Raises:
        ValueError: If no video can be decoded, or a class is unknown to training.
    """
    if args.test is not None:
        from jaxflow.data import lists

        videos, names = lists.list_videos(
            args.test,
            names=lists.load_classes(args.workdir),
            part="test",
            first_label=args.first_label,
            videos=args.videos,
        )
        if len(names) != model.config.num_classes:
            raise ValueError(
                f"{args.test}: has {len(names)} classes, the model "
                f"{model.config.num_classes}; {args.workdir} does not say which"
            )
        scores, labels = score_videos(model, videos, args.views)
        counts = {"videos": len(labels), "damaged": len(videos) - len(labels)}
        return {**shares(scores, labels), **counts}
    if args.data is not None:
        return {}
    config = model.config
    size = (config.crop_size, config.crop_size)
    held_out = motion_classes.load(
        "test", clips, task=args.task, frames=config.num_frames, size=size
    )
    graph, weights = nnx.split(model)
    score = jax.jit(lambda weights, clip: nnx.merge(graph, weights)(clip))
    parts = np.array_split(np.asarray(held_out["clip"]), max(1, clips // 20))
    scores = np.concatenate([np.asarray(score(weights, part)) for part in parts])
    return shares(scores, np.asarray(held_out["label"]))


def score_videos(
    model: Any, videos: Sequence, views: tuple[int, Literal[1, 3, 5, 10]]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores videos by the mean over views; names those that cannot be decoded.

    Args:
        model: The trained model.
        videos: `jaxflow.data.lists.Video`s.
        views: Clips and crops of each.

    Returns:
        Scores, (N, classes), and labels, (N,), of the videos that could be decoded.

    Raises:
        ValueError: If none could.
    """
    scores, labels, faults = [], [], []
    for path, label in videos:
        try:
            found = classify.classify_video(model, path, clips=views[0], crops=views[1])
        except (ValueError, OSError) as error:
            warnings.warn(f"{path}: left out of the test: {error}", stacklevel=2)
            faults.append(error)
            continue
        scores.append(np.asarray(found))
        labels.append(label)
    if not scores:
        raise ValueError(f"none of {len(videos)} videos can be scored: {faults[0]}")
    return np.stack(scores), np.array(labels)


def shares(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns how often the true class is the best, and among the five best.

    Of equal scores the first class counts as the best, as by argmax. A score that is
    NaN is worse than any for the true class and better than any for another.

    Args:
        scores: (N, classes).
        labels: (N,) integers, from 0.
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    above = ~(scores <= own) | ((scores == own) & before)
    ranks = above.sum(1)
    return {"top1": float(np.mean(ranks < 1)), "top5": float(np.mean(ranks < 5))}
