"""State dicts and comparisons that several test files need."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import convert, models
from jaxflow.models.flow import spynet


def spynet_state(rng, prefix=""):
    """A state dict in sniklaus' dialect for the tiny SpyNet."""
    channels = (8, *spynet.TINY.features, 2)
    state = {}
    for level in range(2):
        for index in range(5):
            name = f"{prefix}moduleBasic.{level}.moduleBasic.{2 * index}"
            shape = (channels[index + 1], channels[index], 3, 3)
            state[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
            state[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    return state


def weights(model):
    """Returns our path -> array."""
    return {
        path: np.asarray(slot.variable[...])
        for path, slot in convert.weight_slots(model).items()
    }


def assert_same(actual, expected):
    """Compares all weights of two models, bit for bit."""
    actual, expected = weights(actual), weights(expected)
    assert list(actual) == list(expected)
    for path, value in expected.items():
        np.testing.assert_array_equal(actual[path], value, err_msg=path)


def blank(module, seed=None, **overrides):
    """Builds the tiny model of a file, zero or with cheap random weights."""
    import dataclasses

    config = dataclasses.replace(module.TINY, **overrides)
    model = models.described(lambda rngs: module.Model(config, rngs=rngs))
    rng = np.random.default_rng(0 if seed is None else seed)

    def value(leaf):
        draw = np.zeros(leaf.shape) if seed is None else rng.uniform(0.5, 1, leaf.shape)
        return jnp.asarray(draw, leaf.dtype)

    nnx.update(model, jax.tree.map(value, nnx.state(model)))
    model.eval()
    return model
