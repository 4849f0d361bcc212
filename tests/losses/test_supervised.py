"""Tests for jaxflow.losses.supervised."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import losses


def test_multi_scale_is_the_equation_of_the_paper_written_in_loops(rng):
    target = rng.normal(0, 5, (2, 8, 16, 2)).astype(np.float32)
    predictions = [rng.normal(0, 2, (2, h, 2 * h, 2)) for h in (2, 4)]
    expected = 0.0
    for weight, prediction in zip((0.32, 0.08), predictions, strict=True):
        rows = prediction.shape[1]
        factor = 8 // rows
        for b in range(2):
            for y in range(rows):
                for x in range(2 * rows):
                    cell = target[b, y * factor :, x * factor :][:factor, :factor]
                    error = prediction[b, y, x] * factor - cell.mean((0, 1))
                    expected += weight * np.hypot(*(error / 20)) / 2
    multi_scale = functools.partial(losses.multi_scale, weights=(0.32, 0.08))
    actual = jax.jit(multi_scale)(
        [jnp.asarray(p, jnp.float32) for p in predictions], jnp.asarray(target)
    )
    # Forty float32 terms of order 1.
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_weights_default_to_those_of_the_paper_and_must_match_the_levels():
    target = np.ones((1, 64, 64, 2), np.float32)
    levels = [
        np.zeros_like(target, shape=(1, 64 >> n, 64 >> n, 2)) for n in range(6, 1, -1)
    ]
    cells = (1, 4, 16, 64, 256)
    expected = sum(w * n for w, n in zip(losses.PWC_WEIGHTS, cells, strict=True))
    actual = jax.jit(losses.multi_scale)(levels, target)
    np.testing.assert_allclose(actual, expected * np.sqrt(2) / 20, rtol=1e-5)
    with pytest.raises(ValueError, match="one number for each of 2 predictions; got 5"):
        losses.multi_scale(levels[:2], target)


def test_sequence_weights_late_iterations_and_drops_large_motion():
    target = jnp.zeros((1, 2, 2, 2)).at[0, 0, 0, 0].set(500.0)
    predictions = [jnp.full((1, 2, 2, 2), value) for value in (1.0, 2.0, 3.0)]
    # Three of four pixels count, the mean is over four: as in RAFT's train.py.
    expected = 0.75 * (0.8**2 * 1 + 0.8 * 2 + 3)
    actual = losses.sequence(predictions, target)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_allclose(losses.sequence(jnp.stack(predictions), target), actual)


def test_area_average_handles_sizes_that_do_not_divide(rng):
    field = jnp.asarray(rng.normal(size=(1, 7, 10, 2)), jnp.float32)
    coarse, known = losses.area_average(field, jnp.ones((1, 7, 10)), (3, 4))
    assert coarse.shape == (1, 3, 4, 2) and known.all()
    # Cells of equal area: the mean of the cells is the mean of the field.
    np.testing.assert_allclose(coarse.mean((1, 2)), field.mean((1, 2)), atol=1e-6)


def test_a_cell_counts_if_half_of_it_is_known():
    field = jnp.arange(8.0).reshape(1, 2, 4, 1)
    mask = jnp.array([[[1, 0, 0, 0], [1, 0, 0, 1]]])
    coarse, known = losses.area_average(field, mask, (1, 2))
    np.testing.assert_array_equal(known[0, 0], [1, 0])
    np.testing.assert_allclose(coarse[0, 0, :, 0], [2.0, 7.0], rtol=1e-6)


def test_upsampled_is_the_weighted_end_point_error_at_full_size():
    target = jnp.full((1, 8, 12, 2), 2.0)
    # Constant fields stay constant when they are resized: errors of sqrt(2) and 0.
    coarse, fine = jnp.full((1, 2, 3, 2), 0.25), jnp.full((1, 4, 6, 2), 1.0)
    actual = losses.upsampled([coarse, fine], target, weights=(0.25, 1.0))
    np.testing.assert_allclose(actual, 0.25 * np.sqrt(2), rtol=1e-5)


def test_density_is_least_for_the_bilinear_density_of_the_truth():
    # The true displacement at the level is (0.25, -1.5): four classes share it.
    target = jnp.broadcast_to(jnp.array([0.5, -3.0]), (1, 8, 8, 2))
    start = jnp.zeros((1, 4, 4, 2))
    weights = np.zeros((5, 5))
    weights[0, 2:4], weights[1, 2:4] = (0.375, 0.125), (0.375, 0.125)
    logits = np.log(np.maximum(weights, 1e-20)).reshape(25).astype(np.float32)
    right = jnp.broadcast_to(logits, (1, 4, 4, 25))
    np.testing.assert_allclose(losses.density([right], [start], target), 0, atol=1e-5)
    even = jnp.zeros((1, 4, 4, 25))
    entropy = -np.sum(weights[weights > 0] * np.log(weights[weights > 0]))
    actual = losses.density([even], [start], target)
    np.testing.assert_allclose(actual, np.log(25) - entropy, rtol=1e-5)


def test_density_moves_what_is_out_of_range_to_the_border():
    target = jnp.full((1, 2, 2, 2), 90.0)
    logits = jnp.full((1, 2, 2, 9), -30.0).at[..., 8].set(30.0)
    actual = losses.density([logits], [jnp.zeros((1, 2, 2, 2))], target)
    np.testing.assert_allclose(actual, 0, atol=1e-5)


def test_occlusion_is_the_equation_of_the_paper_in_numpy(rng):
    logits = rng.normal(size=(2, 3, 4, 1)).astype(np.float32)
    y = (rng.uniform(size=logits.shape) < 0.2).astype(np.float64)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    terms = [
        -np.sum(y[b] * np.log(p[b])) / np.sum(y[b] + p[b])
        - np.sum((1 - y[b]) * np.log(1 - p[b])) / np.sum(2 - y[b] - p[b])
        for b in range(2)
    ]
    actual = losses.occlusion(jnp.asarray(logits), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(actual, 6 * np.mean(terms), rtol=1e-5)


def test_balanced_losses_weigh_the_same():
    value, slopes = jax.value_and_grad(losses.balanced, argnums=(0, 1))(2.0, 0.5)
    np.testing.assert_allclose(value, 4.0, rtol=1e-6)
    np.testing.assert_allclose(slopes, (1.0, 4.0), rtol=1e-6)
