"""On a mesh, under `jax.shard_map`, derivatives are those of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxflow import ops
from jaxflow.classical import horn_schunck

EXAMPLES = PartitionSpec("data")


def total(function):
    def loss(*arrays):
        return sum((x**2).sum() for x in jax.tree.leaves(function(*arrays)))

    return loss


def on_shards(function):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=EXAMPLES, out_specs=EXAMPLES)
    )


def assert_equal(actual, wanted, tolerance):
    for one, two in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def pool(maps, boxes):
    corners = jnp.concatenate([boxes[:, :2], boxes[:, 2:] + 4], axis=1)
    return ops.roi_align(maps, corners, jnp.arange(len(boxes)), size=(2, 2))


relax = functools.partial(horn_schunck.relax, alpha=1.0, iterations=2)
CASES = {
    "warp": (ops.backward_warp, ((8, 9, 3), (8, 9, 2))),
    "warp of many channels": (ops.backward_warp, ((8, 9, 32), (8, 9, 2))),
    "splat": (ops.forward_splat, ((8, 9, 3), (8, 9, 2))),
    "correlation": (
        functools.partial(ops.local_correlation, radius=4),
        ((16, 24, 32), (16, 24, 32)),
    ),
    "propagation": (ops.forward_interpolate, ((4, 5, 2),)),
    "pooling in boxes": (pool, ((8, 8, 3), (4,))),
    "relaxation": (relax, (*[(5, 6, 1)] * 3, (5, 6, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_on_shards_are_those_of_one_device(name, rng):
    function, shapes = CASES[name]
    arrays = [rng.standard_normal((4, *shape), np.float32) for shape in shapes]
    gradient = jax.grad(total(function), argnums=tuple(range(len(arrays))))
    actual, wanted = on_shards(gradient)(*arrays), jax.jit(gradient)(*arrays)
    assert_equal(actual, wanted, 1e-4)
