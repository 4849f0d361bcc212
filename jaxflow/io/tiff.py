"""TIFF pictures of 8 or 16 bits a sample.

Pillow decodes them, but cuts colours of 16 bits to 8. Those are therefore handed to it
as a gray picture that is three times as wide: a new directory is put behind the file,
which describes the same strips, and the differences between neighbouring pixels
("predictor 2") are summed here.

After "TIFF, Revision 6.0" (Aldus, 1992) and its technical notes.
"""

import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from jaxflow.io import files

SIGNATURES = (b"II*\0", b"MM\0*")
# A packed byte unfolds to no more than this many: LZW at its longest strings.
PACKING_LIMIT = 4096
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS = 273, 274, 277, 278, 279
_PLANES, _PREDICTOR, _TILE, _FORMAT = 284, 317, 322, 339
_SUBFILE, _FILL = 254, 266
# None, LZW, deflate by two names, runs of bytes.
_COMPRESSIONS = (1, 5, 8, 32946, 32773)
_MAX_PICTURES = 1000


class Directory(NamedTuple):
    """The tags of one picture.

    Attributes:
        order: "<" or ">".
        entries: The twelve bytes of each tag.
        values: The tags that hold integers, as tuples.
        following: Where the next directory is; 0 if there is none.
    """

    order: str
    entries: dict[int, bytes]
    values: dict[int, tuple[int, ...]]
    following: int

    def one(self, tag: int, default: int) -> int:
        """Returns the first value of a tag."""
        return self.values.get(tag, (default,))[0]


def parse(path: files.Path, data: bytes) -> Directory:
    """Reads the directory of the one picture of a TIFF file.

    Args:
        path: Name of the file, for the error.
        data: Its bytes.

    Raises:
        ValueError: If the file is truncated, damaged, no TIFF, or holds several
            pictures; smaller copies of the first do not count.
    """
    if data[:4] not in SIGNATURES:
        raise files.fault(path, f"no TIFF file: it begins with {data[:4]!r}")
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        first = _directory(order, data, start)
        following, seen = first.following, {start}
        while following and following not in seen and len(seen) < _MAX_PICTURES:
            seen.add(following)
            other = _directory(order, data, following)
            if not other.one(_SUBFILE, 0) & 1:
                raise files.fault(path, "holds several pictures; split it")
            following = other.following
    except struct.error:
        raise files.fault(path, "is truncated or damaged in its directory") from None
    for tag in (_WIDTH, _HEIGHT):
        if first.one(tag, 0) <= 0:
            raise files.fault(path, f"does not say its size: tag {tag} is missing")
    return first


def size(directory: Directory) -> tuple[int, int]:
    """Returns (width, height)."""
    return directory.one(_WIDTH, 0), directory.one(_HEIGHT, 0)


