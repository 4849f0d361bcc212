"""Tests for jaxflow.layers.feature_flow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.layers import feature_flow


@pytest.mark.parametrize("sign", [1, -1])
def test_flow_does_not_depend_on_the_sign_of_the_features(rng, sign):
    features = jnp.asarray(rng.normal(size=(2, 6, 7, 3)), jnp.float32)
    stretched = feature_flow.stretch(features, sign=sign)
    u, v = feature_flow.tvl1(*stretched)
    reference = feature_flow.tvl1(*feature_flow.stretch(features))
    np.testing.assert_allclose(u, reference[0], atol=1e-5)
    np.testing.assert_allclose(v, reference[1], atol=1e-5)


def test_normalising_a_sample_keeps_examples_apart(rng):
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 2)), jnp.float32)
    apart = feature_flow.stretch(x, over="sample")
    np.testing.assert_allclose(apart.min(axis=(1, 2, 3, 4)), 0)
    np.testing.assert_allclose(apart.max(axis=(1, 2, 3, 4)), 255)
    whole = feature_flow.stretch(x, sign=-1)
    np.testing.assert_allclose([whole.min(), whole.max()], [-255, 0], atol=1e-4)
    constant = feature_flow.stretch(jnp.ones((1, 2)))
    np.testing.assert_array_equal(constant, 0)


# Few at a time on a CPU: all 3; 2 of 4; 1 of 3; 1, larger than what it takes at once.
@pytest.mark.parametrize(
    "shape", [(3, 9, 8, 2), (2, 2, 64, 64, 4), (3, 64, 64, 6), (2, 182, 181, 1)]
)
def test_frames_do_not_depend_on_each_other(rng, shape):
    x, y = (jnp.asarray(255 * rng.random(shape), jnp.float32) for _ in range(2))
    run = functools.partial(feature_flow.tvl1, iterations=2)
    u, v = jax.jit(run)(x, y)
    assert u.shape == v.shape == shape
    last = (-1,) * (len(shape) - 3)
    alone = jax.jit(run)(x[last], y[last])
    np.testing.assert_allclose(u[last], alone[0], atol=1e-5)
    np.testing.assert_allclose(v[last], alone[1], atol=1e-5)


def test_a_range_is_the_whole_batchs_or_a_samples():
    with pytest.raises(ValueError, match="over"):
        feature_flow.stretch(jnp.ones(3), over="batch")
