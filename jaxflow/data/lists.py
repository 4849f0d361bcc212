"""Labelled videos from folders and list files, in one vocabulary of classes.

A label is a place in a vocabulary, the names of the classes in training. Whoever tests
passes that vocabulary on, so that a class which the test lacks shifts nothing, and one
that training did not know is an error. What a list leaves open is refused with the file
and the line, never guessed.

Nothing here needs JAX.
"""

import json
import os
import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from jaxflow import _checks
from jaxflow.data import list_rows, official_lists
from jaxflow.io import files
from jaxflow.io import video as video_files

Part = Literal["train", "val", "test"]
PARTS = ("train", "val", "test")
CLASSES_FILE = "classes.json"
"""Name of the file in a run's folder that keeps its vocabulary."""
_MAX_LABEL = 100_000


class OnDisk(Protocol):
    """What has the path of a video."""

    @property
    def path(self) -> pathlib.Path:
        """The file, or the folder of pictures."""
        ...


Listed = TypeVar("Listed", bound=OnDisk)


class Video(NamedTuple):
    """One labelled video.

    Attributes:
        path: The file.
        label: Its class, from 0.
    """

    path: pathlib.Path
    label: int


def list_videos(
    root: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    first_label: int | None = None,
    part: Part | None = None,
    videos: str | os.PathLike[str] | None = None,
) -> tuple[list[Video], tuple[str, ...]]:
    """Lists labelled videos.

    A folder has one folder of videos a class: FOLDER/CLASS/VIDEO. Hidden files and
    folders do not count, nor __MACOSX, nor folders without a video. The classes are the
    names of the folders, in alphabetical order, or by their value if all are numbers.

    A list file has a line ``path label`` a video, separated by blanks, a comma or a
    tab, as PySlowFast, pytorchvideo and mmaction2 write it, with or without a header,
    quotes and a byte-order mark. Labels are numbers, or else names, which are numbered
    in alphabetical order. Lists are also read as they are published for Kinetics (csv),
    UCF101 (with ``classInd.txt`` beside them), HMDB51 (any one of the files
    ``*_test_split1.txt``), Something-Something (json) and Jester (csv), whose videos
    are folders of pictures.

    Args:
        root: The folder or the list.
        names: Vocabulary of the classes: that of training, when testing. None makes one
            of what is listed.
        first_label: What number the first class has in the list, 0 or 1. It must be
            said where the list does not tell: where no line has the label 0.
        part: Which part of a list that holds several is wanted.
        videos: Folder that the paths of a list are relative to; None for the list's
            own.

    Returns:
        The videos, in the order of their names or of the lines, and the vocabulary.

    Raises:
        ValueError: If there are none; if a line is not of a form above, or can be
            understood in two ways; or if a class is not in `names`. A list's message
            names the file and the line.
        OSError: If there is no such folder or file.
    """
    root = pathlib.Path(root)
    if first_label is not None:
        _checks.one_of("first_label", first_label, (0, 1))
    if part is not None:
        _checks.one_of("part", part, PARTS)
    if names is not None:
        names = check_names(names)
    if root.is_dir():
        found, names = _list_folder(root, names)
    else:
        base = root.parent if videos is None else pathlib.Path(videos)
        rows, known = official_lists.read(root, base, part, videos is not None)
        if rows is None:
            rows = [
                row._replace(path=os.fspath(base / row.path))
                for row in list_rows.read_rows(root, part)
            ]
        labels, names = number_labels(root, rows, known, names, first_label)
        found = [
            Video(pathlib.Path(row.path), label)
            for row, label in zip(rows, labels, strict=True)
        ]
        _check_twice(root, rows, found)
    if not found:
        raise no_videos(root)
    return found, names


def no_videos(root: pathlib.Path) -> ValueError:
    """Returns the error for a folder or a list without videos: what is there instead.

    Args:
        root: The folder, which is read as FOLDER/CLASS/VIDEO, or the list.
    """
    if not root.is_dir():
        what = "only names of columns" if root.read_bytes().strip() else "nothing"
        return files.fault(
            root,
            "lists no videos: wanted is a line 'path label' for each, such as "
            f"'wave/a.mp4 3'; there is {what}",
        )
    there = sorted(path for path in root.iterdir() if not files.is_hidden(path.name))
    loose = [path for path in there if files.suffix(path) in video_files.READABLE]
    names = [f"{path.name}{'/' if path.is_dir() else ''}" for path in loose or there]
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    what = f"{', '.join(names[:3])}{more}" if names else "nothing"
    without = ", in no folder of a class" if loose else ", without a video"
    return files.fault(
        root,
        f"lists no videos: wanted is FOLDER/CLASS/VIDEO, such as {root.name}/wave/"
        f"a.mp4; there is {what}{without if names else ''}",
    )


