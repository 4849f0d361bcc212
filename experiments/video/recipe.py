"""What the recipes of this folder add to `core`: clips, and tests of recognition.

    python experiments/video/RECIPE.py --workdir runs/one                  # all stages
    python experiments/video/RECIPE.py --workdir runs/try --steps 3        # a quick try
    python experiments/video/RECIPE.py --workdir runs/ucf --data ucf101/train.txt \
        --test ucf101/test.txt

A schedule is in epochs, as papers print it. Where a recipe has several stages, each
takes its own of what is named:

    --data kinetics=kinetics/train.csv hmdb51=hmdb51/train.txt

Without --data the clips are those of a task of `jaxflow.data.motion_classes`, drawn
inside the step; an epoch is then 4000. The network is tested at each checkpoint, and at
the end by the views of the paper.
"""

import dataclasses
import functools
import json
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
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
# A factor of channels beyond it is a number of channels that was meant.
_WIDEST = 8
Task = Literal[
    "motion8", "motion8-local", "order2", "product", "fastslow", "dance", "longclip"
]
Views = tuple[int, Literal[1, 3, 5, 10]]
TASK: Task = "motion8"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(core.Options):
    """What every recipe of recognition can be told.

    Attributes:
        task: Clips to train on, without `data`; without it the stage's.
        data: Folder of a folder a class, or a list of videos, to train on; see
            `jaxflow.data.lists.list_videos`. As SET=PATH it is for the stages of that
            set, otherwise for those that nothing else is for.
        test: The same, to test the net on. Its classes are those of `data`.
        first_label: Number of the first class in lists that do not tell, 0 or 1.
        videos: Folder that the paths of lists are relative to; without it the list's.
        frames: Frames of a clip; without it the stage's, the network's, or the task's.
        size: Height and width of a clip; without it likewise.
        width: Width of the network, in the unit of its config; without it the published
            one. Nearly all count the channels behind the first layer, mostly 64; of
            I3D (Inception) and S3D it is a factor of all channels, which is 1.
        views: Clips and crops a video is tested by; without it the published ones.
        smoothing: Share of each label that is spread over all classes; without it the
            published.
        frozen: Whether the classifier alone learns, whatever the stage trains. All
            before it stays bit for bit, and is in evaluation mode: normalisations use
            their running statistics.
        held_out: Videos of `test`, or clips that no training draws, that the net is
            tested on at each checkpoint, by one view; 0 tests at the end only.
    """

    task: Task | None = None
    data: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
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
    """A published schedule, with its clips.

    Attributes:
        sets: Names of the data sets that it is for; () for any.
        task: Clips that are drawn in their place, of `motion_classes`.
        frames: Frames of a clip, where they are not the network's.
        size: Height and width of a clip, where they are not the network's.
        short_side: Range of the length that a video's shorter side is resized to, over
            the side of the crop.
        flip: Whether clips of `Args.data` are mirrored.
        views: Clips and crops that a video is tested by.
        smoothing: Share of each label that is spread over all classes.
    """

    factor: float = 0.1
    rate_grows: bool = True
    decay: float = 1e-4
    sets: tuple[str, ...] = ()
    task: Task = TASK
    frames: int | None = None
    size: int | None = None
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
    end: Callable[[Any, core.Data, Stage], None] | None = None,
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
        begin: Fills the model of a stage that has not begun; see `core.begin`.
        end: (model, data, adapted stage) -> None, run before the trained model is
            tested.

    Returns:
        The last state.

    Raises:
        ValueError: If an option makes no sense; before anything is trained.
        OSError: If data is not there; likewise.
    """
    names = core.choose(stages, args, own)
    told = {name: settle(args, stages, name) for name in names}
    loss = loss if labels is None else labels.loss
    judge = test if labels is None else labels.test
    if loss is not None and args.smoothing is not None:
        raise ValueError(
            f"`smoothing`: this recipe has a loss of its own, without smooth labels; "
            f"got {args.smoothing}"
        )
    state: Any = None
    for name, args in told.items():
        own_config = dataclasses.replace(config, **(changes or {}).get(name, {}))
        fitted, stage, data = prepare(
            args, own_config, stages[name], name, labels=labels
        )
        if feed is not None:
            data = feed(args, fitted, stage)._replace(classes=data.classes)
        model = model_type(fitted, rngs=core.seeded(args))
        if not core.has_begun(name, args):
            begin(model, name, stage, args, first=name == names[0])
        objective = loss or functools.partial(classify_loss, smoothing=stage.smoothing)
        if args.frozen:
            stage = freeze(model, stage)
        keep_classes(args.workdir / name, data.classes)
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
            end(model, data, stage)
        checkpoint.save(args.workdir / name / "model", model)
        found = judge(model, args, name, views=args.views or stage.views)
        if not found:
            core.say(f"{name}: is trained, and not tested: there is no --test")
        elif jax.process_index() == 0:
            print(json.dumps({"stage": name} | found))
    return state


def settle(args: Args, stages: Mapping[str, Stage], name: str) -> Args:
    """Returns the options of one stage: its own data, and what it settles of the rest.

    Args:
        args: What the recipe was told.
        stages: All that are published, by name.
        name: Of the stage.

    Raises:
        ValueError: If data is given, and none for this stage or more than one; or for a
            set that no stage has.
        FileNotFoundError: If what it takes is not there.
    """
    stage = stages[name]
    sets = {each for other in stages.values() for each in other.sets}
    data = item_of("data", args.data, stage.sets, sets)
    if args.data and not data:
        raise ValueError(
            f"`data` has nothing for stage {name!r}, which is for {stage.sets}; give "
            "it as PATH, or as SET=PATH with one of those"
        )
    return dataclasses.replace(
        args,
        data=data,
        test=item_of("test", args.test, stage.sets, sets),
        task=first_of(args.task, stage.task),
        frames=first_of(args.frames, stage.frames),
        size=first_of(args.size, stage.size),
    )


def first_of(*values: Any) -> Any:
    """Returns the first that is not None; None if all are."""
    return next((value for value in values if value is not None), None)


def item_of(
    option: str, items: Sequence[str], own: Sequence[str], known: Collection[str]
) -> tuple[str, ...]:
    """Returns the path that an option has for some data sets, or ().

    Args:
        option: Its name, for messages.
        items: Its values, PATH or SET=PATH.
        own: The data sets.
        known: All that a recipe has.

    Raises:
        ValueError: If it has several, or a SET is not known.
        FileNotFoundError: If the path does not exist.
    """
    found: dict[bool, list[str]] = {True: [], False: []}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or (name not in known and pathlib.Path(item).exists()):
            found[False].append(item)
        elif name not in known:
            raise ValueError(
                f"`{option}`: SET of SET=PATH must be one of {sorted(known)}; got "
                f"{item!r}"
            )
        elif name in own:
            found[True].append(path)
    paths = found[True] or found[False]
    if len(paths) > 1:
        raise ValueError(f"`{option}` must have one path for a stage; got {paths}")
    for path in paths:
        if not pathlib.Path(path).exists():
            raise FileNotFoundError(
                f"`{option}`: {path}: there is no such file or folder"
            )
    return tuple(str(pathlib.Path(path)) for path in paths)


def place(items: Sequence[str]) -> pathlib.Path | None:
    """Returns the path that an option of a settled stage has; None if it has none."""
    return pathlib.Path(items[0]) if items else None


def prepare(
    args: Args,
    config: Any,
    stage: Stage,
    name: str,
    *,
    labels: Labels | None = None,
) -> tuple[Any, Stage, core.Data]:
    """Fits a model's config to the data, and the schedule's length to the options.

    Args:
        args: From `settle`.
        config: The model's numbers.
        stage: As published.
        name: Of the stage.
        labels: See `run`.

    Returns:
        The config and the stage, adapted, and where batches come from.
    """
    stage = dataclasses.replace(
        stage,
        task=first_of(args.task, stage.task),
        frames=first_of(args.frames, stage.frames),
        size=first_of(args.size, stage.size),
        smoothing=first_of(args.smoothing, stage.smoothing),
    )
    if not 0 <= stage.smoothing < 1:
        raise ValueError(f"`smoothing` must be in [0, 1); got {stage.smoothing}")
    path = place(args.data)
    if path is None:
        task = motion_classes.TASKS[stage.task]
        frames, size, names = task.frames, task.size[0], task.classes
        stage = core.adapt(stage, args, epoch=DRAWN_EPOCH)
    else:
        from jaxflow.data import clips

        frames, size = config.num_frames, config.crop_size
        source = (clips.Videos if labels is None else labels.source)(
            path, part="train", first_label=args.first_label, videos=args.videos
        )
        names = source.names
        stage = core.adapt(stage, args, epoch=len(source))
    frames, size = first_of(stage.frames, frames), first_of(stage.size, size)
    config = dataclasses.replace(
        config, num_classes=len(names), num_frames=frames, crop_size=size
    )
    if args.width is not None:
        config = dataclasses.replace(config, width=width_of(args.width, config.width))
    if path is None:
        draw = functools.partial(
            motion_classes.clip_batch if labels is None else labels.draw,
            task=stage.task,
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
    data = core.Data(batches=iter(loader), augment=as_float, classes=names)
    return config, stage, data


def keep_classes(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Stores the names of the classes with a stage, or compares them; () are none.

    Raises:
        ValueError: If the stage has been trained on others.
    """
    if names and jax.process_index() == 0:
        from jaxflow.data import lists

        lists.save_classes(folder, names)


