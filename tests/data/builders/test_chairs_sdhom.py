"""Tests for jaxflow.data.builders.chairs_sdhom."""

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import folders
from jaxflow.data.builders import chairs_sdhom
from tests.data.builders import trees

TREE = [
    f"data/{split}/{part}"
    for split in ("train", "test")
    for n in (0, 1)
    for part in (f"t0/0000{n}.png", f"t1/0000{n}.png", f"flow/0000{n}.pfm")
]
prepare = chairs_sdhom.ChairsSDHom.prepare


@pytest.mark.parametrize("folder", [".", "ChairsSDHom", "ChairsSDHom/data"])
def test_reads_back_what_the_folder_holds(tmp_path, folder):
    root = trees.make(tmp_path / "ChairsSDHom", *TREE) / "data"
    # One file of the real training set is NaN in part.
    flow = io.read_pfm(root / "train/flow/00001.pfm")
    flow[2:4, 3] = np.nan
    io.write_pfm(root / "train/flow/00001.pfm", flow)
    builder = prepare(tmp_path / folder, tmp_path / "tfds")
    for split in ("train", "test"):
        expected = folders.Folder("chairs_sdhom", root, split=split)
        assert len(expected) == 2
        trees.check(builder.as_data_source(split), expected, root)
    known = [element["valid"].sum() for element in builder.as_data_source("train")]
    assert sorted(known) == [46, 48]


def test_the_first_row_of_a_file_is_the_last_of_the_frame(tmp_path):
    root = trees.make(tmp_path, *TREE)
    raw = (root / "data/train/flow/00000.pfm").read_bytes()
    last = np.frombuffer(raw[-4 * 3 * 48 :], "<f4").reshape(6, 8, 3)[0, :, :2]
    sample = folders.Folder("chairs_sdhom", root)[0]
    np.testing.assert_array_equal(sample.flow[-1], last)


def test_a_tree_with_faults_is_one_report(tmp_path):
    root = trees.make(tmp_path, *TREE) / "data"
    (root / "train/t1/00000.png").unlink()
    (root / "test/flow/00001.pfm").unlink()
    (root / "train/t0/notes.txt").write_text("")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(tmp_path, tmp_path / "tfds")
    assert "2 missing (train/t1/00000.png, test/flow/00001.pfm)" in str(caught.value)
    assert "1 extra (train/t0/notes.txt)" in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_damage_and_missing_splits_are_said(tmp_path):
    root = trees.make(tmp_path, *TREE) / "data"
    path = root / "train/flow/00001.pfm"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"1 damaged .*00001\.pfm"):
        prepare(tmp_path, tmp_path / "tfds")
    with pytest.raises(ValueError, match="no pairs are where the authors have them"):
        prepare(tmp_path / "none", tmp_path / "tfds2")
