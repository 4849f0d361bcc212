"""Tests for jaxflow.layers.resnet3d."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import convert
from jaxflow.layers import resnet3d


def test_a_new_bottleneck_is_its_shortcut(rng):
    block = resnet3d.Bottleneck(4, 2, 4, window=3, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(rng.normal(size=(1, 2, 3, 3, 4)), jnp.float32)
    np.testing.assert_array_equal(block(x), jax.nn.relu(x))


def test_a_clip_of_one_repeated_frame_gives_the_two_dimensional_answer(rng):
    flat = resnet3d.ConvNorm(3, 4, (1, 3, 3), padding=0, rngs=nnx.Rngs(0))
    deep = resnet3d.ConvNorm(3, 4, (3, 3, 3), padding=0, rngs=nnx.Rngs(1))
    kernel = np.asarray(flat.conv.kernel[...])[0].transpose(3, 2, 0, 1)
    convert.find_slot(deep, "conv.weight").fill(kernel)
    flat.eval()
    deep.eval()
    frame = jnp.asarray(rng.normal(size=(2, 1, 5, 6, 3)), jnp.float32)
    repeated = jnp.repeat(frame, 5, axis=1)
    expected = jnp.repeat(flat(frame), 3, axis=1)
    np.testing.assert_allclose(deep(repeated), expected, atol=1e-5)


def test_inflation_of_a_state_dict_leaves_what_fits():
    kernel = np.arange(12.0).reshape(2, 3, 2, 1)
    state = {"conv.weight": kernel, "bn.weight": np.ones(2)}
    deep = resnet3d.inflate_state_dict(state, {"conv.weight": (2, 3, 4, 2, 1)})
    assert deep["conv.weight"].shape == (2, 3, 4, 2, 1)
    np.testing.assert_allclose(deep["conv.weight"].sum(2), kernel)
    np.testing.assert_array_equal(deep["bn.weight"], np.ones(2))


def test_first_layer_takes_the_mean_over_colours_for_flow():
    kernel = np.arange(6.0).reshape(1, 3, 2, 1)
    state = {"conv1.weight": kernel}
    deep = resnet3d.inflate_state_dict(state, {"conv1.weight": (1, 20, 2, 1)})
    np.testing.assert_allclose(deep["conv1.weight"][0, :, 0, 0], 2)
