"""The tables of AVA: boxes of people once a second, with actions or their scores.

Gu et al., "AVA: A Video Dataset of Spatio-temporally Localized Atomic Visual Actions"
(CVPR 2018). A row is

    video,second,x1,y1,x2,y2,action[,score]

with corners as parts of the frame's width and height, from 0 at the left and the top to
1. In annotations the eighth column is the person's number. Where a person detector
wrote it, the action is empty, or it and the score are missing.

Nothing here needs JAX.
"""

import csv
import math
import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxflow.data import list_rows
from jaxflow.io import files

# How far outside of the frame a detector's box may reach, in frames. Pixels do not.
_REACH = 0.5


class Box(NamedTuple):
    """A box at one moment of a video.

    Attributes:
        video: Name of the video.
        second: When, in seconds from its start.
        corners: (x1, y1, x2, y2), parts of the frame's width and height.
        action: Number of the action, from 1; None where no action is told.
        score: How sure it is; 1 if nothing is said. In annotations with an eighth
            column, the number of the person.
    """

    video: str
    second: float
    corners: tuple[float, float, float, float]
    action: int | None = None
    score: float = 1.0


def read_boxes(path: str | os.PathLike[str]) -> list[Box]:
    """Reads a table of boxes.

    Args:
        path: The file: csv without a header, in UTF-8.

    Returns:
        A box a row, in order.

    Raises:
        ValueError: If a row is no box: the one line names the file, the row and why.
        OSError: If the file cannot be opened.
    """
    path = pathlib.Path(path)
    return [read_row(path, *row) for row in list_rows.read_lines(path)]


def write_boxes(path: str | os.PathLike[str], boxes: Iterable[Box]) -> None:
    """Writes a table of boxes as the evaluation of AVA reads it, atomically.

    Args:
        path: The file.
        boxes: Of whole seconds, written with four digits; other moments are written as
            they are, for which the evaluation has no use. Corners have four decimals
            and scores six.

    Raises:
        OSError: If the file cannot be written.
    """
    lines = []
    for box in boxes:
        whole = float(box.second).is_integer()
        second = f"{int(box.second):04d}" if whole else f"{box.second:.3f}"
        corners = ",".join(f"{corner:.4f}" for corner in box.corners)
        action = "" if box.action is None else box.action
        lines.append(f"{box.video},{second},{corners},{action},{box.score:.6f}\n")
    files.write_bytes(path, "".join(lines).encode())


def read_exclusions(path: str | os.PathLike[str]) -> set[tuple[str, int]]:
    """Reads which seconds do not count: rows ``video,second``.

    Args:
        path: The file.

    Returns:
        Pairs of a video and a second.

    Raises:
        ValueError: If a row is something else: the one line names the file and the row.
        OSError: If the file cannot be opened.
    """
    path, found = pathlib.Path(path), set()
    for number, line in list_rows.read_lines(path):
        video, comma, second = line.rpartition(",")
        if not comma or not video.strip() or not second.strip().isdecimal():
            raise list_rows.fault(path, number, f"is not 'video,second': {line!r}")
        found.add((video.strip(), int(second)))
    return found


def read_label_map(path: str | os.PathLike[str]) -> dict[int, str]:
    """Reads the names of actions, as ``label { name: "stand" label_id: 12 }``.

    Args:
        path: A file of AVA's, .pbtxt: of all 80 actions, or of the 60 that count.

    Returns:
        Number -> name, by number.

    Raises:
        ValueError: If it is no such file, or a number occurs twice.
        OSError: If the file cannot be opened.
    """
    path = pathlib.Path(path)
    text = "\n".join(line for _, line in list_rows.read_lines(path))
    pattern = r'name:\s*"([^"]*)"\s*(?:label_)?id:\s*(\d+)'
    order = sorted((int(number), name) for name, number in re.findall(pattern, text))
    names = dict(order)
    if not names or len(names) < len(order) or min(names) < 1:
        raise list_rows.fault(
            path, 0, "holds no list of actions, each with a number of its own, from 1"
        )
    return names


def read_row(path: pathlib.Path, number: int, line: str) -> Box:
    """Reads a row of a table of boxes.

    Args:
        path: The file, for the message.
        number: Of the row, likewise.
        line: The row.

    Raises:
        ValueError: If it is no box: the one line names the file, the row and why.
    """

    def refuse(what: str) -> ValueError:
        return list_rows.fault(path, number, f"{what}: {line!r}")

    try:
        (cells,) = csv.reader([line], strict=True)
    except csv.Error as error:
        raise refuse(f"is no row of a table ({error})") from None
    cells = [cell.strip() for cell in cells]
    if len(cells) not in (6, 7, 8) or not cells[0]:
        raise refuse("must be video,second,x1,y1,x2,y2, then action and score if known")
    try:
        numbers = [float(cell) for cell in cells[1:6]]
        action = int(cells[6]) if len(cells) > 6 and cells[6] else None
        score = float(cells[7]) if len(cells) > 7 and cells[7] else 1.0
    except ValueError:
        raise refuse("has a cell that is no number") from None
    if not all(map(math.isfinite, (*numbers, score))):
        raise refuse("has a number that is NaN or infinite")
    second, x1, y1, x2, y2 = numbers
    if second < 0:
        raise refuse("has a moment before the start of the video")
    if action is not None and (action < -1 or action == 0):
        raise refuse("has an action that is not numbered from 1")
    if x1 > x2 or y1 > y2:
        raise refuse(
            "has a box whose second corner is not right of and below the first"
        )
    if min(x1, y1) < -_REACH or max(x2, y2) > 1 + _REACH:
        raise refuse(
            "has a box far outside of the frame, whose corners are parts of "
            "its width and height, from 0 to 1, not pixels"
        )
    action = None if action == -1 else action
    return Box(cells[0], second, (x1, y1, x2, y2), action, score)
