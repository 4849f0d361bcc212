"""A sequence of frames, wherever it lies: a folder, a pattern or a video."""

import collections
import fnmatch
import glob
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

from jaxflow.io import files, flow, image, video

# Orientations that a camera notes which turn a picture by a quarter.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_FLOW = re.compile(r"(^|[^a-z])flow([^a-z]|$)", re.IGNORECASE)


def list_frames(path: files.Path) -> list[pathlib.Path]:
    """Returns the pictures of a folder or of a pattern, in natural order.

    Natural order puts frame_2 before frame_10.

    Args:
        path: A folder, whose pictures are taken by their extension and whose hidden
            files are not; or a pattern such as ``clip/*_left.png``. Where a folder is
            really called ``clip[1]``, it is no pattern.

    Raises:
        ValueError: If there are none, or they are no one clip: series that are named
            differently, such as img_1 and flow_x_1, or a frame in two formats.

    Examples:
        >>> black = np.zeros((2, 3, 3), np.uint8)
        >>> for number in (10, 9):
        ...     jaxflow.io.write_image(folder / f"{number}.png", black)
        >>> [path.name for path in jaxflow.io.list_frames(folder)]
        ['9.png', '10.png']
    """
    found = _found(path, image.READABLE, "pictures")
    _check_names(path, found)
    return sorted(found, key=_natural_key)


def list_flows(path: files.Path) -> list[pathlib.Path]:
    """Returns the flow files of a folder or of a pattern, in natural order.

    Args:
        path: A folder, whose files of flow are taken by their extension, or a pattern
            such as ``flow/*.flo``. In a folder, .png files are taken only where there
            is flow of no other kind, since most of them are pictures.

    Raises:
        ValueError: If there are none, or they are no one clip; see `list_frames`.
    """
    found = _found(path, flow.READABLE, "flow files")
    if os.path.isdir(path):
        sure = [entry for entry in found if files.suffix(entry) != ".png"]
        found = sure or found
    _check_names(path, found)
    return sorted(found, key=_natural_key)


def is_video(path: files.Path) -> bool:
    """Tells whether `path` ends as a video does."""
    return files.suffix(path) in video.READABLE


def is_sequence(path: files.Path) -> bool:
    """Tells whether `path` is a folder or a pattern of pictures."""
    return os.path.isdir(path) or (
        not os.path.exists(path) and glob.has_magic(_pattern(path)[1])
    )


def read_frames(
    path: files.Path, *, start: int = 0, stop: int | None = None, stride: int = 1
) -> Iterator[np.ndarray]:
    """Reads the frames `start`, `start` + `stride`, ... before `stop`.

    Args:
        path: A folder of pictures, a pattern such as ``clip/*.png``, a video, or one
            picture.
        start: First frame, from 0.
        stop: Frame to stop before; None reads to the end.
        stride: Step from frame to frame.

    Returns:
        An iterator over (H, W, 3) frames of one size: uint8, or uint16 from pictures
        of 16 bits.

    Raises:
        ValueError: If there is nothing there, or a picture is foreign or has another
            size than the first: at the call, by the headers of all of them. If a file
            is damaged behind its header: at the frame in question.
        OSError: If a file cannot be opened.
        ImportError: If it is a video and PyAV is not installed.

    Examples:
        >>> black = np.zeros((2, 3, 3), np.uint8)
        >>> for number in (1, 2, 3):
        ...     jaxflow.io.write_image(folder / f"{number}.png", black)
        >>> len(list(jaxflow.io.read_frames(folder, start=1)))
        2
    """
    video.check_range(start, stop, stride)
    if is_sequence(path):
        paths = list_frames(path)
    elif files.suffix(path) in image.READABLE:
        paths = [pathlib.Path(path)]
    elif files.suffix(path) in flow.READABLE:
        raise files.fault(path, "is flow, not frames: read it by `read_flow`")
    else:
        return video.read_video(path, start=start, stop=stop, stride=stride)
    paths = paths[start:stop:stride]
    check_headers(paths)
    return _read_pictures(paths)


def check_headers(paths: Iterable[files.Path]) -> None:
    """Looks at the headers of pictures, which takes a moment for a thousand of them.

    Args:
        paths: The pictures of one clip.

    Raises:
        ValueError: If one is no picture, or has another size than the first.
        OSError: If one cannot be opened, such as a broken link.
    """
    first = None
    for path in paths:
        size = header_size(path)
        first = first or size
        _check_size(path, size, first)


