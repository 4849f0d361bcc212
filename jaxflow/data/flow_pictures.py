"""Flow stored as pictures of 8 bits, two for each flow, as two-stream networks read it.

Each component f is cut to [-20, 20] pixels and stored as (f + 20) 255 / 40, so that 255
is 1 and no motion is 128. Two layouts are common:

    FOLDER/flow_x_00001.jpg, FOLDER/flow_y_00001.jpg     TSN, denseflow, mmaction2
    FOLDER/u/[NAME/]frame000001.jpg, FOLDER/v/...        Feichtenhofer's data

In the first, frames may lie beside them (img_00001.jpg), and "flow_" may be missing.
Nothing here needs JAX.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxflow import io
from jaxflow.io import files, frames, image

_XY = re.compile(r"(?:flow_)?([xy])_(\d+)")
_NUMBER = re.compile(r"\d+$")
# JPEG in colour does not keep grey exactly.
_COLOUR_SLACK = 3


class FlowPictures(NamedTuple):
    """The pictures of a clip's flow, in order.

    Attributes:
        x: Of the horizontal components.
        y: Of the vertical ones.
    """

    x: Sequence[pathlib.Path]
    y: Sequence[pathlib.Path]


def list_flow_pictures(folder: files.Path, *, name: str = "") -> FlowPictures:
    """Finds the pictures of a clip's flow, and verifies that none is missing.

    Args:
        folder: Folder of the clip; or of a data set, which has a folder a clip, or
            below u and v.
        name: Of the clip in a data set.

    Raises:
        ValueError: If there are none, or those of both layouts; if a component or a
            number in between is missing, a picture is there in two formats, or sizes
            differ.
        OSError: If a file cannot be opened.
    """
    root = pathlib.Path(folder)
    beside = _numbered(root / name, "xy")
    sides = {axis: root / axis / name for axis in "uv"}
    apart = {a: _numbered(side, "frame")["frame"] for a, side in sides.items()}
    if any(beside.values()) and any(apart.values()):
        raise files.fault(
            folder, "holds flow in both layouts, flow_x_# and folders u and v: keep one"
        )
    if any(beside.values()):
        found, where = beside, root / name
    else:
        found, where = {"x": apart["u"], "y": apart["v"]}, root
    if not any(found.values()):
        raise files.fault(
            root / name,
            "no pictures of flow there: flow_x_00001.jpg and flow_y_00001.jpg, or "
            "folders u and v of frame000001.jpg",
        )
    _check_complete(where, found)
    x, y = ([found[axis][number] for number in sorted(found[axis])] for axis in "xy")
    frames.check_headers(x + y)
    return FlowPictures(x, y)


def is_flow_folder(path: files.Path) -> bool:
    """Tells whether a path is a folder with pictures of flow, complete or not."""
    root = pathlib.Path(path)
    if not root.is_dir():
        return False
    below = (_numbered(root / axis, "frame")["frame"] for axis in "uv")
    return any(_numbered(root, "xy").values()) or all(below)


def read_flow_picture(pictures: FlowPictures, index: int) -> np.ndarray:
    """Reads one flow of a clip as it is stored.

    Args:
        pictures: As `list_flow_pictures` gives them.
        index: From 0: that from frame `index` to the next.

    Returns:
        (H, W, 2) uint8: u and v. Divided by 255 it is what networks see, and undone by
        `jaxflow.viz.dequantize_flow`.

    Raises:
        ValueError: If a picture is damaged, not of 8 bits, or in colour, which no
            component of flow is.
        OSError: If it cannot be opened.
    """
    parts = []
    for path in (pictures.x[index], pictures.y[index]):
        picture = io.read_image(path)
        if picture.dtype != np.uint8:
            raise files.fault(path, "has 16 bits: a picture of flow has 8")
        if np.ptp(picture.astype(np.int16), axis=-1).max() > _COLOUR_SLACK:
            raise files.fault(
                path, "is a picture in colour: a component of flow is grey"
            )
        parts.append(picture[..., 1])
    return np.stack(parts, axis=-1)


def write_flow_pictures(
    folder: files.Path, coded: Iterable[np.ndarray], *, suffix: str = ".png"
) -> int:
    """Writes flow as pictures flow_x_00001 and flow_y_00001, and so on.

    Args:
        folder: Folder, which is made.
        coded: Flows as `jaxflow.viz.quantize_flow` gives them, (H, W, 2) uint8.
        suffix: ".png", which keeps them exactly, or ".jpg".

    Returns:
        How many flows there were.

    Raises:
        ValueError: If a flow is no such array.
        OSError: If a picture cannot be written.
    """
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, flow in enumerate(coded, start=1):
        if flow.dtype != np.uint8 or flow.ndim != 3 or flow.shape[-1] != 2:
            raise ValueError(
                f"`coded` must be (H, W, 2) uint8; got {flow.dtype}{flow.shape}"
            )
        for axis, part in zip("xy", np.moveaxis(flow, -1, 0), strict=True):
            io.write_image(place / f"flow_{axis}_{count:05d}{suffix}", part)
    return count


def _numbered(folder: pathlib.Path, kind: str) -> dict[str, dict[int, pathlib.Path]]:
    """Returns the pictures of a folder by axis ("x", "y"; or "frame") and number."""
    found: dict[str, dict[int, pathlib.Path]] = {axis: {} for axis in "xy"}
    if kind == "frame":
        found = {"frame": {}}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if files.suffix(path) not in image.READABLE or path.name[0] == ".":
            continue
        if kind == "xy":
            match = _XY.fullmatch(path.stem)
            axis, number = (match[1], int(match[2])) if match else ("", 0)
        else:
            match = _NUMBER.search(path.stem)
            axis, number = "frame", int(match[0]) if match else 0
        if not match:
            continue
        if number in found[axis]:
            raise files.fault(
                folder, f"holds {found[axis][number].name} and {path.name}: keep one"
            )
        found[axis][number] = path
    return found


def _check_complete(
    where: os.PathLike[str], found: Mapping[str, Mapping[int, pathlib.Path]]
) -> None:
    """Raises unless both components have the same numbers, without a gap."""
    x, y = (set(found[axis]) for axis in "xy")
    if x != y:
        missing = min(x ^ y)
        there, gone = ("x", "y") if missing in x else ("y", "x")
        raise files.fault(
            where,
            f"has {found[there][missing].name}, the {there} of flow {missing}, and "
            f"not its {gone}",
        )
    first, last = min(x), max(x)
    gaps = sorted(set(range(first, last + 1)) - x)
    if gaps:
        raise files.fault(
            where, f"has flow {first} to {last}, but not number {gaps[0]}"
        )