def width_of(width: float, published: float) -> float:
    """Returns a network's width in the unit of the published one.

    Args:
        width: Channels, if the published is an integer, or else a factor of them.
        published: The published one.

    Raises:
        ValueError: If it is of the other unit.
    """
    if isinstance(published, int):
        if width < 1 or width != int(width):
            raise ValueError(
                "`width` of this network is its number of channels behind the first "
                f"layer, {published} as published, and so a whole number; got {width}"
            )
        return int(width)
    if not 0 < width <= _WIDEST:
        raise ValueError(
            "`width` of this network is a factor of its published numbers of channels, "
            f"such as 0.25; got {width}"
        )
    return float(width)


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


def freeze(model: Any, stage: Stage) -> Stage:
    """Returns a stage in which the classifier alone learns.

    Args:
        model: Its classifier is what the number of classes gives its shape.
        stage: The schedule.

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
    return dataclasses.replace(stage, trained=tuple(names))


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
    if not args.held_out or (args.data and not args.test):
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
        args: From `settle`. With `test`, its videos are scored, by the mean over
            `views`; without `data`, clips of the task that no training draws.
        name: Of the stage, in whose folder the classes are.
        views: Clips and crops of each video.
        most: How many of the videos, evenly spread; 0 for all, or 800 clips.

    Returns:
        "top1", "top5" and "mean_class"; with `test` also how many "videos" were
        scored, and how many are "damaged".

    Raises:
        ValueError: If no video can be decoded, or a class is unknown to training.
    """
    if args.test:
        videos = list_test(model, args, args.workdir / name)
        if most and most < len(videos):
            videos = [videos[i * len(videos) // most] for i in range(most)]
        scores, labels = score_videos(model, videos, views)
        counts = {"videos": len(labels), "damaged": len(videos) - len(labels)}
        return {**shares(scores, labels), **counts}
    if args.data:
        return {}
    clips = most or 800
    config = model.config
    size = (config.crop_size, config.crop_size)
    held_out = motion_classes.load(
        "test", clips, task=args.task or TASK, frames=config.num_frames, size=size
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

    path = pathlib.Path(args.test[0])
    videos, names = lists.list_videos(
        path,
        names=lists.load_classes(folder),
        part="test",
        first_label=args.first_label,
        videos=args.videos,
    )
    if len(names) != model.config.num_classes:
        raise ValueError(
            f"{path}: has {len(names)} classes, the model "
            f"{model.config.num_classes}; {folder} does not say which"
        )
    return lists.present(path, videos)


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