def header_size(path: files.Path) -> tuple[int, int]:
    """Returns the width and height of a picture, upright, from its header."""
    with open(path, "rb") as file, warnings.catch_warnings():
        # The limit of pixels is looked at by `read_image`.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as picture:
                width, height = picture.size
                if isinstance(picture, TiffImagePlugin.TiffImageFile):
                    # Some Pillows turn its size.
                    width, height = picture.tag_v2[256], picture.tag_v2[257]
                turned = picture.getexif().get(_ORIENTATION) in _TURNED
        except Exception:  # a damaged header raises many kinds
            file.seek(0)
            start = file.read(8)
            what = f"no readable picture: it begins with {start!r}"
            raise files.fault(path, what if start else "is empty") from None
    return (height, width) if turned else (width, height)


def _check_size(path: files.Path, size: tuple, first: tuple) -> None:
    """Raises unless a picture has the width and height of the first."""
    if size != first:
        raise files.fault(
            path,
            f"is {size[0]} x {size[1]}; the frames before it are "
            f"{first[0]} x {first[1]}",
        )


def _check_names(path: files.Path, found: list[pathlib.Path]) -> None:
    """Raises if the names of pictures are those of several clips."""
    series = collections.Counter(_series(name) for name in found)
    long = sorted(name for name, count in series.items() if count > 1)
    flows = [name for name in series if _FLOW.search(name)]
    if len(long) > 1 or (flows and len(series) > 1):
        names = ", ".join(f"{name} ({series[name]})" for name in sorted(series)[:4])
        raise files.fault(
            path, f"holds pictures of several clips, {names}: {_advice(path, found)}"
        )
    stems = collections.Counter(name.with_suffix("") for name in found)
    twin = next((stem for stem, count in stems.items() if count > 1), None)
    if twin is not None:
        kinds = sorted(name.suffix for name in found if name.with_suffix("") == twin)
        raise files.fault(
            path,
            f"holds {twin.name} twice, as {' and '.join(kinds)}: choose one by a "
            f"pattern, such as '{twin.parent / '*'}{kinds[0]}'",
        )


def _found(path: files.Path, readable: tuple[str, ...], what: str) -> list:
    """Returns the files of a folder that end so and are not hidden, or of a pattern."""
    if os.path.isdir(path):
        found = [
            entry
            for entry in pathlib.Path(path).iterdir()
            if files.suffix(entry) in readable and entry.name[0] != "."
        ]
    else:
        found = [pathlib.Path(name) for name in glob.glob("".join(_pattern(path)))]
    if not found:
        raise files.fault(path, f"no {what} there ({', '.join(readable)})")
    return found


def _advice(path: files.Path, found: list[pathlib.Path]) -> str:
    """Says how to choose one series of pictures; those of flow come last."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    series = {_series(name) for name in found}
    for name in sorted(series, key=lambda name: (bool(_FLOW.search(name)), name)):
        pattern = name.replace("#", "*") + ".*"
        chosen = (other for other in found if fnmatch.fnmatch(other.name, pattern))
        if {_series(other) for other in chosen} == {name}:
            return f"choose one by a pattern, such as '{os.path.join(folder, pattern)}'"
    return "put each into a folder of its own"


def _series(path: pathlib.Path) -> str:
    """Returns the name of a picture without its numbers: img_# of img_12.png."""
    return re.sub("[0-9]+", "#", path.stem)


def _pattern(path: files.Path) -> tuple[str, str]:
    """Splits a pattern: the part that exists as it is written, escaped; the rest."""
    name = os.fspath(path)
    head = name
    while head and not os.path.exists(head):
        parent = os.path.dirname(head)
        head = "" if parent == head else parent
    return glob.escape(head), name[len(head) :]


def _read_pictures(paths: list[pathlib.Path]) -> Iterator[np.ndarray]:
    """Yields pictures, which must have one size."""
    first = None
    for path in paths:
        frame = image.read_image(path)
        size = (frame.shape[1], frame.shape[0])
        first = first or size
        _check_size(path, size, first)
        yield frame


def _natural_key(path: pathlib.Path) -> list:
    """Returns a sort key that reads runs of digits as numbers."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
