"""Tests for jaxflow.io.tiff."""

import re
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from jaxflow import io
from jaxflow.io import tiff


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [None, "plain", "differences"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reads_what_tifffile_writes(tmp_path, rng, order, packed, channels, dtype):
    image = rng.integers(0, np.iinfo(dtype).max, (13, 9, channels), dtype=dtype)
    tifffile.imwrite(
        tmp_path / "x.tif",
        image if channels > 1 else image[..., 0],
        byteorder=order,
        compression="zlib" if packed else None,
        predictor=packed == "differences",
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        rowsperstrip=5,
    )
    read = io.read_image(tmp_path / "x.tif")
    assert read.dtype == dtype
    kept = image[..., :3] if channels > 2 else image[..., :1]
    np.testing.assert_array_equal(read, np.broadcast_to(kept, (13, 9, 3)))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_reads_what_opencv_writes(tmp_path, rng, compression):
    image = rng.integers(0, 2**16, (20, 31, 3), dtype=np.uint16)
    path = tmp_path / "x.tiff"
    cv2.imwrite(
        str(path), image[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    )
    np.testing.assert_array_equal(io.read_image(path), image)


def test_white_may_be_0(tmp_path):
    image = np.array([[0, 1, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="miniswhite")
    read = io.read_image(tmp_path / "x.tif")[..., 0]
    np.testing.assert_array_equal(read, 65535 - image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(tmp_path, rng, orientation):
    image = rng.integers(0, 256, (4, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as picture:
        turned = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(tiff.upright(image, orientation), turned)
    wide = image.astype(np.uint16) * 257
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "x.tif", wide, photometric="rgb", extratags=[tag])
    read = io.read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(read, turned.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((3, 4), np.float32), {}, "floating-point"),
        (np.zeros((3, 4), np.int16), {}, "signed"),
        (np.zeros((3, 4), np.uint32), {}, "32"),
        (np.zeros((2, 3, 4), np.uint8), {"photometric": "minisblack"}, "several"),
        (
            np.zeros((32, 32, 3), np.uint16),
            {"photometric": "rgb", "tile": (16, 16)},
            "unusual kind",
        ),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, image, options, message):
    tifffile.imwrite(tmp_path / "x.tif", image, **options)
    with pytest.raises(ValueError, match=rf"x\.tif: .*{message}") as caught:
        io.read_image(tmp_path / "x.tif")
    assert "\n" not in str(caught.value)


def test_a_thumbnail_behind_the_picture_does_not_count(tmp_path):
    image = np.full((8, 8, 3), 7, np.uint8)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(image, photometric="rgb")
        file.write(image[:4, :4], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(io.read_image(tmp_path / "x.tif"), image)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_truncation_is_one_error_or_the_picture(tmp_path, rng, dtype):
    image = rng.integers(0, 250, (6, 5, 3), dtype=dtype)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, image, photometric="rgb", compression="zlib")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(io.read_image(path), image)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint16), photometric="minisblack")
    data = bytearray(path.read_bytes())
    found = re.search(rb"\x00\x01[\x03\x04]\x00\x01\x00\x00\x00", data)
    assert found is not None
    width = found.start()
    data[width : width + 12] = struct.pack("<HHII", 256, 4, 1, 2_000_000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="cannot hold them"):
        io.read_image(path)