def present(root: str | os.PathLike[str], listed: Sequence[Listed]) -> list[Listed]:
    """Leaves out what is listed and is not there; a warning counts it and names some.

    Args:
        root: The list, for messages.
        listed: Each with the ``path`` of a video.

    Raises:
        FileNotFoundError: If none is there.
    """
    parents = {each.path.parent for each in listed}
    # To list folders is much faster than to look for each file, above all in a network.
    there = {
        parent / name
        for parent in parents
        if parent.is_dir()
        for name in os.listdir(parent)
    }
    kept = [each for each in listed if each.path in there or each.path.exists()]
    if len(kept) == len(listed):
        return kept
    held = {each.path for each in kept}
    gone = list(dict.fromkeys(x.path for x in listed if x.path not in held))
    names = ", ".join(map(str, gone[:3])) + (", ..." if len(gone) > 3 else "")
    count = len(gone) + len(held)
    what = f"{os.fspath(root)}: {len(gone)} of {count} videos are not there"
    if not kept:
        raise FileNotFoundError(
            f"{what}: {names}; say by `videos` which folder the paths are relative to"
        )
    warnings.warn(f"{what}, and are left out: {names}", stacklevel=3)
    return kept


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns a vocabulary, which must be one.

    Raises:
        ValueError: If it is empty, or a name is there twice.
    """
    names = tuple(names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice or not all(isinstance(name, str) for name in names):
        fault = f"{twice[0]!r} is there twice" if twice else f"got {names[:9]!r}"
        raise ValueError(f"`names` must be different names of classes; {fault}")
    return names


def save_classes(folder: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Stores a vocabulary with a run, or checks that the run's is the same.

    Args:
        folder: Of the run; made if it is not there.
        names: The vocabulary.

    Raises:
        ValueError: If the run has been trained on other classes.
        OSError: If the file cannot be written.
    """
    names = check_names(names)
    old = load_classes(folder)
    if old is not None and old != names:
        first = next(
            (pair for pair in zip(old, names, strict=False) if pair[0] != pair[1]),
            (f"{len(old)} classes", f"{len(names)}"),
        )
        raise ValueError(
            f"{os.fspath(folder)}: this run has been trained on other classes "
            f"({first[0]!r} where there is now {first[1]!r}); take another folder"
        )
    if old is None:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(names, indent=1, ensure_ascii=False)
        files.write_bytes(pathlib.Path(folder) / CLASSES_FILE, text.encode())


def load_classes(folder: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Returns the vocabulary that is stored with a run; None if there is none.

    Raises:
        ValueError: If its file is damaged.
    """
    path = pathlib.Path(folder) / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        return check_names(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise files.fault(path, f"is no list of classes: {error}") from None


def _list_folder(root, names) -> tuple[list[Video], tuple[str, ...]]:
    """Lists a folder of classes."""
    classes = {}
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not files.is_hidden(folder.name):
            found = list_rows.find_videos(folder)
            if found:
                classes[folder.name] = found
    if not classes and any(root.glob("*_test_split[123].txt")):
        raise ValueError(
            f"{root}: holds the lists of HMDB51; name one of them, such as "
            f"{sorted(root.glob('*_test_split[123].txt'))[0].name}, for its split"
        )
    names = names or _sorted(classes)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise ValueError(f"{root / unknown[0]}: {_unknown(unknown, names)}")
    found = [
        Video(path, label)
        for label, name in enumerate(names)
        for path in classes.get(name, ())
    ]
    return found, names


def _sorted(names) -> tuple[str, ...]:
    """Sorts names of classes: by value if all are numbers, or else as text."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _unknown(unknown: Sequence[str], names: Sequence[str]) -> str:
    """Says that training did not know a class."""
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"the class {unknown[0]!r}{more} is none of the {len(names)} classes of "
        f"training: {known}"
    )


