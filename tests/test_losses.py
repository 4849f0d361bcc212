"""Tests for jaxflow.losses."""

import functools

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


def test_robust_and_charbonnier_are_their_formulas():
    error = jnp.array([[3.0, -4.0]])
    np.testing.assert_allclose(losses.norm(error), [5.0])
    np.testing.assert_allclose(losses.robust(error), [7.01**0.4], rtol=1e-6)
    np.testing.assert_allclose(
        losses.charbonnier(error, epsilon=0.5, exponent=0.45),
        [9.25**0.45 + 16.25**0.45],
        rtol=1e-6,
    )


def test_sequence_weights_late_iterations_and_drops_large_motion():
    target = jnp.zeros((1, 2, 2, 2)).at[0, 0, 0, 0].set(500.0)
    predictions = [jnp.full((1, 2, 2, 2), value) for value in (1.0, 2.0, 3.0)]
    # Three of four pixels count, the mean is over four: as in RAFT's train.py.
    expected = 0.75 * (0.8**2 * 1 + 0.8 * 2 + 3)
    actual = losses.sequence(predictions, target)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_allclose(losses.sequence(jnp.stack(predictions), target), actual)


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
