"""Tests for jaxflow.two_stream."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import nnx

import jaxflow
from jaxflow import classify, convert, train, two_stream, viz
from jaxflow.data import motion_classes
from jaxflow.models.flow import pwcnet
from jaxflow.models.video import i3d_inception, resnet3d
from jaxflow.models.video import two_stream as networks

SMALL = networks.Config(
    num_classes=3,
    crop_size=32,
    num_frames=2,
    stack=2,
    bottleneck=False,
    blocks=(1, 1, 1, 1),
    width=4,
)


def network(seed=0, **changes):
    config = dataclasses.replace(SMALL, **changes)
    model = networks.Model(config, rngs=nnx.Rngs(seed))
    model.eval()
    return model


def moving(count=1, frames=3, step=1.0):
    """Returns clips whose texture moves right by `step` pixels a frame."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    clip = []
    for time in range(frames):
        at = x - step * time
        clip.append(0.5 + 0.2 * np.sin(at / 2) * np.cos(y / 3) + 0.1 * np.cos(at / 3))
    grey = np.stack(clip)[None, ..., None]
    return np.broadcast_to(grey, (count, frames, 32, 32, 3)).astype(np.float32)


def test_flow_as_a_picture_is_the_8_bit_code_of_it():
    flow = np.array([[-30, 20], [0, 5], [-20, 7.5]], np.float32)
    codes = viz.quantize_flow(flow)
    picture = two_stream.flow_picture(jnp.asarray(flow))
    # The code is rounded: half a step of 1/255.
    np.testing.assert_allclose(picture, codes / 255, atol=0.5 / 255 + 1e-6)
    assert picture[1, 0] == 0.5


@pytest.mark.slow
def test_frames_are_joined_by_the_flow_to_the_next_of_their_segment():
    model = two_stream.WithFlow(network(num_frames=4), "lucas_kanade")
    assert (model.config.num_frames, model.config.stack) == (6, 3)
    clip = jnp.asarray(np.concatenate([moving(), 0.9 * moving(step=-1.0)], 1))

    def run(clip):
        parts = [clip[:, :3], clip[:, 3:]]
        alone = [two_stream.with_flow("lucas_kanade", part) for part in parts]
        return model.joined(clip), jnp.concatenate(alone, 1)

    joined, apart = map(np.asarray, jax.jit(run)(clip))
    assert joined.shape == (1, 4, 32, 32, 5)
    np.testing.assert_array_equal(joined[..., :3], clip[:, [0, 1, 3, 4]])
    np.testing.assert_allclose(joined, apart, atol=1e-5)
    motion = np.median(40 * joined[..., 3:] - 20, axis=(0, 2, 3))
    expected = [[1, 0], [1, 0], [-1, 0], [-1, 0]]
    np.testing.assert_allclose(motion, expected, atol=0.1)
    with pytest.raises(ValueError, match="multiple of 3 frames"):
        model(clip[:, :5])
    with pytest.raises(ValueError, match="of two frames or more"):
        two_stream.with_flow("lucas_kanade", clip[:, :1])


def test_8_bit_frames_are_joined_as_the_numbers_they_stand_for():
    clip = np.round(255 * moving(frames=2)).astype(np.uint8)
    joined = jax.jit(lambda clip: two_stream.with_flow("lucas_kanade", clip))(clip)
    assert joined.dtype == jnp.float32
    np.testing.assert_allclose(joined[..., :3], clip[:, :1] / 255, atol=1e-6)


def test_the_scores_are_those_of_frames_and_flow():
    inner = network()
    model = two_stream.WithFlow(inner, "lucas_kanade", options={"iterations": 2})
    clip = jnp.asarray(moving(2))

    def both(clip):
        joined = two_stream.with_flow("lucas_kanade", clip, iterations=2)
        return model(clip), inner(joined)

    found, expected = jax.jit(both)(clip)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    flow_alone = two_stream.WithFlow(network(streams="flow"), "lucas_kanade")
    assert jax.eval_shape(flow_alone.joined, clip).shape == (2, 2, 32, 32, 2)


