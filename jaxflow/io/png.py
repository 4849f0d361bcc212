"""PNG files of 16 bits a sample, which Pillow cuts to 8, and the sanity of any PNG.

After the PNG specification, third edition (W3C, 2025). The inverse of the row filters
runs over anti-diagonals: every pixel of one depends only on the two before it, so a
step is one vector operation however the rows mix their filters.
"""

import math
import struct
import typing
import zlib

import numpy as np
from PIL import Image

from jaxflow.io import files

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Samples a pixel, by colour type: gray, RGB, palette, gray + alpha, RGBA.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Deflate cannot pack more than this many bytes into one.
DEFLATE_LIMIT = 1032
# Longest side of a picture of 16 bits: a step of the inverse filter takes a while.
MAX_SIDE16 = 65535
# What the inverse filter may allocate.
_BAND_BYTES = 2**25
# First column, first row, column step, row step of the seven passes of Adam7.
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip


class Header(typing.NamedTuple):
    """What a PNG says about itself: its IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlace: int

    @property
    def channels(self) -> int:
        """Samples a pixel; 1 for a palette."""
        return CHANNELS[self.colour]


def parse(path: files.Path, data: bytes) -> tuple[Header, bytes]:
    """Checks the structure of a PNG, without decoding its pixels.

    Args:
        path: Name of the file, for the error.
        data: Its bytes.

    Returns:
        The header, and the compressed pixels.

    Raises:
        ValueError: If the file is no PNG, is truncated or damaged, or is too short to
            hold the pixels that its header claims.
    """
    if not data.startswith(SIGNATURE):
        raise files.fault(path, f"no PNG file: it begins with {data[:8]!r}")
    header, pixels = None, []
    for name, body in _chunks(path, data):
        if header is None:
            header = _parse_header(path, name, body)
        elif name == b"IDAT":
            pixels.append(body)
    assert header is not None
    packed = b"".join(pixels)
    needed = _raw_size(header)
    if needed > DEFLATE_LIMIT * len(packed):
        raise files.fault(
            path,
            f"its header claims {header.width} x {header.height} pixels, but "
            f"{len(packed)} bytes of compressed data cannot hold them",
        )
    return header, packed


def read_png16(path: files.Path) -> np.ndarray:
    """Reads a PNG of 16 bits a sample, exactly.

    Returns:
        (H, W, C) uint16: C is 1 for gray, 2 with alpha; 3 for RGB, 4 with alpha.

    Raises:
        ValueError: If the file is damaged, or has not 16 bits a sample.
        OSError: If the file cannot be opened.

    Examples:
        >>> deep = np.full((2, 3, 3), 40000, np.uint16)
        >>> jaxflow.io.write_png16(folder / "deep.png", deep)
        >>> jaxflow.io.read_png16(folder / "deep.png").max().item()
        40000
    """
    with open(path, "rb") as file:
        return decode16(path, file.read())


def decode16(path: files.Path, data: bytes) -> np.ndarray:
    """Decodes the bytes of a PNG of 16 bits a sample; see `read_png16`."""
    header, packed = parse(path, data)
    if header.depth != 16:
        raise files.fault(path, f"has {header.depth} bits a sample, not 16")
    limit = Image.MAX_IMAGE_PIXELS
    pixels = header.width * header.height
    if max(header.width, header.height) > MAX_SIDE16 or (limit and pixels > limit):
        raise files.fault(
            path,
            f"its header claims {header.width} x {header.height} pixels of 16 bits; "
            f"{limit} are read, and sides up to {MAX_SIDE16}",
        )
    raw = _inflate(path, packed, _raw_size(header))
    stride = 2 * header.channels
    image = np.empty((header.height, header.width, stride), np.uint8)
    start = 0
    for window, (rows, columns) in _passes(header):
        stop = start + rows * (1 + columns * stride)
        lines = raw[start:stop].reshape(rows, 1 + columns * stride)
        if lines[:, 0].max() > 4:
            raise files.fault(path, f"has the unknown row filter {lines[:, 0].max()}")
        image[window] = _unfilter(
            lines[:, 0], lines[:, 1:].reshape(rows, columns, stride)
        )
        start = stop
    return image.view(">u2").astype(np.uint16)


def orientation(path: files.Path, data: bytes) -> int:
    """Returns how a camera says that a PNG is to be turned: 1 to 8, as in EXIF.

    Raises:
        ValueError: If the structure of the file is damaged.
    """
    if b"eXIf" not in data:
        return 1
    exif = Image.Exif()
    for name, body in _chunks(path, data):
        if name == b"eXIf":
            try:
                exif.load(b"Exif\0\0" + body)
                return int(exif.get(0x0112, 1))
            except Exception:
                # What is damaged beside the pixels does not count.
                return 1
    return 1


def write_png16(path: files.Path, image: np.ndarray) -> None:
    """Writes a PNG of 16 bits a sample, atomically.

    Args:
        path: The file; it is replaced if it is there.
        image: (H, W, C) uint16, C as in `read_png16`.

    Raises:
        ValueError: If `image` has another shape or type.
        OSError: If the file cannot be written.

    Examples:
        >>> deep = np.full((2, 3, 3), 40000, np.uint16)
        >>> jaxflow.io.write_png16(folder / "deep.png", deep)
    """
    image = np.asarray(image)
    colours = {1: 0, 3: 2, 2: 4, 4: 6}
    if image.ndim != 3 or image.shape[-1] not in colours or 0 in image.shape:
        raise ValueError(f"`image` must be (H, W, 1 to 4); got {image.shape}")
    if image.dtype != np.uint16:
        raise ValueError(f"`image` must be uint16; got {image.dtype}")
    height, width, channels = image.shape
    lines = image.astype(">u2").view(np.uint8).reshape(height, -1)
    # Filter 2 of all rows: the difference to the row above.
    lines = np.diff(lines, axis=0, prepend=np.zeros_like(lines[:1]))
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), lines], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, colours[channels], 0, 0, 0)
    files.write_bytes(
        path,
        SIGNATURE,
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
        _chunk(b"IEND", b""),
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    """Frames one chunk: length, name, body, checksum."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def _chunks(path: files.Path, data: bytes):
    """Yields (name, body) of every chunk up to the end mark."""
    start, name = len(SIGNATURE), b""
    while name != b"IEND":
        if start + 12 > len(data):
            raise files.fault(path, f"is truncated: it ends after {len(data)} bytes")
        (length,) = struct.unpack_from(">I", data, start)
        name = data[start + 4 : start + 8]
        stop = start + 8 + length
        if stop + 4 > len(data):
            raise files.fault(
                path,
                f"is truncated: a chunk claims {length} bytes, and "
                f"{max(len(data) - start - 12, 0)} follow",
            )
        if (
            zlib.crc32(data[start + 4 : stop])
            != struct.unpack_from(">I", data, stop)[0]
        ):
            raise files.fault(path, f"is damaged: the checksum of {name!r} is wrong")
        yield name, data[start + 8 : stop]
        start = stop + 4


