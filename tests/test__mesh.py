"""Tests for jaxflow._mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxflow import _mesh


def test_outside_of_a_mesh_the_start_is_itself():
    start = {"zero": jnp.zeros(3), "none": None}
    marked = _mesh.alike(start, np.ones(3), 0.5)
    assert marked["zero"] is start["zero"]


@pytest.mark.parametrize("marks", [True, False])
def test_a_loop_over_what_varies_starts_alike(marks):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))

    @jax.shard_map(
        mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
    )
    def double(x):
        start = jnp.zeros(1), jnp.ones(1)
        start = _mesh.alike(start, x) if marks else start
        total, _ = jax.lax.fori_loop(0, 2, lambda _, s: (s[0] + x, s[1]), start)
        return total

    x = jnp.arange(4.0)
    if not marks:
        with pytest.raises(TypeError, match="manual axis types"):
            double(x)
        return
    np.testing.assert_array_equal(double(x), 2 * x)
