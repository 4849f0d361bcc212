"""Tests for jaxflow.classical.registration."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.transform

from jaxflow.classical import registration

METHODS = ("forward_additive", "inverse_compositional", "ecc")
register = jax.jit(
    registration.register,
    static_argnames=("motion", "method", "robust", "levels", "iterations"),
)
SIZE = (96, 112)


def render(texture, matrix, size=SIZE, seed=0):
    """Frame 2 shows at M p what frame 1 shows at p."""
    scene = texture(seed)
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    back = np.asarray(
        jax.device_get(
            np.linalg.inv(matrix) @ np.stack([x, y, 0 * x + 1]).reshape(3, -1)
        )
    )
    bx, by = (back[:2] / back[2]).reshape(2, *size)
    frames = scene(x, y)[..., None], scene(bx, by)[..., None]
    return tuple(frame.astype(np.float32) for frame in frames)


def corner_error(actual, expected, size=SIZE):
    """The largest distance between where both send the corners, in pixels."""
    height, width = size
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)

    def send(m):
        moved = np.c_[corners, np.ones(4)] @ np.asarray(m, float).T
        return moved[:, :2] / moved[:, 2:]

    return np.linalg.norm(send(actual) - send(expected), axis=-1).max()


def about_the_middle(matrix, size=SIZE):
    shift = np.eye(3)
    shift[:2, 2] = (size[1] - 1) / 2, (size[0] - 1) / 2
    return shift @ matrix @ np.linalg.inv(shift)


def turn(vector, focal=112.0):
    k = np.diag([focal, focal, 1.0])
    r = scipy.spatial.transform.Rotation.from_rotvec(vector).as_matrix()
    return about_the_middle(k @ r @ np.linalg.inv(k))


TRUTH = {
    "translation": about_the_middle(np.array([[1, 0, 5.3], [0, 1, -3.7], [0, 0, 1.0]])),
    "affine": about_the_middle(
        np.array([[1.04, 0.05, 3.1], [-0.03, 0.97, -2.2], [0, 0, 1.0]])
    ),
    "homography": about_the_middle(
        np.array([[1.03, 0.04, 2.0], [-0.02, 0.98, -1.5], [2e-4, -3e-4, 1.0]])
    ),
    "rotation": turn((0.02, -0.03, 0.05)),
}


# Every motion by one method and every method on one motion run always.
RECOVERED = [
    pytest.param(
        motion,
        method,
        marks=()
        if motion == "affine" or method == "inverse_compositional"
        else pytest.mark.slow,
    )
    for motion in TRUTH
    for method in METHODS
]


@pytest.mark.parametrize(("motion", "method"), RECOVERED)
def test_recovers_an_exact_motion(texture, motion, method):
    one, two = render(texture, TRUTH[motion])
    found = register(one, two, motion=motion, method=method)
    assert corner_error(found.matrix, TRUTH[motion]) < 0.05
    assert found.error < 0.01 and 0.8 < found.overlap <= 1


def test_affine_is_as_good_as_opencvs_ecc(pair, epe, motion):
    one, two, truth = pair(motion)
    gray = [np.round(frame[..., 0] * 255).astype(np.uint8) for frame in (one, two)]
    start = np.eye(2, 3, dtype=np.float32)
    criteria = (3, 50, 1e-3)
    _, warp = cv2.findTransformECC(*gray, start, cv2.MOTION_AFFINE, criteria, None, 5)
    reference = np.vstack([warp, [0, 0, 1]]).astype(np.float32)
    found = register(one, two, motion="affine", method="ecc")
    flows = (registration.matrix_flow(m, (128, 128)) for m in (found.matrix, reference))
    ours, theirs = (epe(flow, truth) for flow in flows)
    assert ours <= max(1.25 * theirs, theirs + 0.01)


@pytest.mark.slow
def test_only_ecc_forgives_gain_and_bias(texture):
    one, two = render(texture, TRUTH["translation"])
    changed = np.float32(0.7 * two + 0.2)
    errors = [
        corner_error(
            register(one, changed, motion="translation", method=method).matrix,
            TRUTH["translation"],
        )
        for method in METHODS
    ]
    assert errors[2] < 0.05 < min(errors[:2])


def test_models_nest(texture):
    one, two = render(texture, TRUTH["translation"])
    found = register(one, two, motion="affine", method="inverse_compositional")
    np.testing.assert_allclose(found.matrix[:2, :2], np.eye(2), atol=5e-4)


def test_three_parameters_beat_eight_under_noise(texture, rng):
    one, two = render(texture, TRUTH["rotation"])
    noisy = [f + rng.normal(scale=0.1, size=f.shape).astype("f") for f in (one, two)]
    errors = [
        corner_error(
            register(*noisy, motion=motion, method="inverse_compositional").matrix,
            TRUTH["rotation"],
        )
        for motion in ("rotation", "homography")
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    "robust", ["huber", pytest.param("tukey", marks=pytest.mark.slow)]
)
def test_robust_weights_forgive_an_object_of_its_own_motion(texture, robust):
    one, two = render(texture, TRUTH["translation"])
    other = render(texture, np.eye(3), seed=5)[0]
    one[30:70, 30:70] = other[30:70, 30:70]
    two[30:70, 20:60] = other[30:70, 30:70]
    how = dict(motion="translation", method="inverse_compositional")
    plain = corner_error(register(one, two, **how).matrix, TRUTH["translation"])
    found = register(one, two, robust=robust, **how)
    error = corner_error(found.matrix, TRUTH["translation"])
    assert error < 0.5 * plain and error < 0.25


def test_rotation_jacobian_is_the_papers():
    focal = 2.5
    places = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    x, y = places[..., 0], places[..., 1]
    f = focal
    expected = np.stack(
        [
            np.stack([-x * y / f, f + x**2 / f, -y], axis=-1),
            np.stack([-(f + y**2 / f), x * y / f, x], axis=-1),
        ],
        axis=-2,
    )
    actual = jax.jit(registration._jacobian, static_argnums=1)(
        places, "rotation", focal
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_rotation_matrix_is_scipys():
    for vector in ([0.3, -0.4, 1.2], [1e-3, 2e-3, -1e-3], [0, 0, 0]):
        expected = scipy.spatial.transform.Rotation.from_rotvec(vector).as_matrix()
        actual = registration.rotation_matrix(jnp.asarray(vector, jnp.float32))
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_affine_least_squares_is_numpys(rng):
    ix, iy, it = rng.normal(size=(3, 8, 9, 1)).astype(np.float32)
    y, x = np.mgrid[:8, :9].astype(np.float32)
    basis = np.stack([0 * x + 1, x, y], axis=-1)
    rows = np.concatenate([ix * basis, iy * basis], axis=-1).reshape(-1, 6)
    expected = np.linalg.lstsq(rows, -it.ravel(), rcond=None)[0]
    # Normal equations of 72 rows in float32.
    actual = registration.fit_affine(ix, iy, it)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_batch_equals_singles(texture):
    pairs = [render(texture, TRUTH["translation"], seed=seed) for seed in (0, 1)]
    one, two = (np.stack(frames) for frames in zip(*pairs, strict=True))
    how = dict(motion="translation", method="inverse_compositional")
    together = register(one, two, **how)
    for matrix, frames in zip(together.matrix, pairs, strict=True):
        single = register(*frames, **how).matrix
        np.testing.assert_allclose(matrix, single, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_matches_finite_differences(double, pair, slopes, method):
    one, two, _ = pair("shift_small", (64, 64))
    estimate = functools.partial(
        registration.register, motion="affine", method=method, levels=1, iterations=2
    )
    slope, difference = slopes(lambda a, b: estimate(a, b).matrix, (one, two))
    # Central differences in float64 of a piecewise smooth function.
    np.testing.assert_allclose(slope, difference, rtol=1e-4)


def test_flat_frames_do_not_move():
    flat = np.full((32, 32, 1), 0.5, np.float32)
    found = register(flat, flat, motion="affine", method="inverse_compositional")
    np.testing.assert_allclose(found.matrix, np.eye(3), atol=1e-6)


def test_rejects_what_it_cannot_use():
    frame = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="motion"):
        registration.register(frame, frame, motion="rigid")
    with pytest.raises(ValueError, match="robust"):
        registration.register(frame, frame, method="ecc", robust="huber")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["inverse_compositional", "ecc"])
def test_nothing_is_found_where_a_frame_is_flat(texture, method):
    one, _ = render(texture, np.eye(3))
    one = np.asarray(one, np.float32)
    white = np.ones_like(one)
    frames1 = np.stack([one, white, one, one * np.nan])
    frames2 = np.stack([white, one, one, one])
    start = np.eye(3, dtype=np.float32)
    start[0, 2] = 0.25
    found = register(
        frames1, frames2, motion="affine", method=method, initial_matrix=start
    )
    np.testing.assert_array_equal(found.found, [False, False, True, False])
    np.testing.assert_array_equal(found.matrix[:2], [start, start])
    np.testing.assert_allclose(found.matrix[2], np.eye(3), atol=1e-3)
    assert np.isnan(found.matrix[3]).all()


def test_affine_least_squares_of_a_flat_frame_is_0():
    zero = np.zeros((8, 9, 1), np.float32)
    assert not np.any(registration.fit_affine(zero, zero, zero + 1))
