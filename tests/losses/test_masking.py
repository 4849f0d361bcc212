"""Tests for jaxflow.losses.masking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import losses

LOSSES = {
    "end_point": lambda a, b, m: losses.end_point(a, b, m),
    "robust": lambda a, b, m: losses.end_point(a, b, m, penalty=losses.robust),
    "multi_scale": lambda a, b, m: losses.multi_scale(
        [a[:, ::2, ::2] / 2, a], b, m, weights=(0.3, 0.1)
    ),
    "sequence": lambda a, b, m: losses.sequence([a, a], b, m),
    "photometric": lambda a, b, m: losses.photometric(b, a, m),
    "census": lambda a, b, m: losses.census(b, a, m, radius=1),
    "smoothness": lambda a, b, m: losses.smoothness(a, b, m),
    "smoothness2": lambda a, b, m: losses.smoothness(a, b, m, order=2),
}


def fields(rng, *shape):
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_masked_changes_neither_loss_nor_gradient(name, rng):
    prediction, target = fields(rng, 2, 8, 8, 2)
    prediction, target = np.asarray(prediction), np.asarray(target)
    mask = np.ones((2, 8, 8), bool)
    mask[:, 2:4, 2:6] = False
    value = jax.jit(jax.value_and_grad(LOSSES[name]))
    clean = value(prediction, target, mask)
    hidden = ~mask[..., None]
    if name == "multi_scale":  # its predictions live on other grids than the mask
        spoilt = value(prediction, np.where(hidden, np.float32(np.nan), target), mask)
    elif name in ("census", "smoothness", "smoothness2"):
        spoilt = value(np.where(hidden, np.float32(np.nan), prediction), target, mask)
    else:
        spoilt = value(
            np.where(hidden, np.float32(np.nan), prediction),
            np.where(hidden, np.float32(np.nan), target),
            mask,
        )
    np.testing.assert_array_equal(clean[0], spoilt[0])
    np.testing.assert_array_equal(clean[1], spoilt[1])
    assert np.isfinite(clean[1]).all() and np.abs(clean[1]).max() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_finite_at_zero_error_and_with_nothing_known(name):
    zeros = jnp.zeros((1, 8, 8, 2))
    for mask in (None, jnp.zeros((1, 8, 8), bool)):
        loss, slope = jax.jit(jax.value_and_grad(LOSSES[name]))(zeros, zeros, mask)
        assert np.isfinite(loss) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_finite_differences(name, rng):
    prediction, target = fields(rng, 1, 8, 8, 2)
    direction = jnp.asarray(rng.normal(size=prediction.shape), jnp.float32)

    @jax.jit
    def along(t):
        return LOSSES[name](prediction + t * direction, target, None)

    step = 1e-3
    slope = (along(step) - along(-step)) / (2 * step)
    # Float32 differences: seven digits less three of the step; |e| has kinks.
    np.testing.assert_allclose(
        jax.jit(jax.grad(along))(0.0), slope, rtol=5e-2, atol=5e-3
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_predictions_give_a_float32_loss(dtype, rng):
    prediction, target = fields(rng, 1, 8, 8, 2)
    for loss in map(jax.jit, LOSSES.values()):
        half = loss(prediction.astype(dtype), target.astype(dtype), None)
        assert half.dtype == jnp.float32
        np.testing.assert_allclose(half, loss(prediction, target, None), rtol=5e-2)