def _parse_header(path: files.Path, name: bytes, body: bytes) -> Header:
    """Reads and checks the first chunk."""
    if name != b"IHDR" or len(body) != 13:
        raise files.fault(path, f"its first chunk is {name!r}, not a header")
    header = Header(*struct.unpack(">IIBBBBB", body))
    if not (0 < header.width < 2**31 and 0 < header.height < 2**31):
        raise files.fault(
            path, f"its header claims {header.width} x {header.height} pixels"
        )
    if header.depth not in DEPTHS.get(header.colour, ()):
        raise files.fault(
            path,
            f"its header claims colour type {header.colour} at {header.depth} bits",
        )
    if header.compression or header.filtering or header.interlace > 1:
        raise files.fault(path, "its header names a method that PNG does not have")
    return header


def _passes(header: Header):
    """Yields, for every pass, where its pixels go and its (rows, columns)."""
    for x, y, dx, dy in ADAM7 if header.interlace else ((0, 0, 1, 1),):
        rows = len(range(y, header.height, dy))
        columns = len(range(x, header.width, dx))
        if rows and columns:
            yield (slice(y, None, dy), slice(x, None, dx)), (rows, columns)


def _raw_size(header: Header) -> int:
    """Returns the number of bytes of the pixels and row filters, inflated."""
    bits = header.channels * header.depth
    return sum(
        rows * (1 + (columns * bits + 7) // 8) for _, (rows, columns) in _passes(header)
    )


def _inflate(path: files.Path, packed: bytes, size: int) -> np.ndarray:
    """Decompresses exactly `size` bytes, never more."""
    try:
        raw = zlib.decompressobj().decompress(packed, size)
    except zlib.error as error:
        raise files.fault(path, f"is damaged: {error}") from None
    if len(raw) != size:
        raise files.fault(
            path,
            f"is truncated: its pixels take {size} bytes, and {len(raw)} are there",
        )
    return np.frombuffer(raw, np.uint8)


def _unfilter(filters: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Undoes the row filters: (H,) types and (H, W, bytes a pixel) differences."""
    height, width, stride = lines.shape
    values = _BAND_BYTES // (2 * stride)
    rows = max(1, (math.isqrt(width**2 + 4 * values) - width) // 2)
    result = np.empty(lines.shape, np.uint8)
    above = np.zeros((width, stride), np.uint8)
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        result[band] = _unfilter_band(filters[band], lines[band], above)
        above = result[band][-1]
    return result


def _unfilter_band(
    filters: np.ndarray, lines: np.ndarray, above: np.ndarray
) -> np.ndarray:
    """Undoes the filters of some rows; `above`, (W, bytes a pixel), is the one before.

    What it allocates grows with the square of the rows.
    """
    height, width, stride = lines.shape
    # skewed[x + y + 2, y + 1] is pixel (x, y); the margins are what is outside.
    skewed = np.zeros((height + width + 1, height + 1, stride), np.int16)
    y, x = np.mgrid[:height, :width]
    skewed[x + y + 2, y + 1] = lines
    skewed[np.arange(width) + 1, 0] = above
    kinds = filters[:, None]
    for step in range(2, height + width + 1):
        rows = slice(max(0, step - 1 - width), min(height, step - 1))
        here = slice(rows.start + 1, rows.stop + 1)
        left, over = skewed[step - 1, here], skewed[step - 1, rows]
        corner = skewed[step - 2, rows]
        prediction = _predict(kinds[rows], left, over, corner)
        skewed[step, here] = (skewed[step, here] + prediction) & 255
    return skewed[x + y + 2, y + 1].astype(np.uint8)


def _predict(
    kind: np.ndarray, left: np.ndarray, above: np.ndarray, corner: np.ndarray
) -> np.ndarray:
    """Returns what each filter type expects: 0, left, above, their mean, or Paeth's."""
    estimate = left + above - corner
    to_left, to_above = np.abs(estimate - left), np.abs(estimate - above)
    to_corner = np.abs(estimate - corner)
    paeth = np.where(
        (to_left <= to_above) & (to_left <= to_corner),
        left,
        np.where(to_above <= to_corner, above, corner),
    )
    mean = (left + above) >> 1
    return np.select(
        [kind == 1, kind == 2, kind == 3, kind == 4], [left, above, mean, paeth], 0
    )
