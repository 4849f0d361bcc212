"""Tests for jaxflow.data.builders.charades."""

import numpy as np
import pytest

from jaxflow.data.builders import charades
from tests.data.builders import video_trees

pytest.importorskip("av")
HEADER = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,"
    "length\n"
)
LISTS = {
    "Charades/Charades_v1_classes.txt": "c000 Holding some clothes\n"
    "c001 Putting clothes somewhere\nc002 Taking some clothes\n",
    "Charades/Charades_v1_train.csv": HEADER
    + '46GP8,HR43,Kitchen,6,7,Yes,"A person cooks, then ""eats"".",food,x,'
    "c002 0.10 0.50;c000 0.00 0.40,0.45\n"
    "N11GT,0KZ7,Stairs,6,7,No,Someone sits.,x,y,,0.40\n",
    "Charades/Charades_v1_test.csv": HEADER
    + "001YG,1,Bed,6,7,Yes,s,o,d,c001 0.20 0.40,0.40\n",
}
prepare = charades.Charades.prepare


@pytest.fixture(params=["Charades_v1_480", "Charades_v1"])
def root(request, tmp_path):
    root = tmp_path / "set"
    names = [f"{name}.mp4" for name in ("46GP8", "N11GT", "001YG")]
    video_trees.make(root / request.param, *names)
    return video_trees.write(root, LISTS)


def test_reads_every_action_with_its_time(root, tmp_path):
    builder = prepare(root, tmp_path / "tfds")
    assert builder.names[2] == "Taking some clothes" and len(builder.names) == 3
    seen = {video["id"].decode()[-9:-4]: video for video in builder.videos("train")}
    several, none = seen["46GP8"], seen["N11GT"]
    np.testing.assert_array_equal(several["labels"], [True, False, True])
    np.testing.assert_array_equal(several["actions"], [2, 0])
    np.testing.assert_array_equal(
        several["times"], np.float32([[0.1, 0.5], [0.0, 0.4]])
    )
    assert not none["labels"].any() and none["times"].shape == (0, 2)
    (test,) = builder.videos("test")
    np.testing.assert_array_equal(test["labels"], [False, True, False])


def test_a_broken_tree_is_one_report(root, tmp_path):
    folder = next(root.glob("Charades_v1*"))
    (folder / "N11GT.mp4").unlink()
    video_trees.make(folder, "ZZZZZ.mp4")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "1 missing" in str(caught.value) and "N11GT.mp4" in str(caught.value)
    assert "1 extra" in str(caught.value) and "ZZZZZ.mp4" in str(caught.value)


def test_a_video_that_ends_before_its_length_is_too_short(root, tmp_path):
    table = root / "Charades/Charades_v1_test.csv"
    table.write_text(table.read_text().replace(",0.40\n", ",9.40\n"))
    (next(root.glob("Charades_v1*")) / "46GP8.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "1 too short" in str(caught.value)
    assert "001YG.mp4, 0.4 of 8.4 seconds" in str(caught.value)
    assert "1 damaged" in str(caught.value) and "46GP8.mp4" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("train.csv", "c002 0.10", "c902 0.10", r"train\.csv:2: has no actions"),
        ("train.csv", "0.10 0.50", "0.10", r"train\.csv:2: has no actions"),
        ("test.csv", "0.20 0.40", "0.40 0.20", r"test\.csv:2: has an action that ends"),
        ("test.csv", "actions,length", "acts,length", "has no column 'actions'"),
        ("classes.txt", "c001 P", "c000 P", r"classes\.txt:2: is not"),
    ],
)
def test_lines_that_say_nothing_are_named(root, tmp_path, name, old, new, said):
    table = root / f"Charades/Charades_v1_{name}"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=said):
        prepare(root, tmp_path / "tfds")
