"""Tests for jaxflow.views.sampling."""

import tracemalloc
import types

import numpy as np
import pytest

from jaxflow import io, views


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (11, 40, 50, 3), np.uint8)


def test_the_step_between_frames_is_in_time(frames):
    """A network that counts in 15 frames a second takes every other of 30."""
    settings = {"num_frames": 3, "frame_stride": 1, "crop_size": 8}
    ramp = np.broadcast_to(np.arange(9)[:, None, None, None] / 10, (9, 8, 8, 3))
    ramp = ramp.astype(np.float32)
    for rate, step in ((15.0, 2), (30.0, 1), (None, 1)):
        config = types.SimpleNamespace(**settings, frame_rate=rate)
        network = types.SimpleNamespace(config=config)
        (view,) = views.sample_views(network, ramp, fps=30, short_side=8)
        expected = views.clip_indices(9, 3, step)[0] / 10
        np.testing.assert_allclose(view[:, 0, 0, 0], expected, atol=1e-6)


def test_a_network_says_where_its_frames_are():
    config = types.SimpleNamespace(
        num_frames=2, frame_stride=1, crop_size=4, placement="segments"
    )
    network = types.SimpleNamespace(config=config)
    ramp = np.repeat(np.arange(8, dtype=np.uint8), 16 * 3).reshape(8, 4, 4, 3)
    (view,) = views.sample_views(network, ramp, short_side=4)
    np.testing.assert_allclose(255 * view[:, 0, 0, 0], [2, 6], atol=1e-4)


@pytest.mark.parametrize("placement", ["dense", "spread", "segments", "random"])
def test_frames_are_let_go_when_no_later_clip_needs_them(placement):
    config = types.SimpleNamespace(num_frames=4, frame_stride=5, crop_size=8)
    network = types.SimpleNamespace(config=config)
    ramp = np.broadcast_to(np.arange(90)[:, None, None, None], (90, 8, 8, 3))
    ramp = (ramp / 90).astype(np.float32)
    options = {"placement": placement, "clips": 3, "short_side": 8}
    found = np.stack(list(views.sample_views(network, ramp, **options)))
    expected = views.clip_indices(
        90, 4, 5, clips=3, placement=placement, generator=np.random.default_rng(0)
    )
    np.testing.assert_allclose(90 * found[..., 0, 0, 0], expected, atol=1e-4)


def test_a_long_video_takes_the_memory_of_a_clip():
    config = types.SimpleNamespace(num_frames=8, frame_stride=2, crop_size=32)
    network = types.SimpleNamespace(config=config)
    # One frame, seen 20 000 times: as float32 the views are 250 MB.
    long = np.broadcast_to(np.zeros((32, 32, 3), np.uint8), (20_000, 32, 32, 3))
    options = {"placement": "dense", "short_side": 32, "stride": 2}
    tracemalloc.start()
    count = sum(1 for _ in views.sample_views(network, long, **options))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1250
    assert peak < 10e6


def test_a_network_without_a_config_takes_options():
    network = types.SimpleNamespace()
    clip = np.zeros((9, 8, 8, 3), np.uint8)
    options = {"num_frames": 2, "crop_size": 4, "stride": 1}
    (view,) = views.sample_views(network, clip, **options)
    assert view.shape == (2, 4, 4, 3)
    for name in options:
        left = {k: v for k, v in options.items() if k != name}
        with pytest.raises(ValueError, match=f"`{name}` must be given"):
            views.sample_views(network, clip, **left)


def network(**settings):
    return types.SimpleNamespace(config=types.SimpleNamespace(**settings))


def test_clips_around_moments_have_them_in_the_middle(tmp_path):
    model = network(num_frames=4, frame_stride=2, crop_size=32)
    video = np.arange(40, dtype=np.uint8).repeat(6 * 8 * 3).reshape(40, 6, 8, 3)
    options = {"fps": 10, "stride": 3, "short_side": 6}
    clips = list(views.clips_around(model, video, [0, 1.04, 3.9], **options))
    shown = [np.round(255 * clip[:, 0, 0, 0]).astype(int).tolist() for clip in clips]
    # PySlowFast: range(centre - 6, centre + 6, 3), inside the video.
    assert shown == [[0, 0, 0, 3], [4, 7, 10, 13], [33, 36, 39, 39]]
    assert clips[0].shape == (4, 6, 8, 3)
    # The model's own stride counts 30 frames a second.
    clips = list(views.clips_around(model, video, [2.0], fps=15, short_side=6))
    assert np.round(255 * clips[0][:, 0, 0, 0]).tolist() == [28, 29, 30, 31]


def test_moments_of_a_video_of_variable_rate_are_those_of_its_frames(tmp_path):
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None] * 30
    frames = np.broadcast_to(frames, (8, 32, 32, 3))
    times = [0, 0.1, 0.2, 0.3, 2, 4, 6, 8]
    path = tmp_path / "a.mkv"
    io.write_video(path, frames, times=times, lossless=True)
    model = network(num_frames=1, frame_stride=1, crop_size=32)
    clips = views.clips_around(model, path, [0.3, 4.1, 8.0], short_side=32)
    levels = [float(np.round(255 * clip[0, 0, 0, 0])) for clip in clips]
    assert levels == [90, 150, 210]


@pytest.mark.parametrize(
    ("moments", "message"),
    [([1, 0.5], "in order"), ([-1], "in the video"), ([1.2], "lasts 1.1 s; got 1.2")],
)
def test_moments_that_are_not_in_the_video_are_one_clear_error(
    frames, moments, message
):
    model = network(num_frames=1, frame_stride=1, crop_size=32)
    with pytest.raises(ValueError, match=message):
        views.clips_around(model, frames, moments, fps=10)


def test_batches_are_of_one_size_and_say_how_many_are_real():
    views_ = [np.full((1, 2, 2, 3), k / 4, np.float32) for k in range(5)]
    found = [(np.asarray(x), count) for x, count in views.batches(views_, 2)]
    assert [count for _, count in found] == [2, 2, 1]
    assert {x.shape for x, _ in found} == {(2, 1, 2, 2, 3)}
    np.testing.assert_array_equal(found[2][0][0], found[2][0][1])
    with pytest.raises(ValueError, match="`batch_size` must be positive"):
        next(views.batches(views_, 0))


def test_a_seed_that_is_none_is_named(frames):
    model = network(num_frames=1, frame_stride=1, crop_size=32)
    for seed in ("a", -1):
        with pytest.raises(ValueError, match=f"`seed` must be .*; got {seed!r}"):
            views.sample_views(model, frames, seed=seed)
