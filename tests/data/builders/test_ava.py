"""Tests for jaxflow.data.builders.ava."""

import numpy as np
import pytest

from jaxflow.data.builders import ava
from tests.data.builders import video_trees

pytest.importorskip("av")
# Numbers have gaps, as those of the classes that are evaluated.
CLASSES = """label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label {
  name: "stand"
  label_id: 12
  label_type: PERSON_MOVEMENT
}
"""
LISTS = {
    "ava_action_list_v2.2.pbtxt": CLASSES,
    "ava_train_v2.2.csv": "-5KQ66BBWC4,0002,0.077,0.151,0.283,0.811,12,1\n"
    "-5KQ66BBWC4,0002,0.077,0.151,0.283,0.811,1,1\n"
    "-5KQ66BBWC4,0002,0.226,0.032,0.366,0.497,12,0\n"
    "-5KQ66BBWC4,0003,0.1,0.1,0.2,0.2,1,1\n",
    "ava_val_v2.2.csv": "1j20qq1JyX4,0001,0.1,0.2,0.3,0.4,1,7\n",
    "ava_train_excluded_timestamps_v2.2.csv": "-5KQ66BBWC4,0003\n",
    "ava_val_excluded_timestamps_v2.2.csv": "1j20qq1JyX4,0004\n",
}
prepare = ava.AVA.prepare


@pytest.fixture(params=["annotations/", ""])
def root(request, tmp_path):
    root = tmp_path / "set"
    films = ["trainval/-5KQ66BBWC4.mkv", "trainval/1j20qq1JyX4.mp4"]
    video_trees.make(root, *films, frames=50)
    return video_trees.write(root, {f"{request.param}{k}": v for k, v in LISTS.items()})


def test_reads_who_does_what_in_a_second(root, tmp_path):
    builder = prepare(root, tmp_path / "tfds")
    assert builder.names == ("bend/bow (at the waist)", "stand")
    (second,) = builder.videos("train")  # The other one is excluded.
    assert second["path"].endswith("trainval/-5KQ66BBWC4.mkv")
    assert second["time"] == 2
    np.testing.assert_array_equal(second["persons"], [1, 0])
    np.testing.assert_array_equal(second["labels"], [[True, True], [False, True]])
    np.testing.assert_array_equal(
        second["boxes"],
        np.float32([[0.077, 0.151, 0.283, 0.811], [0.226, 0.032, 0.366, 0.497]]),
    )
    (second,) = builder.videos("validation")
    assert second["id"] == b"trainval/1j20qq1JyX4.mp4,0001"


def test_films_that_are_gone_are_said_and_left_out(root, tmp_path):
    name = "ava_train_v2.2.csv"
    table = next(root.rglob(name))
    table.write_text(LISTS[name] + "gone0000000,0001,0.1,0.1,0.2,0.2,1,1\n")
    with pytest.warns(UserWarning, match=r"1 videos are not there.*gone0000000"):
        assert len(prepare(root, tmp_path / "tfds").videos("train")) == 1


def test_a_broken_tree_is_one_report(root, tmp_path):
    video_trees.make(root, "trainval/zzzzzzzzzzz.mp4")
    with pytest.raises(ValueError, match=r"1 extra \(trainval/zzzzzzzzzzz\.mp4\)"):
        prepare(root, tmp_path / "tfds")
    names = (
        next(root.rglob("ava_train_v2.2.csv")).parent / "ava_file_names_test_v2.1.txt"
    )
    names.write_text("zzzzzzzzzzz.mp4\n")
    assert len(prepare(root, tmp_path / "tfds").videos("train")) == 1
    next(root.rglob("ava_val_v2.2.csv")).unlink()
    with pytest.raises(ValueError, match=r"1 missing \(.*ava_val_v2\.2\.csv\)"):
        prepare(root, tmp_path / "tfds2")


def test_damaged_and_short_films_are_said(root, tmp_path):
    (root / "trainval/1j20qq1JyX4.mp4").write_bytes(b"no video")
    video_trees.make(root, "trainval/-5KQ66BBWC4.mkv", frames=10)
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "1 damaged" in str(caught.value) and "1j20qq1JyX4" in str(caught.value)
    assert "1 too short (trainval/-5KQ66BBWC4.mkv, 1.0 of 2.0" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",12,1\n", ",13,1\n", "is no box with an action"),
        (",12,1\n", ",12\n", "is no box with an action"),
        ("0.811,12,1", "12,1", "has a box far outside of the frame"),
        ("0.283", "1.283", "has a box outside the frame"),
        ("0.077", "nan", "has a number that is NaN"),
    ],
)
def test_lines_that_say_nothing_are_named(root, tmp_path, old, new, said):
    table = next(root.rglob("ava_train_v2.2.csv"))
    table.write_text(LISTS[table.name].replace(old, new))
    with pytest.raises(ValueError, match=rf"ava_train_v2\.2\.csv:1: {said}"):
        prepare(root, tmp_path / "tfds")
