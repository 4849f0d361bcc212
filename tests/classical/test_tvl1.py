"""Tests for jaxflow.classical.tvl1."""

import functools
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.registration

from jaxflow import io
from jaxflow.classical import tvl1

OPTIONS = (
    *(
        "levels",
        "step",
        "sigma",
        "weight",
        "warps",
        "median",
        "tolerance",
        "interpolation",
    ),
    *("inner_iterations", "outer_iterations", "dual_iterations", "gradient"),
)
estimate = jax.jit(tvl1.tvl1, static_argnames=OPTIONS)
exact = functools.partial(
    estimate, levels=1, warps=1, outer_iterations=1, tolerance=0.0, median=1
)


def opencv(iterations=None):
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    if iterations:
        solver.setScalesNumber(1)
        solver.setWarpingsNumber(1)
        solver.setEpsilon(0)
        solver.setInnerIterations(iterations)
        solver.setOuterIterations(1)
        solver.setMedianFiltering(1)
    return lambda one, two: solver.calc(one[..., 0], two[..., 0], None)


def skimage_tvl1(one, two):
    v, u = skimage.registration.optical_flow_tvl1(one[..., 0], two[..., 0])
    return np.stack([u, v], axis=-1)


@pytest.mark.parametrize("iterations", [1, 5, 30, 300])
def test_exact_scheme_is_opencvs(pair, iterations):
    one, two, _ = pair((np.eye(2), (0.9, -0.4)), (96, 112))
    one, two = (np.round(frame * 255).astype(np.uint8) for frame in (one, two))
    expected = opencv(iterations)(one, two)
    actual = exact(
        one / np.float32(255), two / np.float32(255), inner_iterations=iterations
    )
    assert np.abs(expected).mean() > 0.2
    # Flows of order 1, in float32, after hundreds of contracting iterations.
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_six_motions_are_as_good_as_opencv(pair, epe, motion):
    one, two, truth = pair(motion)
    reference = epe(opencv()(one, two), truth)
    error = epe(estimate(one, two), truth)
    assert error <= max(1.25 * reference, reference + 0.01)


@pytest.mark.slow
def test_six_motions_are_as_good_as_scikit_image(pair, epe, motion):
    one, two, truth = pair(motion)
    reference = epe(skimage_tvl1(one, two), truth)
    error = epe(estimate(one, two, **tvl1.PRESETS["skimage"]), truth)
    assert error <= max(1.25 * reference, reference + 0.01)


def test_divergence_is_minus_the_adjoint_of_the_gradient(rng):
    u, px, py = rng.normal(size=(3, 7, 9))
    px[:, -1] = py[-1] = 0
    ux, uy = tvl1._forward(u)
    left = (ux * px + uy * py).sum()
    # <grad u, p> = -<u, div p>, in float32.
    np.testing.assert_allclose(left, -(u * tvl1._divergence(px, py)).sum(), rtol=1e-5)


def test_no_data_weight_gives_a_constant_flow(pair):
    one, two, _ = pair("shift_small", (96, 112))
    flow = exact(one, two, inner_iterations=300, weight=1e-6)
    assert np.abs(flow).max() < 1e-3


def test_total_variation_forgives_outliers_that_a_quadratic_does_not(pair, epe, rng):
    one, two, truth = pair((np.eye(2), (0.9, -0.4)), (96, 112))
    salt = rng.uniform(size=two.shape) < 0.05
    spoiled = np.where(salt, 1, two).astype(np.float32)
    error = epe(exact(one, spoiled, inner_iterations=300), truth)
    # Zero flow would be off by 0.98.
    assert error < 0.25


def test_stops_early_without_losing_the_flow(pair, epe):
    one, two, truth = pair((np.eye(2), (0.9, -0.4)), (96, 112))
    options = dict(
        levels=1, warps=3, outer_iterations=10, inner_iterations=10, median=1
    )
    stopped = epe(estimate(one, two, tolerance=0.01, **options), truth)
    full = epe(estimate(one, two, tolerance=0.0, **options), truth)
    assert stopped < full + 0.02


def test_batch_equals_singles(pair):
    pairs = [pair(name, (96, 112))[:2] for name in ("shift_small", "rotation")]
    one, two = (np.stack(frames) for frames in zip(*pairs, strict=True))
    together = exact(one, two, inner_iterations=30)
    for flow, (a, b) in zip(together, pairs, strict=True):
        single = exact(a, b, inner_iterations=30)
        np.testing.assert_allclose(flow, single, atol=1e-5)


def test_gradient_matches_finite_differences(double, pair, slopes):
    one, two, _ = pair("shift_small", (64, 64))
    slope, difference = slopes(
        functools.partial(
            tvl1.tvl1,
            levels=1,
            warps=1,
            outer_iterations=2,
            inner_iterations=2,
            median=3,
        ),
        (one, two),
    )
    # Central differences in float64 of a piecewise smooth function.
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_gradient_is_finite_on_flat_frames():
    flat = jnp.full((16, 16, 1), 0.5)
    slope = jax.jit(jax.grad(lambda a: exact(a, flat, inner_iterations=3).sum()))(flat)
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_a_real_pair_is_no_worse_than_opencv(test_data):
    folder = test_data / "data"
    whale = folder / "flow" / "middlebury" / "RubberWhale"
    one, two = (
        io.read_image(whale / f"frame{k}.png").astype(np.float32) / 255
        for k in (10, 11)
    )
    truth, known = io.read_flow(whale / "flow10.flo")
    error = np.linalg.norm(estimate(one, two) - truth, axis=-1)[known].mean()
    expected = json.loads((folder / "expected.json").read_text())["mb_rubberwhale"]
    assert error <= expected["tvl1"]["epe"] < expected["dis_medium"]["epe"]


def test_rejects_what_it_cannot_use():
    frame = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="interpolation"):
        tvl1.tvl1(frame, frame, interpolation="nearest")
    with pytest.raises(ValueError, match="tau"):
        tvl1.tvl1(frame, frame, tau=0.0)
    with pytest.raises(ValueError):
        tvl1.tvl1(frame, frame[1:])
