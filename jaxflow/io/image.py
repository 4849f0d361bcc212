"""Pictures as RGB of 8 or 16 bits: PNG, JPEG, PPM, PGM, TIFF, BMP and WebP.

Whatever the file holds becomes RGB. Gray is repeated three times; a palette is looked
up; alpha is dropped, not blended; gray of 1, 2 or 4 bits is stretched to 0...255; the
orientation that a camera notes is applied. A file of 16 bits a sample stays at 16 bits.
The kind is told by the first bytes of a file when it is read, by the extension when it
is written: PNG, JPEG, PPM and PGM are.
"""

import io
import re

import numpy as np
from PIL import Image, ImageOps

from jaxflow.io import files, png, tiff

SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm")
"""Extensions that pictures are written with."""
READABLE = (*SUFFIXES, ".tif", ".tiff", ".bmp", ".webp")
"""Extensions that pictures are looked for by."""
_NETPBM = re.compile(
    rb"P([2356])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})"
    rb"(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s)"
)
# Pixels that a WebP of any length may have, and those that a byte of it may stand for:
# one colour takes no bits at all.
_WEBP_PIXELS, _WEBP_PACKING = 2**24, 2**14


def read_image(path: files.Path) -> np.ndarray:
    """Reads a picture as RGB.

    Args:
        path: A PNG, JPEG, PPM, PGM, TIFF, BMP or WebP file.

    Returns:
        (H, W, 3), uint8; or uint16 if the file has more than 8 bits a sample.

    Raises:
        ValueError: If the file is damaged, foreign, too short for the size that its
            header claims, or larger than `PIL.Image.MAX_IMAGE_PIXELS`. It is raised
            before memory is allocated for what the header claims. Also if the file
            holds several pictures (an animation, the pages of a TIFF), or numbers
            that are signed or floating-point.
        OSError: If the file cannot be opened.

    Examples:
        >>> jaxflow.io.write_image(folder / "gray.png", np.zeros((2, 3), np.uint8))
        >>> jaxflow.io.read_image(folder / "gray.png").shape
        (2, 3, 3)
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(png.SIGNATURE):
        image = _read_png(path, data)
    elif data.startswith(b"\xff\xd8\xff"):
        image = _read_pillow(path, data, "JPEG")
    elif re.match(rb"P[2356][\s#]", data):
        image = _read_netpbm(path, data)
    elif data.startswith(tiff.SIGNATURES):
        image = _read_tiff(path, data)
    elif data.startswith(b"BM"):
        image = _read_pillow(path, data, "BMP")
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        _check_webp(path, data)
        image = _read_pillow(path, data, "WEBP")
    else:
        raise files.fault(path, _foreign(data))
    # A copy: the decoders lend memory that may not be written to.
    return np.array(np.broadcast_to(image, (*image.shape[:2], 3)), order="C")


def write_image(path: files.Path, image: np.ndarray, *, quality: int = 95) -> None:
    """Writes a picture, atomically.

    Args:
        path: The file, which ends in .png, .jpg, .jpeg, .ppm or .pgm; it is replaced
            if it is there.
        image: (H, W), (H, W, 1) or (H, W, 3): uint8; uint16, not for JPEG; or float,
            which is clipped to [0, 1] and written with 8 bits.
        quality: For JPEG, from 1 to 100; colour is kept at full resolution.

    Raises:
        ValueError: If the shape, the type or the extension is wrong, or a value NaN.
        OSError: If the file cannot be written.

    Examples:
        >>> jaxflow.io.write_image(folder / "white.png", np.ones((2, 3, 3)))
        >>> jaxflow.io.read_image(folder / "white.png").max().item()
        255
    """
    suffix, image = files.suffix(path), as_uint(image)
    if suffix not in SUFFIXES:
        raise files.fault(
            path, f"pictures end in {', '.join(SUFFIXES)}; this one in {suffix!r}"
        )
    if suffix in (".ppm", ".pgm"):
        files.write_bytes(path, *_netpbm(path, image, suffix))
    elif image.dtype == np.uint8:
        kind = "PNG" if suffix == ".png" else "JPEG"
        buffer = io.BytesIO()
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture.save(buffer, kind, quality=quality, subsampling=0)
        files.write_bytes(path, buffer.getbuffer())
    elif suffix == ".png":
        png.write_png16(path, image)
    else:
        raise files.fault(path, "a JPEG cannot hold 16 bits a sample; write a .png")


def as_float(image: np.ndarray, *, name: str = "image") -> np.ndarray:
    """Scales a picture, or several, to [0, 1] by its own type.

    Args:
        image: Of any shape: uint8, over 255; uint16, over 65535; or floating, in
            [0, 1], which stays.
        name: What the error calls it.

    Returns:
        The same shape, float32.

    Raises:
        ValueError: If the type is another, or a floating value is not in [0, 1].

    Examples:
        >>> print(jaxflow.io.as_float(np.array([[[0, 51, 255]]], np.uint8)))
        [[[0.  0.2 1. ]]]
    """
    image = np.asarray(image)
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"`{name}` must be uint8, uint16 or float; got {image.dtype}")
    if image.size and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"`{name}` must be in [0, 1] if it is float; got {image.min()} to "
            f"{image.max()}: divide 8-bit pictures by 255"
        )
    return image.astype(np.float32)


def as_uint(image: np.ndarray) -> np.ndarray:
    """Brings a picture to (H, W, 1 or 3) of uint8 or uint16; see `write_image`."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"`image` must be (H, W, 1 or 3); got {image.shape}")
    if np.issubdtype(image.dtype, np.floating):
        if np.isnan(image).any():
            raise ValueError("`image` must not contain NaN")
        image = np.round(255 * np.clip(image, 0, 1).astype(np.float32)).astype(np.uint8)
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"`image` must be uint8, uint16 or float; got {image.dtype}")
    return np.ascontiguousarray(image)


