"""Tests for jaxflow.io.frames."""

import numpy as np
import pytest
from PIL import Image

from jaxflow import io
from jaxflow.io import frames


def write_frames(folder, names):
    """Writes pictures whose value is their place in `names`."""
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        io.write_image(folder / name, np.full((4, 6, 3), value, np.uint8))


def first_pixels(clip):
    return [int(frame[0, 0, 0]) for frame in clip]


def test_a_folder_is_read_in_natural_order_and_nothing_but_pictures(tmp_path):
    folder = tmp_path / "Straße [1] 道"
    write_frames(folder, ["frame_1.png", "frame_2.ppm", "frame_10.png", "frame_11.png"])
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    assert first_pixels(io.read_frames(folder)) == [0, 1, 2, 3]
    assert first_pixels(io.read_frames(str(folder), start=1, stop=4, stride=2)) == [
        1,
        3,
    ]


def test_a_pattern_takes_what_it_matches(tmp_path):
    write_frames(tmp_path, ["left_1.png", "right_1.png", "left_2.png"])
    assert first_pixels(io.read_frames(tmp_path / "left_*.png")) == [0, 2]


def test_a_video_is_read_too(tmp_path):
    clip = [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(5)]
    io.write_video(tmp_path / "v.mkv", clip, lossless=True)
    assert first_pixels(io.read_frames(tmp_path / "v.mkv", start=2)) == [20, 30, 40]


def test_nothing_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="no pictures there"):
        io.read_frames(tmp_path)
    with pytest.raises(ValueError, match=r"\*\.png: no pictures there"):
        io.read_frames(tmp_path / "*.png")
    with pytest.raises(FileNotFoundError):
        io.read_frames(tmp_path / "none.mp4")


def test_another_size_and_a_damaged_picture_are_named(tmp_path):
    write_frames(tmp_path, [f"{i}.png" for i in range(9)])
    io.write_image(tmp_path / "8.png", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"8\.png: is 6 x 5; .* 6 x 4"):
        io.read_frames(tmp_path)
    (tmp_path / "8.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"8\.png: no readable picture"):
        io.read_frames(tmp_path)
    (tmp_path / "8.png").unlink()
    (tmp_path / "8.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"8\.png"):
        io.read_frames(tmp_path)
    assert first_pixels(io.read_frames(tmp_path, stop=8)) == list(range(8))


def test_what_is_damaged_behind_its_header_is_named_at_its_frame(tmp_path):
    write_frames(tmp_path, ["1.png", "2.png"])
    data = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(data[:-20])
    clip = io.read_frames(tmp_path)
    assert next(clip)[0, 0, 0] == 0
    with pytest.raises(ValueError, match=r"2\.png: "):
        next(clip)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_headers_have_the_size_of_the_pictures(tmp_path, mode):
    for name in ("a.png", "a.tiff", "a.bmp", "a.webp", "a.jpg", "a.pgm", "a.ppm"):
        for side in (6, 4):
            try:
                picture = Image.new(mode, (6, side))
                if mode == "P":
                    # Pillow 11 writes BMP without a palette that it cannot read.
                    picture.putpalette(bytes(range(256)) * 3)
                picture.save(tmp_path / name)
            except (OSError, ValueError, KeyError):
                continue  # this format has no such pictures
            shape = io.read_image(tmp_path / name).shape
            assert frames.header_size(tmp_path / name) == (shape[1], shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_headers_are_turned_as_the_pictures(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (8, 5)).save(tmp_path / name, exif=exif)
    shape = io.read_image(tmp_path / name).shape
    assert frames.header_size(tmp_path / name) == (shape[1], shape[0])


def test_a_stride_of_0_and_a_stop_below_0_are_refused(tmp_path):
    write_frames(tmp_path, ["1.png"])
    for name, value in (("stride", 0), ("stop", -1), ("start", -1), ("start", 0.5)):
        with pytest.raises(ValueError, match=f"`{name}`"):
            io.read_frames(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["img_1.png", "img_2.png", "flow_x_1.png", "flow_y_1.png"], "img_"),
        (["img_00001.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg"], "img_"),
        (["1_flow.png", "1.png", "2.png"], "*_flow"),
        (["left_1.png", "left_2.png", "right_1.png", "right_2.png"], "left_"),
        (["1_L.png", "2_L.png", "1_R.png", "2_R.png"], ""),
    ],
)
def test_pictures_of_several_clips_are_refused_with_a_way_out(tmp_path, names, advice):
    write_frames(tmp_path, names)
    for path in (tmp_path, tmp_path / "*"):
        with pytest.raises(ValueError, match="pictures of several clips") as caught:
            io.list_frames(path)
    pattern = str(caught.value).split("'")[1]
    assert io.list_frames(pattern)
    assert pattern.startswith(str(tmp_path / advice))


def test_the_pattern_that_is_advised_works(tmp_path):
    write_frames(tmp_path, ["flow_x_1.png", "flow_y_1.png", "img_1.png", "img_2.png"])
    with pytest.raises(ValueError) as caught:
        io.list_frames(tmp_path)
    assert first_pixels(io.read_frames(str(caught.value).split("'")[1])) == [2, 3]


def test_a_frame_in_two_formats_is_refused(tmp_path):
    write_frames(tmp_path, ["1.png", "1.jpg", "2.png"])
    with pytest.raises(ValueError, match=r"holds 1 twice, as \.jpg and \.png"):
        io.list_frames(tmp_path)
    assert len(io.list_frames(tmp_path / "*.png")) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png", "c.png"],
        ["000000_10.png", "000000_11.png"],
        ["00001_img1.ppm", "00001_img2.ppm"],
        ["overflow_1.png", "frame_1.png"],
        ["flow_1.png", "flow_2.png"],
        ["2024-05-01_1.png", "2024-05-01_2.png"],
    ],
)
def test_other_names_are_one_clip(tmp_path, names):
    write_frames(tmp_path, names)
    assert len(io.list_frames(tmp_path)) == len(names)


