"""Tests for jaxflow.data.builders.kitti."""

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import folders
from jaxflow.data.builders import kitti
from tests.data.builders import trees


def make(root, frames="image_2"):
    """Writes two pairs with sparse flow, and a frame of the longer sequences."""
    rng = np.random.default_rng(0)
    for index in (0, 1):
        names = [f"training/{frames}/00000{index}_{n}.png" for n in (9, 10, 11)]
        trees.make(root, *[name.replace("_9.", "_09.") for name in names])
        flow = rng.integers(-640, 640, (*trees.SIZE, 2)).astype(np.float32) / 64
        valid = rng.random(trees.SIZE) < 0.5
        for folder, known in (("occ", valid), ("noc", valid & (flow[..., 0] > 0))):
            path = root / f"training/flow_{folder}/00000{index}_10.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write_kitti(path, flow, valid=known)
    return root


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        ("2015", "image_2"),
        pytest.param("2012", "image_0", marks=pytest.mark.slow),
        pytest.param("2012", "colored_0", marks=pytest.mark.slow),
    ],
)
def test_reads_back_what_the_folder_holds(tmp_path, config, frames):
    root = make(tmp_path / "kitti", frames)
    builder = kitti.Kitti.prepare(root, tmp_path / "tfds", config=config)
    expected = folders.Folder(f"kitti{config}", root)
    elements = trees.check(builder.as_data_source("train"), expected, root)
    for name, element in elements.items():
        path = root / name.decode().replace("flow_occ", "flow_noc")
        np.testing.assert_array_equal(element["visible"], io.read_flow(path)[1])
        assert 0 < element["visible"].sum() < element["valid"].sum() < 48


def test_a_tree_with_faults_is_one_report(tmp_path):
    root = make(tmp_path / "kitti")
    (root / "training/image_2/000000_11.png").unlink()
    (root / "training/flow_noc/000001_10.png").unlink()
    (root / "training/flow_occ/000000_10.png.part").write_text("")
    trees.make(root, "training/image_2/000002_10.png")
    with pytest.raises(ValueError, match=r"2 missing .*; 2 extra") as caught:
        kitti.Kitti.prepare(root, tmp_path / "tfds")
    for name in (
        "image_2/000000_11.png",
        "flow_noc/000001_10.png",
        "flow_occ/000000_10.png.part",
        "image_2/000002_10.png",
    ):
        assert name in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_damaged_flow_is_reported(tmp_path):
    root = make(tmp_path / "kitti")
    for name in ("flow_occ/000000_10.png", "flow_noc/000001_10.png"):
        path = root / "training" / name
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"2 damaged .*000000_10.*000001_10"):
        kitti.Kitti.prepare(root, tmp_path / "tfds")
