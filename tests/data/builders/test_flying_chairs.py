"""Tests for jaxflow.data.builders.flying_chairs."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import folders
from jaxflow.data.builders import flying_chairs
from tests.data.builders import trees

SPLIT_A = "FlyingChairs_train_val.txt"
SPLIT_B = "FlyingChairs_release_test_train_split.list"
PAIRS = [
    f"data/0000{n}_{end}"
    for n in (1, 2, 3)
    for end in ("img1.ppm", "img2.ppm", "flow.flo")
]
OCCLUSION = [
    f"data/0000{n}_{end}"
    for n in (1, 2, 3)
    for end in ("flow_b.flo", "occ1.png", "occ2.png")
]
prepare = flying_chairs.FlyingChairs.prepare


@pytest.fixture
def root(tmp_path):
    """Three pairs in the layout of the real set."""
    root = trees.make(tmp_path / "FlyingChairs_release", *PAIRS)
    (root / SPLIT_A).write_text("1\n2\n1\n")
    (root / SPLIT_B).write_text("2\n1\n1\n")
    return root


def ids(source):
    return sorted(element["id"].decode()[5:10] for element in source)


@pytest.mark.parametrize("folder", [".", "FlyingChairs_release"])
def test_reads_back_what_the_authors_folder_holds(root, tmp_path, folder):
    builder = prepare(tmp_path / folder, tmp_path / "tfds")
    for name, split in (("train", "train"), ("validation", "val")):
        expected = folders.Folder("chairs", root, split=split)
        trees.check(builder.as_data_source(name), expected, root)
    assert ids(builder.as_data_source("train")) == ["00001", "00003"]


def test_offers_both_published_splits(root, tmp_path):
    builder = prepare(root, tmp_path / "tfds", config="b")
    assert ids(builder.as_data_source("validation")) == ["00001"]


def test_does_not_convert_twice(root, tmp_path):
    prepare(root, tmp_path / "tfds")
    again = prepare(tmp_path / "nowhere", tmp_path / "tfds")
    assert len(again.as_data_source("train")) == 2


def test_does_without_tensorflow(root, tmp_path):
    code = (
        "import sys\n"
        "from jaxflow.data.builders.flying_chairs import FlyingChairs\n"
        f"b = FlyingChairs.prepare({str(root)!r}, {str(tmp_path / 'tfds')!r})\n"
        "print(b.as_data_source('train')[0]['flow'].shape)\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-2:] == ["(6, 8, 2)", "False"]


def test_a_missing_folder_is_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"neither data/ nor .* Get FlyingChairs\.zip"):
        prepare(tmp_path / "nowhere", tmp_path / "tfds")
    assert not (tmp_path / "tfds").exists()


def test_a_missing_split_file_is_one_error(root, tmp_path):
    (root / SPLIT_B).unlink()
    with pytest.raises(ValueError, match=f"the split file {SPLIT_B} is not there"):
        prepare(root, tmp_path / "tfds", config="b")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file is empty"),
        ("1\n3\n1\n", "line 2 is neither 1 nor 2"),
        ("1\n2\n1\n1\n", r"3 missing \(data/00004_img1\.ppm"),
        ("1\n2\n", r"3 extra \(data/00003_flow\.flo"),
    ],
)
def test_a_split_file_that_does_not_fit_is_one_error(root, tmp_path, text, fault):
    (root / SPLIT_A).write_text(text)
    with pytest.raises(ValueError, match=fault):
        prepare(root, tmp_path / "tfds")


def test_a_whole_split_file_must_be_the_published_one(root):
    (root / SPLIT_A).write_text("1\n" * 22_872)
    actual = hashlib.md5("\n".join(["1"] * 22_872).encode()).hexdigest()[:8]
    with pytest.raises(ValueError, match=f"its MD5 begins with {actual}"):
        flying_chairs.read_split(root, "a")


def test_all_faults_of_a_tree_are_one_report(root, tmp_path):
    (root / "data/00002_img2.ppm").unlink()
    (root / "data/00001_flow.flo").unlink()
    (root / "data/notes.txt").write_text("")
    with pytest.raises(ValueError, match="is not whole") as caught:
        prepare(root, tmp_path / "tfds")
    assert "2 missing (data/00001_flow.flo, data/00002_img2.ppm)" in str(caught.value)
    assert "1 extra (data/notes.txt)" in str(caught.value)
    assert not (tmp_path / "tfds").exists()


def test_all_damaged_files_are_one_report(root, tmp_path):
    for name in ("00003_img1.ppm", "00002_flow.flo"):
        path = root / "data" / name
        path.write_bytes(path.read_bytes()[:-7])
    flow = np.full((*trees.SIZE, 2), np.nan, np.float32)
    io.write_flo(root / "data/00001_flow.flo", flow)
    with pytest.raises(ValueError, match="3 damaged") as caught:
        prepare(root, tmp_path / "tfds")
    for said in ("00001_flow.flo: holds unknown", "00002_flow.flo", "00003_img1.ppm"):
        assert said in str(caught.value)
    # A failure leaves nothing that looks finished.
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def test_frames_and_flow_must_have_one_size(root, tmp_path):
    io.write_flo(root / "data/00001_flow.flo", np.zeros((4, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"is \(4, 4\); its frames are \(6, 8\)"):
        prepare(root, tmp_path / "tfds")


def test_an_unknown_split_is_one_error(root, tmp_path):
    with pytest.raises(ValueError, match=r"`config` must be one of 'a', 'b'; got 'c'"):
        prepare(root, tmp_path / "tfds", config="c")


def test_occlusions_and_flow_back_are_read(tmp_path):
    root = trees.make(tmp_path / "FlyingChairsOcc", *PAIRS, *OCCLUSION)
    (root / SPLIT_A).write_text("1\n2\n1\n")
    builder = flying_chairs.FlyingChairsOcc.prepare(tmp_path, tmp_path / "tfds")
    expected = folders.Folder("chairs", root)
    elements = trees.check(builder.as_data_source("train"), expected, root)
    for name, element in elements.items():
        stem = root / name.decode().removesuffix("_flow.flo")
        back, _ = io.read_flo(f"{stem}_flow_b.flo")
        np.testing.assert_array_equal(element["flow_backward"], back)
        for mask, number in (("occluded", 1), ("occluded_backward", 2)):
            picture = io.read_image(f"{stem}_occ{number}.png")[..., 0]
            np.testing.assert_array_equal(element[mask], picture > 0)
            assert 0 < element[mask].sum() < element[mask].size


def test_faults_of_the_tree_with_occlusions_are_one_report(tmp_path):
    root = trees.make(tmp_path / "FlyingChairsOcc", *PAIRS, *OCCLUSION)
    (root / SPLIT_A).write_text("1\n2\n1\n")
    (root / "data/00001_occ2.png").unlink()
    (root / "data/00003_flow_b.flo").unlink()
    (root / "data/00004_occ1.png").write_text("")
    with pytest.raises(ValueError, match=r"2 missing .*; 1 extra") as caught:
        flying_chairs.FlyingChairsOcc.prepare(root, tmp_path / "tfds")
    for name in ("00001_occ2.png", "00003_flow_b.flo", "00004_occ1.png"):
        assert name in str(caught.value)
