"""Tests for jaxflow.classical.applications."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.classical import applications

SHIFT = np.array([2.0, -1.0], np.float32)


def shifted(texture, times, size=(48, 64)):
    scene = texture(2)
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    frames = [scene(x - t * SHIFT[0], y - t * SHIFT[1])[..., None] for t in times]
    return np.stack(frames).astype(np.float32)


def known_flow(sign):
    return jnp.broadcast_to(sign * SHIFT, (48, 64, 2))


def test_an_endless_average_holds_the_camera_still(texture):
    clip = shifted(texture, range(4))
    steady = jax.jit(
        lambda clip: applications.stabilise(
            clip, smoothing=float("inf"), motion="translation", levels=2
        )
    )(clip)
    inner = np.asarray(steady.clip)[:, 12:36, 12:52]
    # A shift found to a hundredth of a pixel, and bilinear interpolation.
    np.testing.assert_allclose(
        inner, np.broadcast_to(inner[:1], inner.shape), atol=0.03
    )
    np.testing.assert_allclose(steady.path[-1, :2, 2], 3 * SHIFT, atol=0.05)


def test_a_path_is_smoothed_towards_its_mean():
    path = jnp.stack([jnp.eye(3).at[0, 2].set(x) for x in (0.0, 4.0, 0.0, 4.0)])
    smooth = applications.smooth_path(path, 1e6)
    np.testing.assert_allclose(smooth[:, 0, 2], 2, atol=1e-4)
    np.testing.assert_allclose(applications.smooth_path(path, 1e-3), path, atol=1e-6)


def test_the_identity_warps_nothing(rng):
    frame = rng.uniform(size=(5, 6, 3)).astype(np.float32)
    warped, inside = applications.warp_frame(frame, jnp.eye(3))
    np.testing.assert_array_equal(warped, frame)
    assert inside.all()


def test_a_mosaic_counts_and_averages(texture):
    clip = shifted(texture, range(3))
    stitch = functools.partial(applications.mosaic, motion="translation", levels=2)
    mean, count, _ = jax.jit(functools.partial(stitch, size=(60, 80), origin=(8, 6)))(
        clip
    )
    # Pixels that moved right by 2 a frame are seen from further left later on.
    assert count[20, 40] == 3 and count[0, 0] == 0
    np.testing.assert_allclose(mean[10:40, 20:60], clip[0, 4:34, 12:52], atol=0.03)


@pytest.mark.parametrize("time", [0.25, 0.5])
def test_interpolation_is_exact_under_exact_flow(texture, time):
    one, middle, two = shifted(texture, (0, time, 1))
    actual = jax.jit(applications.interpolate)(
        one, two, known_flow(1), known_flow(-1), time=time
    )
    inner = np.s_[6:-6, 6:-6]
    ours = np.abs(actual - middle)[inner].mean()
    blend = np.abs((1 - time) * one + time * two - middle)[inner].mean()
    # What is left is bilinear interpolation of waves of 6 pixels.
    assert ours < 0.005 and ours < 0.5 * blend


def test_slow_motion_keeps_the_frames_it_had(texture):
    clip = shifted(texture, range(3))
    flow = lambda a, b: jnp.where((a - b).sum() < 1e9, known_flow(1), 0)  # noqa: E731
    slow = applications.slow_motion(jnp.asarray(clip), flow, factor=2)
    assert slow.shape == (5, 48, 64, 1)
    np.testing.assert_array_equal(slow[::2], clip)


def test_entropy_is_the_histograms(rng):
    one = np.zeros((2, 16, 16, 1), np.float32)
    two = one.copy()
    two[0] = rng.permutation(np.repeat([0.0, 0.2, 0.4, 0.6], 64)).reshape(16, 16, 1)
    sent = applications.compensate(one, two, np.zeros((2, 16, 16, 2), np.float32))
    # Four equally frequent values are 2 bits, one value is none.
    np.testing.assert_allclose(sent.entropy, [2, 0], atol=1e-6)
    np.testing.assert_array_equal(sent.residual, two)


def test_warping_error_is_zero_for_pure_motion_and_differentiable(texture):
    clip = jnp.asarray(shifted(texture, range(3)))
    flows = jnp.broadcast_to(known_flow(1), (2, 48, 64, 2))
    hidden = jnp.zeros((2, 48, 64), bool)
    error = jax.jit(jax.value_and_grad(applications.warping_error))
    value, slope = error(clip, flows, hidden)
    assert value < 1e-9 < 1e-3 < error(clip, 0 * flows, hidden)[0]
    assert np.isfinite(slope).all()


def test_rejects_what_it_cannot_use():
    clip = jnp.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="smoothing"):
        applications.stabilise(clip, smoothing=0.0)
    with pytest.raises(ValueError, match="factor"):
        applications.slow_motion(clip, None, factor=0)


def test_a_white_frame_does_not_move_the_camera(texture):
    clip = shifted(texture, range(4))
    clip[2] = 1
    path = jax.jit(
        lambda clip: applications.camera_path(clip, motion="translation", levels=2)
    )(clip)
    times = np.array([0, 1, 1, 3])[:, None]
    np.testing.assert_allclose(path[:, :2, 2], times * SHIFT, atol=0.05)
