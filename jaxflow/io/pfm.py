"""PFM, the portable float map: one or three 32-bit floats a pixel.

Three lines of text ("Pf" or "PF"; width and height; a scale whose sign is negative
for little-endian), then the rows from the bottom one to the top one. FlyingThings3D
and ChairsSDHom keep flow in it: u and v are the first two channels of three.
"""

import os
import re

import numpy as np

from jaxflow.io import files, flo

_HEADER = re.compile(
    rb"(PF|Pf)\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,9})\s+"
    rb"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)[ \t]*\r?\n"
)


def read_pfm(path: files.Path) -> np.ndarray:
    """Reads a PFM file.

    The magnitude of its scale is ignored, as every reader of flow does.

    Args:
        path: The file.

    Returns:
        (H, W, 1) or (H, W, 3) float32, the first row on top.

    Raises:
        ValueError: If the file is truncated, too long or no PFM file. The sizes are
            compared before memory is allocated for what the header claims.
        OSError: If the file cannot be opened.

    Examples:
        >>> jaxflow.io.write_pfm(folder / "depth.pfm", np.ones((2, 3), np.float32))
        >>> jaxflow.io.read_pfm(folder / "depth.pfm").shape
        (2, 3, 1)
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(1024)
        match = _HEADER.match(head)
        if match is None:
            what = "no PFM file: it does not begin with a PFM header"
            if head[:2] in (b"PF", b"Pf"):
                what = "is truncated or damaged in its PFM header"
            raise files.fault(path, what)
        width, height = int(match[2]), int(match[3])
        channels = 3 if match[1] == b"PF" else 1
        scale = float(match[4])
        if width == 0 or height == 0 or scale == 0:
            raise files.fault(
                path, f"its header claims {width} x {height} pixels, scale {scale}"
            )
        expected = match.end() + 4 * width * height * channels
        if size != expected:
            raise files.fault(
                path,
                f"its header claims {width} x {height} pixels, which take {expected} "
                f"bytes; the file has {size}",
            )
        file.seek(match.end())
        values = np.fromfile(file, "<f4" if scale < 0 else ">f4")
    rows = values.reshape(height, width, channels)[::-1]
    return np.ascontiguousarray(rows, dtype=np.float32)


def write_pfm(path: files.Path, values: np.ndarray) -> None:
    """Writes a PFM file, little-endian, atomically.

    Args:
        path: The file; it is replaced if it is there.
        values: (H, W), (H, W, 1) or (H, W, 3).

    Raises:
        ValueError: If `values` has another shape.
        OSError: If the file cannot be written.

    Examples:
        >>> jaxflow.io.write_pfm(folder / "depth.pfm", np.ones((2, 3), np.float32))
    """
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[-1] not in (1, 3) or 0 in values.shape:
        raise ValueError(f"`values` must be (H, W, 1 or 3); got {values.shape}")
    height, width, channels = values.shape
    name = "PF" if channels == 3 else "Pf"
    header = f"{name}\n{width} {height}\n-1.0\n".encode()
    files.write_bytes(path, header, np.ascontiguousarray(values[::-1], "<f4").data)


def read_pfm_flow(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow from the first two channels of a PFM file.

    Args:
        path: The file.

    Returns:
        The flow, (H, W, 2) float32 in pixels, 0 where it is unknown (NaN, or beyond
        1e9); and where it is known, (H, W) bool.

    Raises:
        ValueError: If the file is damaged, no PFM file, or has one channel.
        OSError: If the file cannot be opened.
    """
    values = read_pfm(path)
    if values.shape[-1] != 3:
        raise files.fault(
            path, "has 1 channel; flow in a PFM file has 3 (u, v, unused)"
        )
    return flo.split_unknown(values[..., :2])


def write_pfm_flow(
    path: files.Path, flow: np.ndarray, *, valid: np.ndarray | None = None
) -> None:
    """Writes a flow as the first two channels of a PFM file, atomically.

    Args:
        path: The file; it is replaced if it is there.
        flow: (H, W, 2), in pixels. What is not finite, or beyond 1e9, is unknown.
        valid: Where the flow is known, (H, W); None takes all of it. The unknown is
            written as NaN.

    Raises:
        ValueError: If the shapes are wrong.
        OSError: If the file cannot be written.
    """
    flow, valid = flo.join_unknown(flow, valid)
    flow = np.where(valid[..., None], flow, np.float32(np.nan))
    write_pfm(path, np.concatenate([flow, np.zeros_like(flow[..., :1])], axis=-1))
