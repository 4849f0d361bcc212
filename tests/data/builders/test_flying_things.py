"""Tests for jaxflow.data.builders.flying_things."""

import pytest

from jaxflow.data import folders
from jaxflow.data.builders import flying_things
from tests.data.builders import trees

FLOW = "optical_flow/{}/A/0000/into_{}/{}/OpticalFlowInto{}_000{}_{}.pfm"
FULL = [
    name
    for part in ("TRAIN", "TEST")
    for side in ("left", "right")
    for i in (6, 7, 8)
    for name in (
        f"frames_cleanpass/{part}/A/0000/{side}/000{i}.png",
        FLOW.format(part, "future", side, "Future", i, side[0].upper()),
        FLOW.format(part, "past", side, "Past", i, side[0].upper()),
    )
]
SUBSET = [
    name
    for part in ("train", "val")
    for name in (
        *(f"{part}/image_clean/left/000000{i}.png" for i in (0, 1, 2)),
        *(f"{part}/flow/left/into_future/000000{i}.flo" for i in (0, 1)),
        *(f"{part}/flow/left/into_past/000000{i}.flo" for i in (1, 2)),
    )
]


@pytest.mark.slow
def test_reads_back_the_full_set(tmp_path):
    root = trees.make(tmp_path / "things", *FULL)
    builder = flying_things.FlyingThings3D.prepare(root, tmp_path / "tfds")
    for split in ("train", "test"):
        expected = folders.Folder("things_clean", root, split=split)
        assert len(expected) == 8
        trees.check(builder.as_data_source(split), expected, root)


def test_reads_back_the_subset(tmp_path):
    root = trees.make(tmp_path / "things", *SUBSET)
    builder = flying_things.FlyingThings3DSubset.prepare(root, tmp_path / "tfds")
    for name, split in (("train", "train"), ("validation", "val")):
        expected = folders.Folder("things_clean", root, split=split)
        assert len(expected) == 4
        trees.check(builder.as_data_source(name), expected, root)


def test_faults_of_the_full_set_are_one_report(tmp_path):
    root = trees.make(tmp_path / "things", *FULL)
    frames = root / "frames_cleanpass"
    (frames / "TRAIN/A/0000/left/0008.png").unlink()
    lost = FLOW.format("TEST", "past", "right", "Past", 7, "R")
    (root / lost).unlink()
    (frames / "TRAIN/A/0000/left/0006.jpg").write_text("")
    with pytest.raises(
        ValueError, match=r"2 missing .*; 1 extra|1 extra .*2 missing"
    ) as e:
        flying_things.FlyingThings3D.prepare(root, tmp_path / "tfds")
    assert "frames_cleanpass/TRAIN/A/0000/left/0008.png" in str(e.value)
    assert "flow of 0007 in optical_flow/TEST/A/0000/into_past/right" in str(e.value)
    assert "left/0006.jpg" in str(e.value)
    assert not (tmp_path / "tfds").exists()


def test_damage_in_every_split_is_one_report(tmp_path):
    root = trees.make(tmp_path / "things", *SUBSET)
    for name in ("train/flow/left/into_future", "val/flow/left/into_past"):
        path = root / name / "0000001.flo"
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"2 damaged .*train/.*val/"):
        flying_things.FlyingThings3DSubset.prepare(root, tmp_path / "tfds")
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def test_the_other_layout_is_one_error(tmp_path):
    root = trees.make(tmp_path / "things", *SUBSET)
    with pytest.raises(ValueError, match=r"1 missing \(optical_flow\)"):
        flying_things.FlyingThings3D.prepare(root, tmp_path / "tfds")
    with pytest.raises(ValueError, match=r"2 missing \(train, val\)"):
        flying_things.FlyingThings3DSubset.prepare(tmp_path, tmp_path / "tfds")
