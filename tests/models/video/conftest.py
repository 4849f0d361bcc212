"""Golden files of video networks: outputs of official code under procedural weights."""

import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert
from tests import golden as golden_files


class Golden:
    """One golden file: `info` (its JSON), `arrays` (its NPZ) and its weights."""

    def __init__(self, folder, name):
        self.info = json.loads((folder / f"{name}.json").read_text())
        self.arrays = np.load(folder / f"{name}.npz")
        self._folder = folder

    def clip(self):
        return jnp.asarray(self.arrays["clip"].astype(np.float32) / 255)

    def shapes(self, read_names, table):
        """Maps our paths to shapes in the foreign layout, as a key table reads them."""
        shapes = {
            entry["key"]: entry["shape"]
            for entry in self.info["entries"]
            if not entry["key"].endswith("num_batches_tracked")
        }
        paths = read_names(table, shapes)
        return {paths[key]: shape for key, shape in shapes.items()}

    def state_dict(self):
        module = importlib.util.spec_from_file_location(
            "procedural", self._folder / "procedural.py"
        )
        procedural = importlib.util.module_from_spec(module)
        module.loader.exec_module(procedural)
        return procedural.procedural_state_dict(self.info["entries"], self.info["gain"])


@pytest.fixture
def golden(test_data):
    """Opens a golden file by name."""
    return lambda name: Golden(test_data / "golden" / "video", name)


@pytest.fixture
def build():
    """Builds a model by name, filled from a state dict."""

    def build(name, state_dict, *, dialect=None, **overrides):
        model = golden_files.blank(name, **overrides)
        return convert.convert_state_dict(model, state_dict, dialect=dialect)

    return build


@pytest.fixture
def run():
    """Calls `function(model, *inputs)`, by default the model, under one `jax.jit`."""

    def run(model, *inputs, function=lambda model, *inputs: model(*inputs)):
        graph, state = nnx.split(model)

        def call(state, *inputs):
            return function(nnx.merge(graph, state, copy=True), *inputs)

        # Compiling is most of the time of a test that runs a deep network once.
        lowered = jax.jit(call).lower(state, *inputs)
        quick = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
        return quick(state, *inputs)

    return run


@pytest.fixture
def read_names():
    """Maps foreign keys to our paths by a key table, without any weights."""

    def read_names(table, keys):
        paths = {}
        for key in keys:
            rows = ((re.fullmatch(pattern, key), path) for pattern, path in table)
            match, path = next((row for row in rows if row[0]), (None, "no row"))
            paths[key] = match.expand(path) if match and path else path
        return paths

    return read_names
