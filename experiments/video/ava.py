"""Trains SlowFast to tell what people in boxes do, on AVA v2.2, as FAIR does.

    python experiments/video/ava.py --start SLOWFAST_8x8_R50.pkl --data ava --test ava \
        --boxes ava_detection_val_boxes_and_labels.csv --workdir runs/ava
    python experiments/video/ava.py --model slow_4x16_r50_ava --width 16 --frames 8 \
        --workdir runs/small

Runs ava in its folder of --workdir; run again, it goes on where it was stopped. It
begins with --start, a network of Kinetics, or a run "scratch" in --workdir, and with a
fresh classifier. --data and --test are the folder of AVA as `jaxflow.data.builders.ava`
describes it: the parts for training and for validation. Without --data, up to four
clips of the task stand side by side, each in its box. A shorter --steps shrinks the
schedule.

    epochs   batch   rate                       after a warm-up of         decay
    20       64      0.1, tenth after 10, 15    5 epochs from 1.25e-4      1e-7

    AVA, validation, frame-mAP, boxes of a detector   they say             we got
    slowfast_8x8_r50_ava                              24.67 (v2.2)         not run yet
    slow_4x16_r50_ava                                 19.5 (v2.2)          not run yet
    SlowFast 4x16, R50; Slow 4x16, R50                24.2; 19.0 (v2.1)    not run yet

Source: PySlowFast, configs/AVA/SLOWFAST_32x2_R50_SHORT.yaml; the numbers are
pytorchvideo's, and below those of Feichtenhofer et al., "SlowFast Networks for Video
Recognition" (ICCV 2019), Table 9, who train for 14 000 steps, the first 1000 of them
warm-up, until the validation error does not fall any more. A sigmoid of each class
and its binary cross entropy, mean over the boxes; SGD with Nesterov momentum 0.9, which
does not decay normalisations, dropout 0.5, res5 dilated instead of strided, RoIAlign in
its "aligned" form, 32 frames of every second around the annotated one, of a shorter
side of 256 to 320, cropped to 224 and mirrored. Training sees the annotated boxes, and
with --proposals those of a detector that overlap one of these by more than 0.9 (its
score 0.8 at least). A test scores the boxes of a detector (--boxes, score 0.8 at least;
without it the true ones, which are easier), on whole frames of a shorter side of 256,
against the 60 classes that count if their list is in annotations/, and leaves out the
seconds that the authors exclude.

Deviations: a clip has --people boxes at most, and a box that the crop leaves nothing of
is left out; of proposals, those that nobody is in are no negatives here; a batch is
normalised as a whole, there each 8 clips; each frame's 50 surest scores count, as in
the official evaluation.
"""

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipe
from flax import nnx
from recipe import core

from jaxflow import detect, detections, train
from jaxflow.data import ava, box_clips, motion_classes
from jaxflow.models.video import resnet3d, slowfast

STAGES = {
    "ava": recipe.Stage(
        epochs=20,
        rate=0.1,
        batch_size=64,
        drops=(10, 15),
        warm_up=5,
        warm_up_rate=1.25e-4,
        decay=1e-7,
        after=("scratch",),
        sets=("ava",),
    )
}
LEAST_SCORE, OVERLAP = 0.8, 0.9
Row = ava.Box
# Clips side by side in a drawn one.
_PLACES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/slowfast.py or resnet3d.py that scores
            boxes.
        proposals: Boxes of a detector on the films of training.
        boxes: Boxes of a detector on the films of validation.
        people: Boxes of a clip in training, at most.
        prepared: Where TFDS keeps what it makes of AVA.
    """

    model: str = "slowfast_8x8_r50_ava"
    proposals: pathlib.Path | None = None
    boxes: pathlib.Path | None = None
    people: int = 16
    prepared: pathlib.Path = pathlib.Path("tensorflow_datasets")


class WithProposals(Sequence[Mapping[str, Any]]):
    """People of AVA, and behind them boxes of a detector, which do what they do.

    Args:
        source: Moments, as `box_clips.box_loader` takes them.
        proposals: Of each that is sure enough and overlaps a person by more than
            `OVERLAP`, the labels are the person's; the others are left out.
    """

    def __init__(self, source: Sequence, proposals: Iterable[Row]):
        self.source = source
        self.found = by_moment(proposals)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        element = dict(self.source[index])
        others = self.found.get(moment_of(element), [])
        if not others or not len(element["boxes"]):
            return element
        corners = np.array([row.corners for row in others], np.float32)
        shared = detections.intersection_over_union(corners, element["boxes"])
        near = shared.max(axis=1) > OVERLAP
        who = shared.argmax(axis=1)[near]
        for name, more in (
            ("boxes", corners[near]),
            ("labels", element["labels"][who]),
        ):
            element[name] = np.concatenate([element[name], more])
        return element


def moment_of(element: Mapping[str, Any]) -> tuple[str, float]:
    """Returns the film, as the tables name it, and the second of an element."""
    return pathlib.Path(element["path"]).stem, float(element["time"])


def by_moment(rows: Iterable[Row]) -> dict[tuple[str, float], list[Row]]:
    """Sorts boxes of a detector that are sure enough by film and second."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row.score >= LEAST_SCORE:
            found.setdefault((row.video, float(row.second)), []).append(row)
    return found


