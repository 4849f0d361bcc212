"""Flow kept as plain arrays: NumPy's `.npy` and `.npz`, and Spring's `.flo5`.

`.npz` has an array "flow" or a single one, and perhaps a mask "valid". `.flo5` is an
HDF5 file with an array "flow" (Mehl et al., "Spring", CVPR 2023), which takes h5py to
read. Spring's flow has twice the resolution of its frames, in pixels of the frames.
"""

import io
import math
import os
import zipfile

import numpy as np

from jaxflow.io import files, flo

# Deflate cannot pack more than this many bytes into one.
_DEFLATE_LIMIT = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy_flow(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow from a `.npy` file.

    Args:
        path: The file, which holds (H, W, 2) numbers.

    Returns:
        The flow, (H, W, 2) float32 in pixels, 0 where it is unknown (NaN, or beyond
        1e9); and where it is known, (H, W) bool.

    Raises:
        ValueError: If the file is damaged, or the array no flow.
        OSError: If the file cannot be opened.
    """
    with open(path, "rb") as file:
        return _flow(path, _array(path, file.read()), None)


def read_npz_flow(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow from a `.npz` file.

    Args:
        path: The file. Its array "flow", or else its only one, is (H, W, 2); "valid",
            (H, W), is not 0 where the flow is known.

    Returns:
        The flow and where it is known; see `read_npy_flow`.

    Raises:
        ValueError: If the file is damaged, or its arrays are no flow. The sizes are
            compared before memory is allocated for what a header claims.
        OSError: If the file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            name = "flow" if "flow" in members else next(iter(members), "")
            if "flow" not in members and len(members) != 1:
                raise files.fault(
                    path, f'holds no array "flow"; there are {sorted(members)[:9]}'
                )
            flow = _array(path, _member(path, archive, members[name]))
            valid = None
            if "valid" in members and name != "valid":
                valid = _array(path, _member(path, archive, members["valid"]))
    except (zipfile.BadZipFile, EOFError, LookupError, NotImplementedError) as error:
        raise files.fault(path, f"is no readable .npz file: {error}") from None
    except RuntimeError as error:  # an encrypted member
        raise files.fault(path, f"is no readable .npz file: {error}") from None
    return _flow(path, flow, valid)


def read_flo5(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow from a `.flo5` file, which takes h5py.

    Args:
        path: The file.

    Returns:
        The flow and where it is known; see `read_npy_flow`.

    Raises:
        ValueError: If the file is damaged, or has no flow.
        OSError: If the file cannot be opened.
        ImportError: If h5py is not installed.
    """
    with open(path, "rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise files.fault(path, "no .flo5 file: it does not begin as HDF5 does")
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{os.fspath(path)}: .flo5 files need h5py: run `pip install h5py`"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            data = file.get("flow")
            if not isinstance(data, h5py.Dataset):
                raise files.fault(path, 'holds no array "flow"')
            _check(path, data.shape, data.dtype)
            if math.prod(data.shape) > _DEFLATE_LIMIT * os.path.getsize(path):
                raise files.fault(path, f"is too short for the shape {data.shape}")
            flow = np.asarray(data[()])
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise files.fault(path, f"is no readable .flo5 file: {reason}") from None
    return _flow(path, flow, None)


def _member(path: files.Path, archive: zipfile.ZipFile, member) -> bytes:
    """Unpacks a member of an archive, no more than its entry says."""
    size, packed = member.file_size, member.compress_size
    if member.compress_type not in _METHODS or size > _DEFLATE_LIMIT * packed + 1:
        raise files.fault(
            path, f"is damaged: {packed} bytes cannot hold the {size} of its array"
        )
    if packed > os.path.getsize(path):
        raise files.fault(path, "is truncated: an array is longer than the file")
    try:
        with archive.open(member) as file:
            return file.read(size)
    except Exception as error:
        # zlib's error has no common base with those of a damaged archive.
        reason = " ".join(str(error).split())
        raise files.fault(path, f"is no readable .npz file: {reason}") from None


def _array(path: files.Path, data: bytes) -> np.ndarray:
    """Decodes the bytes of a `.npy` file, never objects."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
    except (ValueError, LookupError, TypeError, SyntaxError) as error:
        reason = " ".join(str(error).split())[:200]
        raise files.fault(path, f"is no readable array of NumPy: {reason}") from None
    if dtype.hasobject or dtype.kind not in "biuf":
        raise files.fault(path, f"holds {dtype}, not numbers")
    rest = len(data) - file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        raise files.fault(
            path,
            f"its header claims the shape {shape} of {dtype}, and {rest} bytes follow",
        )
    flat = np.frombuffer(data, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _check(path: files.Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises unless an array can be a flow."""
    if len(shape) != 3 or shape[-1] != 2 or 0 in shape or dtype.kind != "f":
        raise files.fault(
            path, f"a flow is (H, W, 2) of floats; this is {shape} of {dtype}"
        )


def _flow(path: files.Path, flow: np.ndarray, valid: np.ndarray | None):
    """Parts a flow from its mask."""
    _check(path, flow.shape, flow.dtype)
    flow, known = flo.split_unknown(flow)
    if valid is None:
        return flow, known
    if valid.shape != known.shape:
        raise files.fault(
            path, f'"valid" is {valid.shape}; the flow of the file is {flow.shape}'
        )
    known &= valid != 0
    return np.where(known[..., None], flow, 0), known
