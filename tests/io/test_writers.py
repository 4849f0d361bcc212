"""Every kind of file that is written: a full disk, an interrupt, two writers at once.

A limit on the length of files stands for a full disk: the calls of the system that
write fail alike, with another number.
"""

import concurrent.futures
import contextlib
import os

import numpy as np
import pytest

from jaxflow import convert, io
from jaxflow.cli import generate
from jaxflow.io import files
from jaxflow.models.flow import spynet
from tests.convert import states

resource = pytest.importorskip("resource")

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
FLOW = np.random.default_rng(1).normal(size=(32, 32, 2)).astype(np.float32)
WRITERS = {
    **dict.fromkeys(("x.flo", "x.pfm", "flow.png"), lambda p: io.write_flow(p, FLOW)),
    **dict.fromkeys(
        ("x.png", "x.jpg", "x.ppm"), lambda p: io.write_image(p, FRAMES[0])
    ),
    **dict.fromkeys(
        ("x.mp4", "x.mov", "x.mkv"), lambda p: io.write_video(p, list(FRAMES))
    ),
    "x.gif": lambda p: generate._write_video(str(p), FRAMES, 8.0),
    "x.json": lambda p: files.write_bytes(p, bytes(1000)),
    "x.safetensors": lambda p: convert.save_weights(states.blank(spynet, 1), p),
}


@contextlib.contextmanager
def full_disk(length):
    """Lets no file grow beyond a length."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, name):
    path, write = tmp_path / name, WRITERS[name]
    write(path)
    length = path.stat().st_size
    path.write_bytes(b"old")
    # At the head, the middle and near the end: an encoder on several threads does not
    # always write the same length.
    for most in (16, length // 2, length - length // 10 - 1):
        with pytest.raises(OSError) as caught, full_disk(most):
            write(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: cannot be written: File too large")
        assert "\n" not in message
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_an_interrupt_between_two_frames_leaves_the_old_video(tmp_path):
    def frames():
        yield FRAMES[0]
        raise KeyboardInterrupt

    path = tmp_path / "x.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        io.write_video(path, frames())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.mp4"]


def test_of_two_writers_one_wins_whole(tmp_path):
    path = tmp_path / "x.flo"
    flows = [np.full((64, 64, 2), value, np.float32) for value in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda flow: io.write_flow(path, flow), flows * 5))
    found, _ = io.read_flow(path)
    assert found.shape == (64, 64, 2) and np.unique(found).size == 1
    assert os.listdir(tmp_path) == ["x.flo"]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"):
        with files.atomic_path(tmp_path / "x.bin"):
            open(tmp_path / "other")
    assert not os.listdir(tmp_path)
