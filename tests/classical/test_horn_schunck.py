"""Tests for jaxflow.classical.horn_schunck."""

import jax
import numpy as np
import scipy.ndimage
import scipy.sparse.linalg

from jaxflow.classical import horn_schunck

MEAN = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12


def test_fixed_point_is_the_solution_of_the_linear_system(rng):
    ix, iy, it = rng.normal(size=(3, 9, 11, 1)).astype(np.float32)
    flow = horn_schunck.relax(
        ix, iy, it, np.zeros((9, 11, 2), np.float32), alpha=1.5, iterations=600
    )

    def normal_equations(x):
        field = x.reshape(9, 11, 2)
        mean = np.stack(
            [
                scipy.ndimage.correlate(field[..., k], MEAN, mode="nearest")
                for k in (0, 1)
            ],
            axis=-1,
        )
        gradient = np.concatenate([ix, iy], axis=-1)
        data = gradient * (gradient * field).sum(-1, keepdims=True)
        return (data + 1.5**2 * (field - mean)).ravel()

    operator = scipy.sparse.linalg.LinearOperator((198, 198), normal_equations)
    right = (-np.concatenate([ix, iy], -1) * it).ravel()
    expected, _ = scipy.sparse.linalg.gmres(operator, right, rtol=1e-9, restart=198)
    # 600 contracting iterations in float32 on fields of order 1.
    np.testing.assert_allclose(flow, expected.reshape(9, 11, 2), atol=1e-5)


estimate = jax.jit(horn_schunck.horn_schunck)


def test_recovers_the_six_motions(pair, epe, motion):
    one, two, truth = pair(motion)
    # TV-L1 of OpenCV and scikit-image reach 0.03 to 0.05 px here.
    assert epe(estimate(one, two), truth) < 0.08


def test_gradient_matches_finite_differences(double, pair, slopes):
    one, two, _ = pair("shift_medium", (64, 64))
    slope, difference = slopes(
        lambda a, b: horn_schunck.horn_schunck(a, b, levels=1, warps=2, iterations=5),
        (one, two),
    )
    # Central differences in float64 of a piecewise smooth function.
    np.testing.assert_allclose(slope, difference, rtol=1e-5)
