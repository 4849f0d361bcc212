"""Tests for jaxflow.data.builders.sintel."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import folders
from jaxflow.data.builders import sintel
from tests.data.builders import trees

FLOWS = [f"{s}/frame_{i:04d}" for s in ("alley_1", "bamboo_2") for i in (1, 2)]
FRAMES = [f"{s}/frame_{i:04d}" for s in ("alley_1", "bamboo_2") for i in (1, 2, 3)]
TREE = [
    *(f"training/{part}/{f}.png" for part in ("clean", "final") for f in FRAMES),
    *(f"training/flow/{f}.flo" for f in FLOWS),
    *(f"training/occlusions/{f}.png" for f in FLOWS),
    *(f"training/invalid/{f}.png" for f in FRAMES),
]


@pytest.fixture
def root(tmp_path):
    return trees.make(tmp_path / "MPI-Sintel-complete", *TREE)


@pytest.mark.parametrize(
    "config", ["clean", pytest.param("final", marks=pytest.mark.slow)]
)
def test_reads_back_what_the_folder_holds(root, tmp_path, config):
    builder = sintel.Sintel.prepare(root, tmp_path / "tfds", config=config)
    expected = folders.Folder(f"sintel_{config}", root)
    elements = trees.check(builder.as_data_source("train"), expected, root)
    for name in FLOWS:
        mask = io.read_image(root / f"training/occlusions/{name}.png")[..., 0] > 0
        element = elements[f"training/flow/{name}.flo".encode()]
        np.testing.assert_array_equal(element["occluded"], mask)
    again = sintel.Sintel.prepare(tmp_path / "none", tmp_path / "tfds", config=config)
    assert len(again.as_data_source("train")) == 4


def test_does_without_tensorflow(root, tmp_path):
    code = (
        "import sys\n"
        "from jaxflow.data.builders.sintel import Sintel\n"
        f"b = Sintel.prepare({str(root)!r}, {str(tmp_path / 'tfds')!r})\n"
        "print(b.as_data_source('train')[0]['flow'].shape)\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-2:] == ["(6, 8, 2)", "False"]


def test_a_tree_with_faults_is_one_report(root, tmp_path):
    training = root / "training"
    (training / "clean/alley_1/frame_0002.png").unlink()
    (training / "occlusions/alley_1/frame_0001.png").unlink()
    (training / "flow/bamboo_2/frame_0002.flo").unlink()
    (training / "clean/bamboo_2/notes.txt").write_text("")
    (training / "clean/bamboo_2/.DS_Store").write_text("")
    with pytest.raises(ValueError, match="is not whole") as caught:
        sintel.Sintel.prepare(root, tmp_path / "tfds")
    report = str(caught.value)
    assert "2 missing (training/clean/alley_1/frame_0002.png, " in report
    assert "training/occlusions/alley_1/frame_0001.png)" in report
    assert "1 too short (bamboo_2, 1 flows of 3 frames)" in report
    assert "training/clean/bamboo_2/notes.txt" in report
    assert ".DS_Store" not in report
    assert not (tmp_path / "tfds").exists()


def test_all_damaged_files_are_one_report(root, tmp_path):
    for name in ("clean/alley_1/frame_0001.png", "flow/bamboo_2/frame_0002.flo"):
        path = root / "training" / name
        path.write_bytes(path.read_bytes()[:-7])
    small = root / "training/occlusions/bamboo_2/frame_0001.png"
    io.write_image(small, np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="3 damaged") as caught:
        sintel.Sintel.prepare(root, tmp_path / "tfds")
    assert "alley_1/frame_0001.png" in str(caught.value)
    assert "bamboo_2/frame_0002.flo" in str(caught.value)
    assert r"is (2, 2); its flow is (6, 8)" in str(caught.value)
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def test_a_set_without_its_masks_is_one_report(root, tmp_path):
    shutil.rmtree(root / "training/invalid")
    with pytest.raises(ValueError, match=r"1 missing \(training/invalid\)"):
        sintel.Sintel.prepare(root, tmp_path / "tfds")


def test_what_is_not_there_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="no pairs are where the authors have them"):
        sintel.Sintel.prepare(tmp_path, tmp_path / "tfds")
    with pytest.raises(ValueError, match="`config` must be one of"):
        sintel.Sintel.prepare(tmp_path, tmp_path / "tfds", config="albedo")
