"""Tests for jaxflow.data.builders.kinetics."""

import pytest

from jaxflow.data.builders import kinetics
from tests.data.builders import video_trees

pytest.importorskip("av")
HEADER = "label,youtube_id,time_start,time_end,split\n"
LISTS = {
    "train.csv": HEADER
    + '"riding a bike",-3B32lodo2M,59,69,train\nabseiling,0347ZoDXyP0,95,105,train\n',
    "val.csv": HEADER + "abseiling,0wR5jVB-WPk,417,427,val\n",
    "test.csv": "youtube_id,time_start,time_end,split\n3E7Jib8Yq5M,118,128,test\n",
}
TRAIN = ["-3B32lodo2M_000059_000069.mp4", "0347ZoDXyP0_000095_000105.mp4"]
VAL = "0wR5jVB-WPk_000417_000427.mp4"
prepare = kinetics.Kinetics.prepare


def tree(root, *, folders=False, inner="annotations"):
    """Writes a tree in the layout of the download, or of folders of classes."""
    classes = ["riding a bike/", "abseiling/"] if folders else ["", ""]
    for place, name in zip(classes, TRAIN, strict=True):
        video_trees.make(root / "train", place + name)
    video_trees.make(root / "val", classes[1] + VAL)
    (root / "train" / ".DS_Store").write_text("")
    (root / "val" / ".cache").mkdir()
    lists = {f"{inner}/{name}": text for name, text in LISTS.items()}
    return video_trees.write(root, lists)


@pytest.mark.parametrize("inner", ["annotations", "."])
@pytest.mark.parametrize("folders", [False, True], ids=["flat", "classes"])
def test_reads_the_lists(tmp_path, folders, inner):
    root = tree(tmp_path / "set", folders=folders, inner=inner)
    builder = prepare(root, tmp_path / "tfds")
    assert builder.names == ("abseiling", "riding a bike")
    assert set(builder.info.splits) == {"train", "validation"}
    assert video_trees.shown(builder.videos("train")) == {
        TRAIN[0]: "riding a bike",
        TRAIN[1]: "abseiling",
    }
    assert video_trees.shown(builder.videos("validation")) == {VAL: "abseiling"}


def test_testing_is_read_where_it_is_labelled_and_there(tmp_path):
    root = tree(tmp_path / "set")
    line = "abseiling,3E7Jib8Yq5M,118,128,test\n"
    (root / "annotations/test.csv").write_text(HEADER + line)
    assert "test" not in prepare(root, tmp_path / "tfds").info.splits
    name = "3E7Jib8Yq5M_000118_000128.mp4"
    video_trees.make(root / "test", name)
    builder = prepare(root, tmp_path / "tfds2")
    assert video_trees.shown(builder.videos("test")) == {name: "abseiling"}


def test_reads_folders_of_classes(tmp_path):
    root = tree(tmp_path / "set", folders=True)
    builder = prepare(root, tmp_path / "tfds", config="folders")
    assert builder.names == ("abseiling", "riding a bike")
    # Validation lacks a class, and its labels are those of training.
    assert [video["label"] for video in builder.videos("validation")] == [0]
    video_trees.make(root / "val", "yoga/3E7Jib8Yq5M_000118_000128.mp4")
    with pytest.raises(ValueError, match="'yoga' is none of the 2 classes"):
        prepare(root, tmp_path / "tfds2", config="folders")
    with pytest.raises(ValueError, match="2 missing"):
        prepare(tmp_path / "none", tmp_path / "tfds2", config="folders")


def test_what_is_gone_is_said_and_left_out(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / TRAIN[0]).unlink()
    with pytest.warns(UserWarning, match=r"1 of 2 videos are not in .*train"):
        builder = prepare(root, tmp_path / "tfds")
    assert list(video_trees.shown(builder.videos("train"))) == [TRAIN[1]]
    (root / "val" / VAL).unlink()
    with (
        pytest.warns(UserWarning, match="1 of 2 videos"),
        pytest.raises(ValueError, match=r"1 of 1 videos are not in .*val"),
    ):
        prepare(root, tmp_path / "tfds2")


def test_a_broken_tree_is_one_report(tmp_path):
    root = tree(tmp_path / "set")
    video_trees.make(root / "train", "zzzzzzzzzzz_000001_000011.mp4")
    video_trees.make(root / "val", "yyyyyyyyyyy_000001_000011.mp4")
    with pytest.raises(ValueError, match="2 extra") as caught:
        prepare(root, tmp_path / "tfds")
    assert "train/zzzzzzzzzzz_000001_000011.mp4" in str(caught.value)


def test_damage_is_one_report(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / TRAIN[0]).write_bytes(b"no video")
    video_trees.make(root / "val", VAL, frames=1)
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "1 damaged" in str(caught.value) and TRAIN[0] in str(caught.value)
    assert f"1 too short (val/{VAL}, 1 frames)" in str(caught.value)
