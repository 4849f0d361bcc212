"""Tests for jaxflow.io.video."""

import itertools
import struct
import sys

import cv2
import numpy as np
import pytest

from jaxflow import io


def moving_picture(rng, count=40, size=(48, 64)):
    """Frames of a smooth pattern that moves to the right."""
    small = rng.integers(
        0, 256, (-(-size[0] // 24), -(-size[1] // 24), 3), dtype=np.uint8
    )
    picture = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    return [np.roll(picture, i, axis=1) for i in range(count)]


def opencv_frames(path):
    capture = cv2.VideoCapture(str(path))
    while (answer := capture.read())[0]:
        yield answer[1][..., ::-1]


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv", "光流.mp4"])
@pytest.mark.parametrize("size", [(48, 64), (33, 51), (1, 1)], ids=str)
def test_lossless_keeps_every_bit_at_any_size(tmp_path, rng, name, size):
    frames = rng.integers(0, 256, (5, *size, 3), dtype=np.uint8)
    io.write_video(tmp_path / name, frames, lossless=True)
    np.testing.assert_array_equal(list(io.read_video(tmp_path / name)), frames)
    assert io.video_info(tmp_path / name).size == size


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv"])
def test_ordinary_video_is_close_and_says_its_rate(tmp_path, rng, name):
    frames = moving_picture(rng)
    io.write_video(tmp_path / name, iter(frames), fps=30000 / 1001)
    info = io.video_info(tmp_path / name)
    # Matroska keeps time in milliseconds.
    assert info.fps == pytest.approx(29.97, rel=1e-3)
    assert info.length in (40, None)
    assert info.seconds == pytest.approx(40 / 29.97, abs=0.05)
    read = np.array(list(io.read_video(tmp_path / name)), int)
    # Chroma of half resolution, at a quality factor of 18.
    assert np.abs(read - frames).mean() < 4


def test_odd_sides_grow_by_a_copy(tmp_path, rng):
    frames = moving_picture(rng, 3, size=(40, 48))
    io.write_video(tmp_path / "x.mp4", [frame[:39, :47] / 255 for frame in frames])
    read = list(io.read_video(tmp_path / "x.mp4"))
    assert read[0].shape == (40, 48, 3)
    assert np.abs(read[0].astype(int) - frames[0])[:39, :47].mean() < 4


@pytest.mark.parametrize("name", ["part_0.mp4", "test.avi"])
def test_real_samples_equal_opencv_and_seeking_is_exact(test_data, name):
    path = test_data / "data/video" / name
    frames = list(io.read_video(path))
    np.testing.assert_array_equal(frames, list(opencv_frames(path)))
    info = io.video_info(path)
    assert info.length == len(frames) and info.size == frames[0].shape[:2]
    for start, stop, stride in ((1, 4, 1), (13, 30, 4), (31, None, 7), (999, None, 1)):
        some = list(io.read_video(path, start=start, stop=stop, stride=stride))
        expected = frames[start:stop:stride]
        assert len(some) == len(expected)
        assert all(map(np.array_equal, some, expected))


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_every_frame_can_be_sought(tmp_path, rng, name):
    io.write_video(tmp_path / name, moving_picture(rng), fps=23.976)
    frames = list(io.read_video(tmp_path / name))
    for start in range(len(frames)):
        sought = next(io.read_video(tmp_path / name, start=start))
        np.testing.assert_array_equal(sought, frames[start])


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_a_truncated_video_is_one_error(tmp_path, rng, name):
    path = tmp_path / name
    io.write_video(path, moving_picture(rng, 8))
    data = path.read_bytes()
    for length in [*range(0, len(data), len(data) // 60), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError) as caught:
            list(io.read_video(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_truncated_avi_is_one_error(test_data, tmp_path):
    data = (test_data / "data/video/test.avi").read_bytes()
    (tmp_path / "x.avi").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"x\.avi: is truncated"):
        io.read_video(tmp_path / "x.avi")


def test_damage_on_the_way_is_one_error_at_that_frame(tmp_path, rng):
    path = tmp_path / "x.mp4"
    noise = rng.integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    io.write_video(path, noise, lossless=True)
    data = bytearray(path.read_bytes())
    # Lengths inside the packets of the second half become absurd.
    middle, end = len(data) // 2, data.index(b"moov") - 4
    data[middle:end] = b"\xff" * (end - middle)
    path.write_bytes(data)
    frames = io.read_video(path)
    np.testing.assert_array_equal(next(frames), noise[0])
    with pytest.raises(ValueError, match=r"x\.mp4: is damaged"):
        list(frames)


@pytest.mark.parametrize("data", [b"", b"no video", bytes(1000)])
def test_a_foreign_file_is_one_error(tmp_path, data):
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.mp4: no readable video"):
        io.video_info(tmp_path / "x.mp4")
    with pytest.raises(FileNotFoundError):
        io.read_video(tmp_path / "none.mp4")


def test_frames_of_too_many_pixels_are_refused(tmp_path, rng, monkeypatch):
    io.write_video(tmp_path / "x.mp4", moving_picture(rng, 2))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"x\.mp4: "):
        io.video_info(tmp_path / "x.mp4")


def test_the_rotation_of_a_telephone_is_applied(tmp_path, rng):
    path = tmp_path / "x.mp4"
    frames = moving_picture(rng, 3)
    io.write_video(path, frames, lossless=True)
    data = bytearray(path.read_bytes())
    # The track header ends with a 3 x 3 matrix and the size, in fixed point.
    matrix = data.index(b"tkhd") + 4 + 40
    turn = (0, 2**16, 0, -(2**16), 0, 0, 48 * 2**16, 0, 2**30)
    data[matrix : matrix + 36] = struct.pack(">9i", *turn)
    path.write_bytes(data)
    read = list(io.read_video(path))
    assert read[0].shape == (64, 48, 3)
    np.testing.assert_array_equal(read[0], np.rot90(frames[0], -1))
    np.testing.assert_array_equal(read, list(opencv_frames(path)))
    assert io.video_info(path).size == (64, 48)


@pytest.mark.parametrize(
    ("name", "frames", "options", "message"),
    [
        ("x.webm", [np.zeros((4, 4, 3))], {}, "videos end in"),
        ("x.mp4", [], {}, "must not be empty"),
        ("x.mp4", [np.zeros((4, 4, 3)), np.zeros((4, 6, 3))], {}, "one shape"),
        ("x.mp4", [np.zeros((4, 4))], {}, "`frames` must be"),
        ("x.mp4", [np.zeros((4, 4, 3), np.uint16)], {}, "`frames` must be"),
        ("x.mp4", [np.zeros((4, 4, 3))], {"fps": 0}, "`fps`"),
    ],
)
def test_refuses_what_it_cannot_write(tmp_path, name, frames, options, message):
    with pytest.raises(ValueError, match=message):
        io.write_video(tmp_path / name, frames, **options)
    assert not list(tmp_path.iterdir())


def test_a_failing_source_leaves_nothing_behind(tmp_path):
    def frames():
        yield np.zeros((16, 16, 3), np.uint8)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        io.write_video(tmp_path / "x.mp4", frames())
    assert not list(tmp_path.iterdir())


def test_numbers_out_of_range_are_refused(tmp_path, rng):
    io.write_video(tmp_path / "x.mp4", moving_picture(rng, 2))
    wrong = [
        ("start", -1),
        ("start", 1.5),
        ("stop", -1),
        ("stride", 0),
        ("stride", "2"),
    ]
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            io.read_video(tmp_path / "x.mp4", **{name: value})
    assert list(itertools.chain(io.read_video(tmp_path / "x.mp4", stop=0))) == []


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"jaxflow\[video\]"):
        io.write_video(tmp_path / "x.mp4", [])
