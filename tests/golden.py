"""What several test files need to read the golden files."""

import functools
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import convert, cost


def load(folder, name):
    """Returns a golden file's arrays and its procedural state dict."""
    info = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as file:
        arrays = dict(file)
    # A folder may have a rule of its own.
    own = (folder / "procedural.py").exists()
    rule = _procedural(folder if own else folder.parent)
    return arrays, rule.procedural_state_dict(info)


def nhwc(array):
    """Moves the channels of a torch tensor to the end."""
    return np.moveaxis(array, 1, -1)


def _procedural(folder):
    spec = importlib.util.spec_from_file_location(
        "procedural", folder / "procedural.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blank(name, **overrides):
    """Builds a model whose weights are zero: initial weights are slow to draw."""
    model = cost.describe(name, **overrides)
    state = nnx.state(model)
    nnx.update(model, jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), state))
    nnx.update(model, jax.tree.map(jnp.asarray, nnx.state(model)))
    return model


def filled(folder, name, **overrides):
    """Returns the model of that name with procedural weights, and the arrays."""
    arrays, state = load(folder, name)
    return convert.convert_state_dict(blank(name, **overrides), state), arrays


def run(model, *arrays, method="__call__", **options):
    """Calls a method of a model as one compiled function of weights and arrays."""
    graph, state = nnx.split(model)
    traced = {
        name: value
        for name, value in options.items()
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    }
    fixed = tuple((k, v) for k, v in options.items() if k not in traced)
    return _call(graph, method, fixed, state, traced, *arrays)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _call(graph, method, fixed, state, traced, *arrays):
    return getattr(nnx.merge(graph, state), method)(*arrays, **dict(fixed), **traced)
