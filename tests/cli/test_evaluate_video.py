"""Tests for jaxflow.cli.evaluate_video."""

import csv
import json
import pathlib

import numpy as np
import pytest

from jaxflow import class_metrics, classify, cli, io
from jaxflow.cli import evaluate_video
from jaxflow.data import list_parts, lists

pytest.importorskip("av")
NAMES = ("a", "b", "c", "d", "e")
EVALUATE = ["evaluate", "video", "--model", "tiny_network", "--weights"]
EVALUATE += ["net.safetensors", "-q"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of a video a class, some of two."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for name in (*NAMES, "b", "d"):
        (root / name).mkdir(exist_ok=True)
        path = root / name / f"{len(list((root / name).iterdir()))}.mkv"
        frames = rng.integers(0, 256, (8, 36, 40, 3), dtype=np.uint8)
        io.write_video(path, frames, fps=8, lossless=True)
    return root


@pytest.fixture
def expected(recogniser, videos):
    """Scores of the videos, and the numbers of their classes."""
    found, _ = lists.list_videos(videos)
    scores = [classify.classify_video(recogniser, path) for path, _ in found]
    return np.stack(scores), np.array([label for _, label in found])


def test_accuracies_are_those_of_the_scores(videos, expected, capsys):
    words = ["--data", f"mine={videos}", "-o", "table.json"]
    words += ["--worst", "2", "--pictures", "worst"]
    assert cli.main([*EVALUATE, *words]) == 0
    scores, labels = expected
    row = json.loads(pathlib.Path("table.json").read_text())["mine"]["tiny_network"]
    assert (row["videos"], row["damaged"]) == (7, 0)
    assert row["top1"] == pytest.approx(100 * np.mean(scores.argmax(1) == labels))
    assert row["top5"] == 100
    own = class_metrics.mean_class_accuracy(scores, labels)
    assert row["mean_class"] == pytest.approx(100 * own)
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["mine", "videos", "damaged", "top1"]
    # The worst two are those whose class has the lowest probability.
    order = np.argsort(scores[np.arange(len(labels)), labels])[:2]
    drawn = sorted(path.name for path in pathlib.Path("worst").iterdir())
    stem = "mine_tiny_network"
    assert drawn == [
        f"{stem}_{place:02d}_video{index:05d}.png"
        for place, index in enumerate(order, 1)
    ]


def test_several_labels_and_parts_of_videos(recogniser, videos, monkeypatch):
    text = "\ufeffpath,label,start,end\n"  # as spreadsheets write it
    text += "a/0.mkv,0|3,0,0.5\nb/0.mkv,1,0.5,1\nc/0.mkv,2;4,,\n"
    (videos / "list.csv").write_text(text, encoding="utf-8")
    words = ["--data", f"mine={videos / 'list.csv'}", "-o", "table.csv"]
    assert cli.main([*EVALUATE, "--multi-label", *words]) == 0
    parts, _ = list_parts.list_parts(videos / "list.csv")
    clips = [list(io.read_video(part.path)) for part in parts]
    clips = [np.stack(c) for c in (clips[0][:4], clips[1][4:], clips[2])]
    scores = [
        classify.classify_video(recogniser, clip, activation="sigmoid", fps=8)
        for clip in clips
    ]
    shown = np.zeros((3, 5), bool)
    shown[[0, 0, 1, 2, 2], [0, 3, 1, 2, 4]] = True
    area = class_metrics.mean_average_precision(np.stack(scores), shown)
    (row,) = csv.DictReader(pathlib.Path("table.csv").open())
    assert float(row["map"]) == pytest.approx(100 * area)


def test_a_damaged_video_is_named_and_left_out(recogniser, videos, tmp_path):
    rows = [f"{videos}/{name}/0.mkv {i}\n" for i, name in enumerate(NAMES)]
    broken = tmp_path / "broken.mkv"
    broken.write_bytes((videos / "a/0.mkv").read_bytes()[:900])
    (tmp_path / "list.txt").write_text("".join(rows) + f"{broken} 3\n")
    words = ["--data", "mine=list.txt", "-o", "table.md"]
    with pytest.warns(UserWarning, match=r"broken.mkv: left out: "):
        assert cli.main([*EVALUATE, *words]) == 0
    line = pathlib.Path("table.md").read_text().splitlines()[-1]
    assert line.startswith("| tiny_network | 5 | 1 |")


def test_classes_of_a_run_and_of_a_file_set_the_order(recogniser, videos, tmp_path):
    (tmp_path / "run").mkdir()
    lists.save_classes(tmp_path / "run", NAMES[::-1])
    weights = tmp_path / "run/net.safetensors"
    weights.write_bytes(pathlib.Path("net.safetensors").read_bytes())
    assert evaluate_video._vocabulary(None, str(weights)) == NAMES[::-1]
    assert evaluate_video._vocabulary(["x", "y"], str(weights)) == ("x", "y")
    assert evaluate_video._vocabulary(None, "net.safetensors") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--data: give NAME=DIR or NAME=LIST"),
        ("--data x", "--data: give NAME=DIR or NAME=LIST; got 'x'"),
        ("--data m=none", "none"),
        ("--data m=VIDEOS --data m=VIDEOS", "a NAME of its own"),
        ("--data m=VIDEOS --all", "--model: name the estimators"),
        ("--data m=VIDEOS --tile 64", "--tile: is an option of `jaxflow evaluate flow"),
        ("--data m=VIDEOS --labels two.txt", "is none of the 2 classes"),
        ("--data m=few", "has 1 classes and the network 5; give the names"),
        ("--data m=VIDEOS --model pwcnet", "several models"),
        ("--data m=VIDEOS --output x.txt", "--output: must be a file in .json"),
    ],
)
def test_bad_input_is_one_line(recogniser, videos, tmp_path, fails, words, message):
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "few/one").mkdir(parents=True)
    (tmp_path / "few/one/0.mkv").write_bytes((videos / "a/0.mkv").read_bytes())
    assert message in fails(*EVALUATE, *words.replace("VIDEOS", str(videos)).split())


def test_options_of_videos_are_refused_for_flow(fails):
    words = ["evaluate", "flow", "--model", "zero", "--data", "hd1k=x"]
    assert "--views: is an option of `jaxflow evaluate video`" in fails(
        *words, "--views", "1x1"
    )
