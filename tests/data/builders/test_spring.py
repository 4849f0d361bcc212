"""Tests for jaxflow.data.builders.spring."""

import numpy as np
import pytest

from jaxflow.data import folders
from jaxflow.data.builders import spring
from tests.data.builders import trees

h5py = pytest.importorskip("h5py")
FRAMES = [
    f"train/{scene}/frame_{camera}/frame_{camera}_000{n}.png"
    for scene in ("0001", "0004")
    for camera in ("left", "right")
    for n in (1, 2, 3)
]
FLOWS = [
    f"train/{scene}/flow_{way}_left/flow_{way}_left_000{n}.flo5"
    for scene in ("0001", "0004")
    for way, numbers in (("FW", (1, 2)), ("BW", (2, 3)))
    for n in numbers
]
prepare = spring.Spring.prepare


def make(root):
    """Writes two scenes with the flow of one camera, at twice the resolution."""
    trees.make(root, *FRAMES)
    for index, name in enumerate(FLOWS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(index)
        flow = rng.normal(size=(12, 16, 2)).astype(np.float32)
        flow[4, 6] = np.nan
        with h5py.File(root / name, "w") as file:
            file.create_dataset("flow", data=flow, compression="gzip")
    return root


@pytest.mark.parametrize("folder", [".", "spring"])
def test_reads_back_what_the_folder_holds(tmp_path, folder):
    root = make(tmp_path / "spring")
    builder = prepare(tmp_path / folder, tmp_path / "tfds")
    expected = folders.Folder("spring", root)
    assert len(expected) == 8
    elements = trees.check(builder.as_data_source("train"), expected, root)
    for name, element in elements.items():
        with h5py.File(root / name.decode()) as file:
            flow = file["flow"][::2, ::2]
        np.testing.assert_array_equal(element["valid"], ~np.isnan(flow[..., 0]))
        np.testing.assert_array_equal(element["flow"], np.nan_to_num(flow))


def test_a_flow_joins_its_frame_with_the_next_or_the_last(tmp_path):
    pairs = folders.list_pairs("spring", make(tmp_path))
    joined = {p.flow.stem: (p.frame1.stem[-4:], p.frame2.stem[-4:]) for p in pairs}
    assert joined["flow_FW_left_0002"] == ("0002", "0003")
    assert joined["flow_BW_left_0002"] == ("0002", "0001")


def test_a_tree_with_faults_is_one_report(tmp_path):
    root = make(tmp_path)
    lost = [FRAMES[1], FLOWS[5], FLOWS[6]]
    for name in lost:
        (root / name).unlink()
    (root / "train/0004/frame_left/notes.txt").write_text("")
    for n in (2, 3):
        (root / f"train/0001/frame_right/frame_right_000{n}.png").unlink()
    trees.make(root, "train/0009/frame_left/frame_left_0001.png")
    (root / "train/0009/flow_FW_left").mkdir()
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "3 missing" in str(caught.value)
    assert all(name in str(caught.value) for name in lost)
    assert "1 extra (train/0004/frame_left/notes.txt)" in str(caught.value)
    assert "1 too short (train/0009/frame_left)" in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_damaged_flow_is_reported(tmp_path):
    root = make(tmp_path)
    path = root / FLOWS[2]
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"1 damaged .*flow_BW_left_0002"):
        prepare(root, tmp_path / "tfds")
