import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import classify, io, spreading
from jaxflow.models.flow import spynet
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


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.full((2, 8, 8, 3), np.nan, np.float32), "finite"),
        (np.full((2, 8, 8, 3), 200.0, np.float32), "divide 8-bit"),
        (np.zeros((2, 8, 8, 4), np.uint8), "must be"),
        (np.zeros((0, 8, 8, 3), np.uint8), "must be"),
        (np.zeros((2, 8, 8, 3), np.int32), "uint8, uint16 or float"),
        (np.zeros((64, 64, 3), np.uint8), "one picture"),
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
        {"seconds": 0.0, "fps": 25},
        {"num_frames": 0},
        {"crop_size": 0},
        {"short_side": 0},
        {"stride": 0},
        {"fps": 0},
        {"fps": 0.0001},
        {"random_views": -1},
    ],
    ids=str,
)
def test_rejects_options_out_of_range(model, frames, options):
    with pytest.raises(ValueError):
        classify.classify_video(model, frames, **options)


def test_scores_are_those_of_evaluation_whatever_the_mode(frames):
    network = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    network.eval()
    expected = classify.classify_video(network, frames)
    network.train()
    for batch_size in (1, 3):
        scores = classify.classify_video(network, frames, batch_size=batch_size)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert not network.head.deterministic and not network.head.dropout.deterministic
    assert not network.slow.stem.norm.use_running_average


def test_a_name_is_refused_and_says_how_weights_come(frames):
    with pytest.raises(ValueError, match=r"load_weights\(jaxflow.create_model"):
        classify.classify_video("slowfast_4x16_r50", frames)
    with pytest.raises(ValueError, match="recognition network; got 'tvl1'"):
        classify.classify_video("tvl1", frames)
    flow = spynet.Model(spynet.TINY, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="estimate_flow"):
        classify.classify_video(flow, frames)


@pytest.mark.parametrize("value", [np.nan, 200.0, -3.0])
def test_views_out_of_range_are_one_clear_error(model, value):
    with pytest.raises(ValueError, match="`views` must be"):
        classify.score_views(model, [np.full((4, 32, 32, 3), value, np.float32)])
    with pytest.raises(ValueError, match="empty"):
        classify.score_views(model, [])


def test_the_devices_share_the_views(model, frames, monkeypatch):
    options = {"clips": 3, "crops": 1, "num_frames": 2, "batch_size": 3}
    shared = classify.classify_video(model, frames, **options)
    monkeypatch.setattr(spreading, "devices", lambda: jax.local_devices()[:1])
    alone = classify.classify_video(model, frames, **options)
    np.testing.assert_allclose(shared, alone, atol=1e-6)