def test_networks_without_stacks_take_clips_of_any_length():
    config = dataclasses.replace(i3d_inception.TINY, in_features=2, num_frames=8)
    inner = nnx.eval_shape(lambda: i3d_inception.Model(config, rngs=nnx.Rngs(0)))
    model = two_stream.WithFlow(inner, "lucas_kanade")
    assert model.config.num_frames == 9
    clip = jax.ShapeDtypeStruct((1, 5, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(model.joined, clip).shape == (1, 4, 32, 32, 2)


def test_a_video_is_classified_by_frames_and_the_flow_between_them():
    model = two_stream.WithFlow(network(num_frames=4), "lucas_kanade")
    video = np.asarray(moving(frames=9)[0])
    scores = jaxflow.classify_video(model, video, short_side=32)
    # Segments of three consecutive frames, in the middle of each half.
    clip = jnp.asarray(video[[1, 2, 3, 5, 6, 7]])[None]
    expected = jax.nn.softmax(jax.jit(model)(clip)[0])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    classify.check_layer(model, model.cam_layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((lambda: network(streams="rgb"), "tvl1"), "`network` must see flow"),
        ((lambda: resnet3d_tiny(), "tvl1"), "`network` must see flow"),
        ((network, "tvl2"), "`model` must be a network, or the name"),
        ((network, 3), "`model` must be a flow network"),
    ],
)
def test_what_makes_no_pair_is_one_clear_error(arguments, message):
    build, estimator = arguments
    with pytest.raises(ValueError, match=message):
        two_stream.WithFlow(build(), estimator)


def resnet3d_tiny():
    return nnx.eval_shape(lambda: resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0)))


def test_options_and_learning_that_the_estimator_lacks_are_errors():
    with pytest.raises(ValueError, match="nothing that learns"):
        two_stream.WithFlow(network(), "tvl1", learn=True)
    with pytest.raises(ValueError, match="does not have"):
        two_stream.WithFlow(network(), "tvl1", options={"speed": 3})


def learning(learn, **changes):
    """Returns a tiny network through a tiny PWC-Net that is not quite blank."""
    model = network(
        num_classes=8, dropout_rate=0.0, flow_dropout_rate=0.0, crop_size=64, **changes
    )
    flow = pwcnet.Model(pwcnet.TINY, rngs=nnx.Rngs(1))
    return two_stream.WithFlow(model, flow, learn=learn)


def cross_entropy(model, batch):
    entropy = optax.softmax_cross_entropy_with_integer_labels(
        model(batch["clip"]), batch["label"]
    )
    return jnp.mean(entropy)


def local_batch(count):
    return motion_classes.clip_batch(
        jax.random.key(3),
        task="motion8-local",
        batch_size=count,
        frames=3,
        size=(64, 64),
        noise=0.0,
    )


