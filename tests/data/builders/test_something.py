"""Tests for jaxflow.data.builders.something."""

import json

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import clips
from jaxflow.data.builders import something
from tests.data.builders import video_trees

pytest.importorskip("av")


def entry(number, template):
    return {"id": str(number), "label": "holding a cup", "template": template}


# The classes have numbers of their own, which are not alphabetical.
LABELS = {"Turning something": "0", "Holding something": "1"}
TABLES = {
    "train": [entry(7, "Holding [something]"), entry(9, "Turning [something]")],
    "validation": [entry(8, "Holding [something]")],
    "test": [{"id": "3"}],
    "labels": LABELS,
}


@pytest.fixture(params=["labels/{}.json", "something-something-v2-{}.json"])
def root(request, tmp_path):
    root = tmp_path / "set"
    names = [f"{number}.webm" for number in (3, 7, 8, 9)]
    video_trees.make(root / "20bn-something-something-v2", *names)
    texts = {request.param.format(k): json.dumps(v) for k, v in TABLES.items()}
    return video_trees.write(root, texts)


def test_reads_the_lists_of_something_something(root, tmp_path):
    builder = something.SomethingSomething.prepare(root, tmp_path / "tfds")
    assert builder.names == ("Turning something", "Holding something")
    assert video_trees.shown(builder.videos("train")) == {
        "7.webm": "Holding something",
        "9.webm": "Turning something",
    }
    assert [video["label"] for video in builder.videos("validation")] == [1]


def test_a_broken_tree_of_something_something_is_one_report(root, tmp_path):
    folder = root / "20bn-something-something-v2"
    (folder / "7.webm").unlink()
    video_trees.make(folder, "11.webm")
    with pytest.raises(ValueError, match="is not whole") as caught:
        something.SomethingSomething.prepare(root, tmp_path / "tfds")
    assert "1 missing (20bn-something-something-v2/7.webm)" in str(caught.value)
    assert "1 extra (20bn-something-something-v2/11.webm)" in str(caught.value)
    (folder / "11.webm").unlink()
    video_trees.make(folder, "7.webm", frames=1)
    (folder / "9.webm").write_bytes(b"no video")
    with pytest.raises(ValueError, match="is not whole") as caught:
        something.SomethingSomething.prepare(root, tmp_path / "tfds")
    assert "1 damaged" in str(caught.value) and "9.webm" in str(caught.value)
    assert "1 too short (20bn-something-something-v2/7.webm" in str(caught.value)


def jester(tmp_path, frames=6):
    """Writes three gestures, of which one is for testing."""
    root = tmp_path / "jester"
    rng = np.random.default_rng(0)
    for name in ("1", "2", "3"):
        folder = root / "20bn-jester-v1" / name
        folder.mkdir(parents=True)
        for number in range(1, 1 + frames):
            picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
            io.write_image(folder / f"{number:05d}.jpg", picture)
    return video_trees.write(
        root,
        {
            "jester-v1-labels.csv": "Swiping Left\nDoing other things\n",
            "jester-v1-train.csv": "1;Doing other things\n",
            "jester-v1-validation.csv": "2;Swiping Left\n",
            "jester-v1-test.csv": "3\n",
        },
    )


def test_reads_the_folders_of_pictures_of_jester(tmp_path):
    root = jester(tmp_path)
    builder = something.Jester.prepare(root, tmp_path / "tfds")
    assert builder.names == ("Swiping Left", "Doing other things")
    source = builder.videos("train")
    assert (len(source), source[0]["label"], source[0]["frames"]) == (1, 1, 6)
    clip = clips.read_clip(source[0]["path"], 3, 2, rate=12, fps=source[0]["fps"])
    expected = io.read_image(root / "20bn-jester-v1/1/00001.jpg")
    np.testing.assert_array_equal(clip[0], expected)
    loader = clips.clip_loader(
        source, batch_size=1, num_frames=2, size=16, short_side=(16, 18), epochs=1
    )
    (batch,) = loader
    assert batch["clip"].shape == (1, 2, 16, 16, 3) and batch["label"] == 1


def test_a_broken_tree_of_jester_is_one_report(tmp_path):
    root = jester(tmp_path)
    (root / "20bn-jester-v1/2").rename(root / "20bn-jester-v1/4")
    with pytest.raises(ValueError, match="is not whole") as caught:
        something.Jester.prepare(root, tmp_path / "tfds")
    assert "1 missing (20bn-jester-v1/2)" in str(caught.value)
    assert "1 extra (20bn-jester-v1/4)" in str(caught.value)


@pytest.mark.parametrize("fault", ["gap", "name", "cut", "short"])
def test_damaged_gestures_are_said(tmp_path, fault):
    root = jester(tmp_path)
    folder = root / "20bn-jester-v1/1"
    if fault == "gap":
        (folder / "00003.jpg").unlink()
    elif fault == "name":
        (folder / "00006.jpg").rename(folder / "six.jpg")
    elif fault == "cut":
        (folder / "00003.jpg").write_bytes((folder / "00003.jpg").read_bytes()[:300])
    else:
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    kind = "too short" if fault == "short" else "damaged"
    with pytest.raises(ValueError, match=f"1 {kind} .*20bn-jester-v1/1"):
        something.Jester.prepare(root, tmp_path / "tfds")
