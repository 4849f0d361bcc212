"""Tests for jaxflow.io.video_index."""

import concurrent.futures
import fractions
import os
import pickle
import shutil
import struct

import av
import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import video_index

FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
# Name, codec, pixel format, options of the container, options of the codec.
KINDS = [
    ("x.mp4", "libx264", "yuv420p", {}, {}),
    ("x.m4v", "libx264", "yuv420p", {}, {}),
    ("x.mov", "libx264", "yuv420p", {}, {"bf": "0"}),
    ("x.mkv", "libx264", "yuv420p", {}, {}),
    ("x.ts", "libx264", "yuv420p", {}, {}),
    ("x.m2ts", "libx264", "yuv420p", {}, {}),
    ("x.flv", "libx264", "yuv420p", {}, {}),
    ("x.avi", "libx264", "yuv420p", {}, {"bf": "0"}),
    ("frag.mp4", "libx264", "yuv420p", {"movflags": FRAGMENTS}, {}),
    ("dash.mp4", "libx264", "yuv420p", {"movflags": "dash+frag_keyframe"}, {}),
    ("moov.mp4", "libx264", "yuv420p", {"movflags": "frag_keyframe"}, {}),
    ("sidx.mp4", "libx264", "yuv420p", {"movflags": FRAGMENTS + "+global_sidx"}, {}),
    ("open.mp4", "libx264", "yuv420p", {}, {"x264-params": "open-gop=1:bframes=3"}),
    ("open.ts", "libx264", "yuv420p", {}, {"x264-params": "open-gop=1:bframes=3"}),
    ("refresh.mp4", "libx264", "yuv420p", {}, {"x264-params": "intra-refresh=1"}),
    ("refresh.ts", "libx264", "yuv420p", {}, {"x264-params": "intra-refresh=1"}),
    ("raw.h264", "libx264", "yuv420p", {}, {}),
    ("hevc.mp4", "libx265", "yuv420p", {}, {"x265-params": "log-level=error"}),
    ("hevc.ts", "libx265", "yuv420p", {}, {"x265-params": "log-level=error"}),
    ("ten.mkv", "libx265", "yuv420p10le", {}, {"x265-params": "log-level=error"}),
    ("b.avi", "mpeg4", "yuv420p", {}, {"bf": "2"}),
    ("p.avi", "mpeg4", "yuv420p", {}, {"bf": "0"}),
    ("x.3gp", "mpeg4", "yuv420p", {}, {}),
    ("x.mpg", "mpeg1video", "yuv420p", {}, {"bf": "2"}),
    ("x.mpeg", "mpeg2video", "yuv420p", {}, {"bf": "2"}),
    ("two.ts", "mpeg2video", "yuv420p", {}, {"bf": "2"}),
    ("x.vob", "mpeg2video", "yuv420p", {}, {}),
    ("x.wmv", "wmv2", "yuv420p", {}, {}),
    ("x.asf", "msmpeg4", "yuv420p", {}, {}),
    ("old.flv", "flv", "yuv420p", {}, {}),
    ("jpeg.avi", "mjpeg", "yuvj420p", {}, {}),
    ("x.gif", "gif", "rgb8", {}, {}),
    ("eight.webm", "libvpx", "yuv420p", {}, {"lag-in-frames": "8"}),
    ("nine.webm", "libvpx-vp9", "yuv420p", {}, {"lag-in-frames": "8"}),
    ("ffv1.mkv", "ffv1", "bgr0", {}, {}),
    ("prores.mov", "prores_ks", "yuv422p10le", {}, {}),
    ("huff.avi", "huffyuv", "yuv422p", {}, {}),
    ("one.mp4", "libsvtav1", "yuv420p", {}, {"svtav1-params": "lp=1"}),
]
# A container and a codec of each kind; the others are slow tests.
USUAL = {
    *("x.mp4", "x.mov", "x.mkv", "x.ts", "x.avi", "frag.mp4", "open.mp4", "raw.h264"),
    *("hevc.mp4", "b.avi", "x.mpg", "x.vob", "x.gif", "nine.webm", "prores.mov"),
}


