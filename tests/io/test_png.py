"""Tests for jaxflow.io.png."""

import io as std_io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import png as pypng
import pytest

from jaxflow import io
from jaxflow.io import png

SIZES = [(1, 1), (1, 9), (9, 1), (6, 5), (11, 17)]


def encode(image, *, filters, interlace=0):
    """A PNG of the given row filters, written a byte at a time, to be undone."""
    height, width, channels = image.shape
    colour = {1: 0, 3: 2, 2: 4, 4: 6}[channels]
    raw = b""
    for x, y, dx, dy in png.ADAM7 if interlace else ((0, 0, 1, 1),):
        part = image[y::dy, x::dx]
        if not part.size:
            continue
        rows = part.astype(">u2").view(np.uint8).reshape(len(part), -1).astype(int)
        above, step = np.zeros_like(rows[0]), 2 * channels
        for index, row in enumerate(rows):
            kind = filters[index % len(filters)]
            left = np.concatenate([np.zeros(step, int), row])[: len(row)]
            corner = np.concatenate([np.zeros(step, int), above])[: len(row)]
            paeth = [
                min((abs(a + b - c - v), i, v) for i, v in enumerate((a, b, c)))[2]
                for a, b, c in zip(left, above, corner, strict=True)
            ]
            guess = (0 * row, left, above, (left + above) // 2, np.array(paeth))[kind]
            raw += bytes([kind]) + ((row - guess) % 256).astype(np.uint8).tobytes()
            above = row
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlace)
    return (
        png.SIGNATURE
        + png._chunk(b"IHDR", header)
        + png._chunk(b"IDAT", zlib.compress(raw))
        + png._chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_round_trip_is_exact_and_pypng_agrees(tmp_path, rng, size, channels):
    image = rng.integers(0, 2**16, (*size, channels), dtype=np.uint16)
    path = tmp_path / "光流.png"
    io.write_png16(path, image)
    np.testing.assert_array_equal(io.read_png16(path), image)
    with open(path, "rb") as file:
        _, _, rows, _ = pypng.Reader(file=file).read()
        theirs = np.array([list(row) for row in rows], np.uint16)
    np.testing.assert_array_equal(theirs.reshape(image.shape), image)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 1, 0, 2]], ids=str)
def test_undoes_every_filter_and_interlacing(tmp_path, rng, size, filters, interlace):
    # Few levels, so that Paeth's ties are met.
    image = rng.integers(0, 4, (*size, 3), dtype=np.uint16) * 0x0101
    data = encode(image, filters=filters, interlace=interlace)
    np.testing.assert_array_equal(png.decode16("x.png", data), image)
    _, _, rows, _ = pypng.Reader(file=std_io.BytesIO(data)).read()
    theirs = np.array([list(row) for row in rows], np.uint16)
    np.testing.assert_array_equal(theirs.reshape(image.shape), image)


def test_reads_what_opencv_writes(tmp_path, rng):
    image = rng.integers(0, 2**16, (20, 31, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "x.png"), image[..., ::-1])
    np.testing.assert_array_equal(io.read_png16(tmp_path / "x.png"), image)


def test_every_truncation_and_every_flipped_byte_is_one_error(rng):
    data = encode(rng.integers(0, 2**16, (3, 4, 3), dtype=np.uint16), filters=[4])
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"^x\.png: "):
            png.decode16("x.png", data[:length])
    for index in range(len(data)):
        flipped = bytearray(data)
        flipped[index] ^= 0xFF
        with pytest.raises(ValueError, match=r"^x\.png: "):
            png.decode16("x.png", bytes(flipped))


def assemble(header, body=b"", *, last=b"IEND"):
    """A PNG of one data chunk under any header."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header)), (b"IDAT", body), (last, b"")]
    return png.SIGNATURE + b"".join(png._chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ((40000, 25000, 16, 2, 0, 0, 0), bytes(99), "cannot hold them"),
        ((2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 1), bytes(99), "cannot hold them"),
        ((0, 5, 16, 2, 0, 0, 0), b"", "claims 0 x 5"),
        ((2**31, 5, 16, 2, 0, 0, 0), b"", "claims 2147483648 x 5"),
        ((4, 4, 12, 2, 0, 0, 0), b"", "colour type 2 at 12 bits"),
        ((4, 4, 16, 3, 0, 0, 0), b"", "colour type 3 at 16 bits"),
        ((4, 4, 16, 2, 1, 0, 0), b"", "a method that PNG does not have"),
        ((4, 4, 8, 2, 0, 0, 0), zlib.compress(bytes(52)), "8 bits a sample, not 16"),
        ((4, 4, 16, 2, 0, 0, 0), zlib.compress(bytes(99)), "99 are there"),
        ((4, 4, 16, 2, 0, 0, 0), bytes(99), "is damaged"),
        ((4, 4, 16, 2, 0, 0, 0), zlib.compress(b"\x05" * 100), "unknown row filter 5"),
    ],
)
def test_a_lying_header_costs_no_memory(header, body, message):
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        png.decode16("x.png", assemble(header, body))
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_a_bomb_is_inflated_no_further_than_its_header_says():
    body = zlib.compress(bytes(100_000_000))
    tracemalloc.start()
    image = png.decode16("x.png", assemble((4, 4, 16, 2, 0, 0, 0), body))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    np.testing.assert_array_equal(image, 0)


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 3), np.uint16), np.zeros((2, 3, 5), np.uint16), np.zeros((2, 3, 3))],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_refuses_what_is_no_picture_of_16_bits(tmp_path, image):
    with pytest.raises(ValueError, match="`image` must be"):
        io.write_png16(tmp_path / "x.png", image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(50, 7, 3), (7, 50, 1), (90, 1, 4)], ids=str)
def test_large_pictures_are_decoded_in_bands(tmp_path, rng, shape, monkeypatch):
    import png as pypng

    height, width, channels = shape
    monkeypatch.setattr(png, "_BAND_BYTES", 2000)
    lines = rng.integers(0, 256, (height, 1 + 2 * width * channels), dtype=np.uint8)
    lines[:, 0] %= 5
    header = struct.pack(
        ">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0
    )
    data = png.SIGNATURE + png._chunk(b"IHDR", header)
    data += png._chunk(b"IDAT", zlib.compress(lines)) + png._chunk(b"IEND", b"")
    _, _, rows, _ = pypng.Reader(bytes=data).asDirect()
    expected = np.array([list(row) for row in rows]).reshape(shape)
    np.testing.assert_array_equal(png.decode16("x", data), expected)


def test_a_side_that_would_take_minutes_is_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 1, 10**6, 16, 0, 0, 0, 0)
    data = png.SIGNATURE + png._chunk(b"IHDR", header)
    data += png._chunk(b"IDAT", zlib.compress(bytes(3 * 10**6)))
    with pytest.raises(ValueError, match="sides up to 65535"):
        png.decode16("x", data + png._chunk(b"IEND", b""))