def test_equal_names_in_several_folders_are_no_twins(tmp_path):
    for scene in "ab":
        write_frames(tmp_path / scene, ["frame.png"])
    assert len(io.list_frames(tmp_path / "*" / "frame.png")) == 2


def test_brackets_in_a_name_that_exists_are_no_pattern(tmp_path):
    write_frames(tmp_path / "clip[1]", ["1.png", "2.png"])
    write_frames(tmp_path / "clip1", ["1.png", "2.png", "3.png"])
    assert len(list(io.read_frames(tmp_path / "clip[1]"))) == 2
    assert len(list(io.read_frames(tmp_path / "clip[1]" / "*.png"))) == 2
    assert len(list(io.read_frames(tmp_path / "clip[12]" / "*.png"))) == 3
    assert not frames.is_sequence(tmp_path / "clip[1]" / "none.mp4")
    io.write_image(tmp_path / "still[1].png", np.zeros((4, 6, 3), np.uint8))
    assert len(list(io.read_frames(tmp_path / "still[1].png"))) == 1


@pytest.mark.parametrize("name", ["x.flo", "x.npz", "x.flo5", "x.pfm"])
def test_flow_is_no_clip(tmp_path, name):
    (tmp_path / name).write_bytes(b"flow")
    with pytest.raises(ValueError, match=rf"{name}: is flow, not frames"):
        io.read_frames(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".webp"])
def test_other_pictures_are_frames_too(tmp_path, suffix):
    for value in (0, 7):
        picture = Image.new("RGB", (6, 4), (value,) * 3)
        picture.save(tmp_path / f"{value}{suffix}", lossless=True)
    assert first_pixels(io.read_frames(tmp_path)) == [0, 7]


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, name):
    (tmp_path / name).touch()
    read = io.read_image if name == "a.png" else lambda path: list(io.read_video(path))
    with pytest.raises(ValueError, match=f"{name}: is empty"):
        read(tmp_path / name)