def decode(path: files.Path, data: bytes, directory: Directory) -> np.ndarray:
    """Decodes the pixels: (H, W, 1 or 3), uint8 or uint16, upright.

    Raises:
        ValueError: If the file is damaged, too short for its size, or has samples that
            are neither of 8 bits or fewer, nor of 16.
    """
    bits = set(directory.values.get(_BITS, (1,)))
    formats = set(directory.values.get(_FORMAT, (1,)))
    width, height = size(directory)
    samples = directory.one(_SAMPLES, 1)
    if formats != {1}:
        raise files.fault(
            path,
            "holds signed or floating-point numbers, of which no one says what is "
            "white; save it with 8 or 16 bits a sample",
        )
    if not (bits == {16} or (len(bits) == 1 and max(bits) in (1, 2, 4, 8))):
        raise files.fault(
            path, f"has {sorted(bits)} bits a sample; 8 or 16 are read, for all alike"
        )
    if width * height * samples * max(bits) > 8 * PACKING_LIMIT * len(data):
        raise files.fault(
            path,
            f"its header claims {width} x {height} pixels, but its {len(data)} bytes "
            "cannot hold them",
        )
    if bits == {16}:
        return _decode16(path, data, directory)
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors a picture as the eight orientations of EXIF and TIFF ask for.

    Args:
        image: (H, W, C).
        orientation: 1 to 8; anything else counts as 1.
    """
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _directory(order: str, data: bytes, start: int) -> Directory:
    """Reads the directory at `start`."""
    (count,) = struct.unpack_from(order + "H", data, start)
    entries, values = {}, {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, place)
        entries[tag] = data[place : place + 12]
        if kind in _INTEGERS and 0 < number <= len(data):
            if number * _SIZES[kind] > 4:
                (where,) = struct.unpack_from(order + "I", data, place + 8)
            else:
                where = place + 8
            form = f"{order}{number}{_INTEGERS[kind]}"
            values[tag] = struct.unpack_from(form, data, where)
    (following,) = struct.unpack_from(order + "I", data, start + 2 + 12 * count)
    return Directory(order, entries, values, following)


def _decode16(path: files.Path, data: bytes, directory: Directory) -> np.ndarray:
    """Decodes samples of 16 bits; see the module."""
    one = directory.one
    photometric, compression = one(_PHOTOMETRIC, 1), one(_COMPRESSION, 1)
    samples = one(_SAMPLES, 1)
    usual = (
        photometric in (0, 1, 2)
        and samples >= (3 if photometric == 2 else 1)
        and compression in _COMPRESSIONS
        and (samples == 1 or one(_PLANES, 1) == 1)
        and one(_PREDICTOR, 1) in (1, 2)
        and one(_FILL, 1) == 1
        and _TILE not in directory.entries
        and len(directory.values.get(_OFFSETS, ())) > 0
        and len(directory.values.get(_COUNTS, ())) == len(directory.values[_OFFSETS])
    )
    if not usual:
        raise files.fault(
            path,
            "is a TIFF of 16 bits of an unusual kind (colour space, planes, tiles or "
            "compression); save it as a PNG",
        )
    width, height = size(directory)
    strips = zip(directory.values[_OFFSETS], directory.values[_COUNTS], strict=True)
    if any(start + length > len(data) for start, length in strips):
        raise files.fault(path, f"is truncated: it ends after {len(data)} bytes")
    with Image.open(io.BytesIO(_as_gray(data, directory)), formats=["TIFF"]) as picture:
        flat = np.asarray(picture).astype(np.uint16)
    image = flat.reshape(height, width, samples)
    if one(_PREDICTOR, 1) == 2 and compression != 1:
        image = np.cumsum(image, axis=1, dtype=np.uint16)
    if photometric == 0:
        image = ~image
    kept = image[..., :3] if photometric == 2 else image[..., :1]
    return upright(kept, one(_ORIENTATION, 1))


def _as_gray(data: bytes, directory: Directory) -> bytes:
    """Puts a directory behind a file that describes it as one wide gray picture."""
    order, one = directory.order, directory.one
    numbers = {
        _WIDTH: one(_WIDTH, 0) * one(_SAMPLES, 1),
        _HEIGHT: one(_HEIGHT, 0),
        _BITS: 16,
        _COMPRESSION: one(_COMPRESSION, 1),
        _PHOTOMETRIC: 1,
        _SAMPLES: 1,
    }
    entries = {
        tag: struct.pack(order + "HHII", tag, 4, 1, number)
        for tag, number in numbers.items()
    }
    for tag in (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES):
        entries[tag] = struct.pack(order + "HHIHH", tag, 3, 1, numbers[tag], 0)
    for tag in (_OFFSETS, _ROWS, _COUNTS):
        if tag in directory.entries:
            entries[tag] = directory.entries[tag]
    data += b"\0" * (len(data) % 2)
    table = b"".join(entry for _, entry in sorted(entries.items()))
    start, count = struct.pack(order + "I", len(data)), len(entries)
    return b"".join(
        [data[:4], start, data[8:], struct.pack(order + "H", count), table, bytes(4)]
    )
