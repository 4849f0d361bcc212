"""``jaxflow evaluate video``: how often recognition networks name the right class."""

import argparse
import functools
import heapq
import math
import os
import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import classify as classifying
from jaxflow.cli import common, paths
from jaxflow.data import list_parts, lists

FRAMES = 5
"""Frames that a picture of a video shows."""


class Video(NamedTuple):
    """A video, or a part of it in seconds, and what it shows."""

    part: list_parts.Part
    label: Any


def add_options(add) -> None:
    """Adds the options that only the task of video has."""
    helps = {
        "views": "video: CLIPSxCROPS of each video (default: 1x1; 10x3 are the usual)",
        "labels": "video: names of the network's classes, in its order: one a line, or "
        "JSON (default: classes.json beside the weights of a run, or the data's own)",
        "first": "video: number of the first class in lists that do not tell",
        "videos": "video: folder that the paths of lists are relative to",
        "several": "video: a video may show several classes; mean average precision "
        "of their probabilities, each by a sigmoid",
    }
    add("--views", type=classifying.views, metavar="CxS", help=helps["views"])
    add("--labels", metavar="FILE", help=helps["labels"])
    add("--first-label", type=int, choices=(0, 1), help=helps["first"])
    add("--videos", metavar="DIR", help=helps["videos"])
    add("--multi-label", action="store_true", help=helps["several"])


def refuse(args: argparse.Namespace) -> None:
    """Raises if one of these options is given to another task."""
    for option in ("views", "labels", "first_label", "videos", "multi_label"):
        if getattr(args, option) not in (None, False):
            words = option.replace("_", "-")
            raise ValueError(f"--{words}: is an option of `jaxflow evaluate video`")


def measure(args: argparse.Namespace) -> dict[str, dict]:
    """Prints and returns a table of accuracies for every data set."""
    data = _data(args)
    labels = classifying.read_labels(args.labels) if args.labels else None
    if args.pictures:
        paths.make_folder("--pictures", args.pictures)
    tables: dict[str, dict] = {name: {} for name in data}
    for word in args.model:
        model, source = load_model(word, args)
        known = _vocabulary(labels, source)
        for name, root in data.items():
            tables[name][word] = _measure_one(args, word, name, root, model, known)
    if args.json:
        common.print_json(tables)
    else:
        _print(tables)
    return tables


def _data(args: argparse.Namespace) -> dict[str, str]:
    """Returns the data sets by name; raises if the options do not fit them."""
    for option in ("all", "tile"):
        if getattr(args, option):
            raise ValueError(f"--{option}: is an option of `jaxflow evaluate flow`")
    if not args.data:
        raise ValueError("--data: give NAME=DIR or NAME=LIST")
    data = dict(map(_split_data, args.data))
    if len(data) < len(args.data):
        raise ValueError("--data: give each data set a NAME of its own")
    return data