def _check_pixels(path: files.Path, width: int, height: int) -> None:
    """Raises unless a picture's size is sane."""
    limit = Image.MAX_IMAGE_PIXELS
    if width <= 0 or height <= 0 or (limit and width * height > limit):
        raise files.fault(
            path,
            f"its header claims {width} x {height} pixels, and 1 to {limit} are read; "
            "PIL.Image.MAX_IMAGE_PIXELS is the limit",
        )


def _foreign(data: bytes) -> str:
    """Says what a file is that is no picture of a kind that is read."""
    if data.startswith(b"GIF8"):
        return "is a GIF, which is a video: read it by `read_video` or `read_frames`"
    if not data:
        return "is empty"
    kinds = "PNG, JPEG, PPM, PGM, TIFF, BMP or WebP"
    return f"no {kinds} file: it begins with {data[:8]!r}"


def _read_png(path: files.Path, data: bytes) -> np.ndarray:
    """Decodes a PNG: (H, W, 1 or 3)."""
    header, _ = png.parse(path, data)
    _check_pixels(path, header.width, header.height)
    if header.depth == 16:
        image = png.decode16(path, data)
        image = image[..., :1] if header.channels < 3 else image[..., :3]
        return tiff.upright(image, png.orientation(path, data))
    return _read_pillow(path, data, "PNG")


def _read_tiff(path: files.Path, data: bytes) -> np.ndarray:
    """Decodes a TIFF: (H, W, 1 or 3)."""
    directory = tiff.parse(path, data)
    _check_pixels(path, *tiff.size(directory))
    return _guarded(path, "TIFF", lambda: tiff.decode(path, data, directory))


def _read_pillow(path: files.Path, data: bytes, kind: str) -> np.ndarray:
    """Decodes a picture of 8 bits by Pillow: (H, W, 3)."""

    def decode():
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            _check_pixels(path, *picture.size)
            if kind == "JPEG":
                _check_jpeg_length(path, data, *picture.size)
            elif kind == "BMP":
                _check_packing(path, data, *picture.size, limit=tiff.PACKING_LIMIT)
            # The second picture in a JPEG is the first one's depth or its twin.
            if kind != "JPEG" and getattr(picture, "n_frames", 1) > 1:
                raise files.fault(path, "is an animation: save its frames one by one")
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("RGB"))

    return _guarded(path, kind, decode)


def _guarded(path: files.Path, kind: str, decode) -> np.ndarray:
    """Runs a decoder that may raise anything; turns it into one error."""
    try:
        return decode()
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file makes Pillow raise OSError, SyntaxError, struct.error and more.
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise files.fault(path, f"no readable {kind} file: {reason}") from None


