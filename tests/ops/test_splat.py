"""Tests for jaxflow.ops.splat."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxflow import ops

forward_splat = jax.jit(ops.forward_splat)
average_splat = jax.jit(ops.average_splat)
softmax_splat = jax.jit(ops.softmax_splat)


def loop(values, flow, weights):
    """The definition, pixel by pixel in float64."""
    height, width = values.shape[:2]
    total, weight = np.zeros(values.shape), np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        landed = np.array([x, y]) + flow[y, x].astype(np.float64)
        for j, i in np.ndindex(height, width):
            kernel = np.prod(np.maximum(1 - np.abs(landed - [i, j]), 0))
            total[j, i] += kernel * weights[y, x] * values[y, x]
            weight[j, i] += kernel * weights[y, x]
    return total, weight


@pytest.fixture
def scene(rng):
    values = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    flow = rng.normal(size=(2, 6, 7, 2)).astype(np.float32) * 3
    return values, flow, rng.random((2, 6, 7), dtype=np.float32)


def test_equals_the_definition(scene):
    total, weight = forward_splat(*scene[:2], weights=scene[2])
    for i in range(2):
        expected = loop(*(array[i] for array in scene))
        # A few terms of size 1 each, in float32.
        np.testing.assert_allclose(total[i], expected[0], atol=1e-5)
        np.testing.assert_allclose(weight[i], expected[1], atol=1e-5)


def test_weights_default_to_one(scene):
    values, flow, weights = scene
    plain = forward_splat(values, flow)
    ones = forward_splat(values, flow, weights=np.ones_like(weights))
    jax.tree.map(np.testing.assert_array_equal, plain, ones)


def test_is_the_adjoint_of_backward_warping(scene, rng):
    values, flow, _ = scene
    image = rng.normal(size=values.shape).astype(np.float32)
    pushed = np.vdot(forward_splat(values, flow)[0], image)
    pulled = np.vdot(ops.backward_warp(jnp.asarray(image), jnp.asarray(flow)), values)
    np.testing.assert_allclose(pushed, pulled, rtol=1e-5)


def test_whole_pixel_motion_moves_pixels(rng):
    values = rng.normal(size=(6, 7, 1)).astype(np.float32)
    flow = np.broadcast_to(np.float32([2, -1]), (6, 7, 2))
    moved, covered = average_splat(values, flow)
    np.testing.assert_array_equal(moved[:-1, 2:], values[1:, :-2])
    expected = np.zeros((6, 7), bool)
    expected[:-1, 2:] = True
    np.testing.assert_array_equal(covered, expected)
    assert (np.asarray(moved)[~expected] == 0).all()


def test_average_is_the_sum_over_the_weight(scene):
    total, weight = map(np.asarray, forward_splat(*scene[:2], weights=scene[2]))
    average, covered = average_splat(*scene[:2], weights=scene[2])
    np.testing.assert_array_equal(covered, weight > 0)
    np.testing.assert_allclose(
        np.asarray(average)[covered],
        total[covered] / weight[covered][:, None],
        rtol=1e-5,
    )


def test_the_more_important_pixel_wins():
    values = jnp.array([[1.0, 2.0, 3.0]])[..., None]
    flow = jnp.array([[[1.0, 0], [0, 0], [-1.0, 0]]])
    for winner in range(3):
        importance = jnp.zeros((1, 3)).at[0, winner].set(30)
        found, covered = softmax_splat(values, flow, importance)
        np.testing.assert_allclose(found[0, 1, 0], winner + 1, rtol=1e-6)
        np.testing.assert_array_equal(covered[0], [False, True, False])


def test_softmax_ignores_a_constant_and_does_not_overflow(scene):
    values, flow, importance = scene
    plain = softmax_splat(values, flow, importance)
    shifted = softmax_splat(values, flow, importance + 1000)
    # Adding 1000 leaves the logits 6e-5 apart in float32.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), plain, shifted
    )


def test_gradients_are_those_of_finite_differences(rng):
    values = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
    flow = rng.integers(-2, 3, size=(4, 5, 2)) + rng.uniform(0.3, 0.7, (4, 5, 2))
    weights = jnp.asarray(rng.uniform(0.5, 1, (4, 5)), jnp.float32)
    jax.test_util.check_grads(
        lambda values, flow, weights: forward_splat(values, flow, weights=weights),
        (values, jnp.asarray(flow, jnp.float32), weights),
        order=1,
        modes=("fwd", "rev"),
        eps=1e-2,
        # The map is of low degree in each: long steps cost nothing.
        atol=1e-2,
        rtol=1e-2,
    )


def test_gradients_are_finite_in_holes(scene):
    values, flow, _ = scene

    def total(values, flow):
        return jnp.sum(ops.average_splat(values, flow)[0] ** 2)

    for gradient in jax.jit(jax.grad(total, (0, 1)))(values, flow):
        assert np.isfinite(gradient).all()


def test_a_pixel_with_nan_flow_lands_nowhere(scene):
    values, flow, _ = scene
    spoilt = flow.copy()
    spoilt[0, 2, 3, 0] = np.nan
    lost = flow.copy()
    lost[0, 2, 3] = 100
    jax.tree.map(
        np.testing.assert_array_equal,
        forward_splat(values, spoilt),
        forward_splat(values, lost),
    )


def test_a_nan_value_spoils_where_it_lands():
    values = jnp.ones((5, 5, 1)).at[2, 2].set(jnp.nan)
    total, weight = forward_splat(values, jnp.full((5, 5, 2), 0.5))
    expected = np.zeros((5, 5), bool)
    expected[2:4, 2:4] = True
    np.testing.assert_array_equal(np.isnan(total[..., 0]), expected)
    assert np.isfinite(weight).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype):
    # 600 ones on one pixel: bfloat16 would stop adding at 256.
    x = jnp.arange(600, dtype=jnp.float32)
    flow = jnp.stack([-x, 0 * x], axis=-1)[None]
    values = jnp.ones((1, 600, 1), dtype)
    total, weight = forward_splat(values, flow)
    assert total.dtype == dtype and weight.dtype == jnp.float32
    assert weight[0, 0] == 600 and float(total[0, 0, 0]) == float(dtype(600))


def test_rejects_mismatched_shapes():
    values, flow = jnp.zeros((3, 4, 1)), jnp.zeros((3, 4, 2))
    with pytest.raises(ValueError):
        ops.forward_splat(values, flow[:2])
    with pytest.raises(ValueError):
        ops.forward_splat(values, flow, weights=jnp.zeros((4, 3)))
    with pytest.raises(ValueError):
        ops.softmax_splat(values, flow, values)
