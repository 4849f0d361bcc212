"""Tests for jaxflow.layers.clip_head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import clip_head
from tests import golden


def test_both_head_modes_agree_on_one_window_only(rng):
    def head(mode):
        layer = clip_head.Head(
            3, 4, window=2, mode=mode, dropout_rate=0.5, rngs=nnx.Rngs(0)
        )
        layer.projection.kernel[...] *= 100
        layer.eval()
        return layer

    features = jnp.asarray(rng.normal(size=(2, 3, 4, 2, 3)), jnp.float32)
    one, several = features[:, :, :2], features
    for x, same in ((one, True), (several, False)):
        after = jax.nn.softmax(golden.run(head("logit_mean"), x))
        inside = golden.run(head("softmax_mean"), x)
        np.testing.assert_allclose(inside.sum(-1), 1, rtol=1e-5)
        assert np.allclose(after, inside, atol=1e-5) == same


def test_head_is_a_matrix_product_of_window_means(rng):
    layer = clip_head.Head(
        5, 2, window=2, mode="logit_mean", dropout_rate=0.5, rngs=nnx.Rngs(0)
    )
    slow = rng.normal(size=(1, 2, 3, 2, 2)).astype(np.float32)
    fast = rng.normal(size=(1, 4, 3, 2, 3)).astype(np.float32)
    rows = [
        np.concatenate([m[0, :, y : y + 2].mean((0, 1, 2)) for m in (slow, fast)])
        for y in (0, 1)
    ]
    expected = np.mean(rows, axis=0) @ np.asarray(layer.projection.kernel[...])
    actual = layer(jnp.asarray(slow), jnp.asarray(fast))
    np.testing.assert_allclose(actual[0], expected, atol=1e-6)


def test_rejects_an_unknown_head_mode():
    with pytest.raises(ValueError, match="head_mode"):
        clip_head.Head(1, 1, window=1, mode="max", dropout_rate=0, rngs=nnx.Rngs(0))
