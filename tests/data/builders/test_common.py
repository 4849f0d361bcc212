"""Tests for jaxflow.data.builders.common."""

import pathlib
import runpy
import sys

import pytest

from jaxflow.data.builders import common


def test_a_report_counts_every_kind_and_shows_some_of_each():
    faults = [*(f"missing: {i}.png" for i in range(8)), "extra: notes: 1.txt"]
    with pytest.raises(ValueError, match="is not whole") as caught:
        common.raise_report(pathlib.Path("set"), faults)
    assert str(caught.value) == (
        "set: is not whole: 8 missing (0.png, 1.png, 2.png, 3.png, 4.png and 3 more); "
        "1 extra (notes: 1.txt)"
    )
    common.raise_report(pathlib.Path("set"), [])


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
        runpy.run_path(common.__file__)
