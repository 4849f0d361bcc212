"""Files as their writers write them, optimisers and counters included, fill networks.

`tests/fixtures/make_official_files.py` made them, with torch where torch writes them.
"""

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import jaxflow
from jaxflow import cli, convert, io, models
from jaxflow.cli import estimators
from jaxflow.models.flow import raft, spynet
from jaxflow.models.video import c3d, repflow, repflow_hmdb, resnet3d
from tests.convert import states
from tests.fixtures import make_official_files

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "official"
RAFT_SMALL = {
    "bottleneck": True,
    "context_norm": "none",
    "separable": False,
    "convex": False,
    "stem": 4,
    "stages": (4, 4, 8),
    "feature_features": 4,
    "hidden": 4,
    "context": 4,
    "correlation_features": (4,),
    "flow_features": (4, 2),
    "motion": 4,
    "head": 4,
}
RESNET = {"width": 1, "flow": "none", "blocks": (1, 1, 1, 1)}
TINY = {
    "princeton": (raft, RAFT_SMALL),
    "representation_flow": (repflow_hmdb, {"width": 1}),
    "torchvision": (repflow, RESNET),
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
    "mmengine.pth": "mmaction2",
    "repflow.pt": "representation_flow",
    "raft-small.pth": "princeton",
    "resnet18.pth": "torchvision",
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


@pytest.fixture
def tiny(monkeypatch):
    """Returns a function that makes a tiny network one that commands know by name."""

    def add(dialect):
        module, fields = TINY[dialect]
        config = dataclasses.replace(module.TINY, **fields)
        monkeypatch.setitem(module.VARIANTS, "tiny_network", config)
        models._modules.cache_clear()
        return "tiny_network"

    yield add
    models._modules.cache_clear()


def pieces(folder):
    """Makes a folder of SpyNet's files alone."""
    for file in FOLDER.glob("modelL*_F.t7"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize(
    ("dialect", "file"),
    [
        ("torch7", pieces),
        ("torch7", "modelL*_F.t7"),
        ("sniklaus", "parallel.pth"),
        ("sniklaus", "nvlabs.pth.tar"),
        pytest.param("princeton", "raft-small.pth", marks=pytest.mark.slow),
    ],
)
def test_a_command_estimates_flow_with_it(
    tmp_path, tiny, rng, monkeypatch, dialect, file
):
    name = tiny(dialect)
    (tmp_path / "weights").mkdir()
    source = FOLDER / file if isinstance(file, str) else file(tmp_path / "weights")
    frames = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    pictures = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for path, frame in zip(pictures, frames, strict=True):
        io.write_image(path, frame)
    # Weights that are no flow's give vectors longer than a file of flow can hold.
    found = []
    monkeypatch.setattr(io, "write_flow", lambda _, flow: found.append(flow))
    out = str(tmp_path / "out.flo")
    words = ["--model", name, "--weights", str(source), "-o", out, "-q"]
    assert cli.main(["flow", *pictures, *words]) == 0
    expected = jaxflow.estimate_flow(jaxflow.load_model(name, source), *frames)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize(
    ("dialect", "file"),
    [
        ("pyslowfast", "pyslowfast.pyth"),
        ("mmaction2", "mmengine.pth"),
        ("torchvision", "resnet18.pth"),
        ("representation_flow", "repflow.pt"),
    ],
)
def test_a_command_converts_it(tmp_path, tiny, dialect, file):
    name = tiny(dialect)
    out = str(tmp_path / "out.safetensors")
    words = [str(FOLDER / file), "--model", name, "-o", out, "-q"]
    assert cli.main(["convert", *words]) == 0
    states.assert_same(
        jaxflow.load_model(name, out), jaxflow.load_model(name, FOLDER / file)
    )


def test_the_files_are_small():
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert max(sizes) <= 50_000 and sum(sizes) <= 450_000
