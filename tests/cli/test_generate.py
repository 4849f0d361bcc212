"""Tests for jaxflow.cli.generate."""

import dataclasses
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import termios

import numpy as np
import pytest
from PIL import Image

from jaxflow import cli, convert, io, models
from jaxflow.cli import generate as command
from jaxflow.models.generation import fdm

WORDS = ["generate", "--model", "tiny_generator", "--weights", "net.safetensors"]
WORDS += ["--steps", "2"]


@pytest.fixture
def generator(monkeypatch):
    """Adds a tiny generation network, and its weights as a file."""
    config = dataclasses.replace(
        fdm.TINY, num_frames=4, image_size=8, predicts="velocity"
    )
    monkeypatch.setitem(fdm.VARIANTS, "tiny_generator", config)
    models._modules.cache_clear()
    model = models.create_model("tiny_generator", seed=3)
    model.last.kernel[...] = 0.1 + model.last.kernel[...]
    convert.save_weights(model, "net.safetensors")
    yield model
    models._modules.cache_clear()


@pytest.fixture
def colours(rng):
    """Writes a lossless video of five frames of noise."""
    frames = rng.integers(0, 256, size=(5, 10, 13, 3)).astype(np.uint8)
    io.write_video("seen.mkv", list(frames), fps=5, lossless=True)
    return frames


@pytest.mark.parametrize("suffix", ["mkv", "gif", "mp4"])
def test_generate_from_nothing(generator, suffix, capsys):
    output = f"out.{suffix}"
    assert cli.main([*WORDS, "--output", output, "--fps", "5"]) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    if suffix == "gif":
        with Image.open(output) as gif:
            assert gif.n_frames == 4 and gif.size == (8, 8)
            assert gif.info["duration"] == 200
    else:
        found = np.stack(list(io.read_video(output)))
        assert found.shape == (4, 8, 8, 3)
        assert io.video_info(output).fps == 5


@pytest.mark.parametrize(
    ("task", "length", "places"),
    [
        ("future", 6, [0, 1, 2]),
        ("past", 5, [2, 3, 4]),
        ("interpolate", 6, [0, 1, 5]),
        ("long", 12, [0, 1, 2]),
    ],
)
def test_tasks_show_what_is_observed(generator, colours, task, length, places):
    words = ["--observe", "seen.mkv", "--given", "3", "--task", task]
    words += ["--length", str(length), "--output", "out.gif", "--sheet", "sheet.png"]
    assert cli.main([*WORDS, *words]) == 0
    # Frames are cut to even sizes, which the network takes.
    used = {"past": colours[2:], "interpolate": colours[[0, 1, 4]]}
    cut = used.get(task, colours[:3])[:, :, :12]
    sheet = io.read_image("sheet.png")
    columns = min(length, 2 * int(np.ceil(np.sqrt(length / 2))))
    height, width = 7 * 10 + 8, 7 * 12 + 8
    for frame in range(length):
        top, left = frame // columns * height, frame % columns * width
        given = frame in places
        colour = command.OBSERVED if given else command.MADE
        np.testing.assert_array_equal(sheet[top, left], colour)
        if given:
            tile = sheet[top + 3 : top + 73, left + 3 : left + 87]
            np.testing.assert_array_equal(tile[3::7, 3::7], cut[places.index(frame)])


def test_the_seed_decides(generator):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = [*WORDS, "--output", f"{name}.gif", "--seed", seed, "--sheet"]
        assert cli.main([*words, f"{name}.png", "--quiet", "--noise", "1"]) == 0
    one, same, other = (io.read_image(f"{name}.png") for name in "abc")
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


def test_frames_are_cut_to_the_asked_size(generator, colours):
    words = ["--observe", "seen.mkv", "--given", "1", "--size", "4x4"]
    assert cli.main([*WORDS, *words, "--output", "out.gif", "--class", "2"]) == 0
    with Image.open("out.gif") as gif:
        assert gif.size == (4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "out.avi"], "--output: must be a file in .mp4"),
        (["--output", "out.gif", "--sheet", "a.txt"], "--sheet"),
        (["--output", "out.gif", "--task", "past"], "needs frames"),
        (["--output", "out.gif", "--given", "2"], "--given needs"),
        (["--output", "out.gif", "--size", "9x8"], "multiples of 2"),
        (["--output", "out.gif", "--class", "7"], "condition"),
        (["--output", "seen.mkv", "--observe", "seen.mkv"], "is an input"),
        *(
            (
                [
                    *("--output", "out.gif", "--observe", "seen.mkv", "--given", given),
                    *("--task", task, "--length", "30"),
                ],
                "has 5 frames",
            )
            for task in ("future", "past", "interpolate")
            for given in ("6", "12")
        ),
        (
            ["--output", "out.gif", "--observe", "seen.mkv", "--length", "5"],
            "more than the 5 given",
        ),
        (
            ["--output", "out.gif", "--observe", "seen.mkv", "--task", "long"],
            "--length",
        ),
        (
            ["--output", "out.gif", "--observe", "seen.mkv", "--task", "unconditional"],
            "takes nothing",
        ),
        (["--output", "out.gif", "--noise", "3"], "noise"),
        (["--output", "out.gif", "--seed", "9" * 20], "--seed"),
        (["--output", "out.gif", "--guidance", "2"], "--class"),
        (["--output", "out.gif", "--fps", "60"], "at most 50"),
    ],
)
def test_bad_words_are_one_line(generator, colours, fails, words, message):
    error = fails(*WORDS, *words)
    assert message in error
    assert not any(True for _ in __import__("pathlib").Path().glob("out*"))


def test_other_models_and_missing_weights_are_one_line(generator, fails):
    error = fails("generate", "--model", "raft", "--output", "o.gif")
    assert "no generation network" in error
    error = fails("generate", "--model", "tiny_generator", "--output", "o.gif")
    assert "--weights" in error


@pytest.mark.slow
def test_a_process_killed_while_it_samples_leaves_the_old_file(colours, tmp_path):
    """SIGKILL at the first sign of progress; the command was to replace a video."""
    old = pathlib.Path("seen.mkv").read_bytes()
    pathlib.Path("out.mkv").write_bytes(old)
    convert.save_weights(models.create_model("flexible_16"), "net.safetensors")
    words = ["generate", "--model", "flexible_16", "--weights", "net.safetensors"]
    # More work than could be done before the signal.
    words += ["--steps", "200", "--length", "2000"]
    words += ["--output", "out.mkv", "--sheet", "out.png"]
    leader, follower = os.openpty()
    termios.tcsetwinsize(leader, (24, 80))
    child = subprocess.Popen(
        [sys.executable, "-m", "jaxflow.cli", *words],
        stderr=follower,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(follower)
    try:
        shown = b""
        while not re.search(rb"[1-9]/", shown) and child.poll() is None:
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 1024)
        assert child.poll() is None, shown.decode()
    finally:
        child.kill()
        child.wait()
        os.close(leader)
    assert child.returncode == -signal.SIGKILL
    assert pathlib.Path("out.mkv").read_bytes() == old
    assert sorted(os.listdir()) == ["net.safetensors", "out.mkv", "seen.mkv"]
