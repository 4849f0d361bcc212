"""Tests for jaxflow.cli.detect."""

import dataclasses
import pathlib

import numpy as np
import pytest

from jaxflow import cli, convert, detect, io, models
from jaxflow.data import ava
from jaxflow.models.video import resnet3d

DETECT = ["detect", "--model", "tiny_detector", "--weights", "net.safetensors"]
ROWS = """\
street,0,0.1,0.1,0.6,0.9,,0.9
street,0,0.5,0.2,0.9,0.8,,0.4
elsewhere,0,0,0,1,1
street,1,0.1,0.1,0.6,0.9,,0.8
"""
LABELS = "".join(
    f'label {{\n  name: "act {i}"\n  label_id: {i}\n}}\n' for i in (1, 2, 5)
)


@pytest.fixture
def detector(monkeypatch):
    """Adds a tiny network that scores boxes, its weights, boxes and a video."""
    config = dataclasses.replace(
        resnet3d.TINY, regions="aligned", head_mode="sigmoid_mean"
    )
    monkeypatch.setitem(resnet3d.VARIANTS, "tiny_detector", config)
    models._modules.cache_clear()
    model = models.create_model("tiny_detector", seed=3)
    convert.save_weights(model, "net.safetensors")
    pathlib.Path("boxes.csv").write_text(ROWS)
    pathlib.Path("names.pbtxt").write_text(LABELS)
    frames = np.random.default_rng(0).integers(0, 256, (15, 64, 96, 3), np.uint8)
    io.write_video("street.mkv", frames, fps=5, lossless=True)
    yield model
    models._modules.cache_clear()


def test_tells_draws_and_writes_what_people_do(detector, capsys):
    words = ["--boxes", "boxes.csv", "--labels", "names.pbtxt", "--top", "2"]
    words += ["--video", "out.mkv", "--scores", "out.csv", "--threshold", "0"]
    assert cli.main([*DETECT, "street.mkv", *words]) == 0

    rows = [row for row in ava.read_boxes("boxes.csv") if row.video == "street"]
    expected = list(detect.detect_actions(detector, "street.mkv", rows))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[3:] == ["wrote out.csv", "wrote out.mkv"]
    scores = expected[0].scores[0]
    best = sorted((0, 1, 4), key=lambda index: -scores[index])[:2]
    told = ", ".join(f"act {i + 1} {scores[i]:.2f}" for i in best)
    assert lines[0] == f"0.000 s  0.100 0.100 0.600 0.900  {told}"

    written = ava.read_boxes("out.csv")
    assert [row.action for row in written] == [1, 2, 5] * 3
    assert [row.second for row in written] == [0] * 6 + [1] * 3
    np.testing.assert_allclose(
        [row.score for row in written[6:]], expected[1].scores[0, [0, 1, 4]], atol=1e-6
    )

    before, after = (list(io.read_video(name)) for name in ("street.mkv", "out.mkv"))
    assert len(before) == len(after)
    drawn = [
        np.abs(a.astype(int) - b)[10:, 8:12].max() > 60
        for a, b in zip(before, after, strict=True)
    ]
    # Frames are 0.2 s apart; boxes of 0 s and 1 s are shown for half a second.
    assert drawn[:8] == [True] * 8


def test_reads_pictures_if_their_rate_is_told(detector, fails, capfd):
    pathlib.Path("street").mkdir()
    for index in range(6):
        io.write_image(
            f"street/{index}.png", np.full((64, 96, 3), 20 * index, np.uint8)
        )
    words = [*DETECT, "street", "--boxes", "boxes.csv"]
    assert "--fps: street is pictures" in fails(*words)
    assert cli.main([*words, "--fps", "5", "--min-box-score", "0.5"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "does not find people: run a person detector"),
        ("--boxes none.csv", "none.csv: No such file"),
        ("--boxes bad.csv", "bad.csv:2: has a cell that is no number"),
        ("--boxes empty.csv", "empty.csv: holds no boxes"),
        ("--boxes boxes.csv --name x", "no rows of the video 'x', but of 'elsewhere'"),
        ("--boxes boxes.csv --min-box-score 2", "no box of 'street' has a score of 2"),
        ("--boxes late.csv", "late.csv: has a box at 9 s, but street.mkv lasts 3 s"),
        ("--boxes boxes.csv --labels few.txt", "names 2 classes; the network has 5"),
        ("--boxes boxes.csv --labels many.pbtxt", "an action 9; the network has 5"),
        ("--boxes boxes.csv --video o.txt", "--video"),
        ("--boxes boxes.csv --scores boxes.csv", "boxes.csv"),
        ("--boxes boxes.csv --model slow_r50_ava", "slow_4x16_r50_ava"),
    ],
)
def test_what_is_wrong_is_one_line(detector, fails, words, message):
    pathlib.Path("bad.csv").write_text("street,0,0,0,1,1\nstreet,0,a,0,1,1\n")
    pathlib.Path("empty.csv").write_text("\n")
    pathlib.Path("late.csv").write_text("street,9,0,0,1,1\n")
    pathlib.Path("few.txt").write_text("a\nb\n")
    pathlib.Path("many.pbtxt").write_text(LABELS.replace("label_id: 5", "label_id: 9"))
    assert message in fails(*DETECT, "street.mkv", *words.split())
    assert not pathlib.Path("o.txt").exists()


def test_a_classifier_of_clips_is_refused(recogniser, fails):
    pathlib.Path("boxes.csv").write_text(ROWS)
    io.write_video("street.mkv", np.zeros((9, 64, 96, 3), np.uint8), fps=5)
    words = ["--model", "tiny_network", "--weights", "net.safetensors"]
    line = fails("detect", "street.mkv", *words, "--boxes", "boxes.csv")
    assert "must score boxes" in line
