"""A small network, its data and its loss, for the tests of training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import mesh as meshes
from jaxflow import train
from jaxflow.layers import conv, norm


class Net(nnx.Module):
    """Two convolutions, with statistics and dropout for training to carry."""

    def __init__(self, *, rngs):
        # A bias before normalisation has no gradient but rounding, which Adam scales.
        self.blocks = nnx.data(
            [conv.Conv(3, 4, use_bias=False, rngs=rngs), conv.Conv(4, 2, rngs=rngs)]
        )
        self.norm = norm.BatchNorm(4)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.deterministic = True

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.blocks[0](x)))
        return self.blocks[1](self.dropout(x))


class Batches:
    """An iterator with a position, as Grain's are."""

    def __init__(self, batch_size=8, bad_step=None):
        self.batch_size, self.bad_step, self.count = batch_size, bad_step, 0

    def __next__(self):
        rng = np.random.default_rng(self.count)
        self.count += 1
        x = rng.normal(size=(self.batch_size, 6, 7, 3)).astype(np.float32)
        if self.count == self.bad_step:
            x[0, 0, 0, 0] = np.nan
        return {"x": x, "y": x[..., :2] * 2}

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


def loss(model, batch):
    error = model(batch["x"]) - batch["y"]
    return jnp.mean(error**2), {"worst": jnp.max(jnp.abs(error))}


def draw(key, batch_size=8):
    x = jax.random.normal(key, (batch_size, 6, 7, 3))
    return {"x": x, "y": x[..., :2] * 2}


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


def setup(draw=None, devices=1):
    model = Net(rngs=nnx.Rngs(0))
    mesh = train.data_mesh(jax.devices()[:devices])
    step = train.make_step(model, loss, OPTIMISER, draw=draw, mesh=mesh)
    return model, step, train.init(model, OPTIMISER, seed=1)


def leaves(state):
    arrays = [*jax.tree.leaves(state[:-1]), jax.random.key_data(state.key)]
    return [np.asarray(array) for array in arrays]


def assert_same(a, b, **tolerance):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **(tolerance or {"rtol": 0, "atol": 0}))


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").open()]


class Plain(nnx.Module):
    """A convolution: its loss is a mean over examples, and nothing is drawn."""

    def __init__(self, *, rngs):
        self.conv = conv.Conv(3, 2, rngs=rngs)
        self.norm = norm.BatchNorm(3)

    def __call__(self, x, *, normalise=False):
        return self.conv(self.norm(x) if normalise else x)


def plain_step(loss=loss, optimiser=OPTIMISER, devices=1, **options):
    model = Plain(rngs=nnx.Rngs(0))
    mesh = train.data_mesh(jax.devices()[:devices])
    step = train.make_step(model, loss, optimiser, mesh=mesh, **options)
    state = meshes.place(train.init(model, optimiser, seed=1), step.shardings)
    return model, step, state
