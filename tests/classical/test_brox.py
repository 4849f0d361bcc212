"""Tests for jaxflow.classical.brox."""

import cv2
import jax
import numpy as np
import pytest

from jaxflow.classical import brox, horn_schunck

estimate = jax.jit(brox.brox)
refine = jax.jit(brox.variational_refinement)


def test_recovers_the_six_motions(pair, epe, motion):
    one, two, truth = pair(motion)
    # TV-L1 of OpenCV and scikit-image reach 0.03 to 0.05 px here.
    assert epe(estimate(one, two), truth) < 0.07


def test_gradient_constancy_survives_a_change_of_brightness(pair, epe):
    one, two, truth = pair("affine")
    brighter = two * np.float32(0.9) + np.float32(0.08)
    quadratic = jax.jit(horn_schunck.horn_schunck)(one, brighter)
    assert epe(estimate(one, brighter), truth) < 0.2 * epe(quadratic, truth)


def test_refinement_improves_a_flow_as_opencv_does(pair, epe, rng):
    one, two, truth = pair("affine")
    noise = cv2.GaussianBlur(rng.normal(size=truth.shape), (0, 0), 4).astype("f")
    start = truth + 3 * noise
    gray = (np.round(frame * 255).astype(np.uint8)[..., 0] for frame in (one, two))
    reference = cv2.VariationalRefinement_create().calc(*gray, start.copy())
    actual = np.asarray(refine(one, two, start))
    # OpenCV's derivatives are twice the slope, so that it goes about 0.6 of the way.
    assert epe(actual, truth) < epe(reference, truth) < epe(start, truth)
    ours, theirs = actual - start, reference - start
    cosine = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine > 0.9


@pytest.mark.slow
def test_gradient_matches_finite_differences(double, pair, slopes):
    one, two, _ = pair("shift_medium", (64, 64))
    slope, difference = slopes(
        lambda a, b: brox.brox(
            a, b, levels=1, warps=1, fixed_point_iterations=2, sor_iterations=2
        ),
        (one, two),
    )
    # Central differences in float64 of a smooth function that curves within 1e-3 px.
    np.testing.assert_allclose(slope, difference, rtol=1e-4)


def test_rejects_what_it_cannot_use():
    frame = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="omega"):
        brox.brox(frame, frame, omega=2.0)
