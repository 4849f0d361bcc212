"""Tests for jaxflow.views.source."""

import types

import numpy as np
import pytest

from jaxflow import io, views
from jaxflow.data import flow_pictures


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (11, 40, 50, 3), np.uint8)


def test_a_network_on_flow_takes_arrays_of_two_channels_only(frames, tmp_path):
    config = types.SimpleNamespace(
        num_frames=2, frame_stride=1, crop_size=8, in_features=2
    )
    network = types.SimpleNamespace(config=config)
    (view,) = views.sample_views(network, np.full((3, 9, 9, 2), 0.5, np.float32))
    assert view.shape == (2, 8, 8, 2)
    with pytest.raises(ValueError, match="must be"):
        views.sample_views(network, frames)
    path = tmp_path / "clip.mp4"
    io.write_video(path, frames)
    with pytest.raises(ValueError, match=r"clip\.mp4: .* 2 channels"):
        views.sample_views(network, path)


def seeing(channels, frames=2):
    """Returns a network that sees so many channels."""
    config = types.SimpleNamespace(
        num_frames=frames, crop_size=4, frame_stride=1, in_features=channels
    )
    return types.SimpleNamespace(config=config)


@pytest.fixture
def clip_and_flow(rng, tmp_path):
    """A folder of 5 frames, its pictures of flow beside them, and both as arrays."""
    frames = rng.integers(0, 256, (5, 6, 8, 3), np.uint8)
    flow = rng.integers(0, 256, (4, 6, 8, 2), np.uint8)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        io.write_image(tmp_path / "frames" / f"img_{number:05d}.png", frame)
    flow_pictures.write_flow_pictures(tmp_path / "flow", flow)
    return tmp_path, frames / np.float32(255), flow / np.float32(255)


def test_frames_and_pictures_of_flow_are_joined(clip_and_flow):
    folder, frames, flow = clip_and_flow
    joined = np.concatenate([frames, flow[[0, 1, 2, 3, 3]]], -1)
    options = {"placement": "dense", "stride": 1, "short_side": 6, "crop_size": 6}
    found = list(
        views.sample_views(
            seeing(5), folder / "frames", flow=folder / "flow", **options
        )
    )
    expected = joined[[[0, 1], [2, 3], [4, 4]], :, 1:7]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    arrays = views.sample_views(seeing(5), frames, flow=flow, **options)
    np.testing.assert_allclose(list(arrays), expected, atol=1e-6)
    for video, given in ((folder / "flow", None), (folder / "frames", flow)):
        alone = views.sample_views(seeing(2), video, flow=given, **options)
        np.testing.assert_allclose(next(alone), expected[0][..., 3:], atol=1e-6)


def test_flow_of_another_size_is_resized_as_a_picture(clip_and_flow):
    _, frames, flow = clip_and_flow
    large = np.repeat(np.repeat(np.full_like(flow, 0.6), 2, 1), 2, 2)
    (view,) = views.sample_views(seeing(5), frames, flow=large, short_side=6)
    assert view.shape == (2, 4, 4, 5)
    np.testing.assert_allclose(view[..., 3:], 0.6, atol=1e-6)


def test_flow_that_does_not_belong_is_one_clear_error(clip_and_flow):
    folder, frames, flow = clip_and_flow
    for network, video, given, message in (
        (seeing(3), frames, flow, "`flow` must be None"),
        (seeing(5), frames, flow[:3], "3 flows for a video of 5 frames"),
        (seeing(5), folder / "frames", folder / "frames", "no pictures of flow"),
        (seeing(5), folder / "frames", None, "give `flow`"),
        (seeing(2), folder / "frames", None, "give `flow`"),
        (seeing(5), frames[..., 0], None, r"must be \(T, H, W, 5\);"),
        (seeing(2), frames[..., :1], None, r"must be \(T, H, W, 2\);"),
        (seeing(5), frames, flow + 1, "must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            views.sample_views(network, video, flow=given)


@pytest.mark.parametrize("fps", [0.001, 1e6, float("nan")])
def test_a_rate_that_no_recording_has_is_refused(frames, fps):
    with pytest.raises(ValueError, match="`fps` must be frames a second"):
        views.duration(frames, fps=fps)


def test_a_video_lasts_until_its_last_frame_ends(frames, tmp_path):
    assert views.duration(frames, fps=10) == pytest.approx(1.1)
    io.write_video(tmp_path / "a.mkv", frames[:3], times=[0, 0.5, 2], lossless=True)
    info = io.video_info(tmp_path / "a.mkv")
    assert views.duration(tmp_path / "a.mkv") == pytest.approx(2 + 1 / info.fps)
