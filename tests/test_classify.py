import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import classify, io
from jaxflow.models.video import resnet3d


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
    expected = jax.nn.softmax(model(jnp.asarray(clip)[None])[0])
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
        (np.zeros((2, 8, 8, 3), np.int32), "uint8 or float"),
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


@pytest.mark.parametrize(
    "options",
    [
        {"clips": 0},
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
