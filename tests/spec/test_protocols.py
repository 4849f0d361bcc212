"""Tests for jaxflow.spec.protocols."""

import jax
import jax.numpy as jnp

from jaxflow import spec


def test_flow_is_a_pytree_that_goes_through_a_program():
    def double(flow):
        return jax.tree.map(lambda x: 2 * x, flow)

    ones = jnp.ones((1, 2, 2, 2))
    given = spec.Flow(flow=ones, predictions=(ones[:, :1, :1], ones))
    found = jax.jit(double)(given)
    assert isinstance(found, spec.Flow)
    assert found.occlusion is None and found.confidence is None
    assert [x.shape for x in found.predictions] == [(1, 1, 1, 2), (1, 2, 2, 2)]
    assert float(found.flow.sum()) == 16
