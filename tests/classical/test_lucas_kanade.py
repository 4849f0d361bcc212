"""Tests for jaxflow.classical.lucas_kanade."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.registration

from jaxflow.classical import constraint, lucas_kanade, structure

local_motion = jax.jit(
    lucas_kanade.local_motion, static_argnames=("window", "shape", "kernel", "source")
)


@pytest.mark.parametrize("channels", [1, 3], ids=["gray 25x2", "colour 75x2"])
def test_each_pixel_equals_lstsq(rng, channels):
    one = rng.uniform(size=(12, 14, channels)).astype(np.float32)
    two = (one + 0.1 * rng.uniform(size=one.shape)).astype(np.float32)
    actual = local_motion(one, two, window=5)
    ix, iy, it = (np.asarray(d) for d in constraint.motion_derivatives(one, two))
    for y in range(2, 10):
        for x in range(2, 12):
            near = slice(y - 2, y + 3), slice(x - 2, x + 3)
            rows = np.stack([ix[near].ravel(), iy[near].ravel()], axis=1)
            expected = np.linalg.lstsq(rows, -it[near].ravel(), rcond=None)[0]
            # Noise windows are well conditioned: float32 rounding of 25 products.
            np.testing.assert_allclose(actual.flow[y, x], expected, atol=1e-5)
    assert (actual.rank == 2).all()


def test_gray_in_three_channels_is_gray(pair):
    one, two, _ = pair("shift_small", (64, 64))
    gray = local_motion(one, two)
    colour = local_motion(*(np.repeat(f, 3, -1) for f in (one, two)))
    np.testing.assert_allclose(gray.flow, colour.flow, atol=1e-4)


def test_a_grating_is_rank_one_and_gives_the_normal_flow():
    x = np.mgrid[:24, :24][1]
    colours = np.array([1.0, 0.5, -0.3])
    one, two = (
        np.float32(0.5 + 0.3 * np.sin((x - d)[..., None] / 3) * colours)
        for d in (0.0, 0.2)
    )
    actual = local_motion(one, two, window=5)
    inner = np.s_[4:-4, 4:-4]
    # Colour does not help: the gradients of an edge stay parallel.
    assert (actual.rank[inner] == 1).all()
    np.testing.assert_allclose(actual.flow[inner][..., 0], 0.2, atol=0.01)
    np.testing.assert_allclose(actual.flow[inner][..., 1], 0, atol=1e-6)


def test_flat_windows_are_rank_zero_with_finite_gradients():
    flat = jnp.full((8, 8, 1), 0.5)
    actual = local_motion(flat, flat + 0.1)
    assert not actual.rank.any() and not actual.flow.any()
    slope = jax.jit(jax.grad(lambda a: local_motion(a, flat).flow.sum()))(flat)
    assert np.isfinite(slope).all()


def test_colour_beats_gray_under_noise(pair, epe, rng):
    truth = pair("shift_small", (64, 64))[2]
    frames = [pair("shift_small", (64, 64), seed=seed)[:2] for seed in range(3)]
    one, two = (np.concatenate(channels, -1) for channels in zip(*frames, strict=True))
    noisy = [f + rng.normal(scale=0.02, size=f.shape).astype("f") for f in (one, two)]
    colour = local_motion(*noisy).flow
    gray = local_motion(*(f[..., :1] for f in noisy)).flow
    assert epe(colour, truth, 8) < 0.8 * epe(gray, truth, 8)


@pytest.fixture(scope="module")
def estimate():
    return jax.jit(lucas_kanade.lucas_kanade)


def opencv(one, two):
    gray = [np.round(frame[..., 0] * 255).astype(np.uint8) for frame in (one, two)]
    height, width = gray[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    points = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    moved, _, _ = cv2.calcOpticalFlowPyrLK(*gray, points, None)
    return (moved - points).reshape(height, width, 2)


def skimage_ilk(one, two):
    v, u = skimage.registration.optical_flow_ilk(one[..., 0], two[..., 0])
    return np.stack([u, v], axis=-1)


def test_six_motions_are_as_good_as_opencv_and_skimage(pair, epe, motion, estimate):
    one, two, truth = pair(motion)
    error = epe(estimate(one, two), truth)
    for oracle in (opencv, skimage_ilk):
        reference = epe(oracle(one, two), truth)
        assert error <= max(1.25 * reference, reference + 0.01)


def test_iterations_stay_where_they_converged(pair, epe):
    one, two, truth = pair((np.eye(2), (1.2, -0.9)), (64, 64))
    errors = [
        epe(lucas_kanade.lucas_kanade(one, two, levels=1, iterations=n), truth, 8)
        for n in (3, 50)
    ]
    # The literal reading (every pixel warped by its own flow, no re-centring) reaches
    # 0.075 at its second iteration and is back at 0.23 by its tenth.
    assert errors[0] < 0.02 and errors[1] < errors[0] + 1e-3


def test_gradient_of_the_image_is_computed_once(pair):
    one, two, _ = pair("shift_small", (32, 32))
    jaxpr = jax.make_jaxpr(
        lambda a, b: lucas_kanade.lucas_kanade(a, b, levels=1, window=3, iterations=4)
    )(one, two)
    scans = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    (loop,) = (eqn for eqn in scans if eqn.params["length"] == 4)
    gradients = [v.aval.shape for v in loop.invars].count((32, 32, 1))
    # Both frames, Ix and Iy come in from outside.
    assert gradients >= 4


def test_one_level_aliases_and_a_pyramid_does_not(pair, epe, estimate):
    x = np.mgrid[:64, :64][1]
    one, two = (
        np.float32(0.5 + 0.3 * np.sin(2 * np.pi * (x - d) / 8))[..., None]
        for d in (0, 6)
    )
    flow = lucas_kanade.lucas_kanade(one, two, levels=1, iterations=10)
    # 6 pixels forward look like 2 pixels back under waves of 8.
    np.testing.assert_allclose(flow[24:40, 24:40, 0], -2, atol=0.05)

    one, two, truth = pair((np.eye(2), (8.0, 6.0)))
    assert epe(local_motion(one, two, window=15).flow, truth) > 1
    assert epe(estimate(one, two), truth) < 0.05


def test_what_breaks_it(pair, epe):
    one, two, truth = pair("shift_small", (64, 64))
    small = epe(local_motion(one, two, window=15).flow, truth)
    brighter = epe(local_motion(one, 1.2 * two, window=15).flow, truth)
    assert brighter > 5 * small
    far_one, far_two, far = pair((np.eye(2), (5.0, 4.0)), (64, 64))
    assert epe(local_motion(far_one, far_two, window=15).flow, far) > 2

    # Two halves that move apart: too small a window has little texture, too large a one
    # straddles the boundary.
    left, right = (pair((np.eye(2), (d, 0.0)), (64, 64)) for d in (-0.5, 0.5))
    seam = np.arange(64)[None, :, None] < 32
    one, two, truth = (np.where(seam, a, b) for a, b in zip(left, right, strict=True))
    noise = np.random.default_rng(0).normal(scale=0.01, size=(2, 64, 64, 1))
    errors = [
        epe(
            local_motion(
                np.float32(one + noise[0]), np.float32(two + noise[1]), window=window
            ).flow,
            truth,
        )
        for window in (3, 9, 31)
    ]
    assert errors[1] < errors[0] and errors[1] < errors[2]


def test_confidence_finds_the_bad_pixels(pair):
    one, two, truth = pair("shift_small")
    flat = np.zeros((128, 128, 1), np.float32)
    flat[:, 64:] = 1
    noise = np.random.default_rng(0).normal(scale=0.004, size=(2, 128, 128, 1))
    mixed = [
        np.float32(np.where(flat, frame, 0.5) + n)
        for frame, n in zip((one, two), noise, strict=True)
    ]
    motion = local_motion(*mixed, window=7)
    bad = np.linalg.norm(motion.flow - truth, axis=-1) > 0.3
    rating = np.asarray(structure.confidence(motion.tensor))
    ranks = rating.ravel().argsort().argsort()
    positives, negatives = bad.sum(), (~bad).sum()
    below = ranks[bad.ravel()].sum() - positives * (positives - 1) / 2
    # Area under the curve of "low confidence means wrong".
    assert 1 - below / (positives * negatives) > 0.9


@pytest.mark.slow
def test_gradient_matches_finite_differences(double, pair, slopes):
    one, two, _ = pair("shift_medium", (64, 64))
    slope, difference = slopes(
        lambda a, b: lucas_kanade.lucas_kanade(a, b, levels=2, iterations=2), (one, two)
    )
    # Central differences in float64 of a piecewise smooth function.
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_rejects_what_it_cannot_use():
    frame = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="window"):
        lucas_kanade.lucas_kanade(frame, frame, window=4)
    with pytest.raises(ValueError, match="shape"):
        lucas_kanade.lucas_kanade(frame, frame, shape="round")
    with pytest.raises(ValueError):
        lucas_kanade.lucas_kanade(frame, frame[:-1])
