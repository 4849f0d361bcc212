"""Tests for jaxflow.losses.unsupervised."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import losses


def test_census_ignores_brightness_and_photometric_does_not(rng):
    image = jnp.asarray(rng.uniform(0, 1, (1, 12, 14, 3)), jnp.float32)
    brighter = image + 0.1
    floor = 1e-3  # charbonnier(0)
    census = jax.jit(losses.census)
    np.testing.assert_allclose(census(image, brighter), floor, rtol=1e-2)
    assert jax.jit(losses.photometric)(image, brighter) > 0.29
    assert census(image, image[:, ::-1]) > 10


def test_smoothness_is_zero_for_what_its_order_allows():
    x = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None], (1, 6, 8, 2))
    image = np.zeros((1, 6, 8, 3), np.float32)
    for order, expected in ((1, 1.0), (2, 0.0)):
        smoothness = functools.partial(
            losses.smoothness, order=order, penalty=lambda e: jnp.abs(e).sum(-1)
        )
        np.testing.assert_allclose(jax.jit(smoothness)(x, image), expected)
    with pytest.raises(ValueError, match="`order` must be 1 or 2; got 3"):
        losses.smoothness(x, image, order=3)


def test_smoothness_is_released_at_edges_of_the_image():
    step = np.where(np.arange(8) < 4, 0, 1).astype(np.float32)[:, None]
    flow = np.broadcast_to(step, (1, 6, 8, 2))
    image = np.broadcast_to(step, (1, 6, 8, 3))
    smoothness = jax.jit(losses.smoothness)
    flat, edged = smoothness(flow, np.zeros_like(image)), smoothness(flow, image)
    assert edged < 0.02 * flat
