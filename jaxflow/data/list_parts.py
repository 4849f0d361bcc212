"""Lists of parts of videos, of one class or of several, as people have them.

    path,label,start,end                 with a header, times in seconds
    a.mp4,3|17,0.5,9.0
    "my videos/b.mp4",2,12,20.5

    a.mp4 3,17                           or without a header and without times
    b.mp4 2

A video may be there in several lines. Labels are numbers, or names from a vocabulary;
several are apart by a bar or a semicolon, and numbers by a comma, too. What a list
leaves open is refused with the file and the line, as by `jaxflow.data.lists`.

Nothing here needs JAX.
"""

import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxflow import _checks
from jaxflow.data import list_rows, lists, official_lists
from jaxflow.io import files


class Part(NamedTuple):
    """A part of a video, and what it shows.

    Attributes:
        path: The file.
        labels: Its classes, from 0, in rising order.
        start: Where the part begins, in seconds.
        end: Where it ends; infinite for the end of the video.
    """

    path: pathlib.Path
    labels: tuple[int, ...]
    start: float = 0.0
    end: float = math.inf


def list_parts(
    root: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    first_label: int | None = None,
    part: lists.Part | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> tuple[list[Part], tuple[str, ...]]:
    """Lists parts of videos with one label or several.

    Args:
        root: The list.
        names: Vocabulary of the classes: that of training, when testing. None makes one
            of what is listed.
        first_label: What number the first class has in the list, 0 or 1; see
            `lists.list_videos`.
        part: Which part of a list that holds several is wanted.
        videos: Folder that the paths are relative to; None for the list's own.

    Returns:
        The parts, in the order of the lines, and the vocabulary.

    Raises:
        ValueError: If there are none, or `root` is a folder; if a line is not of a form
            above, names a class twice, or ends before it starts; or if a class is not
            in `names`.
        OSError: If there is no such file.
    """
    root = pathlib.Path(root)
    if first_label is not None:
        _checks.one_of("first_label", first_label, (0, 1))
    if part is not None:
        _checks.one_of("part", part, lists.PARTS)
    if names is not None:
        names = lists.check_names(names)
    if root.is_dir():
        raise files.fault(
            root,
            "is a folder; parts of videos are read from a list, with a line "
            "'path,label,start,end' for each (FOLDER/CLASS/VIDEO is for whole videos)",
        )
    base = root.parent if videos is None else pathlib.Path(videos)
    rows, known = official_lists.read(root, base, part, videos is not None)
    if rows is None:
        rows = [
            row._replace(path=os.fspath(base / row.path))
            for row in list_rows.read_rows(root, part, times=True)
        ]
    if not rows:
        raise lists.no_videos(root)
    single, counts = [], []
    for row in rows:
        words = split_labels(row.label)
        single += [row._replace(label=word) for word in words]
        counts.append(len(words))
    numbers, names = lists.number_labels(root, single, known, names, first_label)
    found, place = [], 0
    for row, count in zip(rows, counts, strict=True):
        labels = tuple(sorted(numbers[place : place + count]))
        place += count
        if len(set(labels)) < count:
            raise list_rows.fault(root, row.line, f"names a class twice: {row.label!r}")
        found.append(Part(pathlib.Path(row.path), labels, *_times(root, row)))
    return found, names


def split_labels(text: str) -> list[str]:
    """Splits what is written as the label of a line into single labels.

    A comma only parts numbers: names of classes may hold one.
    """
    if re.fullmatch(r"[\[(]?\s*\d+(\s*[,;|]\s*\d+)*\s*[\])]?", text):
        return re.findall(r"\d+", text)
    return [word.strip() for word in re.split(r"[;|]", text)]


def _times(path: pathlib.Path, row: list_rows.Row) -> tuple[float, float]:
    """Returns the start and the end of a row, in seconds."""
    if not row.start and not row.end:
        return 0.0, math.inf
    try:
        start, end = float(row.start), float(row.end)
    except ValueError:
        start, end = math.nan, math.nan
    if not 0 <= start < end < math.inf:
        raise list_rows.fault(
            path,
            row.line,
            f"has the times {row.start!r} and {row.end!r}, which are no start and end "
            "in seconds",
        )
    return start, end
