import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import classify, io
from jaxflow.models.video import resnet3d
from tests import golden


@pytest.fixture(scope="module")
def model():
    model = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    model.eval()
    return model


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
    indices = classify.clip_indices(length, 4, 5, clips=clips, placement=placement)
    np.testing.assert_array_equal(indices[:, 0], firsts)
    assert indices.max() < length
    assert (np.diff(indices) >= 0).all()


def test_frames_of_a_clip_are_spread_as_in_pyslowfast():
    # floor(linspace(start, start + span - 1, T)) with T = 8, span = 64, start = 10.
    indices = classify.clip_indices(84, 8, 8)
    np.testing.assert_array_equal(indices[0], [10, 19, 28, 37, 46, 55, 64, 73])


def test_segments_cover_the_whole_video():
    indices = classify.clip_indices(35, 7, 8, placement="segments")
    np.testing.assert_array_equal(indices[0], [2, 7, 12, 17, 22, 27, 32])
    one = classify.clip_indices(1, 3, 8, placement="segments", clips=2)
    np.testing.assert_array_equal(one, 0)


def test_random_clips_stay_inside_and_repeat_with_their_generator():
    draw = [
        classify.clip_indices(
            50, 4, 3.5, clips=9, placement="random", generator=np.random.default_rng(3)
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*draw)
    assert draw[0].max() < 50
    assert len(set(draw[0][:, 0])) > 3


def test_crops_are_where_they_are_named():
    clip = np.arange(4 * 7).reshape(1, 4, 7, 1)
    corners = [int(v[0, 0, 0, 0]) for v in classify.spatial_views(clip, 3, count=3)]
    assert corners == [7, 9, 11]
    five = [int(v[0, 0, 0, 0]) for v in classify.spatial_views(clip, 3, count=5)]
    assert five == [0, 4, 7, 11, 9]
    ten = classify.spatial_views(clip, 3, count=10)
    np.testing.assert_array_equal(ten[7], ten[2][:, :, ::-1])
    tall = classify.spatial_views(clip.swapaxes(1, 2), 3, count=3)
    np.testing.assert_array_equal(tall[0], clip.swapaxes(1, 2)[:, :3, 1:])


def test_scores_are_probabilities(model, frames):
    scores = classify.classify_video(model, frames)
    assert scores.shape == (5,)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)


def test_one_view_is_the_model_on_the_centre(model, frames):
    square = frames[:, :32, :32]
    clip = square[classify.clip_indices(11, 4, 2)[0]].astype(np.float32) / 255
    expected = jax.nn.softmax(golden.run(model, clip[None])[0])
    actual = classify.classify_video(model, square, stride=2, short_side=32)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_thirty_views_are_the_mean_of_thirty_single_ones(model, frames):
    small = frames[:, :32, :36]
    options = {"num_frames": 2, "stride": 1, "batch_size": 7, "short_side": 32}
    actual = classify.classify_video(model, small, clips=10, crops=3, **options)
    scores = []
    for row in classify.clip_indices(11, 2, 1, clips=10):
        for x in (0, 2, 4):
            clip = small[row][:, :, x : x + 32].astype(np.float32) / 255
            scores.append(clip)
    batch = jax.jit(lambda clip: jax.nn.softmax(model(clip)))
    expected = batch(jnp.asarray(np.stack(scores)))
    np.testing.assert_allclose(actual, expected.mean(0), atol=1e-5)
    greatest = classify.classify_video(
        model, small, clips=10, crops=3, combine="max", **options
    )
    np.testing.assert_allclose(greatest, expected.max(0), atol=1e-5)


