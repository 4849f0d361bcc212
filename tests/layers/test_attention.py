"""Tests for jaxflow.layers.attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from jaxflow.layers import attention


@pytest.fixture
def tokens(rng):
    """Queries, keys and values of 2 x 3 heads: 4 queries, 5 keys of 6 numbers."""
    return [rng.normal(size=(2, 3, n, d)) for n, d in ((4, 6), (5, 6), (5, 7))]


def test_softmax_attention_equals_its_equation(tokens, rng):
    query, key, value = tokens
    bias = rng.normal(size=(3, 4, 5))
    bias[1, 2, 3] = -np.inf
    scores = 0.4 * query @ np.swapaxes(key, -1, -2) + bias
    expected = scipy.special.softmax(scores, axis=-1) @ value
    actual = attention.softmax_attention(
        *map(jnp.float32, tokens), scale=0.4, bias=jnp.float32(bias)
    )
    # Float32 sums of a few numbers of order 1.
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_linear_attention_equals_its_equation(tokens):
    query, key, value = tokens
    gathered = np.swapaxes(scipy.special.softmax(key, axis=-2), -1, -2) @ value
    actual = attention.linear_attention(*map(jnp.float32, tokens))
    np.testing.assert_allclose(actual, query @ gathered, atol=1e-5)


def test_heads_are_blocks_of_channels(rng):
    x = rng.normal(size=(2, 5, 12))
    split = attention.split_heads(jnp.asarray(x), 3)
    assert split.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(split[:, 1], jnp.asarray(x[..., 4:8]))
    np.testing.assert_array_equal(attention.join_heads(split), jnp.asarray(x))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_in_half_precision_out(tokens, dtype):
    half = [jnp.asarray(token, dtype) for token in tokens]
    for function in (attention.softmax_attention, attention.linear_attention):
        out = function(*half)
        assert out.dtype == dtype
        expected = function(*map(jnp.float32, half))
        # Three roundings to 8 or 11 bits of sums of order 1.
        np.testing.assert_allclose(jnp.float32(out), expected, atol=0.1)


def test_gradients_are_finite_for_large_scores(tokens):
    query, key, value = map(jnp.float32, tokens)

    def loss(query):
        return jnp.sum(attention.softmax_attention(1e3 * query, key, value) ** 2)

    assert jnp.isfinite(jax.grad(loss)(query)).all()


def test_query_key_and_value_are_thirds_of_the_channels(rng):
    x = jnp.asarray(rng.normal(size=(2, 5, 24)))
    for index, found in enumerate(attention.split_qkv(x, 2)):
        part = x[..., 8 * index : 8 * index + 8]
        np.testing.assert_array_equal(found, attention.split_heads(part, 2))


@pytest.mark.parametrize("normalise_query", [False, True])
def test_a_layer_of_linear_attention_equals_its_equation(rng, normalise_query):
    layer = attention.LinearAttention(
        4, 2, 3, normalise_query=normalise_query, bias=True, rngs=nnx.Rngs(0)
    )
    x = rng.normal(size=(2, 3, 4, 5, 4))
    tokens = np.asarray(layer.norm(jnp.float32(x))).reshape(2, 3, 20, 4)
    qkv = (tokens @ np.asarray(layer.to_qkv.kernel[...])).reshape(2, 3, 20, 3, 2, 3)
    query, key, value = np.moveaxis(qkv, (3, 4), (0, 3))
    if normalise_query:
        query = scipy.special.softmax(query, axis=-1)
    gathered = np.swapaxes(scipy.special.softmax(key, axis=-2), -1, -2) @ value
    out = np.swapaxes(query * 3**-0.5 @ gathered, 2, 3).reshape(2, 3, 20, 6)
    expected = x + (out @ np.asarray(layer.to_out.kernel[...])).reshape(x.shape)
    np.testing.assert_allclose(layer(jnp.float32(x)), expected, atol=1e-5)
