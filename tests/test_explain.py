import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import explain, io, views
from jaxflow.models.video import resnet3d


@pytest.fixture(scope="module")
def model():
    model = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (11, 40, 50, 3), np.uint8)


def test_features_of_a_layer_are_what_it_puts_out(model):
    clip = jax.random.uniform(jax.random.key(0), (1, 4, 32, 32, 3))
    last = explain.extract_features(model, clip, "slow.res5")
    expected = jax.jit(lambda clip: model.features(clip))(clip)
    # Two programs, fused differently; values are up to 10.
    np.testing.assert_allclose(last, expected, atol=3e-5)
    listed = explain.extract_features(model, clip, "slow.res3.blocks.0")
    assert listed.shape == (1, 2, 4, 4, 32)
    assert "slow.res3.blocks.0" in explain.layer_names(model)
    with pytest.raises(ValueError, match="res9"):
        explain.extract_features(model, clip, "slow.res9")


def test_features_of_views_do_not_depend_on_the_batch(model, frames):
    sampled = list(views.sample_views(model, frames, clips=3, crops=1))
    three = explain.view_features(model, sampled, "slow.res3", batch_size=2)
    assert three.shape == (3, 2, 4, 4, 32)
    one = explain.extract_features(model, jnp.asarray(sampled[2])[None], "slow.res3")
    np.testing.assert_allclose(three[2], one[0], atol=1e-5)
    pooled = explain.view_features(model, sampled, "head.projection")
    assert pooled.shape == (3, 1, 1, 1, 5)


def test_a_layer_that_is_not_called_is_one_clear_error(model):
    clip = jnp.zeros((1, 4, 32, 32, 3))
    with pytest.raises(ValueError, match="does not call its layer 'slow'"):
        explain.extract_features(model, clip, "slow")
    with pytest.raises(ValueError, match="Grad-CAM needs"):
        explain.grad_cam(model, clip[:, :1], layer="head")
    with pytest.raises(ValueError, match="class_index"):
        explain.grad_cam(model, clip, class_index=5)


def test_grad_cam_of_a_linear_head_is_its_weights(model):
    clip = jax.random.uniform(jax.random.key(0), (2, 4, 64, 64, 3))
    heat = explain.grad_cam(model, clip, class_index=2)
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
    heat = explain.grad_cam(model, clip, layer="slow.res3")
    picture = explain.overlay(clip[0], heat[0])
    assert picture.shape == (4, 32, 32, 3)
    io.write_image(tmp_path / "cam.png", picture[0])
    pure = explain.overlay(np.zeros((1, 2, 3)), np.array([[0.0, 1.0]]), opacity=1)
    assert pure[0, 0, 2] > pure[0, 0, 0]
    assert pure[0, 1, 0] > pure[0, 1, 2]


def test_features_and_grad_cam_are_those_of_evaluation(model):
    clip = jax.random.uniform(jax.random.key(0), (2, 4, 32, 32, 3))
    features = explain.extract_features(model, clip, "slow.res5")
    heat = explain.grad_cam(model, clip, class_index=1)
    model.train()
    try:
        found = explain.extract_features(model, clip, "slow.res5")
        np.testing.assert_allclose(found, features, atol=1e-5)
        found = explain.grad_cam(model, clip, class_index=1)
        np.testing.assert_allclose(found, heat, atol=1e-4)
        assert not model.head.deterministic
    finally:
        model.eval()


def test_grad_cam_of_a_sure_network_shows_what_made_it_sure():
    config = dataclasses.replace(resnet3d.TINY, head_mode="softmax_mean")
    sure = resnet3d.Model(config, rngs=nnx.Rngs(0))
    sure.head.projection.kernel[...] *= 1e5
    clip = jax.random.uniform(jax.random.key(0), (1, 4, 32, 32, 3))
    scores = jax.jit(lambda clip: sure(clip))(clip)
    assert float(scores.max()) == 1
    best = int(scores.argmax())
    heat = explain.grad_cam(sure, clip)
    logits = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    logits.head.projection.kernel[...] *= 1e5
    expected = explain.grad_cam(logits, clip, class_index=best)
    np.testing.assert_allclose(heat, expected, atol=1e-4)
    assert float(heat.max()) == 1


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (jnp.full((1, 4, 32, 32, 3), jnp.nan), "finite"),
        (jnp.full((1, 4, 32, 32, 3), 255.0), "divide 8-bit"),
        (jnp.zeros((1, 4, 32, 32, 3), jnp.uint8), "floating"),
        (jnp.zeros((4, 32, 32, 3)), "batch axis"),
    ],
    ids=["nan", "range", "uint8", "batch"],
)
def test_a_wrong_clip_is_one_clear_error(model, clip, message):
    with pytest.raises(ValueError, match=message):
        explain.extract_features(model, clip, "slow.res5")
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(model, clip)