def test_random_views_depend_on_the_seed_only(model, frames):
    first, same, other = (
        classify.classify_video(model, frames, random_views=5, stride=1, seed=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_grey_frames_are_colour_frames_of_one_colour(model, frames):
    grey = frames[..., 0]
    colour = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(
        classify.classify_video(model, grey), classify.classify_video(model, colour)
    )


def test_a_file_is_its_frames_at_its_rate(model, frames, tmp_path):
    path = tmp_path / "clip.mp4"
    io.write_video(path, frames, fps=15, lossless=True)
    from_file = classify.classify_video(model, path)
    from_array = classify.classify_video(model, frames, fps=15)
    np.testing.assert_allclose(from_file, from_array, atol=1e-5)
    by_seconds = classify.classify_video(model, path, seconds=4 / 15)
    by_stride = classify.classify_video(model, path, stride=1)
    np.testing.assert_array_equal(by_seconds, by_stride)


@pytest.mark.parametrize("suffix", ["", "/*.png"])
def test_a_folder_or_a_pattern_is_its_pictures(model, frames, tmp_path, suffix):
    # Not in alphabetical order: 10 is behind 9.
    for index, frame in enumerate(frames):
        io.write_image(tmp_path / f"f{index}.png", frame)
    expected = classify.classify_video(model, frames, fps=25)
    actual = classify.classify_video(model, f"{tmp_path}{suffix}", fps=25)
    np.testing.assert_array_equal(actual, expected)


def test_the_step_between_frames_is_in_time(frames):
    """A network that counts in 15 frames a second takes every other of 30."""
    settings = {"num_frames": 3, "frame_stride": 1, "crop_size": 8}
    ramp = np.broadcast_to(np.arange(9)[:, None, None, None] / 10, (9, 8, 8, 3))
    ramp = ramp.astype(np.float32)
    for rate, step in ((15.0, 2), (30.0, 1), (None, 1)):
        config = types.SimpleNamespace(**settings, frame_rate=rate)
        network = types.SimpleNamespace(config=config)
        (view,) = classify.sample_views(network, ramp, fps=30, short_side=8)
        expected = classify.clip_indices(9, 3, step)[0] / 10
        np.testing.assert_allclose(view[:, 0, 0, 0], expected, atol=1e-6)


def test_a_network_says_where_its_frames_are():
    config = types.SimpleNamespace(
        num_frames=2, frame_stride=1, crop_size=4, placement="segments"
    )
    network = types.SimpleNamespace(config=config)
    ramp = np.repeat(np.arange(8, dtype=np.uint8), 16 * 3).reshape(8, 4, 4, 3)
    (view,) = classify.sample_views(network, ramp, short_side=4)
    np.testing.assert_allclose(255 * view[:, 0, 0, 0], [2, 6], atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("size", [(40, 50), (33, 77), (7, 9), (1, 1)], ids=str)
def test_clips_of_any_length_and_size_run(model, length, size):
    clip = np.random.default_rng(0).integers(0, 256, (length, *size, 3), np.uint8)
    for options in ({}, {"clips": 2, "crops": 3}):
        scores = classify.classify_video(model, clip, **options)
        np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 40, 50), (5, 40, 50, 1)], ids=str)
def test_grey_frames_of_16_bits_run(model, shape):
    grey = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    real = classify.classify_video(model, grey.astype(np.float32) / 65535)
    np.testing.assert_array_equal(classify.classify_video(model, grey), real)


def test_a_network_on_flow_takes_arrays_of_two_channels_only(frames, tmp_path):
    config = types.SimpleNamespace(
        num_frames=2, frame_stride=1, crop_size=8, in_features=2
    )
    network = types.SimpleNamespace(config=config)
    (view,) = classify.sample_views(network, np.full((3, 9, 9, 2), 0.5, np.float32))
    assert view.shape == (2, 8, 8, 2)
    with pytest.raises(ValueError, match="must be"):
        classify.sample_views(network, frames)
    path = tmp_path / "clip.mp4"
    io.write_video(path, frames)
    with pytest.raises(ValueError, match=r"clip\.mp4: .* 2 channels"):
        classify.sample_views(network, path)


@pytest.mark.parametrize("name", ["part_0.mp4", "test.avi"])
def test_real_videos_are_classified(model, test_data, name):
    scores = classify.classify_video(model, test_data / "data" / "video" / name)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)


def test_one_frame_is_enough(model, frames):
    assert np.isfinite(classify.classify_video(model, frames[:1])).all()


def test_top_k_names_the_best_first():
    best = classify.top_k(np.array([0.1, 0.6, 0.3]), 2, labels=["a", "b", "c"])
    assert [name for name, _ in best] == ["b", "c"]
    assert classify.top_k(np.array([0.1, 0.9]), 1)[0][0] == "1"
    with pytest.raises(ValueError, match="labels"):
        classify.top_k(np.ones(3), labels=["a"])


