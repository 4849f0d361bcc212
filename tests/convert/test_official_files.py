"""Files as their writers write them, optimisers and counters included, fill networks.

`tests/fixtures/make_official_files.py` made them, with torch where torch writes them.
"""

import json
import pathlib
import re

import numpy as np
import pytest

import jaxflow
from jaxflow import convert, models
from jaxflow.cli import estimators
from jaxflow.models.flow import spynet
from jaxflow.models.video import c3d, resnet3d
from tests.convert import states
from tests.fixtures import make_official_files

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "official"
TINY = {
    "pyslowfast": (resnet3d, {"width": 1, "non_local_after": ((),) * 4}),
    "caffe2": (resnet3d, {"width": 1, "non_local_after": ((),) * 4}),
    "mmaction2": (c3d, {"width": 1, "dense_features": 4}),
    "sniklaus": (spynet, {}),
    "torch7": (spynet, {}),
}
FILES = {
    "pyslowfast.pyth": "pyslowfast",
    "caffe2.pkl": "caffe2",
    "mmaction2.pth": "mmaction2",
    "plain.pth": "sniklaus",
    "plain_old.pth": "sniklaus",
    "plain.safetensors": "sniklaus",
    "parallel.pth": "sniklaus",
    "nvlabs.pth.tar": "sniklaus",
    "lightning.ckpt": "sniklaus",
    "modelL*_F.t7": "torch7",
}


def expected(model, dialect):
    """Returns our path -> array in our layout, from the keys of the authors."""
    shapes = json.loads((FOLDER / "shapes.json").read_text())[dialect]
    values = {}
    for key, shape in shapes.items():
        (path,) = {
            match.expand(path)
            for pattern, path in convert.key_tables(model)[dialect]
            if (match := re.fullmatch(pattern, key)) and path
        }
        slot = convert.find_slot(model, path)
        value = make_official_files.value(key, shape)
        axes = slot.axes or range(value.ndim)
        values[slot.path] = value.transpose(axes)
    return values


@pytest.mark.parametrize("file", FILES)
def test_a_file_as_it_is_distributed_fills_a_network(file, monkeypatch):
    dialect = FILES[file]
    module, fields = TINY[dialect]
    model = jaxflow.load_weights(states.blank(module, 1, **fields), FOLDER / file)
    want = expected(model, dialect)
    assert states.weights(model).keys() == want.keys()
    for path, value in states.weights(model).items():
        np.testing.assert_array_equal(value, want[path], err_msg=path)
    monkeypatch.setattr(models, "describe", lambda _: states.blank(module, 2, **fields))
    by_command = estimators.network("tiny", [str(FOLDER / file)], {})
    states.assert_same(by_command, model)


def test_the_files_are_small():
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert max(sizes) <= 50_000 and sum(sizes) <= 300_000
