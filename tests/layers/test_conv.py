"""Tests for jaxflow.layers.conv, against SciPy and written-out sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx

from jaxflow import convert
from jaxflow.layers import conv

LAYERS = [
    (conv.Conv, (4, 6, 3), (2, 5, 7, 4), (6, 4, 3, 3)),
    (conv.ConvTranspose, (4, 6), (2, 5, 7, 4), (4, 6, 4, 4)),
    (conv.Conv3d, (4, 6, (1, 3, 3)), (2, 3, 5, 7, 4), (6, 4, 1, 3, 3)),
    (conv.Linear, (4, 6), (2, 4), (6, 4)),
]
each_layer = pytest.mark.parametrize(
    ("kind", "arguments", "shape", "torch_shape"),
    LAYERS,
    ids=lambda x: getattr(x, "__name__", ""),
)


@each_layer
def test_torch_weights_have_torch_shapes(kind, arguments, shape, torch_shape):
    layer = kind(*arguments, rngs=nnx.Rngs(0))
    assert convert.find_slot(layer, "weight").foreign_shape == torch_shape
    assert convert.find_slot(layer, "bias").foreign_shape == (6,)


@each_layer
def test_a_layer_without_bias_has_none(kind, arguments, shape, torch_shape):
    layer = kind(*arguments, use_bias=False, rngs=nnx.Rngs(0))
    assert list(convert.weight_slots(layer)) == ["kernel"]
    assert convert.find_slot(layer, "bias") is None


@each_layer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_output_has_the_dtype_of_the_input(
    kind, arguments, shape, torch_shape, dtype
):
    layer = kind(*arguments, rngs=nnx.Rngs(0))
    assert jax.eval_shape(layer, jax.ShapeDtypeStruct(shape, dtype)).dtype == dtype
    assert layer.kernel[...].dtype == jnp.float32


@each_layer
def test_the_bias_is_added(kind, arguments, shape, torch_shape):
    layer = kind(*arguments, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(6.0)
    out = layer(jnp.zeros(shape))
    np.testing.assert_array_equal(out, np.broadcast_to(np.arange(6.0), out.shape))


def test_conv_is_scipys_correlation_of_each_channel(rng):
    layer = conv.Conv(2, 3, rngs=nnx.Rngs(0))
    x = rng.normal(size=(1, 6, 8, 2)).astype(np.float32)
    kernel = np.float64(layer.kernel[...])
    expected = np.stack(
        [
            sum(
                scipy.signal.correlate2d(x[0, ..., i], kernel[..., i, o], mode="same")
                for i in range(2)
            )
            for o in range(3)
        ],
        axis=-1,
    )
    # 18 products in float32 of values of order 1.
    np.testing.assert_allclose(layer(x)[0], expected, atol=1e-5)


def test_conv_transpose_is_the_transpose_of_conv(rng):
    down = conv.Conv(2, 3, 4, strides=2, padding=1, use_bias=False, rngs=nnx.Rngs(0))
    up = conv.ConvTranspose(3, 2, use_bias=False, rngs=nnx.Rngs(1))
    # torch's layouts, (O, I, h, w) and (I, O, h, w), are the same array here.
    up.kernel[...] = down.kernel[...].transpose(0, 1, 3, 2)
    x = jnp.float32(rng.normal(size=(1, 6, 8, 2)))
    y = jnp.float32(rng.normal(size=(1, 3, 4, 3)))
    assert up(y).shape == x.shape
    np.testing.assert_allclose(jnp.vdot(down(x), y), jnp.vdot(x, up(y)), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (9, 12)),
        ({"strides": 2}, (5, 6)),
        ({"strides": (1, 2)}, (9, 6)),
        ({"dilation": 2}, (9, 12)),
        ({"padding": 0}, (7, 10)),
        ({"padding": (0, 1), "dilation": (2, 1)}, (5, 12)),
        ({"groups": 2}, (9, 12)),
    ],
    ids=str,
)
def test_sizes_follow_the_formula(options, size):
    layer = conv.Conv(4, 6, rngs=nnx.Rngs(0), **options)
    x = jax.ShapeDtypeStruct((1, 9, 12, 4), jnp.float32)
    assert jax.eval_shape(layer, x).shape == (1, *size, 6)


@pytest.mark.parametrize("size", [10, 4096, 5000, 2**20 + 7, 2**21])
def test_initial_weights_have_the_wanted_spread(size):
    draws = conv.truncated_normal(jax.random.key(0), (size,), std=0.5)
    assert draws.shape == (size,) and draws.dtype == jnp.float32
    assert jnp.abs(draws).max() <= 1 / conv._TRUNCATED_STD
    if size >= 4096:
        # Three standard errors of a standard deviation.
        assert abs(float(draws.std()) - 0.5) < 3 * 0.5 / np.sqrt(2 * size)
        assert abs(float(draws.mean())) < 4 * 0.5 / np.sqrt(size)


def test_pieces_of_a_large_weight_are_not_the_same_numbers():
    draws = conv.truncated_normal(jax.random.key(0), (2, 2**20), std=1.0)
    assert jnp.mean(draws[0] == draws[1]) < 1e-3


def test_initial_weights_are_the_same_under_jit():
    key = jax.random.key(3)

    def draw(key):
        return conv.he_normal(key, (3, 3, 4, 5))

    np.testing.assert_allclose(draw(key), jax.jit(draw)(key), rtol=1e-6)


def test_relu_layers_keep_the_variance(rng):
    x = jnp.float32(rng.normal(size=(1, 32, 32, 64)))
    for seed in range(3):
        x = nnx.relu(conv.Conv(64, 64, rngs=nnx.Rngs(seed))(x))
    # E[relu^2] stays 1 but for the border, where part of the window is empty.
    assert 0.7 < jnp.mean(jnp.square(x[:, 4:-4, 4:-4])) < 1.3