def test_features_of_a_layer_are_what_it_puts_out(model):
    clip = jax.random.uniform(jax.random.key(0), (1, 4, 32, 32, 3))
    last = classify.extract_features(model, clip, "slow.res5")
    expected = jax.jit(lambda clip: model.features(clip))(clip)
    # Two programs, fused differently; values are up to 10.
    np.testing.assert_allclose(last, expected, atol=3e-5)
    listed = classify.extract_features(model, clip, "slow.res3.blocks.0")
    assert listed.shape == (1, 2, 4, 4, 32)
    assert "slow.res3.blocks.0" in classify.layer_names(model)
    with pytest.raises(ValueError, match="res9"):
        classify.extract_features(model, clip, "slow.res9")


def test_features_of_views_do_not_depend_on_the_batch(model, frames):
    views = list(classify.sample_views(model, frames, clips=3, crops=1))
    three = classify.view_features(model, views, "slow.res3", batch_size=2)
    assert three.shape == (3, 2, 4, 4, 32)
    one = classify.extract_features(model, jnp.asarray(views[2])[None], "slow.res3")
    np.testing.assert_allclose(three[2], one[0], atol=1e-5)
    pooled = classify.view_features(model, views, "head.projection")
    assert pooled.shape == (3, 1, 1, 1, 5)


def test_a_layer_that_is_not_called_is_one_clear_error(model):
    clip = jnp.zeros((1, 4, 32, 32, 3))
    with pytest.raises(ValueError, match="does not call its layer 'slow'"):
        classify.extract_features(model, clip, "slow")
    with pytest.raises(ValueError, match="Grad-CAM needs"):
        classify.grad_cam(model, clip[:, :1], layer="head")
    with pytest.raises(ValueError, match="class_index"):
        classify.grad_cam(model, clip, class_index=5)


def test_grad_cam_of_a_linear_head_is_its_weights(model):
    clip = jax.random.uniform(jax.random.key(0), (2, 4, 64, 64, 3))
    heat = classify.grad_cam(model, clip, class_index=2)
    assert heat.shape == (2, 4, 64, 64)
    features = jax.jit(lambda clip: model.features(clip))(clip)
    # With a 1 x 1 window the mean gradient is the class's weights, up to a factor.
    weights = model.head.projection.kernel[..., 2]
    small = jax.nn.relu(features @ weights)
    small = small / jnp.maximum(small.max(axis=(1, 2, 3), keepdims=True), 1e-9)
    corners = heat[:, ::3, ::63, ::63]
    np.testing.assert_allclose(corners, small[:, (0, -1)], atol=0.02 + 1e-4)


def test_grad_cam_becomes_a_picture(model, tmp_path):
    clip = jax.random.uniform(jax.random.key(0), (1, 4, 32, 32, 3))
    heat = classify.grad_cam(model, clip, layer="slow.res3")
    picture = classify.overlay(clip[0], heat[0])
    assert picture.shape == (4, 32, 32, 3)
    io.write_image(tmp_path / "cam.png", picture[0])
    pure = classify.overlay(np.zeros((1, 2, 3)), np.array([[0.0, 1.0]]), opacity=1)
    assert pure[0, 0, 2] > pure[0, 0, 0]
    assert pure[0, 1, 0] > pure[0, 1, 2]


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.full((2, 8, 8, 3), np.nan, np.float32), "finite"),
        (np.full((2, 8, 8, 3), 200.0, np.float32), "divide 8-bit"),
        (np.zeros((2, 8, 8, 4), np.uint8), "must be"),
        (np.zeros((0, 8, 8, 3), np.uint8), "must be"),
        (np.zeros((2, 8, 8, 3), np.int32), "uint8, uint16 or float"),
    ],
)
def test_wrong_frames_are_one_clear_error(model, video, message):
    with pytest.raises(ValueError, match=message):
        classify.classify_video(model, video)


def test_a_corrupt_file_is_one_clear_error(model, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0" * 1000)
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        classify.classify_video(model, path)


def test_a_file_that_is_cut_off_is_one_clear_error(model, frames, tmp_path):
    path = tmp_path / "cut.mp4"
    io.write_video(path, frames)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        classify.classify_video(model, path)


def test_a_folder_without_pictures_is_one_clear_error(model, tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        classify.classify_video(model, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"clips": 0},
        {"batch_size": 0},
        {"crops": 2},
        {"placement": "early"},
        {"combine": "median"},
        {"short_side": 16},
        {"stride": 1, "seconds": 1.0},
        {"seconds": 1.0},
    ],
    ids=str,
)
def test_rejects_options_out_of_range(model, frames, options):
    with pytest.raises(ValueError):
        classify.classify_video(model, frames, **options)
