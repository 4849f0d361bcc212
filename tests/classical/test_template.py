"""Tests for jaxflow.classical.template."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from jaxflow.classical import template

match = jax.jit(template.match_template, static_argnames="zero_mean")
MODES = {False: cv2.TM_CCORR_NORMED, True: cv2.TM_CCOEFF_NORMED}


@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_is_opencvs(rng, zero_mean, channels):
    image = rng.uniform(size=(40, 50, channels)).astype(np.float32)
    patch = image[11:20, 23:36]
    expected = cv2.matchTemplate(image, patch, MODES[zero_mean])
    # Sums of some hundred products in float32, divided by their size.
    np.testing.assert_allclose(
        match(image, patch, zero_mean=zero_mean), expected, atol=1e-5
    )
    assert np.unravel_index(expected.argmax(), expected.shape) == (11, 23)


def test_gain_changes_neither_score_and_bias_only_the_plain_one(rng):
    image = rng.uniform(0.2, 0.8, size=(40, 50, 1)).astype(np.float32)
    patch = image[11:20, 23:36]
    for zero_mean in (False, True):
        scores = match(image, patch, zero_mean=zero_mean)
        gained = match(0.6 * image, patch, zero_mean=zero_mean)
        np.testing.assert_allclose(gained, scores, atol=1e-5)
        biased = match(0.6 * image + 0.3, patch, zero_mean=zero_mean)
        changed = np.abs(biased - scores).max()
        assert changed < 1e-5 if zero_mean else changed > 0.05
        peak = np.unravel_index(np.argmax(biased), biased.shape)
        assert peak == (11, 23)


def test_what_is_constant_scores_zero(rng):
    image = rng.uniform(size=(12, 12, 1)).astype(np.float32)
    flat = np.full((12, 12, 1), 0.7, np.float32)
    assert not match(flat, image[:5, :5], zero_mean=True).any()
    assert not match(image, flat[:5, :5], zero_mean=True).any()
    assert not match(0 * flat, image[:5, :5]).any()
    slope = jax.jit(
        jax.grad(
            lambda a: template.match_template(a, image[:5, :5], zero_mean=True).sum()
        )
    )(flat)
    assert np.isfinite(slope).all()


def test_the_correlation_layer_has_the_peak_of_template_matching(rng):
    one = rng.normal(size=(9, 9, 32)).astype(np.float32)
    one /= np.linalg.norm(one, axis=-1, keepdims=True)
    two = np.roll(one, (2, -1), axis=(0, 1))
    volume = ops.local_correlation(one, two, radius=3)
    scores = match(two[1:8, 1:8], one[4:5, 4:5])
    layer = np.asarray(volume)[4, 4].reshape(7, 7)
    assert layer.argmax() == np.argmax(scores)
    # The layer divides by the channels, matching by two lengths of 1.
    np.testing.assert_allclose(layer * 32, scores, atol=1e-5)


def test_phase_correlation_finds_a_shift(pair):
    one, two, _ = pair((np.eye(2), (13.0, -7.0)))
    shift, share = jax.jit(template.phase_correlation)(one, 0.5 * two + 0.2)
    shift = np.asarray(shift)
    np.testing.assert_allclose(shift, (13, -7), atol=0.2)
    expected, _ = cv2.phaseCorrelate(
        one[..., 0].astype(float),
        two[..., 0].astype(float),
        cv2.createHanningWindow((128, 128), cv2.CV_64F),
    )
    assert np.abs(shift - np.array((13, -7))).max() <= max(
        1.25 * np.abs(np.array(expected) - (13, -7)).max(), 0.1
    )
    assert 0 < share <= 1
    flow = template.phase_correlation_flow(one[None], two[None])
    assert flow.shape == (1, 128, 128, 2) and np.ptp(flow[..., 0]) == 0


@pytest.mark.parametrize("cost", ["absolute", "squared", "zncc"])
def test_block_matching_is_right_to_a_fraction_of_a_pixel(pair, epe, cost):
    one, two, truth = pair((np.eye(2), (3.3, -2.7)), (64, 64))
    estimate = jax.jit(lambda a, b: template.block_matching(a, b, radius=5, cost=cost))
    assert epe(estimate(one, two), truth) < 0.2
    if cost == "zncc":
        assert epe(estimate(one, 0.6 * two + 0.2), truth) < 0.2


@pytest.mark.slow
def test_block_matching_stays_where_nothing_tells():
    flat = jnp.full((20, 20, 1), 0.5)
    assert not template.block_matching(flat, flat, radius=2, window=3).any()


@pytest.mark.parametrize("method", [template.block_matching, template.match_template])
def test_gradient_matches_finite_differences(double, pair, slopes, method):
    one, two, _ = pair("shift_small", (64, 64))
    if method is template.block_matching:
        slope, difference = slopes(
            lambda a, b: method(a, b, radius=1, window=5, cost="squared"), (one, two)
        )
    else:
        slope, difference = slopes(
            lambda a, b: method(a, b[20:27, 20:27], zero_mean=True), (one, two)
        )
    # Central differences in float64 of a piecewise smooth function.
    np.testing.assert_allclose(slope, difference, rtol=1e-4)


def test_rejects_what_it_cannot_match():
    image = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="template"):
        template.match_template(image[:4], image)
    with pytest.raises(ValueError, match="cost"):
        template.block_matching(image, image, cost="census")
    with pytest.raises(ValueError, match="window"):
        template.block_matching(image, image, window=2)


@pytest.mark.parametrize("cost", ["absolute", "squared", "zncc"])
def test_equal_frames_do_not_move_by_a_fraction_of_a_pixel(rng, cost):
    frame = np.full((24, 40, 1), 0.5, np.float32)
    frame[:, 20:30] = rng.uniform(size=(24, 10, 1))
    frame[:, 34:] = 1
    flow = template.block_matching(frame, frame, radius=2, window=3, cost=cost)
    assert not np.any(flow)


def test_nan_is_seen_where_it_is_compared():
    frame = np.indices((20, 20)).sum(0).astype(np.float32)[..., None] % 7 / 7
    damaged = frame.copy()
    damaged[10, 10] = np.nan
    for pair in ((frame, damaged), (damaged, frame)):
        flow = np.asarray(template.block_matching(*pair, radius=2, window=3))
        assert np.isnan(flow[10, 10]).all() and not np.isnan(flow[2, 2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 16)], ids=str)
def test_no_phase_tells_the_shift_of_nothing(size):
    zero = np.zeros((*size, 1), np.float32)
    shift, share = template.phase_correlation(zero, zero)
    assert not np.any(shift) and share == 0
    noise = np.random.default_rng(0).uniform(size=zero.shape).astype(np.float32)
    if max(size) <= 2:
        # The window leaves nothing of it.
        assert not np.any(template.phase_correlation(noise, noise)[0])
