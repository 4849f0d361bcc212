"""``jaxflow detect``: what people in given boxes of a video do."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import classify, clips, common, estimators, paths
from jaxflow.data import ava
from jaxflow.io import files, video

SHOWN = 0.5
"""Seconds before and behind a moment in which its boxes are drawn."""

_NEEDS = (
    "jaxflow scores boxes of people, but does not find people: run a person detector, "
    "and give a table of its boxes, with rows video,second,x1,y1,x2,y2 whose corners "
    "are parts of the frame, from 0 to 1"
)


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = (
        "Name what people in a video do, and draw it; their boxes come from a person "
        "detector, which is not part of jaxflow"
    )
    example = (
        "jaxflow detect clip.mp4 --boxes people.csv --model slowfast_8x8_r50_ava "
        "--weights SLOWFAST_8x8_R50_DETECTION.pyth --labels ava_action_list_v2.2.pbtxt "
        "--video actions.mp4"
    )
    add = common.add_command(commands, "detect", run, about, example).add_argument
    clip = "a video; or, with --fps, a folder or a pattern (in quotes) of pictures"
    add("clip", metavar="CLIP", help=clip)
    _add_boxes(add)
    _add_network(add)
    estimators.add_precision(add)
    _add_files(add)
    common.add_json(add)


def _add_boxes(add) -> None:
    """Adds the options of the boxes of people."""
    helps = {
        "boxes": "boxes of people from a person detector, in the form of AVA: "
        "video,second,x1,y1,x2,y2[,action[,score]], corners as parts of the frame, "
        "from 0 to 1; rows of other videos are left out",
        "name": "the video's name in --boxes (default: that of its file)",
        "least": "leave out boxes of a lower score (default: none)",
    }
    add("--boxes", metavar="FILE.csv", help=helps["boxes"])
    add("--name", metavar="NAME", help=helps["name"])
    add("--min-box-score", type=float, metavar="S", help=helps["least"])


def _add_network(add) -> None:
    """Adds the options of the network, of its actions and of its frames."""
    helps = {
        "model": "such as slowfast_8x8_r50_ava; see jaxflow models --task video "
        "(default: what --weights of a training run say that they are of)",
        "weights": "a file (.pth, .pyth, .pkl, .safetensors), a folder of a training "
        "run, or a published name such as slowfast_8x8_r50_ava/ava",
        "option": "field of the network's config, such as num_classes=8; may be "
        "repeated",
        "labels": "names of the actions: AVA's .pbtxt, whose actions alone are told; "
        "or one a line, or JSON",
        "top": "tell the K best actions of a box (default: %(default)s)",
        "above": "tell only actions of a higher score (default: %(default)s)",
        "fps": "rate of the frames (default: the video's)",
        "side": "length that a frame's shorter side is resized to (default: 8 / 7 of "
        "the model's crop_size)",
    }
    many = {"action": "append", "default": []}
    add("--model", metavar="NAME", help=helps["model"])
    add("--weights", metavar="FILE", help=helps["weights"])
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)
    add("--labels", metavar="FILE", help=helps["labels"])
    add("--top", type=common.whole, default=3, metavar="K", help=helps["top"])
    add("--threshold", type=float, default=0.1, metavar="S", help=helps["above"])
    add("--fps", type=common.rate, help=helps["fps"])
    add("--short-side", type=common.whole, metavar="PX", help=helps["side"])


def _add_files(add) -> None:
    """Adds the options of what is written."""
    scores = "write the scores of all actions in the form of AVA, as its evaluation "
    scores += "reads them"
    add("--video", metavar="OUT.mp4", help="write the video with boxes and actions")
    add("--scores", metavar="OUT.csv", help=scores)


def run(args: argparse.Namespace) -> None:
    """Prints the best actions of every box; writes a video and a table of scores."""
    if args.boxes is None:
        raise ValueError(f"--boxes: is missing: {_NEEDS}")
    paths.check_suffix("--video", args.video, video.WRITABLE)
    paths.check_suffix("--scores", args.scores, (".csv",))
    targets = paths.given([("--video", args.video), ("--scores", args.scores)])
    clip = clips.look(args.clip)
    words = (args.boxes, args.weights, args.labels)
    paths.check_targets(targets, [*clip.files, *(word for word in words if word)])
    if clip.pictures and args.fps is None:
        raise ValueError(f"--fps: {args.clip} is pictures: say how many a second")
    if args.fps:
        clip = clip._replace(fps=args.fps, times=None)
    name = args.name or clip.stem
    boxes = _boxes(args, name)
    _check_times(args, clip, boxes)
    model = classify.load_recogniser(args)
    labels = _labels(args.labels, model.config.num_classes)
    found = list(_moments(args, model, boxes))
    best = [[_best(args, row, labels) for row in moment.scores] for moment in found]
    told = [
        [[f"{name} {score:.2f}" for name, score in box] for box in boxes]
        for boxes in best
    ]
    _print(args, found, best, told)
    if args.scores:
        ava.write_boxes(args.scores, _rows(name, found, labels))
        common.wrote(args, args.scores)
    if args.video:
        drawn = _drawn(clip, found, told)
        io.write_video(args.video, drawn, fps=clip.fps, times=clip.times)
        common.wrote(args, args.video)


def _moments(args: argparse.Namespace, model: Any, boxes: list[ava.Box]) -> Iterable:
    """Yields the scores of the boxes of every moment, and shows progress."""
    from jaxflow import detect

    found = detect.detect_actions(
        model,
        args.clip,
        boxes,
        fps=args.fps,
        short_side=args.short_side,
        precision=args.precision,
    )
    total = len({box.second for box in boxes})
    return common.progress(found, "moment", total=total, quiet=args.quiet)


def _boxes(args: argparse.Namespace, name: str) -> list[ava.Box]:
    """Reads the boxes of one video."""
    rows = ava.read_boxes(args.boxes)
    if not rows:
        raise ValueError(f"{args.boxes}: holds no boxes")
    here = [row for row in rows if row.video == name]
    if not here:
        others = sorted({row.video for row in rows})
        raise ValueError(
            f"--name: {args.boxes} has no rows of the video {name!r}, but of "
            f"{', '.join(map(repr, others[:3]))}{', ...' * (len(others) > 3)}"
        )
    if args.min_box_score is not None:
        here = [row for row in here if row.score >= args.min_box_score]
        if not here:
            raise ValueError(
                f"--min-box-score: no box of {name!r} has a score of "
                f"{args.min_box_score:g}"
            )
    return here


def _check_times(args: argparse.Namespace, clip: clips.Clip, boxes: list) -> None:
    """Raises ValueError at a box behind the end of the clip."""
    times = clip.times
    last = (len(clip.names) - 1) / clip.fps if times is None else times[-1]
    lasts = last + 1 / clip.fps
    late = [box.second for box in boxes if box.second > lasts]
    if late:
        raise ValueError(
            f"{args.boxes}: has a box at {late[0]:g} s, but {args.clip} lasts "
            f"{lasts:g} s"
        )


def _labels(path: str | None, classes: int) -> dict[int, str]:
    """Returns the actions that are told: number of the class -> name."""
    if path is None:
        return {index: str(index + 1) for index in range(classes)}
    if files.suffix(path) == ".pbtxt":
        names = ava.read_label_map(path)
        if max(names) > classes:
            raise ValueError(
                f"--labels: {path} names an action {max(names)}; the network has "
                f"{classes}"
            )
        return {number - 1: name for number, name in names.items()}
    names = classify.read_labels(path)
    if len(names) != classes:
        raise ValueError(
            f"--labels: {path} names {len(names)} classes; the network has {classes}"
        )
    return dict(enumerate(names))


def _best(
    args, scores: np.ndarray, labels: Mapping[int, str]
) -> list[tuple[str, float]]:
    """Returns the best actions of a box, best first, each with its score."""
    order = sorted(labels, key=lambda index: -scores[index])[: args.top]
    return [
        (labels[index], float(scores[index]))
        for index in order
        if scores[index] > args.threshold
    ]


def _print(args: argparse.Namespace, found: list[Any], best: list, told: list) -> None:
    """Prints what is done in every box: lines for people, or JSON."""
    if args.json:
        common.print_json(
            [
                {
                    "second": moment.second,
                    "box": corners.tolist(),
                    "actions": [{"action": a, "score": s} for a, s in actions],
                }
                for moment, boxes in zip(found, best, strict=True)
                for corners, actions in zip(moment.corners, boxes, strict=True)
            ]
        )
        return
    for moment, boxes in zip(found, told, strict=True):
        for corners, words in zip(moment.corners, boxes, strict=True):
            place = " ".join(f"{corner:.3f}" for corner in corners)
            print(f"{moment.second:.3f} s  {place}  {', '.join(words) or '-'}")


def _rows(name: str, found: list[Any], labels: Mapping[int, str]) -> Iterator[ava.Box]:
    """Yields a row for each box and action."""
    for moment in found:
        for corners, scores in zip(moment.corners, moment.scores, strict=True):
            for index in labels:
                yield ava.Box(
                    name, moment.second, tuple(corners), index + 1, float(scores[index])
                )


def _drawn(clip: clips.Clip, found: list[Any], told: list) -> Iterator:
    """Yields the frames of a clip, with the boxes of the nearest moment on them."""
    moments = np.array([moment.second for moment in found])
    for index, frame in enumerate(io.read_frames(clip.source)):
        frame = common.uint8_or_float(frame)
        at = index / clip.fps if clip.times is None else clip.times[index]
        nearest = int(np.argmin(np.abs(moments - at)))
        if abs(moments[nearest] - at) <= SHOWN:
            height, width = frame.shape[:2]
            boxes = found[nearest].corners * [width, height, width, height]
            frame = viz.draw_boxes(frame, boxes, labels=told[nearest])
        yield frame
