"""What the tests of several generation networks need."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.convert import matching
from tests import golden


@pytest.fixture(scope="session")
def folder(test_data):
    """Folder of the golden files."""
    return test_data / "golden" / "generation"


@pytest.fixture(scope="module")
def case(folder):
    """Returns a model with procedural weights, its arrays, and what is said of them."""

    def load(name, **overrides):
        model, arrays = golden.filled(folder, name, **overrides)
        info = json.loads((folder / f"{name}.json").read_text())
        return model, arrays, info

    return load


@pytest.fixture(scope="module")
def published(folder):
    """Returns keys, shapes and number of parameters of a full-size configuration."""

    def load(family, name):
        text = (folder / f"{family}_published_keys.json").read_text()
        entry = json.loads(text)["models"][name]
        shapes = {key: tuple(shape) for key, shape in entry["keys"]}
        return shapes, entry["parameter_count"]

    return load


@pytest.fixture(scope="module")
def count():
    """Returns the number of trained parameters of a variant or model."""

    def number(model):
        if isinstance(model, str):
            model = cost.describe(model)
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))

    return number


@pytest.fixture(scope="module")
def unread():
    """Returns what does not fit between a variant and a checkpoint, by shape alone.

    Neither takes any memory: an array of the checkpoint repeats one zero.
    """

    def faults(name, dialect, shapes):
        model = cost.describe(name)
        zeros = {
            key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()
        }
        plan = matching.best_plan(model, zeros, [dialect])
        return [*plan.missing, *plan.unused, *plan.misshapen.values()]

    return faults
