"""Tests for jaxflow.io.image."""

import io as std_io
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxflow import io
from jaxflow.io import png


def opencv(path):
    """The same picture as OpenCV sees it, in RGB."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    return cv2.imread(str(path), flags)[..., ::-1]


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 33)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(".png", 1), (".png", 3), (".ppm", 1), (".ppm", 3), (".pgm", 1)],
)
def test_lossless_kinds_keep_every_bit_and_opencv_agrees(
    tmp_path, rng, size, dtype, suffix, channels
):
    top = np.iinfo(dtype).max
    image = rng.integers(0, top, (*size, channels), dtype=dtype, endpoint=True)
    path = tmp_path / f"x{suffix}"
    io.write_image(path, image)
    read = io.read_image(path)
    assert read.dtype == dtype and read.flags.c_contiguous and read.flags.writeable
    np.testing.assert_array_equal(read, np.broadcast_to(image, (*size, 3)))
    np.testing.assert_array_equal(read, opencv(path))


def test_real_samples_equal_opencv(test_data):
    for name in (
        "flow/chairs/fn2_1_img1.ppm",
        "flow/middlebury/RubberWhale/frame10.png",
        "flow/kitti2012/000045_10_flow_noc.png",
        "flow/tiny_mmflow/0000000-occ_01.png",
        "video/rawframes/img_00001.jpg",
    ):
        path = test_data / "data" / name
        np.testing.assert_array_equal(io.read_image(path), opencv(path))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB"])
def test_any_png_becomes_rgb_as_in_opencv(tmp_path, rng, mode):
    rgba = rng.integers(0, 256, (9, 14, 4), dtype=np.uint8)
    picture = Image.fromarray(rgba)
    if mode != "RGBA":
        picture = picture.convert("RGB").convert(mode)
    picture.save(tmp_path / "x.png")
    read = io.read_image(tmp_path / "x.png")
    assert read.shape == (9, 14, 3) and read.dtype == np.uint8
    np.testing.assert_array_equal(read, opencv(tmp_path / "x.png"))


def test_alpha_of_16_bits_is_dropped_and_gray_repeated(tmp_path, rng):
    image = rng.integers(0, 2**16, (5, 4, 4), dtype=np.uint16)
    for channels, colours in ((4, [0, 1, 2]), (2, [0, 0, 0])):
        io.write_png16(tmp_path / "x.png", image[..., :channels])
        read = io.read_image(tmp_path / "x.png")
        np.testing.assert_array_equal(read, image[..., colours])


def test_jpeg_is_close_and_gray_stays_gray(tmp_path):
    y, x = np.mgrid[:40, :51]
    image = np.stack([4 * x, 5 * y, 100 + x - y], axis=-1).astype(np.uint8)
    io.write_image(tmp_path / "光.jpeg", image)
    # Quantisation at quality 95 of a smooth picture.
    difference = io.read_image(tmp_path / "光.jpeg").astype(int) - image
    assert np.abs(difference).max() <= 6
    io.write_image(tmp_path / "gray.jpg", image[..., 0])
    with Image.open(tmp_path / "gray.jpg") as picture:
        assert picture.mode == "L"


def test_the_orientation_of_a_camera_is_applied(tmp_path):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "x.jpg", exif=exif)
    read = io.read_image(tmp_path / "x.jpg")
    assert read.shape == (32, 16, 3)
    np.testing.assert_array_equal(read, opencv(tmp_path / "x.jpg"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"P3\n# made by hand\n2 1\n255\n255 0 7  1 2 3\n", [[[255, 0, 7], [1, 2, 3]]]),
        (b"P2 1 2 3 0 3", [[[0] * 3], [[255] * 3]]),
        (b"P5 2 1 127\n\x7f\x00", [[[255] * 3, [0] * 3]]),
        (b"P5 1 1 1000\n\x03\xe8", [[[65535] * 3]]),
    ],
)
def test_netpbm_of_other_tops_and_in_plain_text(tmp_path, text, expected):
    (tmp_path / "x.ppm").write_bytes(text)
    np.testing.assert_array_equal(io.read_image(tmp_path / "x.ppm"), expected)


def test_floats_are_clipped_and_rounded(tmp_path):
    image = np.array([[-1.0, 0.0, 0.5, 1.0, np.inf]])
    io.write_image(tmp_path / "x.png", image)
    read = io.read_image(tmp_path / "x.png")[0, :, 0]
    np.testing.assert_array_equal(read, [0, 0, 128, 255, 255])


def encoded(kind, image, **options):
    """The bytes of a picture as Pillow writes it."""
    buffer = std_io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["png", "jpeg", "progressive", "ppm", "png16", "plain"]
)
def test_every_truncation_is_one_error(tmp_path, rng, name):
    image = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    path = tmp_path / "x"
    if name == "png16":
        io.write_png16(path, image.astype(np.uint16))
        data = path.read_bytes()
    elif name == "plain":
        data = b"P3 2 1 255\n255 0 7 1 2 3"
    else:
        kind = "JPEG" if name == "progressive" else name.upper()
        data = encoded(kind, image, progressive=name == "progressive")
    path.write_bytes(data)
    io.read_image(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError) as caught:
            io.read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM"])
def test_a_damaged_byte_is_a_picture_or_one_error(tmp_path, rng, kind):
    data = encoded(kind, rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    for index in range(len(data)):
        (tmp_path / "x").write_bytes(
            data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]
        )
        try:
            image = io.read_image(tmp_path / "x")
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path / 'x'}: ")
        else:
            assert image.shape[-1] == 3


def lying_png(width, height, depth):
    """A PNG of any size whose data chunk is short."""
    good = encoded("PNG", np.zeros((2, 2, 3), np.uint8))
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header += bytes([depth, 2, 0, 0, 0])
    return good[:8] + png._chunk(b"IHDR", header) + good[33:]


def lying_jpeg(width, height):
    """A JPEG of any size with the pixels of a small one."""
    data = bytearray(encoded("JPEG", np.zeros((8, 8, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        lying_png(40000, 25000, 8),
        lying_png(40000, 25000, 16),
        lying_png(3000, 3000, 8),
        lying_jpeg(40000, 25000),
        lying_jpeg(9000, 9000),
        b"P6 40000 25000 255\n" + bytes(100),
        b"P5 40000 25000 65535\n" + bytes(100),
        b"P3 40000 25000 255\n0 0 0",
        b"P6 3000 3000 255\n" + bytes(100),
        b"P6 0 5 255\n",
        b"P6 5 5 70000\n" + bytes(100),
        b"P6 1 1 9\n" + bytes([10, 10, 10]),
        b"GIF89a" + bytes(100),
        b"P4 8 8\n" + bytes(8),
        b"",
    ],
    ids=range(15),
)
def test_a_lying_or_foreign_file_costs_no_memory(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    Image.init()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"x\.png: ") as caught:
        io.read_image(tmp_path / "x.png")
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("x.gif", np.zeros((2, 2, 3)), "pictures end in"),
        ("x.jpg", np.zeros((2, 2, 3), np.uint16), "16 bits"),
        ("x.pgm", np.zeros((2, 2, 3)), "one channel"),
        ("x.png", np.zeros((2, 2, 4)), "`image` must be"),
        ("x.png", np.zeros((0, 2, 3)), "`image` must be"),
        ("x.png", np.zeros((2, 2, 3), np.int64), "`image` must be"),
        ("x.png", np.full((2, 2, 3), np.nan), "NaN"),
    ],
)
def test_refuses_what_it_cannot_write(tmp_path, name, image, message):
    with pytest.raises(ValueError, match=message):
        io.write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["bmp", "webp", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_pictures_of_other_programs_equal_pillows(tmp_path, rng, suffix, mode):
    rgba = rng.integers(0, 256, (9, 14, 4), dtype=np.uint8)
    picture = Image.fromarray(rgba).convert("RGB").convert(mode)
    if suffix == "webp" and mode in ("P", "1"):
        picture = picture.convert("RGB")
    options = {"lossless": True} if suffix == "webp" else {}
    picture.save(tmp_path / f"x.{suffix}", **options)
    read = io.read_image(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(read, np.asarray(picture.convert("RGB")))


def test_cmyk_is_close_to_opencvs(tmp_path):
    y, x = np.mgrid[:40, :51]
    image = np.stack([4 * x, 5 * y, 100 + x - y], axis=-1).astype(np.uint8)
    Image.fromarray(image).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    read = io.read_image(tmp_path / "x.jpg").astype(int)
    assert np.abs(read - opencv(tmp_path / "x.jpg")).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
def test_the_orientation_in_a_png_is_applied(tmp_path, depth):
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=-1)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.png"
    if depth == 8:
        Image.fromarray(image).save(path, exif=exif)
    else:
        io.write_image(path, image.astype(np.uint16) * 257)
        data, chunk = path.read_bytes(), png._chunk(b"eXIf", exif.tobytes()[6:])
        path.write_bytes(data[:33] + chunk + data[33:])
    turned = np.rot90(image, -1).astype(int) * (257 if depth == 16 else 1)
    np.testing.assert_array_equal(io.read_image(path), turned)


@pytest.mark.parametrize(
    ("name", "message"),
    [("x.gif", "is a GIF"), ("x.webp", "animation"), ("x.png", "animation")],
)
def test_an_animation_is_no_picture(tmp_path, name, message):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=message):
        io.read_image(tmp_path / name)


def test_a_webp_of_one_colour_is_read_and_a_lying_one_is_not(tmp_path):
    Image.new("RGB", (4000, 3000), "red").save(tmp_path / "x.webp", lossless=True)
    assert io.read_image(tmp_path / "x.webp").shape == (3000, 4000, 3)
    data = bytearray((tmp_path / "x.webp").read_bytes())
    data[21:25] = (0x2FFF | 0x1FFF << 14).to_bytes(4, "little")
    (tmp_path / "x.webp").write_bytes(data)
    with pytest.raises(ValueError, match=r"12288 x 8192|cannot hold"):
        io.read_image(tmp_path / "x.webp")
