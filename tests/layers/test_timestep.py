"""Tests for jaxflow.layers.timestep."""

import jax.numpy as jnp
import numpy as np

from jaxflow.layers import timestep


def test_equals_the_two_published_formulas():
    times = np.array([0, 1, 37, 999])
    for features in (8, 9):
        i = np.arange(4)
        slow = times[:, None] * 10000 ** (-i / 3)
        fast = times[:, None] * 10000 ** (-i / 4)
        rest = np.zeros((4, features - 8))
        expected = np.concatenate([np.sin(slow), np.cos(slow), rest], axis=1)
        # The float32 phase near 1000 is good to 6e-5.
        actual = timestep.sinusoid(jnp.asarray(times), features)
        np.testing.assert_allclose(actual, expected, atol=1e-4)
        expected = np.concatenate([np.cos(fast), np.sin(fast), rest], axis=1)
        actual = timestep.sinusoid(jnp.asarray(times), features, cosine_first=True)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_takes_fractions_and_any_shape_and_stays_float32():
    times = jnp.asarray([[0.5, 999.25]], jnp.float32)
    out = timestep.sinusoid(times, 8)
    assert out.shape == (1, 2, 8) and out.dtype == jnp.float32
    np.testing.assert_allclose(out[0, 0, 0], np.sin(0.5), atol=1e-6)
    # In bfloat16 the phase would be lost; 999 itself is rounded to 1000 by the caller.
    half = timestep.sinusoid(jnp.asarray([1000], jnp.bfloat16), 8)
    np.testing.assert_array_equal(half, timestep.sinusoid(jnp.asarray([1000]), 8))
