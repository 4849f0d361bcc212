"""Tests for jaxflow.data.flying_chairs."""

import hashlib
import runpy
import subprocess
import sys

import numpy as np
import pytest

import jaxflow.io
from jaxflow.data import flying_chairs

SIZE = (12, 16)
SPLIT_A = "FlyingChairs_train_val.txt"
SPLIT_B = "FlyingChairs_release_test_train_split.list"


def pair(number):
    rng = np.random.default_rng(number)
    images = rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    return *images, rng.normal(size=(*SIZE, 2)).astype(np.float32)


@pytest.fixture
def root(tmp_path):
    """Three pairs in the layout of the real set."""
    root = tmp_path / "FlyingChairs_release"
    (root / "data").mkdir(parents=True)
    for number in (1, 2, 3):
        image1, image2, flow = pair(number)
        jaxflow.io.write_image(root / f"data/{number:05d}_img1.ppm", image1)
        jaxflow.io.write_image(root / f"data/{number:05d}_img2.ppm", image2)
        jaxflow.io.write_flo(root / f"data/{number:05d}_flow.flo", flow)
    (root / SPLIT_A).write_text("1\n2\n1\n")
    (root / SPLIT_B).write_text("2\n1\n1\n")
    return root


@pytest.mark.parametrize("folder", [".", "FlyingChairs_release"])
def test_reads_back_what_the_authors_folder_holds(root, tmp_path, folder):
    builder = flying_chairs.prepare(tmp_path / folder, tmp_path / "tfds")
    train = builder.as_data_source("train")
    assert sorted(element["id"] for element in train) == [1, 3]
    for element in train:
        image1, image2, flow = pair(element["id"])
        np.testing.assert_array_equal(element["image1"], image1)
        np.testing.assert_array_equal(element["image2"], image2)
        np.testing.assert_array_equal(element["flow"], flow)
    assert [e["id"] for e in builder.as_data_source("validation")] == [2]


def test_offers_both_published_splits(root, tmp_path):
    builder = flying_chairs.prepare(root, tmp_path / "tfds", split="b")
    assert [e["id"] for e in builder.as_data_source("validation")] == [1]


def test_does_not_convert_twice(root, tmp_path):
    flying_chairs.prepare(root, tmp_path / "tfds")
    again = flying_chairs.prepare(tmp_path / "nowhere", tmp_path / "tfds")
    assert len(again.as_data_source("train")) == 2


def test_does_without_tensorflow(root, tmp_path):
    code = (
        "import sys\n"
        "from jaxflow.data import flying_chairs\n"
        f"b = flying_chairs.prepare({str(root)!r}, {str(tmp_path / 'tfds')!r})\n"
        "print(b.as_data_source('train')[0]['flow'].shape)\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-2:] == ["(12, 16, 2)", "False"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "class VersionError(Exception): pass\n"
            "raise VersionError('Detected incompatible Protobuf Gencode/Runtime "
            "versions when loading tensorflow_metadata/proto/v0/schema.proto: gencode "
            "6.31.1 runtime 5.29.6. Runtime version cannot be older.')",
            r'5\.29\.6\): run `pip install "jaxflow-motion\[data\]" '
            r'"tensorflow-metadata<1\.18"`$',
        ),
        (
            "raise ModuleNotFoundError('No module named tree')",
            r'tree\): run `pip install "jaxflow-motion\[data\]"`$',
        ),
    ],
    ids=["protobuf is too old", "something is missing"],
)
def test_tfds_that_cannot_be_imported_says_what_to_install(
    tmp_path, monkeypatch, body, said
):
    (tmp_path / "tensorflow_datasets.py").write_text(body)
    monkeypatch.delitem(sys.modules, "tensorflow_datasets")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"^this needs TensorFlow .*" + said):
        runpy.run_path(flying_chairs.__file__)


def test_a_missing_folder_is_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"neither data/ nor .* Get FlyingChairs\.zip"):
        flying_chairs.prepare(tmp_path / "nowhere", tmp_path / "tfds")
    assert not (tmp_path / "tfds").exists()


def test_a_missing_split_file_is_one_error(root, tmp_path):
    (root / SPLIT_B).unlink()
    with pytest.raises(ValueError, match=f"the split file {SPLIT_B} is not there"):
        flying_chairs.prepare(root, tmp_path / "tfds", split="b")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file is empty"),
        ("1\n3\n1\n", "line 2 is neither 1 nor 2"),
        ("1\n2\n1\n1\n", "3 of 12 files are missing; the first is 00004_img1.ppm"),
        ("1\n2\n", "has more pairs than the 2 of the split file"),
    ],
)
def test_a_split_file_that_does_not_fit_is_one_error(root, tmp_path, text, fault):
    (root / SPLIT_A).write_text(text)
    with pytest.raises(ValueError, match=fault):
        flying_chairs.prepare(root, tmp_path / "tfds")


def test_a_whole_split_file_must_be_the_published_one(root):
    (root / SPLIT_A).write_text("1\n" * 22_872)
    actual = hashlib.md5("\n".join(["1"] * 22_872).encode()).hexdigest()[:8]
    with pytest.raises(ValueError, match=f"its MD5 begins with {actual}"):
        flying_chairs.read_split(root, "a")


def test_a_missing_frame_is_one_error(root, tmp_path):
    (root / "data/00002_img2.ppm").unlink()
    with pytest.raises(ValueError, match=r"1 of 9 files are missing.*00002_img2\.ppm"):
        flying_chairs.prepare(root, tmp_path / "tfds")


@pytest.mark.parametrize("name", ["00003_img1.ppm", "00003_flow.flo"])
def test_a_damaged_frame_is_one_error_that_names_it(root, tmp_path, name):
    path = root / "data" / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=name):
        flying_chairs.prepare(root, tmp_path / "tfds")
    # A failure leaves nothing that looks finished.
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def test_frames_and_flow_must_have_one_size(root):
    jaxflow.io.write_flo(root / "data/00001_flow.flo", np.zeros((4, 4, 2), np.float32))
    with pytest.raises(
        ValueError, match=r"size is \(12, 16\), and its flow's \(4, 4\)"
    ):
        flying_chairs.read_pair(root, 1)


def test_an_unknown_split_is_one_error(root, tmp_path):
    with pytest.raises(ValueError, match='`split` must be "a" or "b"; got \'c\''):
        flying_chairs.prepare(root, tmp_path / "tfds", split="c")
