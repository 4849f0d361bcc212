"""Middlebury's `.flo`: dense flow in 32-bit floats.

Little-endian: the float 202021.25 (its bytes spell "PIEH"), the width and the height
as 32-bit integers, then u and v of every pixel, interleaved, row by row. A component
beyond 1e9 says that the flow of its pixel is not known (Baker et al., "A Database and
Evaluation Methodology for Optical Flow", 2011).
"""

import os
import struct

import numpy as np

from jaxflow.io import files

TAG = b"PIEH"
UNKNOWN_ABOVE = 1e9
UNKNOWN = 1e10


def read_flo(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a `.flo` file.

    Args:
        path: The file.

    Returns:
        The flow, (H, W, 2) float32 in pixels, 0 where it is unknown; and where it is
        known, (H, W) bool.

    Raises:
        ValueError: If the file is truncated, too long or no `.flo` file. The sizes
            are compared before memory is allocated for what the header claims.
        OSError: If the file cannot be opened.

    Examples:
        >>> jaxflow.io.write_flo(folder / "flow.flo", np.ones((2, 3, 2), np.float32))
        >>> flow, valid = jaxflow.io.read_flo(folder / "flow.flo")
        >>> flow.shape, valid.all().item()
        ((2, 3, 2), True)
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(12)
        if len(header) < 12:
            raise files.fault(path, f"{size} bytes are too few for a .flo header of 12")
        if header[:4] == TAG[::-1]:
            raise files.fault(
                path, "its numbers are big-endian; a .flo file is little-endian"
            )
        if header[:4] != TAG:
            raise files.fault(
                path, f"no .flo file: it begins with {header[:4]!r}, not with {TAG!r}"
            )
        width, height = struct.unpack("<ii", header[4:])
        if width <= 0 or height <= 0:
            raise files.fault(path, f"its header claims {width} x {height} pixels")
        expected = 12 + 8 * width * height
        if size != expected:
            raise files.fault(
                path,
                f"its header claims {width} x {height} pixels, which take {expected} "
                f"bytes; the file has {size}",
            )
        values = np.fromfile(file, "<f4", 2 * width * height)
    return split_unknown(values.reshape(height, width, 2))


def write_flo(
    path: files.Path, flow: np.ndarray, *, valid: np.ndarray | None = None
) -> None:
    """Writes a `.flo` file, atomically.

    Args:
        path: The file; it is replaced if it is there.
        flow: (H, W, 2), in pixels. What is not finite, or beyond 1e9, is unknown.
        valid: Where the flow is known, (H, W); None takes all of it.

    Raises:
        ValueError: If the shapes are wrong.
        OSError: If the file cannot be written.

    Examples:
        >>> path = folder / "flow.flo"
        >>> jaxflow.io.write_flo(path, np.ones((2, 3, 2), np.float32))
        >>> path.stat().st_size  # 12 bytes, and 8 a pixel
        60
    """
    flow, valid = join_unknown(flow, valid)
    height, width = valid.shape
    values = np.where(valid[..., None], flow, np.float32(UNKNOWN)).astype("<f4")
    header = TAG + struct.pack("<ii", width, height)
    files.write_bytes(path, header, np.ascontiguousarray(values).data)


def split_unknown(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts a flow that codes the unknown by NaN or |value| > 1e9 from its mask."""
    # NaN compares false.
    valid = np.all(np.abs(flow) <= UNKNOWN_ABOVE, axis=-1)
    return np.where(valid[..., None], flow, 0).astype(np.float32), valid


def join_unknown(
    flow: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Checks a flow that is to be written; returns it with the mask of all it knows.

    Raises:
        ValueError: If `flow` is not (H, W, 2), or `valid` is not (H, W).
    """
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[-1] != 2 or 0 in flow.shape:
        raise ValueError(f"`flow` must have the shape (H, W, 2); got {flow.shape}")
    flow, known = split_unknown(flow)
    if valid is None:
        return flow, known
    valid = np.asarray(valid)
    if valid.shape != known.shape:
        raise ValueError(
            f"`valid` must have the shape {known.shape} of `flow`; got {valid.shape}"
        )
    return flow, known & (valid != 0)
