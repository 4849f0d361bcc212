"""Tests for jaxflow.data.builders.base."""

import io as bytes_io
import pathlib
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from jaxflow import io
from jaxflow.data.builders import base


def test_a_plain_png_keeps_its_bytes_and_others_their_pixels(tmp_path):
    rng = np.random.default_rng(0)
    colour, gray = rng.integers(0, 256, (5, 4, 3), np.uint8), np.eye(4, dtype=np.uint8)
    for name, image in (("a.png", colour), ("a.ppm", colour), ("gray.png", gray)):
        path = tmp_path / name
        io.write_image(path, image)
        read = io.read_image(path)
        data = base.as_png(path, read)
        assert (data == path.read_bytes()) == (name == "a.png")
        with Image.open(bytes_io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(picture.convert("RGB"), read)
    with pytest.raises(ValueError, match="more than 8 bits"):
        base.as_png(path, np.zeros((2, 2, 3), np.uint16))


def test_a_report_counts_every_kind_and_shows_some_of_each():
    faults = [*(f"missing: {i}.png" for i in range(8)), "extra: notes: 1.txt"]
    with pytest.raises(ValueError, match="is not whole") as caught:
        base.raise_report(pathlib.Path("set"), faults)
    assert str(caught.value) == (
        "set: is not whole: 8 missing (0.png, 1.png, 2.png, 3.png, 4.png and 3 more); "
        "1 extra (notes: 1.txt)"
    )
    base.raise_report(pathlib.Path("set"), [])


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
        ("raise RuntimeError('gone')", r"gone\): run"),
    ],
    ids=["protobuf is too old", "something is missing", "something else"],
)
def test_tfds_that_cannot_be_imported_says_what_to_install(
    tmp_path, monkeypatch, body, said
):
    (tmp_path / "tensorflow_datasets.py").write_text(body)
    monkeypatch.delitem(sys.modules, "tensorflow_datasets")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"^this needs TensorFlow .*" + said):
        runpy.run_path(base.__file__)
