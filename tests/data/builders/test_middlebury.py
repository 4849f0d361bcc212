"""Tests for jaxflow.data.builders.middlebury."""

import pytest

from jaxflow.data import folders
from jaxflow.data.builders import middlebury
from tests.data.builders import trees

TREE = [
    f"other-{name}"
    for scene in ("Urban2", "Venus")
    for name in (
        f"data/{scene}/frame09.png",
        f"data/{scene}/frame10.png",
        f"data/{scene}/frame11.png",
        f"gt-flow/{scene}/flow10.flo",
    )
]


@pytest.mark.slow
def test_reads_back_what_the_folder_holds(tmp_path):
    root = trees.make(tmp_path / "middlebury", *TREE)
    builder = middlebury.Middlebury.prepare(root, tmp_path / "tfds")
    expected = folders.Folder("middlebury", root)
    trees.check(builder.as_data_source("train"), expected, root)


def test_a_tree_with_faults_is_one_report(tmp_path):
    root = trees.make(tmp_path / "middlebury", *TREE)
    (root / "other-data/Urban2/frame11.png").unlink()
    (root / "other-gt-flow/Venus/flow10.png").write_text("")
    with pytest.raises(ValueError, match="is not whole") as caught:
        middlebury.Middlebury.prepare(root, tmp_path / "tfds")
    assert "1 missing (other-data/Urban2/frame11.png)" in str(caught.value)
    assert "1 extra (other-gt-flow/Venus/flow10.png)" in str(caught.value)
    assert not (tmp_path / "tfds").exists()
