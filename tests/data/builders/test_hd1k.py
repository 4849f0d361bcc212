"""Tests for jaxflow.data.builders.hd1k."""

import pytest

from jaxflow.data import folders
from jaxflow.data.builders import hd1k
from tests.data.builders import trees

PARTS = ("hd1k_input/image_2", "hd1k_flow_gt/flow_occ")
TREE = [f"{p}/00000{s}_000{i}.png" for p in PARTS for s in (0, 1) for i in (0, 1, 2)]


@pytest.mark.slow
def test_reads_back_what_the_folder_holds(tmp_path):
    root = trees.make(tmp_path / "hd1k", *TREE)
    builder = hd1k.HD1K.prepare(root, tmp_path / "tfds")
    expected = folders.Folder("hd1k", root)
    assert len(expected) == 4
    trees.check(builder.as_data_source("train"), expected, root)


def test_a_tree_with_faults_is_one_report(tmp_path):
    root = trees.make(tmp_path / "hd1k", *TREE)
    (root / PARTS[0] / "000000_0001.png").unlink()
    (root / PARTS[1] / "000001_0001.png").unlink()
    (root / PARTS[1] / "000001_0002.png").unlink()
    (root / PARTS[0] / "Thumbs.db").write_text("")
    trees.make(root, f"{PARTS[0]}/000002_0000.png")
    with pytest.raises(ValueError, match="is not whole") as caught:
        hd1k.HD1K.prepare(root, tmp_path / "tfds")
    report = str(caught.value)
    assert (
        f"2 missing ({PARTS[0]}/000000_0001.png, {PARTS[1]}/000001_0001.png)" in report
    )
    assert f"1 extra ({PARTS[0]}/Thumbs.db)" in report
    assert "1 too short (sequence 000002, 1 frame)" in report
    assert not (tmp_path / "tfds").exists()
