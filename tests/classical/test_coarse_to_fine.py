"""Tests for jaxflow.classical.coarse_to_fine."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.classical import coarse_to_fine


def test_luminance_is_opencvs(rng):
    image = rng.uniform(size=(5, 6, 3)).astype(np.float32)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Three products of order 1 in float32.
    actual = coarse_to_fine.luminance(image)[..., 0]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        coarse_to_fine.luminance(image[..., :2])


def test_half_precision_is_widened():
    assert coarse_to_fine.widen(jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32


def test_sizes_stop_at_the_smallest_useful_one():
    sizes = coarse_to_fine.pyramid_sizes((64, 100), levels=5)
    assert sizes == [(64, 100), (32, 50), (16, 25)]
    assert coarse_to_fine.pyramid_sizes((8, 8), levels=5) == [(8, 8)]
    with pytest.raises(ValueError, match="step"):
        coarse_to_fine.pyramid_sizes((8, 8), levels=2, step=1.0)


def test_flow_grows_with_the_level():
    seen = []

    def solve(one, two, flow):
        seen.append((one.shape[:2], float(flow[0, 0, 0])))
        return flow + 1

    frame = jnp.indices((64, 64)).sum(0)[..., None] / 126
    flow = coarse_to_fine.estimate(solve, frame, frame, levels=3)
    assert seen == [((16, 16), 0.0), ((32, 32), 2.0), ((64, 64), 6.0)]
    np.testing.assert_allclose(flow, 7)


def test_flat_frames_leave_the_flow_as_it_was():
    ramp = jnp.indices((32, 32)).sum(0)[..., None] / 62
    frames = jnp.stack([ramp, ramp * 0 + 0.7, ramp * jnp.nan])
    np.testing.assert_array_equal(coarse_to_fine.textured(frames), [1, 0, 1])
    start = jnp.full((3, 32, 32, 2), 0.5)
    for initial, expected in ((None, 0.0), (start, 0.5)):
        flow = coarse_to_fine.estimate(
            lambda one, two, flow: flow + one.mean((1, 2, 3), keepdims=True),
            frames, frames, levels=1, initial_flow=initial,
        )  # fmt: skip
        np.testing.assert_allclose(flow[0], expected + 0.5, atol=1e-6)
        np.testing.assert_array_equal(flow[1], expected)
        assert jnp.isnan(flow[2]).all()


def test_initial_flow_is_shrunk_to_the_coarsest_level():
    frame = jnp.zeros((64, 64, 1))
    start = jnp.full((64, 64, 2), 8.0)
    seen = []
    coarse_to_fine.estimate(
        lambda one, two, flow: seen.append(float(flow[0, 0, 0])) or flow,
        frame,
        frame,
        levels=3,
        initial_flow=start,
    )
    assert seen == [2, 4, 8]


def test_equal_frames_are_equal_on_every_level(rng):
    frame = rng.random((37, 53, 1), np.float32)

    def solve(image1, image2, flow):
        return flow + jnp.abs(image1 - image2).max()

    estimate = functools.partial(
        coarse_to_fine.estimate, solve, levels=5, step=0.8, sigma=0.7
    )
    np.testing.assert_array_equal(jax.jit(estimate)(frame, frame.copy()), 0)
