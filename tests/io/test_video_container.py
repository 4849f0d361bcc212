"""Tests for jaxflow.io.video_container."""

import struct

import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import video_container


@pytest.fixture(scope="module", params=["x.mp4", "x.mov", "x.mkv"])
def whole(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("container") / request.param
    io.write_video(path, np.zeros((4, 16, 16, 3), np.uint8))
    return path


def test_a_whole_file_passes_and_a_shorter_one_is_refused(whole):
    data = whole.read_bytes()
    video_container.check_length(whole)
    for length in (len(data) - 1, len(data) // 2):
        whole.write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"truncated: .* and has {length}$"):
            video_container.check_length(whole)
    whole.write_bytes(data + bytes(16))
    video_container.check_length(whole)
    whole.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "head", "claimed"),
    [
        ("RIFF", b"RIFF" + struct.pack("<I", 992) + b"AVI ", 1000),
        ("64-bit box", struct.pack(">I4sQ", 1, b"mdat", 5000), 5000),
        ("box", struct.pack(">I4s", 400, b"ftyp"), 400),
    ],
)
def test_the_length_that_a_header_claims(tmp_path, name, head, claimed):
    path = tmp_path / "x"
    path.write_bytes(head.ljust(claimed, b"\0"))
    video_container.check_length(path)
    path.write_bytes(head.ljust(200, b"\0"))
    with pytest.raises(ValueError, match=f"claims {claimed} bytes, and has 200"):
        video_container.check_length(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no container at all",
        b"RIFF\xff\xff\xff\xffAVI ",  # written to a pipe
        struct.pack(">I4s", 0, b"mdat"),  # to the end of the file
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7,  # unknown, live
    ],
)
def test_what_claims_nothing_passes(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    video_container.check_length(tmp_path / "x")
