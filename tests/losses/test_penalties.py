"""Tests for jaxflow.losses.penalties."""

import jax.numpy as jnp
import numpy as np

from jaxflow import losses


def test_robust_and_charbonnier_are_their_formulas():
    error = jnp.array([[3.0, -4.0]])
    np.testing.assert_allclose(losses.norm(error), [5.0])
    np.testing.assert_allclose(losses.robust(error), [7.01**0.4], rtol=1e-6)
    np.testing.assert_allclose(
        losses.charbonnier(error, epsilon=0.5, exponent=0.45),
        [9.25**0.45 + 16.25**0.45],
        rtol=1e-6,
    )
