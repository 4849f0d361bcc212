"""Flow files of any kind, told apart by their extension."""

import numpy as np

from jaxflow.io import arrays, files, flo, kitti, pfm

_READERS = {
    ".flo": flo.read_flo,
    ".png": kitti.read_kitti,
    ".pfm": pfm.read_pfm_flow,
    ".npz": arrays.read_npz_flow,
    ".npy": arrays.read_npy_flow,
    ".flo5": arrays.read_flo5,
}
_WRITERS = {
    ".flo": flo.write_flo,
    ".png": kitti.write_kitti,
    ".pfm": pfm.write_pfm_flow,
}


SUFFIXES = tuple(_WRITERS)
"""Extensions that flow is written to."""
READABLE = tuple(_READERS)
"""Extensions that flow is read from."""


def read_flow(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads optical flow from a file.

    Its kind is told by its extension, and checked by what is in it.

    Args:
        path: The file: `.flo`, `.png` (KITTI), `.pfm`, `.npz`, `.npy` or `.flo5`
            (Spring; takes h5py).

    Returns:
        The flow, (H, W, 2) float32: (u, v) in pixels, 0 where it is unknown; and
        where it is known, (H, W) bool.

    Raises:
        ValueError: If the file is damaged or foreign, or its extension is none of
            these. The message names the file and the fault.
        OSError: If the file cannot be opened.
        ImportError: If it is a `.flo5` file and h5py is not installed.

    Examples:
        >>> jaxflow.io.write_flow(folder / "flow.png", np.full((2, 3, 2), 1.5))
        >>> flow, valid = jaxflow.io.read_flow(folder / "flow.png")
        >>> flow[0, 0].tolist()
        [1.5, 1.5]
    """
    return _pick(_READERS, path)(path)


def write_flow(
    path: files.Path, flow: np.ndarray, *, valid: np.ndarray | None = None
) -> None:
    """Writes optical flow to a `.flo`, `.png` (KITTI) or `.pfm` file, atomically.

    `.flo` and `.pfm` keep float32 to the last bit; `.png` rounds to 1/64 pixel and
    clips to +-512.

    Args:
        path: The file; it is replaced if it is there.
        flow: (H, W, 2), in pixels. What is not finite, or beyond 1e9, is unknown.
        valid: Where the flow is known, (H, W); None takes all of it.

    Raises:
        ValueError: If the shapes or the extension are wrong.
        OSError: If the file cannot be written.

    Examples:
        >>> flow = np.full((2, 3, 2), 1.5)
        >>> jaxflow.io.write_flow(folder / "flow.png", flow)  # as KITTI does
        >>> jaxflow.io.write_flow(folder / "flow.flo", flow)  # as Middlebury does
    """
    _pick(_WRITERS, path)(path, flow, valid=valid)


def _pick(table, path: files.Path):
    """Returns the entry for the extension of `path`."""
    suffix = files.suffix(path)
    if suffix not in table:
        raise files.fault(
            path, f"flow files end in {', '.join(table)}; this one in {suffix!r}"
        )
    return table[suffix]
