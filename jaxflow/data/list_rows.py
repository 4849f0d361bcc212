"""The lines of lists of videos: ``path label``, in the forms that people write."""

import csv
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxflow.io import files
from jaxflow.io import video as video_files

_PATHS = {"path", "video", "file", "filename", "file_name", "video_path", "filepath"}
_LABELS = {"label", "class", "category", "action", "target", "label_id", "class_id"}
_TIMES = {"start", "end", "time_start", "time_end", "start_frame", "end_frame"}


class Row(NamedTuple):
    """A line of a list.

    Attributes:
        line: Its number, from 1; 0 if the list has no lines.
        path: The file as it is written.
        label: The class as it is written.
        start: Where its part of the video begins, as it is written; "" if nothing is.
        end: Where it ends.
    """

    line: int
    path: str
    label: str
    start: str = ""
    end: str = ""


def read_rows(
    path: pathlib.Path, part: str | None = None, *, times: bool = False
) -> list[Row]:
    """Reads a list of lines ``path label``.

    Args:
        path: The list.
        part: If the list has a header with a column "split", the one to keep.
        times: Whether a header may have columns of start and end; otherwise a list
            with them is refused.

    Returns:
        A row a video.

    Raises:
        ValueError: If the file is no text, or a line is not of the form.
        OSError: If it cannot be opened.
    """
    lines = read_lines(path)
    header, lines = _header(path, lines)
    if header is not None:
        return list(_named_columns(path, lines, *header, part, times))
    delimiter = _delimiter(path, lines)
    return [_row(path, number, line, delimiter) for number, line in lines]