def _check_packing(
    path: files.Path, data: bytes, width: int, height: int, *, limit: int
) -> None:
    """Raises if a file is too short for its size at `limit` pixels a byte."""
    if width * height > limit * len(data):
        raise files.fault(
            path,
            f"its header claims {width} x {height} pixels, but its {len(data)} bytes "
            "cannot hold them",
        )


def _check_webp(path: files.Path, data: bytes) -> None:
    """Checks the size that a WebP claims, for which its decoder allocates memory."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise files.fault(path, "is truncated: it ends in its header")
    if kind == b"VP8X":
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
    elif kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width = int.from_bytes(body[6:8], "little") & 0x3FFF
        height = int.from_bytes(body[8:10], "little") & 0x3FFF
    else:
        raise files.fault(path, f"is damaged: it holds {kind!r} instead of a picture")
    _check_pixels(path, width, height)
    if width * height > _WEBP_PIXELS:
        _check_packing(path, data, width, height, limit=_WEBP_PACKING)


def _check_jpeg_length(path: files.Path, data: bytes, width: int, height: int) -> None:
    """Raises if a JPEG is too short for its size.

    Every block of 8 x 8 pixels takes a bit at least, for its mean.
    """
    blocks = -(-width // 8) * -(-height // 8)
    if 8 * len(data) < blocks:
        raise files.fault(
            path,
            f"its header claims {width} x {height} pixels, but its {len(data)} bytes "
            "cannot hold them",
        )


def _read_netpbm(path: files.Path, data: bytes) -> np.ndarray:
    """Decodes a PPM or PGM, binary or plain: (H, W, 1 or 3)."""
    match = _NETPBM.match(data)
    if match is None:
        raise files.fault(path, "is truncated or damaged in its PPM or PGM header")
    kind, width, height, top = (int(group) for group in match.groups())
    _check_pixels(path, width, height)
    if not 0 < top < 65536:
        raise files.fault(path, f"its header claims values up to {top}, not 1 to 65535")
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    if kind in (5, 6):
        values = _binary_samples(path, data, match.end(), count, top)
    else:
        values = _plain_samples(path, data[match.end() :], count)
    if values.max() > top:
        raise files.fault(path, f"holds the value {values.max()}, above its top {top}")
    full = 255 if top < 256 else 65535
    if top != full:
        values = (values.astype(np.uint32) * full + top // 2) // top
    kept = values.astype(np.uint8 if top < 256 else np.uint16)
    return kept.reshape(height, width, channels)


def _binary_samples(
    path: files.Path, data: bytes, start: int, count: int, top: int
) -> np.ndarray:
    """Reads the samples of a P5 or P6 file."""
    dtype = np.dtype(np.uint8 if top < 256 else ">u2")
    if len(data) - start < count * dtype.itemsize:
        raise files.fault(
            path,
            f"is truncated: its pixels take {count * dtype.itemsize} bytes, and "
            f"{len(data) - start} are there",
        )
    return np.frombuffer(data, dtype, count, start)


def _plain_samples(path: files.Path, text: bytes, count: int) -> np.ndarray:
    """Reads the samples of a P2 or P3 file."""
    words = re.sub(rb"#[^\n]*", b"", text).split()
    if len(words) < count or not all(re.fullmatch(rb"\d{1,5}", w) for w in words):
        raise files.fault(
            path, f"is truncated or damaged: it holds {len(words)} of {count} values"
        )
    return np.array(words[:count]).astype(np.uint32)


def _netpbm(
    path: files.Path, image: np.ndarray, suffix: str
) -> tuple[bytes, memoryview]:
    """Encodes a binary PPM or PGM: header and pixels."""
    height, width, channels = image.shape
    if suffix == ".ppm" and channels == 1:
        image = np.repeat(image, 3, axis=-1)
    elif suffix == ".pgm" and channels == 3:
        raise files.fault(path, "a PGM holds one channel; write a .ppm")
    top = np.iinfo(image.dtype).max
    header = f"P{6 if suffix == '.ppm' else 5}\n{width} {height}\n{top}\n".encode()
    pixels = np.ascontiguousarray(image, ">u2" if top > 255 else np.uint8)
    return header, pixels.data
