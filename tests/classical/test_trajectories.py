"""Tests for jaxflow.classical.trajectories."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.classical import trajectories

STEP = np.array([1.5, -0.5], np.float32)


def moving_clip(texture, length=6, size=(48, 64)):
    scene = texture()
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    frames = [scene(x - t * STEP[0], y - t * STEP[1])[..., None] for t in range(length)]
    flows = np.broadcast_to(STEP, (length - 1, *size, 2))
    return np.stack(frames).astype(np.float32), flows.astype(np.float32)


follow = jax.jit(trajectories.dense_trajectories)
describe = jax.jit(trajectories.describe)


def test_trajectories_follow_the_flow(texture):
    clip, flows = moving_clip(texture)
    points, valid = follow(clip, flows)
    expected = np.asarray(points[0]) + np.arange(6, dtype="f")[:, None, None] * STEP
    np.testing.assert_allclose(points, expected, atol=1e-4)
    inside = ((expected[-1] >= 0) & (expected[-1] <= (63, 47))).all(-1)
    assert valid[~inside].sum() == 0 and valid[inside].mean() > 0.9


def test_still_or_jumping_points_are_not_valid(texture):
    clip, flows = moving_clip(texture)
    assert not follow(clip, 0 * flows).valid.any()
    assert not follow(clip, 20 * flows).valid.any()


def test_a_translation_fills_its_hof_bins_and_no_mbh(texture):
    clip, flows = moving_clip(texture)
    found = describe(follow(clip, flows), flows)
    row = np.flatnonzero(np.asarray(found["hof"]).any(-1))[0]
    hof = found["hof"][row].reshape(-1, 9)
    angle = np.arctan2(STEP[1], STEP[0]) % (2 * np.pi) / (np.pi / 4)
    # Between bins 7 and 8 = 0; the last is for what stands still.
    assert 7 < angle < 8
    np.testing.assert_allclose(hof[:, 1:7], 0, atol=1e-6)
    np.testing.assert_allclose(hof[:, 8], 0)
    np.testing.assert_allclose(
        hof[0, 0] / hof[0, 7], (angle - 7) / (8 - angle), rtol=1e-4
    )
    np.testing.assert_allclose((hof**2).sum(), 1, rtol=1e-5)
    assert not found["mbh_x"].any() and not found["mbh_y"].any()
    shape = found["shape"][row].reshape(-1, 2)
    np.testing.assert_allclose(
        shape, np.tile(STEP / np.hypot(*STEP) / 5, (5, 1)), rtol=1e-4
    )


@pytest.mark.slow
def test_motion_boundaries_fill_mbh_at_the_boundary():
    flow = jnp.zeros((1, 32, 32, 2)).at[:, :, 16:, 0].set(2.0)
    tracks = trajectories.Trajectories(
        jnp.array([[[15.0, 15.0]], [[15.0, 15.0]]]), jnp.array([True])
    )
    describe = functools.partial(trajectories.describe, patch=8, segments=1)
    found = jax.jit(describe)(tracks, flow)
    x = found["mbh_x"][0].reshape(-1, 8)
    assert (x.argmax(-1) == 0).all() and not found["mbh_y"].any()


@pytest.mark.slow
def test_descriptor_of_a_clip_is_finite_and_so_is_its_gradient(texture):
    clip, _ = moving_clip(texture)

    def total(clip):
        flow = lambda a, b: jnp.broadcast_to(STEP + (a - b).mean(), (48, 64, 2))  # noqa: E731
        return trajectories.clip_descriptor(clip, flow).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(clip)
    assert np.isfinite(value) and np.isfinite(slope).all()
