import tracemalloc
import types

import numpy as np
import pytest

from jaxflow import io, views
from jaxflow.data import flow_pictures


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (11, 40, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("length", "clips", "placement", "firsts"),
    [
        (40, 1, "spread", [10]),
        (40, 3, "spread", [0, 10, 20]),
        (40, 2, "pyslowfast", [0, 10]),
        (40, 7, "dense", [0, 20]),
        (45, 7, "dense", [0, 20, 40]),
        (7, 2, "spread", [0, 0]),
        (40, 1, "segments", [5]),
        (40, 2, "segments", [2, 7]),
    ],
)
def test_clips_start_where_they_should(length, clips, placement, firsts):
    indices = views.clip_indices(length, 4, 5, clips=clips, placement=placement)
    np.testing.assert_array_equal(indices[:, 0], firsts)
    assert indices.max() < length
    assert (np.diff(indices) >= 0).all()


def test_frames_of_a_clip_are_spread_as_in_pyslowfast():
    # floor(linspace(start, start + span - 1, T)) with T = 8, span = 64, start = 10.
    indices = views.clip_indices(84, 8, 8)
    np.testing.assert_array_equal(indices[0], [10, 19, 28, 37, 46, 55, 64, 73])


def test_segments_cover_the_whole_video():
    indices = views.clip_indices(35, 7, 8, placement="segments")
    np.testing.assert_array_equal(indices[0], [2, 7, 12, 17, 22, 27, 32])
    one = views.clip_indices(1, 3, 8, placement="segments", clips=2)
    np.testing.assert_array_equal(one, 0)


def test_segments_give_consecutive_frames_in_their_middle():
    indices = views.clip_indices(40, 6, 8, placement="segments", run=3)
    np.testing.assert_array_equal(indices, [[9, 10, 11, 29, 30, 31]])
    many = views.clip_indices(40, 6, 8, placement="segments", run=3, clips=2)
    np.testing.assert_array_equal(many[0], [4, 5, 6, 24, 25, 26])
    short = views.clip_indices(2, 6, 8, placement="segments", run=3)
    np.testing.assert_array_equal(short, [[0, 1, 1, 0, 1, 1]])
    with pytest.raises(ValueError, match="multiple of 4, the frames of a segment"):
        views.clip_indices(40, 6, 8, placement="segments", run=4)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_flow_turns_round_in_the_mirror(channels, rng):
    """A scene that moves right moves left in the mirror, and as fast up or down."""
    clip = rng.uniform(size=(2, 4, 6, channels)).astype(np.float32)
    expected = clip[:, :, ::-1].copy()
    if channels != 3:
        u = 40 * expected[..., -2] - 20
        expected[..., -2] = (-u + 20) / 40
    crops = views.spatial_views(clip, 4, count=10)
    np.testing.assert_allclose(crops[5], expected[:, :, -4:], atol=1e-6)
    np.testing.assert_allclose(views.mirrored(clip), expected, atol=1e-6)


def test_random_clips_stay_inside_and_repeat_with_their_generator():
    draw = [
        views.clip_indices(
            50, 4, 3.5, clips=9, placement="random", generator=np.random.default_rng(3)
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*draw)
    assert draw[0].max() < 50
    assert len(set(draw[0][:, 0])) > 3


def test_crops_are_where_they_are_named():
    clip = np.arange(4 * 7).reshape(1, 4, 7, 1)
    corners = [int(v[0, 0, 0, 0]) for v in views.spatial_views(clip, 3, count=3)]
    assert corners == [7, 9, 11]
    five = [int(v[0, 0, 0, 0]) for v in views.spatial_views(clip, 3, count=5)]
    assert five == [0, 4, 7, 11, 9]
    ten = views.spatial_views(clip, 3, count=10)
    np.testing.assert_array_equal(ten[7], ten[2][:, :, ::-1])
    tall = views.spatial_views(clip.swapaxes(1, 2), 3, count=3)
    np.testing.assert_array_equal(tall[0], clip.swapaxes(1, 2)[:, :3, 1:])


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
