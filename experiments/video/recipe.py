"""What the recipes of this folder add to `core`: clips, and tests of recognition.

    python experiments/video/RECIPE.py --workdir runs/one                  # all stages
    python experiments/video/RECIPE.py --workdir runs/try --steps 3        # a quick try
    python experiments/video/RECIPE.py --workdir runs/ucf --data ucf101/train.txt \
        --test ucf101/test.txt

A schedule is in epochs, as papers print it. Without --data the clips are those of a
task of `jaxflow.data.motion_classes`, drawn inside the step; an epoch is then 4000.
The network is tested at each checkpoint, and at the end by the views of the paper.
"""

import dataclasses
import functools
import json
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import checkpoint, class_metrics, classify, convert, train
from jaxflow.convert import matching
from jaxflow.data import motion_classes, photometric

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import core

DRAWN_EPOCH = 4000
Task = Literal[
    "motion8", "motion8-local", "order2", "product", "fastslow", "dance", "longclip"
]
Views = tuple[int, Literal[1, 3, 5, 10]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(core.Options):
    """What every recipe of recognition can be told.

    Attributes:
        task: Clips to train on, without `data`.
        data: Folder of a folder a class, or a list of videos, to train on; see
            `jaxflow.data.lists.list_videos`.
        test: The same, to test the net on. Its classes are those of `data`.
        first_label: Number of the first class in lists that do not tell, 0 or 1.
        videos: Folder that the paths of lists are relative to; without it the list's.
        frames: Frames of a clip; without it the published number, or the task's.
        size: Height and width of a clip; without it the published ones, or the task's.
        width: Width of the network; without it the published one.
        views: Clips and crops a video is tested by; without it the published ones.
        smoothing: Share of each label that is spread over all classes; without it the
            published.
        frozen: Whether the classifier alone learns. All before it stays bit for bit,
            and is in evaluation mode: normalisations use their running statistics.
        held_out: Videos of `test`, or clips that no training draws, that the net is
            tested on at each checkpoint, by one view; 0 tests at the end only.
    """

    task: Task = "motion8"
    data: pathlib.Path | None = None
    test: pathlib.Path | None = None
    first_label: Literal[0, 1] | None = None
    videos: pathlib.Path | None = None
    frames: int | None = None
    size: int | None = None
    width: float | None = None
    views: Views | None = None
    smoothing: float | None = None
    frozen: bool = False
    held_out: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(core.Stage):
    """A published schedule, with what is peculiar to clips.

    Attributes:
        short_side: Range of the length that a video's shorter side is resized to, over
            the side of the crop.
        flip: Whether clips of `Args.data` are mirrored.
        views: Clips and crops that a video is tested by.
        smoothing: Share of each label that is spread over all classes.
    """

    factor: float = 0.1
    rate_grows: bool = True
    decay: float = 1e-4
    short_side: tuple[float, float] = (256 / 224, 320 / 224)
    flip: bool = True
    views: Views = (10, 3)
    smoothing: float = 0.0


class Labels(NamedTuple):
    """What a recipe does where a clip may show several classes.

    Attributes:
        draw: Draws clips, as `motion_classes.clip_batch`.
        source: (path, options) -> data source with `names`, as `clips.Videos`.
        loss: (model, batch) -> loss.
        test: As `test`.
    """

    draw: Callable
    source: Callable
    loss: train.Loss
    test: Callable


def run(
    args: Args,
    stages: Mapping[str, Stage],
    model_type: Callable,
    config: Any,
    *,
    own: Sequence[str] = (),
    loss: train.Loss | None = None,
    labels: Labels | None = None,
    optimiser: Callable[[Stage], optax.GradientTransformation] = core.sgd,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    feed: Callable[[Args, Any, Stage], core.Data] | None = None,
    begin: Callable = core.begin,
    end: Callable[[Any, core.Data], None] | None = None,
) -> train.TrainState:
    """Runs the stages that the options name, or goes on; tests, and saves the model.

    The trained model of each is WORKDIR/STAGE/model, its classes are beside it.

    Args:
        args: What the recipe was told.
        stages: All that are published, by name, in order.
        model_type: (config, rngs=rngs) -> model.
        config: Its numbers, but for what the data decides.
        own: Names of the stages to run if the options name none; () for all.
        loss: (model, batch) -> loss; None for the cross entropy, with the smoothing of
            the stage.
        labels: What a recipe does where a clip shows several classes; None where each
            shows one.
        optimiser: (stage) -> optimiser.
        changes: Fields of the config by name of a stage.
        feed: (args, fitted config, adapted stage) -> data, in place of the usual.
        begin: Fills the model of a stage; see `core.begin`.
        end: (model, data) -> None, run before the trained model is tested.

    Returns:
        The last state.
    """
    names = core.choose(stages, args, own)
    loss = loss if labels is None else labels.loss
    judge = test if labels is None else labels.test
    if loss is not None and args.smoothing is not None:
        raise ValueError(
            f"`smoothing`: this recipe has a loss of its own, without smooth labels; "
            f"got {args.smoothing}"
        )
    state: Any = None
    for name in names:
        own_config = dataclasses.replace(config, **(changes or {}).get(name, {}))
        fitted, stage, data = prepare(
            args, own_config, stages[name], name, labels=labels
        )
        data = data if feed is None else feed(args, fitted, stage)
        model = model_type(fitted, rngs=core.seeded(args))
        begin(model, name, stage, args, first=name == names[0])
        objective = loss or functools.partial(classify_loss, smoothing=stage.smoothing)
        if args.frozen:
            stage, objective = freeze(model, stage, objective)
        state = core.fit(
            model,
            objective,
            optimiser(stage),
            data,
            name=name,
            stage=stage,
            options=args,
            seed=args.seed + list(stages).index(name),
            first=name == names[0],
            evaluate=evaluation(args, model, name, judge),
        )
        if end is not None:
            end(model, data)
        checkpoint.save(args.workdir / name / "model", model)
        views = args.views or stage.views
        print(json.dumps({"stage": name} | judge(model, args, name, views=views)))
    return state


def prepare(
    args: Args,
    config: Any,
    stage: Stage,
    name: str,
    *,
    labels: Labels | None = None,
) -> tuple[Any, Stage, core.Data]:
    """Fits a model's config to the data, and the schedule's length to the options."""
    task = motion_classes.TASKS[args.task]
    if args.smoothing is not None:
        stage = dataclasses.replace(stage, smoothing=args.smoothing)
    if not 0 <= stage.smoothing < 1:
        raise ValueError(f"`smoothing` must be in [0, 1); got {stage.smoothing}")
    if args.data is None:
        frames, size, names = task.frames, task.size[0], task.classes
        stage = core.adapt(stage, args, epoch=DRAWN_EPOCH)
    else:
        from jaxflow.data import clips, lists

        frames, size = config.num_frames, config.crop_size
        source = (clips.Videos if labels is None else labels.source)(
            args.data, part="train", first_label=args.first_label, videos=args.videos
        )
        names = source.names
        stage = core.adapt(stage, args, epoch=len(source))
        if jax.process_index() == 0:
            lists.save_classes(args.workdir / name, names)
    frames, size = args.frames or frames, args.size or size
    config = dataclasses.replace(
        config, num_classes=len(names), num_frames=frames, crop_size=size
    )
    if args.width is not None:
        width = type(config.width)(args.width)
        config = dataclasses.replace(config, width=width)
    if args.data is None:
        draw = functools.partial(
            motion_classes.clip_batch if labels is None else labels.draw,
            task=args.task,
            batch_size=stage.batch_size,
            frames=frames,
            size=(size, size),
        )
        return config, stage, core.Data(draw=draw)
    loader = clips.clip_loader(
        source,
        batch_size=stage.batch_size // jax.process_count(),
        num_frames=frames,
        stride=config.frame_stride,
        rate=getattr(config, "frame_rate", clips.TARGET_FPS),
        size=size,
        short_side=tuple(round(size * scale) for scale in stage.short_side),
        flip=stage.flip,
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
        uint8=True,
    )
    return config, stage, core.Data(batches=iter(loader), augment=as_float)


def as_float(key: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Turns clips of 8 bits to floats, on the device."""
    return {**batch, "clip": photometric.as_float(batch["clip"])}


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


def freeze(model: Any, stage: Stage, loss: train.Loss) -> tuple[Stage, train.Loss]:
    """Returns a stage, and its loss, in which the classifier alone learns.

    Args:
        model: Its classifier is what the number of classes gives its shape.
        stage: The schedule.
        loss: (model, batch) -> loss.

    Raises:
        ValueError: If the model has no classifier apart from the rest.
    """
    paths = sorted(matching.head_paths(model))
    names = {path.split(".")[0] for path in paths}
    if len(names) != 1 or "." not in paths[0]:
        raise ValueError(
            f"`frozen`: a {type(model).__module__} has no classifier apart from the "
            f"rest; the classes give their shape to {paths}"
        )
    (head,) = names

    def frozen(model: Any, batch: Mapping[str, jax.Array]):
        model.eval()
        getattr(model, head).train()
        for path, variable in nnx.iter_graph(model):
            if isinstance(variable, nnx.Param) and path[0] != head:
                variable[...] = jax.lax.stop_gradient(variable[...])
        return loss(model, batch)

    return dataclasses.replace(stage, trained=(head,)), frozen


def classify_loss(
    model: Any, batch: Mapping[str, jax.Array], *, smoothing: float = 0.0
):
    """Returns the cross entropy, and the share of clips whose best class is right."""
    scores = model(batch["clip"])
    return classification(scores, batch["label"], smoothing=smoothing)


def classification(scores: jax.Array, labels: jax.Array, *, smoothing: float = 0.0):
    """Returns the cross entropy of logits, and {"top1"}.

    A label may be spread, as in Szegedy et al. (CVPR 2016), Sec. 7:

        q_k = (1 - smoothing) [k = label] + smoothing / classes

    Args:
        scores: (B, classes).
        labels: (B,) integers, from 0.
        smoothing: Share that is spread over all classes, the true one too.
    """
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    if smoothing:
        others = -jnp.mean(jax.nn.log_softmax(scores), axis=-1)
        entropy = (1 - smoothing) * entropy + smoothing * others
    right = jnp.argmax(scores, axis=-1) == labels
    return jnp.mean(entropy), {"top1": jnp.mean(right.astype(jnp.float32))}


def evaluation(
    args: Args, model: Any, name: str, judge: Callable | None = None
) -> Callable | None:
    """Returns what tests a network while it trains: (state) -> metrics, or None.

    Args:
        args: What the recipe was told.
        model: The network.
        name: Of the stage.
        judge: As `test`; None for `test`.
    """
    judge = judge or test
    if not args.held_out or (args.test is None and args.data is not None):
        return None
    copy = nnx.merge(*nnx.split(model), copy=True)

    def measure(state: train.TrainState) -> dict[str, float]:
        train.finish(copy, state)
        found = judge(copy, args, name, views=(1, 1), most=args.held_out)
        counts = ("videos", "damaged")
        return {f"held_out_{key}": found[key] for key in found if key not in counts}

    return measure


def test(
    model: Any, args: Args, name: str, *, views: Views = (10, 3), most: int = 0
) -> dict[str, float]:
    """Returns the shares of test videos whose class is the best, and among five best.

    A video that cannot be decoded is named in a warning and left out of the shares.

    Args:
        model: The trained model.
        args: With `test`, its videos are scored, by the mean over `views`; without
            `data`, clips of the task that no training draws.
        name: Of the stage, in whose folder the classes are.
        views: Clips and crops of each video.
        most: How many of the videos, evenly spread; 0 for all, or 800 clips.

    Returns:
        "top1", "top5" and "mean_class"; with `test` also how many "videos" were
        scored, and how many are "damaged".

    Raises:
        ValueError: If no video can be decoded, or a class is unknown to training.
    """
    if args.test is not None:
        videos = list_test(model, args, args.workdir / name)
        if most and most < len(videos):
            videos = [videos[i * len(videos) // most] for i in range(most)]
        scores, labels = score_videos(model, videos, views)
        counts = {"videos": len(labels), "damaged": len(videos) - len(labels)}
        return {**shares(scores, labels), **counts}
    if args.data is not None:
        return {}
    clips = most or 800
    config = model.config
    size = (config.crop_size, config.crop_size)
    held_out = motion_classes.load(
        "test", clips, task=args.task, frames=config.num_frames, size=size
    )
    scores = score_clips(model, np.asarray(held_out["clip"]))
    return shares(scores, np.asarray(held_out["label"]))


def score_clips(model: Any, clips: np.ndarray) -> np.ndarray:
    """Scores clips, (N, T, H, W, 3), in batches of about 20: (N, classes)."""
    graph, weights = nnx.split(model)
    score = jax.jit(lambda weights, clip: nnx.merge(graph, weights)(clip))
    parts = np.array_split(clips, max(1, len(clips) // 20))
    return np.concatenate([np.asarray(score(weights, part)) for part in parts])


def list_test(model: Any, args: Args, folder: pathlib.Path) -> Sequence:
    """Returns the test videos, labelled by the classes of training.

    Raises:
        ValueError: If a class is unknown to training.
    """
    from jaxflow.data import lists

    videos, names = lists.list_videos(
        args.test,
        names=lists.load_classes(folder),
        part="test",
        first_label=args.first_label,
        videos=args.videos,
    )
    if len(names) != model.config.num_classes:
        raise ValueError(
            f"{args.test}: has {len(names)} classes, the model "
            f"{model.config.num_classes}; {folder} does not say which"
        )
    return videos


def score_videos(
    model: Any, videos: Sequence, views: Views, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Scores videos by the mean over views; names those that cannot be decoded.

    Args:
        model: The trained model.
        videos: `jaxflow.data.lists.Video`s, or pairs of a path and (classes,) labels.
        views: Clips and crops of each.
        **options: Of `classify.classify_video`.

    Returns:
        Scores, (N, classes), and labels, (N,) or (N, classes), of the videos that could
        be decoded.

    Raises:
        ValueError: If none could.
    """
    scores, labels, faults = [], [], []
    for path, label in videos:
        try:
            found = classify.classify_video(
                model, path, clips=views[0], crops=views[1], **options
            )
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

    And the first of these as the mean over the classes, "mean_class". Of equal scores
    the first class counts as the best; a score that is NaN is wrong everywhere.

    Args:
        scores: (N, classes).
        labels: (N,) integers, from 0.
    """
    return {
        "top1": class_metrics.top_k_accuracy(scores, labels),
        "top5": class_metrics.top_k_accuracy(scores, labels, k=5),
        "mean_class": class_metrics.mean_class_accuracy(scores, labels),
    }
