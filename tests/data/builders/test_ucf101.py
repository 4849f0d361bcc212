"""Tests for jaxflow.data.builders.ucf101."""

import subprocess
import sys

import pytest

from jaxflow.data.builders import ucf101
from tests.data.builders import video_trees

pytest.importorskip("av")
TRAIN = ["Biking/v_Biking_g08_c01", "Archery/v_Archery_g08_c02"]
TEST = ["Biking/v_Biking_g01_c01"]
LISTS = {
    "classInd.txt": "1 Archery\n2 Biking\n",
    # As published: lines end in CR LF, and testing has no labels.
    "trainlist01.txt": f"{TRAIN[0]}.avi 2\r\n{TRAIN[1]}.avi 1\r\n",
    "testlist01.txt": f"{TEST[0]}.avi\r\n",
    "trainlist02.txt": f"{TEST[0]}.avi 2\r\n{TRAIN[1]}.avi 1\r\n",
    "testlist02.txt": f"{TRAIN[0]}.avi\r\n",
}
prepare = ucf101.UCF101.prepare


@pytest.fixture
def root(tmp_path):
    """Three videos in the layout of the real set, and hidden files as of a Mac."""
    root = tmp_path / "set"
    video_trees.make(root / "UCF-101", *(f"{name}.avi" for name in TRAIN + TEST))
    (root / "UCF-101" / ".DS_Store").write_text("")
    (root / "UCF-101" / ".hidden").mkdir()
    (root / "UCF-101/Biking/._v_Biking_g08_c01.avi").write_text("")
    return video_trees.write(
        root, {f"ucfTrainTestlist/{name}": text for name, text in LISTS.items()}
    )


def test_reads_the_published_divisions(root, tmp_path):
    first = prepare(root, tmp_path / "tfds")
    assert first.names == ("Archery", "Biking")
    assert (tmp_path / "tfds/ucf101/1").is_dir()
    assert video_trees.shown(first.videos("train")) == {
        "v_Biking_g08_c01.avi": "Biking",
        "v_Archery_g08_c02.avi": "Archery",
    }
    assert video_trees.shown(first.videos("test")) == {"v_Biking_g01_c01.avi": "Biking"}
    second = prepare(root, tmp_path / "tfds", config="2")
    assert list(video_trees.shown(second.videos("test"))) == ["v_Biking_g08_c01.avi"]
    element = second.as_data_source("test")[0]
    assert (element["frames"], element["fps"], element["label"]) == (4, 10, 1)


def test_what_has_been_prepared_is_not_read_again(root, tmp_path):
    prepare(root, tmp_path / "tfds")
    moved = root.rename(tmp_path / "moved")
    again = prepare(moved, tmp_path / "tfds")
    assert again.names == ("Archery", "Biking")
    assert again.videos("test")[0]["path"].startswith(str(moved))
    lost = prepare(tmp_path / "lost", tmp_path / "tfds")
    with pytest.raises(ValueError, match="is not there any more"):
        lost.videos("train")


def test_a_broken_tree_is_one_report(root, tmp_path):
    folder = root / "UCF-101"
    (folder / f"{TRAIN[0]}.avi").unlink()
    video_trees.make(folder, "Biking/v_Biking_g09_c01.avi")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert f"1 missing (UCF-101/{TRAIN[0]}.avi)" in str(caught.value)
    assert "1 extra (UCF-101/Biking/v_Biking_g09_c01.avi)" in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_damage_in_any_split_is_one_report(root, tmp_path):
    (root / f"UCF-101/{TRAIN[0]}.avi").write_bytes(b"no video")
    video_trees.make(root / "UCF-101", f"{TEST[0]}.avi", frames=1)
    whole = (root / f"UCF-101/{TRAIN[1]}.avi").read_bytes()
    (root / f"UCF-101/{TRAIN[1]}.avi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    said = str(caught.value)
    assert "2 damaged" in said and TRAIN[0] in said and TRAIN[1] in said
    assert f"1 too short (UCF-101/{TEST[0]}.avi, 1 frames)" in said


def test_lists_that_are_not_there_are_said(root, tmp_path):
    (root / "ucfTrainTestlist/testlist01.txt").unlink()
    (root / "ucfTrainTestlist/classInd.txt").unlink()
    with pytest.raises(ValueError, match="2 missing") as caught:
        prepare(root, tmp_path / "tfds")
    assert "ucfTrainTestlist/classInd.txt" in str(caught.value)


def test_an_unknown_config_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="`config`"):
        prepare(root, tmp_path / "tfds", config="4")


def test_does_without_tensorflow(root, tmp_path):
    program = (
        "import sys; from jaxflow.data.builders import ucf101; "
        f"b = ucf101.UCF101.prepare({str(root)!r}, {str(tmp_path / 'tfds')!r}); "
        "print(len(b.videos('train')), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["2", "False"]