@pytest.fixture(autouse=True)
def empty_caches(tmp_path_factory, monkeypatch):
    """Gives each test a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(video_index, "_memory", type(video_index._memory)())


def numbered(count, size=(48, 64)):
    """Frames whose eight bars spell their number, with a still one now and then."""
    frames = np.full((count, *size, 3), 40, np.uint8)
    width = size[1] // 8
    for number, frame in enumerate(frames):
        for bit in range(8):
            if (number - (number % 10 == 7)) >> bit & 1:
                frame[:, bit * width : (bit + 1) * width] = 215
    return frames


def encode(
    path, frames, codec, pixels="yuv420p", container=None, stamps=None, gop=7, **options
):
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        clock = fractions.Fraction(1, 1000)
        if codec != "gif":
            stream.codec_context.gop_size = gop
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = clock
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if stamps is not None:
                picture.pts, picture.time_base = int(stamps[index]), clock
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def decoded(path):
    """The frames that PyAV gives from the start."""
    with av.open(f"file:{path}") as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def assert_every_start_is_right(path, frames):
    """Compares each start with `frames`, and the length."""
    index = video_index.index_of(path)
    assert len(index.sums) == len(frames)
    assert io.video_info(path).length == len(frames)
    for start in range(len(frames)):
        some = list(io.read_video(path, start=start, stop=start + 3))
        assert len(some) == len(frames[start : start + 3])
        for offset, frame in enumerate(some):
            assert np.array_equal(frame, frames[start + offset]), (start, offset)
    rest = list(io.read_video(path, start=5, stride=4))
    np.testing.assert_array_equal(rest, frames[5::4])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind[0] in USUAL else pytest.mark.slow)
        for kind in KINDS
    ],
    ids=lambda kind: f"{kind[0]}-{kind[1]}",
)
def test_every_start_equals_a_decode_from_the_start(tmp_path, kind):
    name, codec, pixels, container, options = kind
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = encode(
        tmp_path / name, numbered(40), codec, pixels, container=container, **options
    )
    frames = decoded(path)
    assert len(frames) >= 39
    assert_every_start_is_right(path, frames)


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.webm"])
def test_a_rate_that_changes_late(tmp_path, name):
    steps = np.repeat([40, 20, 100], 15)
    path = encode(
        tmp_path / name,
        numbered(45),
        "libvpx" if name == "x.webm" else "libx264",
        stamps=np.cumsum(steps) - 40,
    )
    assert_every_start_is_right(path, decoded(path))
    np.testing.assert_allclose(
        io.video_info(path).times, (np.cumsum(steps) - 40) / 1000, atol=1e-3
    )


def test_packets_hidden_by_an_edit_list(tmp_path):
    source = encode(tmp_path / "source.mp4", numbered(60), "libx264", gop=30, bf="0")
    path = tmp_path / "x.mp4"
    with (
        av.open(str(source)) as old,
        av.open(
            str(path),
            "w",
            options={"avoid_negative_ts": "disabled", "use_editlist": "1"},
        ) as new,
    ):
        film = old.streams.video[0]
        stream = new.add_stream_from_template(film)
        step = int(1 / (25 * film.time_base))
        for packet in old.demux(film):
            if packet.dts is not None and packet.pts >= 30 * step:
                packet.pts -= 42 * step
                packet.dts -= 42 * step
                packet.stream = stream
                new.mux(packet)
    frames = decoded(path)
    assert len(frames) == 18  # of the 30 that are there
    assert_every_start_is_right(path, frames)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_in_the_middle(tmp_path, codec):
    path = encode(tmp_path / "x.ts", numbered(60), codec)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 3 // 188 * 188 :])
    frames = decoded(path)
    assert 20 < len(frames) < 60
    assert_every_start_is_right(path, frames)


@pytest.mark.parametrize("claim", [4, 432000])
def test_a_header_that_lies_about_the_length(tmp_path, claim):
    path = encode(tmp_path / "x.avi", numbered(20), "mpeg4")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 24, claim)
    struct.pack_into("<I", data, data.index(b"strh") + 40, claim)
    path.write_bytes(data)
    info = io.video_info(path)
    assert (info.length, info.fps, info.seconds) == (20, 25, pytest.approx(0.8))
    assert_every_start_is_right(path, decoded(path))


def test_frames_that_are_all_the_same_are_found_by_their_number(tmp_path):
    frames = np.zeros((30, 48, 64, 3), np.uint8)
    frames[29] = 255
    path = encode(tmp_path / "x.mkv", frames, "libx264")
    assert_every_start_is_right(path, decoded(path))


@pytest.mark.parametrize("size", [(17, 23), (1, 1), (8, 514)], ids=str)
def test_the_checksum_counts_every_pixel_and_no_padding(tmp_path, rng, size):
    frames = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    frames[1] = frames[0]
    frames[1, -1, -1, 0] ^= 1
    io.write_video(tmp_path / "x.mkv", frames[[0, 1, 0]], lossless=True)
    first, second, third = video_index.index_of(tmp_path / "x.mkv").sums
    assert first == third != second


def test_an_index_is_kept_in_memory_and_on_the_disk(tmp_path, monkeypatch):
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    first = video_index.index_of(path)
    assert video_index.index_of(path) is first
    video_index._memory.clear()
    again = video_index.kept_index(path)
    assert again is not first
    assert all(map(np.array_equal, again, first))
    assert all(map(np.array_equal, pickle.loads(pickle.dumps(first)), first))


def test_a_file_that_changes_has_another_index(tmp_path):
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    assert len(video_index.index_of(path).sums) == 120
    state = path.stat()
    encode(path, numbered(110), "libx264")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert video_index.kept_index(path) is None
    assert len(video_index.index_of(path).sums) == 110


def test_a_short_video_leaves_no_file(tmp_path):
    video_index.index_of(encode(tmp_path / "x.mp4", numbered(20), "libx264"))
    assert not list(video_index._cache_file("").parent.glob("*"))


def test_a_damaged_cache_is_made_again(tmp_path):
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    video_index.index_of(path)
    (stored,) = video_index._cache_file("").parent.iterdir()
    data = stored.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 255
    for damaged in (b"", b"no zip", data[: len(data) // 2], bytes(flipped)):
        stored.write_bytes(damaged)
        video_index._memory.clear()
        assert video_index.kept_index(path) is None
        assert len(video_index.index_of(path).sums) == 120
        assert stored.read_bytes()[:2] == b"PK"


def test_the_folder_is_bounded_and_loses_what_is_not_used(tmp_path, monkeypatch):
    folder = video_index._cache_file("").parent
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    monkeypatch.setattr(video_index, "_PRUNED_EVERY", 1)
    video_index.index_of(path)
    (used,) = folder.iterdir()
    for age in range(9):
        (folder / f"{age}.npz").write_bytes(bytes(1000))
        os.utime(folder / f"{age}.npz", ns=(0, 10**9 * (100 - age)))
    os.utime(used, ns=(0, 0))
    video_index._memory.clear()
    assert video_index.kept_index(path) is not None  # and now it is the newest
    limit = used.stat().st_size + 3500
    monkeypatch.setattr(video_index, "_MOST_BYTES_ON_DISK", limit)
    video_index._prune(folder)
    left = {"0.npz", "1.npz", "2.npz", used.name}
    assert {file.name for file in folder.iterdir()} == left
    for index in range(3):
        video_index.index_of(
            encode(tmp_path / f"{index}.mp4", numbered(120 + index), "libx264")
        )
    assert sum(file.stat().st_size for file in folder.iterdir()) <= limit


def test_several_processes_prune_one_folder(tmp_path, monkeypatch):
    for name in range(200):
        (tmp_path / f"{name}.npz").write_bytes(bytes(100))
    monkeypatch.setattr(video_index, "_MOST_BYTES_ON_DISK", 1000)
    unlink = os.unlink

    def late(path):
        unlink(path)
        unlink(path)  # as if another process had been faster

    monkeypatch.setattr(os, "unlink", late)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(video_index._prune, [tmp_path] * 4))
    assert len(list(tmp_path.iterdir())) == 10


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    assert len(video_index.index_of(path).sums) == 120


def test_a_wrong_index_gives_no_wrong_frame(tmp_path, monkeypatch):
    path = encode(tmp_path / "x.mp4", numbered(40), "libx264")
    frames = decoded(path)
    index = video_index.index_of(path)
    wrong = index._replace(sums=index.sums + np.uint64(1))
    for start in (0, 9, 21):
        for found, frame in zip(
            video_index.frames_from(path, wrong, start), frames[start:], strict=True
        ):
            np.testing.assert_array_equal(found.to_ndarray(format="rgb24"), frame)


def test_frames_are_sought_and_not_decoded_from_the_start(tmp_path, monkeypatch):
    path = encode(tmp_path / "x.mp4", numbered(200), "libx264", gop=10)
    index = video_index.index_of(path)
    count = 0
    checksum = video_index.checksum

    def counted(frame):
        nonlocal count
        count += 1
        return checksum(frame)

    monkeypatch.setattr(video_index, "checksum", counted)
    next(video_index.frames_from(path, index, 187))
    assert 0 < count <= 20


def test_the_last_frame_and_what_is_behind_it(tmp_path):
    path = encode(tmp_path / "x.mp4", numbered(30), "libx264")
    frames = decoded(path)
    video_index.index_of(path)
    np.testing.assert_array_equal(list(io.read_video(path, start=29)), frames[29:])
    assert list(io.read_video(path, start=30)) == []
    assert list(io.read_video(path, start=9, stop=4)) == []


def test_a_copy_in_another_place_is_another_file(tmp_path):
    path = encode(tmp_path / "x.mp4", numbered(120), "libx264")
    video_index.index_of(path)
    shutil.copy2(path, tmp_path / "y.mp4")
    assert video_index.kept_index(tmp_path / "y.mp4") is None
