"""Tests for jaxflow.classical.features."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.classical import features

detect = jax.jit(
    features.detect_corners, static_argnames=("count", "response", "window")
)
track = jax.jit(features.track)


@pytest.mark.parametrize("response", ["shi_tomasi", "harris"])
def test_corners_are_opencvs(texture, response):
    y, x = np.mgrid[:96, :120].astype(float)
    image = texture(seed=3)(x, y).astype(np.float32)
    expected = cv2.goodFeaturesToTrack(
        image, 40, 0.01, 10, useHarrisDetector=response == "harris"
    )[:, 0]
    points, found = detect(image[..., None], count=40, response=response)
    points = np.asarray(points)[np.asarray(found)]
    assert len(points) == len(expected)
    # Equal but for the order of near ties.
    distances = np.linalg.norm(points[:, None] - expected, axis=-1).min(1)
    assert (distances < 0.5).mean() >= 0.95
    np.testing.assert_array_equal(points[0], expected[0])


def test_flat_images_have_no_corners():
    points, found = detect(np.full((16, 16, 1), 0.5, np.float32), count=5)
    assert not found.any() and not points.any()


@pytest.fixture(scope="module")
def clip(texture):
    """Six frames of a texture that turns by a degree and moves by (1.7, -1.1) each."""
    scene = texture(seed=1)
    y, x = np.mgrid[:96, :120].astype(float)

    def position(points, t):
        c, s = np.cos(np.radians(t)), np.sin(np.radians(t))
        dx, dy = points[..., 0] - 60, points[..., 1] - 48
        moved = np.stack([c * dx - s * dy, s * dx + c * dy], axis=-1)
        return moved + np.array([60 + 1.7 * t, 48 - 1.1 * t])

    def frame(t):
        c, s = np.cos(np.radians(t)), np.sin(np.radians(t))
        dx, dy = x - 60 - 1.7 * t, y - 48 + 1.1 * t
        return scene(c * dx + s * dy + 60, -s * dx + c * dy + 48)[..., None]

    return np.stack([frame(t) for t in range(6)]).astype(np.float32), position


def test_tracks_follow_the_true_paths(clip):
    frames, position = clip
    points, found = detect(frames[0], count=40)
    tracks = track(frames, points)
    truth = np.stack([position(np.asarray(points), t) for t in range(6)])
    error = np.linalg.norm(tracks.points - truth, axis=-1)
    seen = np.asarray(tracks.visible & found[None])
    inside = ((truth > 12) & (truth < (107, 83))).all(-1)
    assert seen[inside].mean() > 0.95
    # Five steps, each as good as OpenCV's.
    assert error[seen & inside].mean() < 0.15


def test_one_step_is_opencvs(clip):
    frames, position = clip
    points, found = detect(frames[0], count=40)
    points = np.asarray(points)[np.asarray(found)]
    gray = [np.round(frame[..., 0] * 255).astype(np.uint8) for frame in frames[:2]]
    reference, status, _ = cv2.calcOpticalFlowPyrLK(*gray, points[:, None], None)
    moved, _, _ = jax.jit(features.track_pair)(*frames[:2], points)
    truth = position(points, 1)
    inner = ((points > 14) & (points < (105, 81))).all(-1) & (status[:, 0] == 1)
    ours, theirs = (
        np.linalg.norm(found - truth, axis=-1)[inner].mean()
        for found in (np.asarray(moved), reference[:, 0])
    )
    assert ours <= max(1.25 * theirs, theirs + 0.01)


@pytest.mark.slow
def test_a_point_that_is_covered_is_lost(clip):
    frames, _ = clip
    frames = frames.copy()
    frames[3:, 20:76, 30:90] = np.random.default_rng(0).uniform(size=(3, 56, 60, 1))
    tracks = track(frames, jnp.array([[60.0, 48.0], [100.0, 80.0]]))
    np.testing.assert_array_equal(tracks.visible[:, 0], [True] * 3 + [False] * 3)


@pytest.mark.slow
def test_gradient_matches_finite_differences(double, clip):
    frames, _ = clip
    frames = jnp.asarray(frames[:2], jnp.float64)
    points = jnp.array([[40.3, 30.6], [60.2, 50.7]])
    follow = functools.partial(
        features.track_pair, *frames, window=7, levels=2, iterations=3
    )
    value = jax.jit(jax.value_and_grad(lambda p: follow(p)[0][0, 0]))
    step = 1e-6
    difference = (value(points + step)[0] - value(points - step)[0]) / (2 * step)
    np.testing.assert_allclose(value(points)[1].sum(), difference, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("flat", [0, 1])
def test_points_are_lost_where_a_frame_is_flat(texture, flat):
    y, x = np.mgrid[:64, :64].astype(float)
    frames = np.stack([texture(seed=3)(x, y)] * 2)[..., None].astype(np.float32)
    frames[flat] = 0.7
    points = np.array([[30.0, 30.0], [20.0, 40.0]], np.float32)
    tracks = track(frames, points)
    assert not tracks.visible[1].any()
    np.testing.assert_array_equal(tracks.points[1], points)
