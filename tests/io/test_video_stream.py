"""Tests for jaxflow.io.video_stream."""

import os
import shutil
import struct
import warnings

import av
import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import video_stream


def noise(rng, count=6, size=(48, 64)):
    return rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)


def encode(path, frames, codec, *, pixels="yuv420p", **options):
    """Writes a video by PyAV alone, without identifiers that are drawn at random."""
    options = {"fflags": "+bitexact", **options}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def damaged_in_the_middle(path, codec, rng, **options):
    """Writes noise, wipes some of its coded bytes out; returns the frames before."""
    encode(path, noise(rng, 24), codec, **options)
    before = list(io.read_video(path))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    length = len(data) // 8
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)
    return before


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("x.mp4", "libx264"),
        ("x.mkv", "libx264"),
        ("x.avi", "mpeg4"),
        ("x.mpg", "mpeg2video"),
        ("x.mp4", "libx265"),
    ],
)
def test_damage_names_its_frame_and_is_kept_only_if_asked(tmp_path, rng, name, codec):
    path = tmp_path / name
    before = damaged_in_the_middle(path, codec, rng)
    with pytest.raises(ValueError, match=r"x\.\w+: is damaged: frame \d+ ") as caught:
        list(io.read_video(path))
    number = int(str(caught.value).split(" frame ")[1].split()[0])
    assert 0 < number < 24
    with pytest.raises(ValueError, match="is damaged: frame"):
        io.video_info(path)
    with pytest.warns(UserWarning, match="is damaged.*what can be decoded is kept"):
        kept = list(io.read_video(path, lenient=True))
    assert len(kept) >= 12
    np.testing.assert_array_equal(kept[0], before[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert io.video_info(path, lenient=True).length == len(kept)
        for start in range(len(kept)):
            some = next(io.read_video(path, start=start, lenient=True))
            np.testing.assert_array_equal(some, kept[start])


def test_a_truncated_video_is_read_as_far_as_it_goes_if_asked(tmp_path, rng):
    path = tmp_path / "x.mkv"
    frames = noise(rng, 8)
    io.write_video(path, frames, lossless=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"x\.mkv: is truncated"):
        io.read_video(path)
    # Besides, the frame is named where the file ends.
    with warnings.catch_warnings(record=True, action="always") as told:
        kept = list(io.read_video(path, lenient=True))
    assert "is truncated" in str(told[0].message)
    assert 0 < len(kept) < 8
    np.testing.assert_array_equal(kept[:-1], frames[: len(kept) - 1])


@pytest.mark.parametrize(
    "name",
    [
        "2024-05-01T10:30:00.mp4",
        "http:x.mp4",
        "clip[1].mp4",
        "a b.mp4",
        "Straße 光流.mp4",
        "%03d.mp4",
        "-x.mp4",
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_name_is_a_file_whatever_it_looks_like(
    tmp_path, rng, monkeypatch, name, absolute
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name if absolute else name
    frames = noise(rng, 2)
    io.write_video(path, frames, lossless=True)
    np.testing.assert_array_equal(list(io.read_video(path)), frames)
    np.testing.assert_array_equal(list(io.read_frames(path)), frames)
    assert io.video_info(path).length == 2


def box(name, body):
    return struct.pack(">I4s", 8 + len(body), name) + body


def with_cover(data, picture):
    """Returns an MP4 with a cover before its track, as some cameras write it."""
    handler = box(b"hdlr", b"\0" * 8 + b"mdirappl" + b"\0" * 9)
    cover = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + picture))
    meta = box(b"meta", b"\0" * 4 + handler + box(b"ilst", cover))
    start = data.index(b"moov") - 4  # it is the last box
    old, parts, at = data[start:], [], 8
    while at < len(old):
        (length,) = struct.unpack(">I", old[at : at + 4])
        parts.append(old[at : at + length])
        at += length
    parts = [part for part in parts if part[4:8] != b"udta"]
    parts.insert(1, box(b"udta", meta))
    return data[:start] + box(b"moov", b"".join(parts))


def test_a_cover_is_not_the_video(tmp_path, rng):
    frames = noise(rng, 3)
    path, picture = tmp_path / "x.mp4", tmp_path / "cover.jpg"
    io.write_video(path, frames, lossless=True)
    io.write_image(picture, np.full((32, 32, 3), 200, np.uint8))
    path.write_bytes(with_cover(path.read_bytes(), picture.read_bytes()))
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 32
    np.testing.assert_array_equal(list(io.read_video(path)), frames)
    assert io.video_info(path).size == (48, 64)


def test_a_cover_that_is_a_track_is_not_the_video(tmp_path, rng):
    frames, path = noise(rng, 4), tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.height = cover.width = 32
        cover.pix_fmt = "yuvj420p"
        film = container.add_stream("ffv1", rate=25)
        film.height, film.width, film.pix_fmt = 48, 64, "bgr0"
        red = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8))
        container.mux([*cover.encode(red), *cover.encode()])
        for frame in frames:
            container.mux(film.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(film.encode())
    np.testing.assert_array_equal(list(io.read_video(path)), frames)


def test_a_video_without_a_stream_is_refused(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 44100), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 44100
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(ValueError, match=r"x\.mp4: holds no video stream"):
        io.read_video(tmp_path / "x.mp4")


def test_an_empty_packet_repeats_a_frame_and_is_no_damage(tmp_path, rng):
    source, path = tmp_path / "source.mkv", tmp_path / "x.nut"
    frames = noise(rng, 4)
    io.write_video(source, frames, lossless=True)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is None:
                continue
            packet.stream = stream
            new.mux(packet)
            empty = av.Packet(b"")
            empty.pts = empty.dts = packet.pts + 20
            empty.stream, empty.time_base = stream, packet.time_base
            new.mux(empty)
    sizes = [packet.size for packet in av.open(str(path)).demux(video=0)]
    assert 0 in sizes[:-1]
    np.testing.assert_array_equal(list(io.read_video(path)), frames)


def test_frames_of_two_sizes_are_refused_with_the_frame(tmp_path, rng):
    path = tmp_path / "x.h264"
    parts = []
    for size in ((48, 64), (32, 32)):
        encode(path, noise(rng, 3, size), "libx264")
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match=r"frame 3 is 32 x 32; .* 64 x 48"):
        list(io.read_video(path))
    with pytest.warns(UserWarning, match="frame 3 is 32 x 32"):
        assert len(list(io.read_video(path, lenient=True))) == 3


def test_a_small_file_that_claims_huge_frames_is_refused(tmp_path, monkeypatch, rng):
    path = tmp_path / "x.mp4"
    io.write_video(path, noise(rng, 2))
    assert len(list(io.read_video(path))) == 2
    monkeypatch.setattr(video_stream, "_BELIEVED_PIXELS", 0)
    monkeypatch.setattr(video_stream, "_PIXELS_A_BYTE", 0.1)
    with pytest.raises(ValueError, match=r"x\.mp4: "):
        io.read_video(path)


def test_a_playlist_does_not_open_other_files(tmp_path, rng):
    shutil.copy(os.devnull, tmp_path / "x.mp4")
    io.write_video(tmp_path / "other.mp4", noise(rng, 2))
    (tmp_path / "x.mp4").write_text("ffconcat version 1.0\nfile http://127.0.0.1/x\n")
    with pytest.raises(ValueError, match=r"x\.mp4: "):
        io.read_video(tmp_path / "x.mp4")


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_a_title_in_no_known_encoding_does_no_harm(tmp_path, rng, name):
    path, title = tmp_path / name, "a title of a film"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in noise(rng):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert title.encode() in data
    path.write_bytes(data.replace(title.encode(), bytes([0xFF, 0xE4]) * 8 + b"x"))
    assert len(list(io.read_video(path))) == 6
