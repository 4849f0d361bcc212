"""Tests for jaxflow.models.video.stc."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import stc


@pytest.mark.parametrize("name", stc.VARIANTS)
def test_has_as_many_parameters_as_its_parts(name):
    config = stc.VARIANTS[name]
    total, inputs, frames = 3 * 343 * 64 + 128, 64, 8
    for stage, count in enumerate(config.blocks):
        inner = 64 * 2**stage
        out, hidden = 4 * inner, inner
        frames = frames // 2 if stage else frames
        for number in range(count):
            total += inputs * inner + 27 * inner * inner + inner * out
            total += 2 * (2 * inner + out)
            dense = [(out, hidden), (hidden, out), (frames * out, hidden)]
            total += sum((a + 1) * b for a, b in [*dense, (hidden, out)])
            if not number:
                total += inputs * out + 2 * out
            inputs = out
    assert cost.read_table()[name].parameters == total + 2049 * 400


def test_a_block_weighs_channels_by_the_mean_of_two_gates(rng):
    block = stc.ChannelCorrelation(3, 2, 4, rngs=nnx.Rngs(0))
    for layer in (block.spatial_1, block.temporal_2):
        layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias.shape))
    x = rng.normal(size=(2, 2, 4, 5, 3)).astype(np.float32)

    def gate(z, first, second):
        z = z @ np.asarray(first.kernel[...], np.float64) + np.asarray(first.bias[...])
        z = np.maximum(z, 0) @ np.asarray(second.kernel[...], np.float64)
        return 1 / (1 + np.exp(-z - np.asarray(second.bias[...])))

    space = gate(x.mean((1, 2, 3)), block.spatial_1, block.spatial_2)
    time = gate(x.mean((2, 3)).reshape(2, 6), block.temporal_1, block.temporal_2)
    weights = ((space + time) / 2)[:, None, None, None]
    np.testing.assert_allclose(block(jnp.asarray(x)), x * weights, atol=1e-5)


def test_the_temporal_branch_alone_sees_the_order_of_frames(rng):
    block = stc.ChannelCorrelation(3, 4, 4, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(1, 1, size=(1, 4, 2, 2, 3)), jnp.float32)

    both = jnp.concatenate([x, x[:, ::-1]])
    one, other = block(both)
    assert np.abs(one - other[::-1]).max() > 1e-3
    block.temporal_1.kernel[...] *= 0
    one, other = block(both)
    np.testing.assert_allclose(one, other[::-1], atol=1e-6)


def test_another_length_is_refused_where_the_branch_fixes_it():
    model = stc.Model(stc.TINY, rngs=nnx.Rngs(0))
    clip = jax.ShapeDtypeStruct((1, 6, 32, 32, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"`clip` must have 4 frames.*got 6"):
        jax.eval_shape(model, clip)
    with pytest.raises(ValueError, match="the 2 frames that the temporal branch"):
        stc.ChannelCorrelation(3, 2, 4, rngs=nnx.Rngs(0))(jnp.zeros((1, 3, 2, 2, 3)))
    plain = stc.Model(dataclasses.replace(stc.TINY, reduction=0), rngs=nnx.Rngs(0))
    assert jax.eval_shape(plain, clip).shape == (1, 5)
    with pytest.raises(ValueError, match="`reduction` must be at most 4 times"):
        stc.Config(reduction=512)
