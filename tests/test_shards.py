"""On a mesh, under `jax.shard_map`, derivatives are those of one device."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxflow import ops

EXAMPLES = PartitionSpec("data")


def total(function):
    def loss(*arrays):
        return sum((x**2).sum() for x in jax.tree.leaves(function(*arrays)))

    return loss


CASES = {
    "warp": (ops.backward_warp, ((8, 9, 3), (8, 9, 2))),
    "warp of many channels": (ops.backward_warp, ((8, 9, 32), (8, 9, 2))),
    "splat": (ops.forward_splat, ((8, 9, 3), (8, 9, 2))),
    "correlation": (
        functools.partial(ops.local_correlation, radius=4),
        ((16, 24, 32), (16, 24, 32)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_on_shards_are_those_of_one_device(name, rng):
    function, shapes = CASES[name]
    arrays = [rng.standard_normal((4, *shape), np.float32) for shape in shapes]
    gradient = jax.grad(total(function), argnums=tuple(range(len(arrays))))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=EXAMPLES, out_specs=EXAMPLES)
    for actual, wanted in zip(
        jax.jit(sharded)(*arrays), jax.jit(gradient)(*arrays), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)
