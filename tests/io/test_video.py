"""Tests for jaxflow.io.video."""

import fractions
import itertools
import struct
import sys
import tracemalloc

import av
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


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv"])
@pytest.mark.parametrize("lossless", [True, False])
def test_times_are_kept(tmp_path, rng, name, lossless):
    times = 3.5 + np.cumsum([0, 0.04, 0.04, 0.2, 0.004, 1, 0.04, 0.033, 0.9, 0.04])
    frames = moving_picture(rng, 10)
    io.write_video(tmp_path / name, frames, times=times, lossless=lossless)
    info = io.video_info(tmp_path / name)
    np.testing.assert_allclose(info.times, times - times[0], atol=6e-4)
    assert not info.uniform
    assert info.fps == pytest.approx(9 / (times[-1] - times[0]), rel=0.1)
    capture = cv2.VideoCapture(str(tmp_path / name))
    for time in times - times[0]:
        assert capture.grab()
        shown = capture.get(cv2.CAP_PROP_POS_MSEC)
        assert shown == pytest.approx(1000 * time, abs=1)
    # What is written with the times of what was read has them too.
    io.write_video(tmp_path / f"again_{name}", frames, times=info.times)
    again = io.video_info(tmp_path / f"again_{name}")
    np.testing.assert_allclose(again.times, info.times, atol=6e-4)


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv"])
@pytest.mark.parametrize("fps", [0.001, 0.5, 24000 / 1001, 60, 1000])
def test_rates_are_kept(tmp_path, name, fps):
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    io.write_video(tmp_path / name, frames, fps=fps)
    info = io.video_info(tmp_path / name)
    assert info.length == 4 and info.uniform
    # Matroska keeps time in milliseconds.
    assert info.fps == pytest.approx(fps, rel=1e-2)
    np.testing.assert_allclose(info.times, np.arange(4) / fps, atol=1e-3)


def test_a_rate_that_cannot_be_true_is_that_of_the_stamps(tmp_path):
    # A thousand frames a second, says the header; thirty, say the stamps.
    with av.open(str(tmp_path / "x.webm"), "w") as container:
        stream = container.add_stream("libvpx", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(40):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            picture.pts = round(index * 1000 / 30)
            picture.time_base = fractions.Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    info = io.video_info(tmp_path / "x.webm")
    assert info.fps == pytest.approx(30, rel=1e-2)
    assert info.seconds == pytest.approx(40 / 30, rel=1e-2)
    assert info.length == 40 and info.uniform


def rgb_of(luma, blue, red, kr, kb, full):
    """ITU-R BT.601-7 and BT.709-6, section 3, inverted: RGB in [0, 255]."""
    black, white, span = (0, 255, 255) if full else (16, 219, 224)
    y, cb, cr = (luma - black) / white, (blue - 128) / span, (red - 128) / span
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return 255 * np.clip([r, g, b], 0, 1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [(5, 0.299, 0.114), (1, 0.2126, 0.0722)])
def test_colours_are_those_of_the_standards(tmp_path, matrix, full):
    code, kr, kb = matrix
    colours = [(81, 90, 240), (145, 54, 34), (41, 240, 110), (180, 128, 128)]
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        stream.codec_context.colorspace = code
        stream.codec_context.color_range = 2 if full else 1
        for colour in colours:
            planes = np.empty((3, 48, 64), np.uint8)
            planes[:] = np.array(colour)[:, None, None]
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv444p"))
            )
        container.mux(stream.encode())
    for frame, colour in zip(io.read_video(tmp_path / "x.mkv"), colours, strict=True):
        expected = rgb_of(*colour, kr, kb, full)
        # Rounding to whole numbers, and of the tables of FFmpeg.
        assert np.abs(frame.astype(float) - expected).max() <= 1


def test_a_long_video_is_read_in_little_memory(tmp_path):
    frames = (np.full((240, 320, 3), i % 256, np.uint8) for i in range(400))
    io.write_video(tmp_path / "x.mp4", frames)
    io.video_info(tmp_path / "x.mp4")
    tracemalloc.start()
    for start, stride in ((0, 1), (150, 1), (0, 40)):
        clip = io.read_video(tmp_path / "x.mp4", start=start, stride=stride)
        assert sum(1 for _ in clip) == len(range(start, 400, stride))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All frames would take 92 MB.
    assert peak < 3e6


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
    with pytest.raises(ValueError, match=r"x\.mp4: (is empty|no readable video)"):
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
        ("x.mp4", [np.zeros((4, 4, 3))], {"fps": 0.0001}, "`fps`"),
        ("x.mp4", [np.zeros((4, 4, 3))], {"fps": -25}, "`fps`"),
        ("x.mp4", [np.zeros((4, 4, 3))], {"fps": float("nan")}, "`fps`"),
        ("x.mp4", [np.zeros((4, 4, 3))], {"fps": float("inf")}, "`fps`"),
        ("x.mp4", [np.zeros((4, 4, 3))] * 2, {"times": [0]}, "there are fewer"),
        ("x.mp4", [np.zeros((4, 4, 3))] * 2, {"times": [0, 1, 2]}, "there are more"),
        ("x.mp4", [np.zeros((4, 4, 3))] * 2, {"times": [1, 1]}, "`times` must incr"),
        ("x.mp4", [np.zeros((4, 4, 3))] * 2, {"times": [0, np.nan]}, "`times` must"),
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
    with pytest.raises(ImportError, match=r"jaxflow-motion\[video\]"):
        io.write_video(tmp_path / "x.mp4", [])