def _measure_one(
    args: argparse.Namespace,
    word: str,
    name: str,
    root: str,
    model: Any,
    known: tuple[str, ...] | None,
) -> dict:
    """Returns the accuracies of one network on one data set; writes its pictures."""
    from jaxflow import classify, evaluate

    clips, crops = args.views or (1, 1)
    score = functools.partial(
        classify.classify_video,
        model,
        activation="sigmoid" if args.multi_label else "softmax",
        clips=clips,
        crops=crops,
        precision=args.precision,
    )
    videos, names = list_data(root, args, known, model.config.num_classes)
    if args.limit and args.limit < (count := len(videos)):
        videos = [videos[i * count // args.limit] for i in range(args.limit)]
    about = f"{word} on {name}"
    videos = common.progress(videos, "video", about=about, quiet=args.quiet)
    seen = Worst(args.worst or 0, names)
    row = evaluate.evaluate_video(
        functools.partial(_score, score),
        videos,
        several=args.multi_label,
        watch=seen.add,
    )
    if args.pictures:
        for path in seen.write(args.pictures, f"{name}_{word}"):
            common.wrote(args, path)
    return row


def _print(tables: dict[str, dict]) -> None:
    """Prints a table for each data set, with the columns that it has."""
    from jaxflow import evaluate

    for name, rows in tables.items():
        found = {column for row in rows.values() for column in row}
        columns = [column for column in evaluate.VIDEO_COLUMNS if column in found]
        print(evaluate.format_table(rows, columns=columns, title=name))


def _split_data(word: str) -> tuple[str, str]:
    """Returns the name and the folder or list of NAME=DIR."""
    name, equals, root = word.partition("=")
    if not (equals and name and root):
        raise ValueError(f"--data: give NAME=DIR or NAME=LIST; got {word!r}")
    return name, root


def load_model(word: str, args: argparse.Namespace) -> tuple[Any, str]:
    """Returns the network that is given as NAME or NAME=FILE, and its weights' place.

    Raises:
        ValueError: If there is no such network, or it has no weights.
    """
    name, _, path = word.partition("=")
    if args.weights and len(args.weights) > 1:
        raise ValueError("--weights: a recognition network has one file or folder")
    source = path or (args.weights[0] if args.weights else "")
    given = argparse.Namespace(model=name, weights=source, option=args.option)
    return classifying.load_recogniser(given), source


def _vocabulary(labels: list[str] | None, source: str) -> tuple[str, ...] | None:
    """Returns the names of the network's classes as far as they are told."""
    if labels is not None:
        return lists.check_names(labels)
    # The recipes keep them beside the trained model: STAGE/classes.json, STAGE/model.
    place = pathlib.Path(source)
    for folder in (place, *place.parents[:3]) if source else ():
        if os.path.isdir(folder) and folder != pathlib.Path():
            found = lists.load_classes(folder)
            if found is not None:
                return found
    return None


def list_data(
    root: str, args: argparse.Namespace, known: tuple[str, ...] | None, classes: int
) -> tuple[list[Video], tuple[str, ...]]:
    """Lists the videos of a folder or a list, by the classes of the network.

    Args:
        root: The folder or the list.
        args: Of them split, first_label, videos and multi_label.
        known: Names of the classes, or None for the data's own.
        classes: How many the network has.

    Raises:
        ValueError: If they are others than the network's, or so it seems.
    """
    options: Any = {
        "names": known,
        "part": args.split or "test",
        "first_label": args.first_label,
        "videos": args.videos,
    }
    if args.multi_label:
        parts, names = list_parts.list_parts(root, **options)
        videos = [Video(part, part.labels) for part in parts]
    else:
        found, names = lists.list_videos(root, **options)
        videos = [
            Video(list_parts.Part(video.path, (video.label,)), video.label)
            for video in found
        ]
    if all(name.isdecimal() for name in names) and int(names[-1]) < classes:
        # Numbers in a list are those of the network, whose last ones it may lack.
        return videos, (*names, *map(str, range(len(names), classes)))
    if len(names) != classes:
        raise ValueError(
            f"--data: {root} has {len(names)} classes and the network {classes}; give "
            "the names of the network's classes, in its order, by --labels FILE"
        )
    return videos, names


def _score(score, part: list_parts.Part) -> np.ndarray:
    """Scores a video, or the frames between two times."""
    if part.start == 0 and math.isinf(part.end):
        return score(part.path)
    fps = io.video_info(part.path).fps
    stop = None if math.isinf(part.end) else max(round(part.end * fps), 1)
    frames = list(io.read_video(part.path, start=round(part.start * fps), stop=stop))
    if not frames:
        raise ValueError(f"{part.path}: has no frame from {part.start} s on")
    return score(np.stack(frames), fps=fps)


class Worst:
    """Keeps the videos whose true class has the lowest score; names damaged ones.

    Args:
        count: How many; 0 keeps none.
        names: Of the classes.
    """

    def __init__(self, count: int, names: Sequence[str]):
        self.count, self.names = count, names
        self.seen = 0
        self._kept: list[tuple[float, int, Any]] = []

    def add(self, part: list_parts.Part, label: Any, scores: Any) -> None:
        """Looks at a video; see `jaxflow.evaluate.evaluate_video`."""
        index, self.seen = self.seen, self.seen + 1
        if isinstance(scores, Exception):
            warnings.warn(
                f"{part.path}: left out: {common.one_line(scores)}", stacklevel=2
            )
            return
        if not self.count or not part.labels:
            return
        own = float(np.min(scores[list(part.labels)]))
        own = -math.inf if math.isnan(own) else own
        entry = (-own, -index, (part, scores))
        if len(self._kept) < self.count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def write(self, folder: str, name: str) -> list[str]:
        """Writes a picture for each, the worst first, and returns their paths."""
        stem = re.sub(r"[^\w.=-]", "-", name)
        written = []
        ordered = sorted(self._kept, key=lambda entry: (-entry[0], -entry[1]))
        for place, (_, index, (part, scores)) in enumerate(ordered, 1):
            path = pathlib.Path(folder, f"{stem}_{place:02d}_video{-index:05d}.png")
            io.write_image(path, self._draw(part, scores))
            written.append(str(path))
        return written

    def _draw(self, part: list_parts.Part, scores: np.ndarray) -> np.ndarray:
        """Draws frames, and above them the true and the best class."""
        frames = _frames(part)
        shown = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
        best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        true = ", ".join(f"{self.names[i]} {scores[i]:.3f}" for i in part.labels)
        words = f"true: {true}; best: {self.names[best]} {scores[best]:.3f}"
        strip = viz.panel([frames[i] for i in shown], columns=len(shown))
        return viz.panel([strip], labels=[words])


def _frames(part: list_parts.Part) -> list[np.ndarray]:
    """Returns the frames of a video or a part."""
    if part.path.is_dir():
        return list(io.read_frames(part.path))
    fps = io.video_info(part.path).fps
    stop = None if math.isinf(part.end) else max(round(part.end * fps), 1)
    return list(io.read_video(part.path, start=round(part.start * fps), stop=stop))
