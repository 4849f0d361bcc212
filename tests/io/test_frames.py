"""Tests for jaxflow.io.frames."""

import numpy as np
import pytest

from jaxflow import io


def write_frames(folder, names):
    """Writes pictures whose value is their place in `names`."""
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        io.write_image(folder / name, np.full((4, 6, 3), value, np.uint8))


def first_pixels(frames):
    return [int(frame[0, 0, 0]) for frame in frames]


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
    frames = [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(5)]
    io.write_video(tmp_path / "v.mkv", frames, lossless=True)
    assert first_pixels(io.read_frames(tmp_path / "v.mkv", start=2)) == [20, 30, 40]


def test_nothing_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="no pictures there"):
        io.read_frames(tmp_path)
    with pytest.raises(ValueError, match=r"\*\.png: no pictures there"):
        io.read_frames(tmp_path / "*.png")
    with pytest.raises(FileNotFoundError):
        io.read_frames(tmp_path / "none.mp4")


def test_another_size_and_a_damaged_picture_are_named(tmp_path):
    write_frames(tmp_path, ["1.png", "2.png"])
    io.write_image(tmp_path / "2.png", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png: is 6 x 5; .* 6 x 4"):
        list(io.read_frames(tmp_path))
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"2\.png: no PNG"):
        list(io.read_frames(tmp_path))


def test_a_stride_of_0_is_refused(tmp_path):
    write_frames(tmp_path, ["1.png"])
    with pytest.raises(ValueError, match="`stride`"):
        io.read_frames(tmp_path, stride=0)
