"""Tests for jaxflow.data.builders.hmdb51."""

import pytest

from jaxflow.data.builders import hmdb51
from tests.data.builders import video_trees

pytest.importorskip("av")
# Names as they are: with signs and brackets. 0 is neither training nor testing.
LISTS = {
    "wave_test_split1.txt": "a#1_(x)_wave_u.avi 1 \nb_wave_u.avi 2 \nc_wave.avi 0 \n",
    "clap_test_split1.txt": "a_clap.avi 1 \nb_clap.avi 2 \n",
    "wave_test_split2.txt": "a#1_(x)_wave_u.avi 2 \nb_wave_u.avi 1 \nc_wave.avi 0 \n",
    "clap_test_split2.txt": "a_clap.avi 1 \nb_clap.avi 2 \n",
}
VIDEOS = ["wave/a#1_(x)_wave_u", "wave/b_wave_u", "wave/c_wave"]
VIDEOS += ["clap/a_clap", "clap/b_clap"]
prepare = hmdb51.HMDB51.prepare


@pytest.fixture(params=["testTrainMulti_7030_splits", "test_train_splits"])
def root(request, tmp_path):
    root = tmp_path / "set"
    video_trees.make(root / "hmdb51_org", *(f"{name}.avi" for name in VIDEOS))
    (root / "hmdb51_org" / ".DS_Store").write_text("")
    return video_trees.write(
        root, {f"{request.param}/{name}": text for name, text in LISTS.items()}
    )


def test_reads_the_published_divisions(root, tmp_path):
    builder = prepare(root, tmp_path / "tfds")
    assert builder.names == ("clap", "wave")
    assert video_trees.shown(builder.videos("train")) == {
        "a_clap.avi": "clap",
        "a#1_(x)_wave_u.avi": "wave",
    }
    assert set(video_trees.shown(builder.videos("test"))) == {
        "b_clap.avi",
        "b_wave_u.avi",
    }
    second = prepare(root, tmp_path / "tfds", config="2")
    assert "b_wave_u.avi" in video_trees.shown(second.videos("train"))


def test_a_broken_tree_is_one_report(root, tmp_path):
    for name in (VIDEOS[0], VIDEOS[2]):
        (root / f"hmdb51_org/{name}.avi").unlink()
    video_trees.make(root / "hmdb51_org", "wave/d_wave.avi")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    # What belongs to neither split is part of the set, too.
    assert "2 missing" in str(caught.value) and "wave/c_wave.avi" in str(caught.value)
    assert "1 extra (hmdb51_org/wave/d_wave.avi)" in str(caught.value)


def test_damage_is_one_report(root, tmp_path):
    (root / f"hmdb51_org/{VIDEOS[3]}.avi").write_bytes(b"")
    video_trees.make(root / "hmdb51_org", f"{VIDEOS[1]}.avi", frames=1)
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "1 damaged" in str(caught.value) and "a_clap.avi" in str(caught.value)
    assert "1 too short (hmdb51_org/wave/b_wave_u.avi, 1 frames)" in str(caught.value)


def test_lists_that_are_not_there_are_said(root, tmp_path):
    with pytest.raises(ValueError, match=r"missing .*_split3\.txt"):
        prepare(root, tmp_path / "tfds", config="3")
    with pytest.raises(ValueError, match="2 missing"):
        prepare(tmp_path / "none", tmp_path / "tfds")
