"""Tests for jaxflow.io.matroska; FFmpeg writes the files, and counts their packets."""

import av
import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import matroska

COUNT = 30


def encode(path, rng, codec="libx264", *, sound=False, videos=1, **options):
    """Writes noise, with an audio track if asked for."""
    options = {"fflags": "+bitexact", **options}
    with av.open(str(path), "w", options=options) as container:
        streams = []
        for _ in range(videos):
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.thread_count = 1
            streams.append(stream)
        audio = container.add_stream("pcm_s16le", rate=8000) if sound else None
        for index in range(COUNT):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            if audio is not None:
                silence = np.zeros((1, 320), np.int16)
                frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8000, 320 * index
                container.mux(audio.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def walked(path):
    with open(path, "rb") as file:
        walk = matroska.Walk(file, path.stat().st_size)
        walk.to(walk.size)
    return walk.frames


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"live": "1"},
        {"write_crc32": "0"},
        {"cluster_time_limit": "200"},
        {"reserve_index_space": "2000"},
        {"cluster_time_limit": "200", "live": "1", "sound": True},
        {"sound": True},
        {"codec": "libvpx"},
        {"codec": "ffv1"},
    ],
)
def test_sound_files_are_walked_through(tmp_path, rng, options):
    path = encode(tmp_path / "x.mkv", rng, **options)
    assert walked(path) == COUNT
    assert len(list(io.read_video(path))) == COUNT


def test_files_behind_each_other_and_free_space_are_sound(tmp_path, rng):
    path = encode(tmp_path / "x.mkv", rng)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert walked(path) == COUNT
    live = encode(tmp_path / "y.mkv", rng, live="1").read_bytes()
    (tmp_path / "y.mkv").write_bytes(live + b"\xec\x82\0\0" + live)
    assert walked(tmp_path / "y.mkv") == 2 * COUNT


def test_blocks_of_several_tracks_are_not_counted(tmp_path, rng):
    path = encode(tmp_path / "x.mkv", rng, videos=2)
    assert walked(path) is None
    assert len(list(io.read_video(path))) == COUNT


@pytest.mark.parametrize("options", [{}, {"live": "1"}, {"codec": "libvpx"}])
def test_random_bytes_lose_no_frame_without_a_word(tmp_path, rng, options):
    data = encode(tmp_path / "x.mkv", rng, cluster_time_limit="300", **options)
    data = data.read_bytes()
    told = 0
    for _ in range(20):
        damaged = bytearray(data)
        length = len(data) // 4
        start = rng.integers(600, len(data) - length)
        damaged[start : start + length] = rng.bytes(length)
        (tmp_path / "bad.mkv").write_bytes(bytes(damaged))
        try:
            assert len(list(io.read_video(tmp_path / "bad.mkv"))) == COUNT
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path / 'bad.mkv'}: ")
            told += 1
    assert told == 20


def test_a_flipped_bit_of_a_picture_fails_the_checksum(tmp_path, rng):
    path = encode(tmp_path / "x.mkv", rng)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"is damaged: frame \d+ .* the checksum of"):
        list(io.read_video(path))
    with pytest.warns(UserWarning, match="what can be decoded is kept"):
        assert len(list(io.read_video(path, lenient=True))) == COUNT


def damage(path):
    with pytest.raises(matroska.Damage) as caught:
        walked(path)
    return str(caught.value)


def test_what_is_no_element_is_named_by_its_place(tmp_path, rng):
    path = encode(tmp_path / "x.mkv", rng, write_crc32="0", cluster_time_limit="300")
    data = path.read_bytes()
    second = data.index(b"\x1f\x43\xb6\x75", data.index(b"\x1f\x43\xb6\x75") + 4)
    path.write_bytes(data[:second] + b"\x1f\x43\xb6\x74" + data[second + 4 :])
    assert damage(path) == f"has no element at byte {second} that Matroska knows"
    block = data.index(b"\xa3", second)
    while data[block + 1] >> 6 == 0:
        block = data.index(b"\xa3", block + 1)
    width = 9 - data[block + 1].bit_length()
    track = block + 1 + width
    assert data[track] == 0x81
    path.write_bytes(data[:track] + b"\x87" + data[track + 1 :])
    assert damage(path) == f"has a block of no track at byte {track}"