def rows_of(boxes: jax.Array, there: jax.Array) -> jax.Array:
    """Brings boxes of clips to the form that networks take.

    Args:
        boxes: (B, K, 4).
        there: Which are boxes, (B, K) bool.

    Returns:
        (B K, 5): the example, or -1 where there is none, and the corners.
    """
    number = jnp.arange(boxes.shape[0], dtype=boxes.dtype)[:, None]
    owners = jnp.where(there, number, -1)
    return jnp.concatenate([owners[..., None], boxes], axis=-1).reshape(-1, 5)


def detect_loss(model: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, dict]:
    """Returns the binary cross entropy of all classes, mean over the boxes."""
    scores = model(batch["clip"], rows_of(batch["boxes"], batch["there"]))
    labels = batch["labels"].reshape(scores.shape).astype(scores.dtype)
    entropy = jnp.mean(optax.sigmoid_binary_cross_entropy(scores, labels), axis=-1)
    there = batch["there"].reshape(-1)
    count = jnp.maximum(jnp.sum(there.astype(entropy.dtype)), 1)
    return jnp.sum(jnp.where(there, entropy, 0)) / count, {}


def draw(
    key: jax.Array, *, task: str, batch_size: int, frames: int, size: tuple[int, int]
) -> dict[str, jax.Array]:
    """Draws clips of up to four clips of a task, side by side, each in its box.

    Args:
        key: Random key.
        task: See `motion_classes.clip_batch`.
        batch_size: Number of clips.
        frames: Of each.
        size: Height and width, even.

    Returns:
        As `box_clips.box_loader` gives, of `_PLACES` people.
    """
    drawn, shown = jax.random.split(key)
    parts = motion_classes.clip_batch(
        drawn,
        task=task,
        batch_size=_PLACES * batch_size,
        frames=frames,
        size=half(size),
    )
    there = jax.random.bernoulli(shown, 0.75, (batch_size, _PLACES)).at[:, 0].set(True)
    return side_by_side(parts, there, len(motion_classes.TASKS[task].classes))