def find_videos(folder: pathlib.Path) -> list[pathlib.Path]:
    """Finds the videos in a folder and those in it, but for what is hidden.

    Returns:
        Their paths, sorted. Links to folders are not followed.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not files.is_hidden(name)]
        found += [
            pathlib.Path(parent, name)
            for name in names
            if not files.is_hidden(name) and files.suffix(name) in video_files.READABLE
        ]
    return sorted(found)


def fault(path: pathlib.Path, line: int, what: str) -> ValueError:
    """Returns the error for a line of a list; line 0 is the whole."""
    where = f"{path}:{line}" if line else f"{path}"
    return ValueError(f"{where}: {what}")


def read_lines(path: pathlib.Path) -> list[tuple[int, str]]:
    """Returns the lines of a text that are not blank, with their numbers from 1.

    Raises:
        ValueError: If the file is no text.
        OSError: If it cannot be opened.
    """
    data = path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise files.fault(path, f"is no text in UTF-8: {error}") from None
    if "\0" in text:
        raise files.fault(path, "is no text: it holds the character 0")
    lines = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def only(path: pathlib.Path, rows: list, parts: Sequence[str], part) -> list:
    """Keeps the rows of one part, where a list has more than one.

    Args:
        path: The list.
        rows: Its rows.
        parts: The part of each, as it is written; empty if the list does not say.
        part: The one to keep.

    Raises:
        ValueError: If a list has several and `part` is None or none of them.
    """
    usual = {
        "training": "train",
        "validate": "val",
        "validation": "val",
        "valid": "val",
    }
    parts = [usual.get(name.lower(), name.lower()) for name in parts]
    if len(set(parts)) < 2:
        return rows
    if part not in parts:
        raise ValueError(
            f"{path}: holds the parts {', '.join(sorted(set(parts)))}; `part` must say "
            f"which one, and is {part!r}"
        )
    return [row for row, name in zip(rows, parts, strict=True) if name == part]


def _header(path, lines):
    """Parts the names of columns, with their delimiter, from the lines."""
    if not lines:
        return None, lines
    _, first = lines[0]
    for delimiter in ("\t", ",", ";", " "):
        columns = [c.strip().strip('"').lower() for c in first.split(delimiter)]
        columns = [column for column in columns if column or delimiter != " "]
        if len(columns) > 1 and _PATHS & set(columns) and _LABELS & set(columns):
            return (columns, delimiter), lines[1:]
    return None, lines


def _named_columns(path, lines, columns, delimiter, part, times) -> Iterator[Row]:
    """Reads lines by the names of their columns."""
    at = [i for i, column in enumerate(columns) if column in _PATHS]
    label = [i for i, column in enumerate(columns) if column in _LABELS]
    for group in (at, label):
        if len(group) > 1:
            both = " and ".join(repr(columns[i]) for i in group[:2])
            raise fault(path, 1, f"has the columns {both}; keep one of them")
    bounds = _bounds(path, columns, delimiter) if times else None
    if not times and _TIMES & set(columns):
        raise fault(
            path,
            1,
            f"has a column {sorted(_TIMES & set(columns))[0]!r}: parts of videos are "
            "not read here, but by `list_parts.list_parts`; or cut the videos, and "
            "leave the column out",
        )
    split = columns.index("split") if "split" in columns else None
    rows, parts = [], []
    for number, line in lines:
        if delimiter == " ":
            row = _row(path, number, line, " ")
        else:
            cells = _cells(path, number, line, delimiter)
            if len(cells) != len(columns):
                raise fault(
                    path, number, f"has {len(cells)} columns, and {len(columns)} names"
                )
            if not _is_video(cells[at[0]]):
                what = f"names no video in the column {columns[at[0]]!r}: {line!r}"
                raise fault(path, number, what)
            when = [cells[place] for place in bounds or ()]
            row = Row(number, cells[at[0]], cells[label[0]], *when)
            parts.append("" if split is None else cells[split])
        rows.append(row)
    return iter(only(path, rows, parts, part))


def _bounds(path, columns, delimiter) -> list[int] | None:
    """Returns the places of the columns of start and end; None if there are none."""
    given = sorted(_TIMES & set(columns))
    if not given:
        return None
    for pair in (("start", "end"), ("time_start", "time_end")):
        if given == sorted(pair) and all(columns.count(name) == 1 for name in pair):
            if delimiter == " ":
                raise fault(path, 1, "has times in columns apart by blanks; use commas")
            return [columns.index(name) for name in pair]
    raise fault(
        path,
        1,
        f"has the columns {given}: 'start' and 'end' are read, both of them, in "
        "seconds",
    )


def _is_video(name: str) -> bool:
    """Tells whether a name ends as a video does."""
    return files.suffix(name) in video_files.READABLE


_EXTENSIONS = "|".join(re.escape(suffix) for suffix in video_files.READABLE)


def _delimiter(path, lines) -> str:
    """Finds what separates paths from labels: the same in all lines."""
    for delimiter in ("\t", ",", ";"):
        if all(delimiter in line for _, line in lines):
            cells = [_cells(path, number, line, delimiter) for number, line in lines]
            if all(_is_video(row[0]) and len(row) > 1 for row in cells):
                return delimiter
    return " "


def _cells(path, number: int, line: str, delimiter: str) -> list[str]:
    """Splits a line, and takes off quotes."""
    try:
        (cells,) = csv.reader(
            [line], delimiter=delimiter, skipinitialspace=True, strict=True
        )
    except (csv.Error, ValueError) as error:
        raise fault(path, number, f"is no line of a table ({error})") from None
    return [cell.strip() for cell in cells]


def _row(path, number: int, line: str, delimiter: str) -> Row:
    """Reads a line ``path label``."""
    if delimiter != " ":
        file, *rest = _cells(path, number, line, delimiter)
    else:
        quoted = re.fullmatch(r"([\"'])(.+)\1\s+(.*)", line)
        plain = re.fullmatch(rf"(.*(?:{_EXTENSIONS}))\s+(.*)", line, re.IGNORECASE)
        if quoted:
            file, text = quoted[2], quoted[3]
        elif plain:
            file, text = plain[1], plain[2]
        else:
            file, _, text = line.partition(" ")
        rest = text.split()
        if rest and not any(re.search(r"\d", word) for word in rest):
            rest = [text.strip()]
    rest = [cell.strip("\"'") for cell in rest]
    if len(rest) == 1 and rest[0] and _is_video(file):
        return Row(number, file, rest[0])
    if len(rest) > 1:
        raise fault(
            path,
            number,
            f"has {len(rest)} entries behind the path, which may be several labels, or "
            f"a start and an end: {line!r}; several labels are one entry, such as 1|5 "
            "(see `list_parts.list_parts`), and times need a header",
        )
    raise fault(path, number, f"is no path of a video and a label: {line!r}")