@pytest.mark.slow
def test_the_gradient_reaches_the_estimator_and_is_the_slope():
    """Central differences along the gradient of the estimator's weights."""
    batch = local_batch(2)
    model = learning(True)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return cross_entropy(nnx.merge(graph, params, rest, copy=True), batch)

    value_and_slope = jax.jit(jax.value_and_grad(loss))
    run = jax.jit(loss)
    _, slope = value_and_slope(params)
    own = slope["estimator"]
    length = float(optax.tree.norm(own))
    assert length > 1e-4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(own))
    direction = jax.tree.map(lambda leaf: leaf / length, own)

    def moved(step):
        changed = dict(params)
        changed["estimator"] = jax.tree.map(
            lambda leaf, way: leaf + jnp.float32(step) * way,
            params["estimator"],
            direction,
        )
        return float(run(nnx.State(changed)))

    step = 3e-3
    # Float32, and the kinks of ReLU: a few per cent.
    found = (moved(step) - moved(-step)) / (2 * step)
    np.testing.assert_allclose(found, length, rtol=0.05)
    frozen = learning(False)
    graph, params, rest = nnx.split(frozen, nnx.Param, ...)
    slope = jax.jit(jax.grad(loss))(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope["estimator"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(slope["network"]))


@pytest.mark.slow
def test_both_learn_as_one_program_on_local_motion():
    batch = local_batch(8)
    model = learning(True)
    before = first_weights(model)
    optimiser = optax.adam(3e-3)
    step = train.make_step(model, cross_entropy, optimiser)
    state, losses = train.init(model, optimiser), []
    for _ in range(30):
        state, metrics = step.run(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    train.finish(model, state)
    assert np.any(first_weights(model) != before)


def first_weights(model):
    """Returns the estimator's first array, which is of its first convolution."""
    return np.array(jax.tree.leaves(nnx.state(model.estimator, nnx.Param))[0])


def test_labels_tell_estimator_and_network_apart():
    params = {"network": {"a": 1, "b": {"c": 2}}, "estimator": {"d": 3}}
    labels = two_stream.parameter_labels(params)
    assert labels == {
        "network": {"a": "network", "b": {"c": "network"}},
        "estimator": {"d": "estimator"},
    }


def torchvision_state(rng, width=4):
    """Returns procedural weights of a ResNet of images in torchvision's names."""
    shapes = {"conv1.weight": (width, 3, 7, 7), "fc.weight": (10, 8 * width)}
    shapes["fc.bias"] = (10,)

    def norm(name, features):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{leaf}"] = (features,)

    norm("bn1", width)
    known = width
    for layer in range(1, 5):
        features = width * 2 ** (layer - 1)
        name = f"layer{layer}.0"
        shapes[f"{name}.conv1.weight"] = (features, known, 3, 3)
        shapes[f"{name}.conv2.weight"] = (features, features, 3, 3)
        norm(f"{name}.bn1", features)
        norm(f"{name}.bn2", features)
        if layer > 1:
            shapes[f"{name}.downsample.0.weight"] = (features, known, 1, 1)
            norm(f"{name}.downsample.1", features)
        known = features
    return {key: rng.normal(size=s).astype(np.float32) for key, s in shapes.items()}


def saved(state, path):
    safetensors.numpy.save_file(state, path)
    return path


def test_the_first_kernel_on_flow_is_the_mean_over_rgb(rng, tmp_path):
    state = torchvision_state(rng)
    path = saved(state, tmp_path / "images.safetensors")
    model = two_stream.load_streams(network(), path, head="fresh")
    images = state["conv1.weight"].transpose(2, 3, 1, 0)[None]
    np.testing.assert_array_equal(model.rgb.stem.conv.kernel[...], images)
    flow = np.asarray(model.flow.stem.conv.kernel[...])
    assert flow.shape[-2] == 4
    mean = np.broadcast_to(images.mean(-2, keepdims=True), flow.shape)
    np.testing.assert_allclose(flow, mean, atol=1e-6)
    second = state["layer1.0.conv2.weight"].transpose(2, 3, 1, 0)[None]
    for stream in (model.rgb, model.flow):
        kernel = stream.res2.blocks[0].second.conv.kernel
        np.testing.assert_array_equal(kernel[...], second)
    # Motion that all of the mean's channels share is seen as brightness was.
    alone = two_stream.load_streams(network(streams="flow"), path, head="fresh")
    np.testing.assert_array_equal(alone.flow.stem.conv.kernel[...], flow)


def test_streams_have_files_of_their_own_and_may_meet(tmp_path):
    late = network()
    files = {}
    for name in ("rgb", "flow"):
        one = network(streams=name)
        nnx.update(getattr(one, name), nnx.state(getattr(late, name)))
        files[name] = tmp_path / f"{name}.safetensors"
        jaxflow.save_weights(one, files[name])
    other = two_stream.load_streams(network(seed=1), files["rgb"], files["flow"])
    expected = convert.weight_slots(late)
    for path, slot in convert.weight_slots(other).items():
        np.testing.assert_array_equal(slot.variable[...], expected[path].variable[...])
    meeting = network(seed=1, fusion="conv", fusion_after=3)
    two_stream.load_streams(meeting, files["rgb"], files["flow"])
    for path, slot in convert.weight_slots(meeting).items():
        if path in expected:
            found = slot.variable[...]
            np.testing.assert_array_equal(found, expected[path].variable[...])
        else:
            assert path.startswith("meeting")


def test_streams_that_a_file_does_not_fit_are_an_error(rng, tmp_path):
    path = saved(torchvision_state(rng), tmp_path / "images.safetensors")
    with pytest.raises(ValueError, match=r"flow\.conv1"):
        two_stream.load_streams(network(), path, path, head="fresh")
    with pytest.raises(ValueError, match="must have streams"):
        two_stream.load_streams(resnet3d_tiny(), path)
