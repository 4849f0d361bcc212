"""A sequence of frames, wherever it lies: a folder, a pattern or a video."""

import glob
import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from jaxflow.io import files, image, video


def list_frames(path: files.Path) -> list[pathlib.Path]:
    """Returns the pictures of a folder or of a pattern, in natural order.

    Natural order puts frame_2 before frame_10.

    Args:
        path: A folder, whose pictures are taken by their extension and whose hidden
            files are not; or a pattern such as ``clip/*_left.png``.

    Raises:
        ValueError: If there are none.
    """
    if os.path.isdir(path):
        found = [
            entry
            for entry in pathlib.Path(path).iterdir()
            if files.suffix(entry) in image.READABLE and entry.name[0] != "."
        ]
    else:
        found = [pathlib.Path(name) for name in glob.glob(os.fspath(path))]
    if not found:
        raise files.fault(path, f"no pictures there ({', '.join(image.READABLE)})")
    return sorted(found, key=_natural_key)


def is_video(path: files.Path) -> bool:
    """Tells whether `path` ends as a video does."""
    return files.suffix(path) in video.READABLE


def is_sequence(path: files.Path) -> bool:
    """Tells whether `path` is a folder or a pattern of pictures."""
    name = os.fspath(path)
    return os.path.isdir(path) or (not os.path.exists(path) and glob.has_magic(name))


def read_frames(
    path: files.Path, *, start: int = 0, stop: int | None = None, stride: int = 1
) -> Iterator[np.ndarray]:
    """Reads the frames `start`, `start` + `stride`, ... before `stop`.

    Args:
        path: A folder of pictures, a pattern such as ``clip/*.png``, or a video.
        start: First frame, from 0.
        stop: Frame to stop before; None reads to the end.
        stride: Step from frame to frame.

    Returns:
        An iterator over (H, W, 3) frames of one size: uint8, or uint16 from pictures
        of 16 bits.

    Raises:
        ValueError: If there is nothing there, a file is damaged, or a picture has
            another size than the first: at the call, or at the frame in question.
        OSError: If a file cannot be opened.
        ImportError: If it is a video and PyAV is not installed.
    """
    if not is_sequence(path):
        return video.read_video(path, start=start, stop=stop, stride=stride)
    if start < 0 or stride < 1:
        raise ValueError(
            "`start` must be at least 0 and `stride` at least 1; "
            f"got {start} and {stride}"
        )
    return _read_pictures(list_frames(path)[start:stop:stride])


def _read_pictures(paths: list[pathlib.Path]) -> Iterator[np.ndarray]:
    """Yields pictures, which must have one size."""
    size = None
    for path in paths:
        frame = image.read_image(path)
        size = size or frame.shape
        if frame.shape != size:
            raise files.fault(
                path,
                f"is {frame.shape[1]} x {frame.shape[0]}; the frames before it are "
                f"{size[1]} x {size[0]}",
            )
        yield frame


def _natural_key(path: pathlib.Path) -> list:
    """Returns a sort key that reads runs of digits as numbers."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