def half(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of each of four clips in one of `size`."""
    if size[0] % 2 or size[1] % 2:
        raise ValueError(f"`size` must be even, for clips side by side; got {size}")
    return size[0] // 2, size[1] // 2


def side_by_side(
    parts: Mapping[str, jax.Array], there: jax.Array, classes: int
) -> dict[str, jax.Array]:
    """Joins four clips to one, grey where there is none.

    Args:
        parts: ``clip`` (4 B, T, h, w, 3) and ``label`` (4 B,).
        there: Which of them are to be seen, (B, 4) bool.
        classes: Number of them.
    """
    _, frames, height, width, _ = parts["clip"].shape
    clips = parts["clip"].reshape(-1, _PLACES, frames, height, width, 3)
    clips = jnp.where(there[:, :, None, None, None, None], clips, 0.5)
    upper, lower = (
        jnp.concatenate([clips[:, i], clips[:, i + 1]], axis=-2) for i in (0, 2)
    )
    place = np.array([[x, y, x + 1, y + 1] for y in (0, 1) for x in (0, 1)])
    corners = jnp.asarray(place * [width, height, width, height], jnp.float32)
    label = parts["label"].reshape(-1, _PLACES, 1)
    shown = label == jnp.arange(classes)[None, None, :]
    return {
        "clip": jnp.concatenate([upper, lower], axis=-3),
        "boxes": jnp.broadcast_to(corners[None], (len(there), _PLACES, 4)),
        "there": there,
        "labels": shown & there[..., None],
    }


def builder_of(folder: pathlib.Path, prepared: pathlib.Path) -> Any:
    """Prepares AVA, unless that has been done."""
    from jaxflow.data.builders.ava import AVA

    return AVA.prepare(folder, prepared)


def feed(args: Args, config: Any, stage: recipe.Stage) -> core.Data:
    """Returns the batches of a run, of films or drawn."""
    folder = recipe.place(args.data)
    if folder is None:
        size = (config.crop_size, config.crop_size)
        options = {"batch_size": stage.batch_size, "frames": config.num_frames}
        return core.Data(
            draw=functools.partial(draw, task=stage.task, size=size, **options)
        )
    source = builder_of(folder, args.prepared).videos("train")
    if args.proposals is not None:
        source = WithProposals(source, ava.read_boxes(args.proposals))
    loader = box_clips.box_loader(
        source,
        people=args.people,
        batch_size=stage.batch_size // jax.process_count(),
        num_frames=config.num_frames,
        stride=config.frame_stride,
        size=config.crop_size,
        short_side=tuple(round(config.crop_size * scale) for scale in stage.short_side),
        flip=stage.flip,
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
        uint8=True,
    )
    return core.Data(batches=iter(loader), augment=recipe.as_float)


def test(
    model: Any, args: Args, name: str, *, views: recipe.Views = (1, 1), most: int = 0
) -> dict[str, float]:
    """Returns the frame-mAP of boxes of test films, or of held-out drawn clips.

    Args:
        model: The trained model.
        args: See `recipe.test`.
        name: Of the stage.
        views: Of no use: a clip is seen whole.
        most: How many of the moments, evenly spread; 0 for all, or 200 clips.

    Returns:
        "map", over the classes that are there; with `test` also how many "moments" and
        "boxes" were scored, and how many moments are of films that are "damaged".
    """
    folder = recipe.place(args.test)
    if folder is not None:
        return test_films(model, args, folder, most)
    if args.data:
        return {}
    count = most or 200
    truth, found = rows_of_drawn(model, args, count)
    return {"map": detections.frame_map(truth, found).mean}


def rows_of_drawn(model: Any, args: Args, count: int) -> tuple[list[Row], list[Row]]:
    """Scores drawn clips: the true boxes with their classes, and those found."""
    config = model.config
    size = (config.crop_size, config.crop_size)
    parts = motion_classes.load(
        "test",
        _PLACES * count,
        task=args.task or recipe.TASK,
        frames=config.num_frames,
        size=half(size),
    )
    # Clips of one class follow those of another in a fixed order.
    order = np.random.default_rng(0).permutation(len(parts["label"]))
    parts = {name: part[order] for name, part in parts.items()}
    there = jnp.ones((count, _PLACES), bool)
    batch = side_by_side(parts, there, config.num_classes)
    graph, weights = nnx.split(model)

    @jax.jit
    def score(weights, clip, boxes, there):
        rows = rows_of(boxes, there)
        scores = nnx.merge(graph, weights)(clip, rows)
        return scores.reshape(*there.shape, -1)

    truth, found = [], []
    for first in range(0, count, 20):
        part = {name: array[first : first + 20] for name, array in batch.items()}
        scores = score(weights, part["clip"], part["boxes"], part["there"])
        for number, (corners, labels, given) in enumerate(
            zip(*map(np.asarray, (part["boxes"], part["labels"], scores)), strict=True)
        ):
            moment = str(first + number), 0.0
            truth += labelled(*moment, corners, np.where(labels, 1.0, -1.0))
            found += labelled(*moment, corners, given)
    return truth, found


def labelled(
    video: str, second: float, corners: np.ndarray, scores: np.ndarray
) -> Iterator[Row]:
    """Yields a row for each box and class whose score is not negative."""
    for box, row in zip(corners.tolist(), scores.tolist(), strict=True):
        for action, score in enumerate(row, 1):
            if score >= 0:
                yield Row(video, second, tuple(box), action, score)


def test_films(
    model: Any, args: Args, folder: pathlib.Path, most: int
) -> dict[str, float]:
    """Returns the frame-mAP of the films of validation; see `test`."""
    builder = builder_of(folder, args.prepared)
    if len(builder.names) != model.config.num_classes:
        raise ValueError(
            f"{folder}: has {len(builder.names)} classes, the model "
            f"{model.config.num_classes}"
        )
    people = {moment_of(each): each for each in builder.videos("validation")}
    films = {moment[0]: each["path"] for moment, each in people.items()}
    asked = asked_boxes(args, folder, people)
    moments = sorted({*people, *asked})
    if most and most < len(moments):
        moments = [moments[i * len(moments) // most] for i in range(most)]
    truth, found, boxes, damaged = [], [], 0, 0
    for film, path in films.items():
        own = [moment for moment in moments if moment[0] == film]
        wanted = [row for moment in own for row in asked.get(moment, ())]
        try:
            new = list(scored(model, film, path, wanted))
        except (ValueError, OSError) as error:
            warnings.warn(f"{path}: left out of the test: {error}", stacklevel=2)
            damaged += len(own)
            continue
        found += new
        boxes += len(wanted)
        for moment in own:
            if moment in people:
                each = people[moment]
                labels = np.where(each["labels"], 1.0, -1.0)
                truth += labelled(*moment, each["boxes"], labels)
    if damaged == len(moments):
        raise ValueError(f"{folder}: none of its films can be scored")
    result = detections.frame_map(truth, found, classes=counted(folder, builder))
    counts = {"moments": len(moments) - damaged, "boxes": boxes, "damaged": damaged}
    return {"map": result.mean, **counts}


def asked_boxes(
    args: Args, folder: pathlib.Path, people: Mapping
) -> dict[tuple[str, float], list[Row]]:
    """Returns the boxes to score: a detector's, or those of the people."""
    if args.boxes is None:
        return {
            moment: [Row(*moment, tuple(box)) for box in each["boxes"].tolist()]
            for moment, each in people.items()
        }
    films = {film for film, _ in people}
    excluded = ava.read_exclusions(table(folder, "val_excluded_timestamps_v2.2.csv"))
    found = by_moment(ava.read_boxes(args.boxes))
    asked = {
        moment: rows
        for moment, rows in found.items()
        if moment[0] in films and moment not in excluded
    }
    if not asked:
        raise ValueError(
            f"`boxes`: {args.boxes} has no box of these films, from {LEAST_SCORE} on"
        )
    return asked


def scored(model: Any, film: str, path: str, rows: Sequence[Row]) -> Iterator[Row]:
    """Scores boxes of a film: a row for each of them and each class."""
    if rows:
        for second, corners, scores in detect.detect_actions(model, path, rows):
            yield from labelled(film, second, corners, scores)


def counted(folder: pathlib.Path, builder: Any) -> set[int] | None:
    """Returns which classes count, from 1; None if no list says so: all there are."""
    path = table(folder, "action_list_v2.2_for_activitynet_2019.pbtxt")
    if not path.is_file():
        return None
    names = set(ava.read_label_map(path).values())
    return {number for number, name in enumerate(builder.names, 1) if name in names}


def table(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where a table of AVA is: in annotations/, or beside it."""
    from jaxflow.data.builders import videos

    return videos.find(folder, f"annotations/ava_{name}", f"ava_{name}")


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns SGD with Nesterov's momentum; normalisations do not decay."""
    return core.sgd(stage, nesterov=True, mask=core.all_but_norms)


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    known = {
        name: each
        for name, each in (resnet3d.VARIANTS | slowfast.VARIANTS).items()
        if each.regions != "none"
    }
    if args.model not in known:
        raise ValueError(f"`model` must be one of {sorted(known)}; got {args.model!r}")
    for name in ("first_label", "videos", "views"):
        if getattr(args, name) is not None:
            raise ValueError(f"`{name}`: has no meaning for boxes of AVA; leave it out")
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d
    if config is None:
        config = dataclasses.replace(known[args.model], regions="aligned")

    def source(folder: pathlib.Path, **_: Any) -> Any:
        return builder_of(folder, args.prepared).videos("train")

    return recipe.run(
        args,
        STAGES,
        file.Model,
        config,
        labels=recipe.Labels(draw=draw, source=source, loss=detect_loss, test=test),
        optimiser=make_optimiser,
        feed=feed,
    )


if __name__ == "__main__":
    core.command(main, Args, __doc__)