def number_labels(
    path: pathlib.Path,
    rows: list[list_rows.Row],
    known: tuple[str, ...] | None,
    names: tuple[str, ...] | None,
    first_label: int | None,
) -> tuple[list[int], tuple[str, ...]]:
    """Turns labels as they are written into places in a vocabulary.

    Args:
        path: The list.
        rows: Its rows, of one label each.
        known: Vocabulary that comes with the list, or None.
        names: The one to use, or None.
        first_label: What number the first class has in the list, 0 or 1.

    Returns:
        A place a row, and the vocabulary.

    Raises:
        ValueError: If a label is not in the vocabulary, or can be understood in two
            ways.
    """
    for row in rows:
        if not row.label:
            raise list_rows.fault(path, row.line, "has no label")
        if re.fullmatch(r"[\[(]?\d+(\s*[,;|]\s*\d+)+[\])]?", row.label):
            raise list_rows.fault(
                path,
                row.line,
                f"has several labels, {row.label!r}; one label a video is read here, "
                "and several by `list_parts.list_parts`",
            )
    numeric = [bool(re.fullmatch(r"[-+]?\d+(\.0*)?", row.label)) for row in rows]
    if not all(numeric) or not rows:
        for row, number in zip(rows, numeric, strict=True):
            if number != numeric[0] or re.fullmatch(r"[-+]?\d*\.\d+", row.label):
                raise list_rows.fault(
                    path,
                    row.line,
                    f"has the label {row.label!r}, and line {rows[0].line} "
                    f"{rows[0].label!r}: labels are either whole numbers or names",
                )
        labels = [row.label for row in rows]
        names = names or known or _sorted(set(labels))
    else:
        labels = _numbers(path, rows, names or known, first_label)
        if names is None and known is None:
            first = 0 if first_label is None else first_label
            names = tuple(map(str, range(first, 1 + max(map(int, labels)))))
        names = names or known
    assert names is not None
    places = {name: place for place, name in enumerate(names)}
    for row, label in zip(rows, labels, strict=True):
        if label not in places:
            raise list_rows.fault(path, row.line, _unknown([label], names))
    return [places[label] for label in labels], names


def _numbers(path, rows, names, first_label) -> list[str]:
    """Returns the names of the classes that are written as numbers."""
    values = [int(row.label.partition(".")[0]) for row in rows]
    for row, value in zip(rows, values, strict=True):
        if value < 0:
            raise list_rows.fault(
                path, row.line, f"has the label {row.label}, which is no class"
            )
        if value > _MAX_LABEL:
            raise list_rows.fault(
                path, row.line, f"has the label {row.label}; classes are numbered"
            )
    if names is not None and all(name.isdecimal() for name in names):
        # The vocabulary was made of numbers, and tells what the first one is.
        return [str(value) for value in values]
    if first_label is None:
        first_label = _first_label(path, rows, values, names)
    if min(values) < first_label:
        line = rows[values.index(min(values))].line
        raise list_rows.fault(
            path, line, f"has the label {min(values)}, below `first_label` 1"
        )
    if names is None:
        return [str(value) for value in values]
    for row, value in zip(rows, values, strict=True):
        if value - first_label >= len(names):
            raise list_rows.fault(
                path,
                row.line,
                f"has the label {row.label}, the number of none of the {len(names)} "
                "classes of training",
            )
    return [names[value - first_label] for value in values]


def _first_label(path, rows, values, names) -> int:
    """Tells whether labels are counted from 0 or from 1."""
    if 0 in values:
        return 0
    if names is not None and max(values) == len(names):
        return 1
    line = rows[values.index(min(values))].line
    raise list_rows.fault(
        path,
        line,
        f"has the least label, {min(values)}, and no line has 0: say by first_label=1 "
        "that the first class is 1, or by first_label=0 that it is 0 and not listed",
    )


def _check_twice(path, rows, found) -> None:
    """Raises if a video is listed with two labels."""
    seen = {}
    for row, video in zip(rows, found, strict=True):
        line, label = seen.setdefault(video.path, (row.line, video.label))
        if label != video.label:
            raise list_rows.fault(
                path,
                row.line,
                f"gives {row.path} another label than line {line}; one label a video "
                "is read",
            )
