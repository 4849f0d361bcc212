"""Tests for jaxflow.layers.unet; those of the networks compare with official code."""

import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import conv, unet


def test_enlarging_repeats_pixels_and_frames():
    x = jnp.arange(12).reshape(1, 3, 2, 2, 1)
    y = unet.enlarge(x, 5)
    assert y.shape == (1, 5, 4, 4, 1)
    np.testing.assert_array_equal(y[0, :, 0, 0, 0], [0, 0, 4, 4, 8])
    np.testing.assert_array_equal(
        y[0, 0, :, :, 0], np.kron(x[0, 0, ..., 0], np.ones((2, 2)))
    )
    assert unet.enlarge(x, 0).shape == (1, 3, 4, 4, 1)


def block(convolution, **options):
    options = {"groups": 2, "embedding": 6, "scale_shift": True} | options
    return unet.ResBlock(
        4, 8, convolution=convolution, dropout_rate=0.5, rngs=nnx.Rngs(0), **options
    )


@pytest.mark.parametrize("scale_shift", [True, False])
def test_a_fresh_block_is_its_shortcut_and_drops_nothing_in_evaluation(
    rng, scale_shift
):
    x = jnp.float32(rng.normal(size=(2, 3, 4, 4, 4)))
    embedded = jnp.float32(rng.normal(size=(2, 6)))
    layer = block(conv.Conv, scale_shift=scale_shift)
    np.testing.assert_array_equal(layer(x, embedded), layer.shortcut(x))
    layer.conv2.kernel[...] = jnp.float32(rng.normal(size=layer.conv2.kernel.shape))
    layer.eval()
    out = layer(x, embedded)
    # One embedding a clip is the same as that one for each of its frames.
    each = jnp.broadcast_to(embedded[:, None], (2, 3, 6))
    np.testing.assert_allclose(layer(x, each), out, atol=1e-5)
    # Frames are normalised and convolved one by one: a clip of one frame is no other.
    np.testing.assert_allclose(layer(x[:, 1:2], embedded), out[:, 1:2], atol=1e-5)
    assert np.abs(layer(x, embedded + 1) - out).max() > 1e-3


def test_a_block_of_clips_mixes_their_frames(rng):
    x = jnp.float32(rng.normal(size=(1, 3, 4, 4, 4)))
    embedded = jnp.float32(rng.normal(size=(1, 6)))
    layer = block(conv.Conv3d)
    layer.conv2.kernel[...] = jnp.float32(rng.normal(size=layer.conv2.kernel.shape))
    layer.eval()
    change = np.abs(layer(x.at[:, 2].add(1), embedded) - layer(x, embedded))
    assert change[:, 0].max() > 1e-3


def test_the_way_up_takes_what_each_stage_down_gave():
    """The channels of a U-Net by a closed form: two blocks a level, three going up."""
    seen = []

    def stage(before, after, level):
        seen.append((before, after, level))
        return unet.Stage()

    down, widths = unet.way_down(
        None, 8, (1, 2, 3), 2, stage, lambda features, level: (features, level)
    )
    assert widths == [8, 8, 8, 8, 16, 16, 16, 24, 24]
    assert [each.resize for each in down[3::3]] == [(8, 0), (16, 1)]
    seen.clear()
    up, features = unet.way_up(
        widths, 8, (1, 2, 3), 2, stage, lambda features: features, (5, 3, 1)
    )
    assert features == 8 and len(up) == len(widths)
    befores = [before for before, *_ in seen]
    running = [24, *(after for _, after, _ in seen[:-1])]
    assert befores == [a + b for a, b in zip(running, widths[::-1], strict=True)]
    assert [
        (i, each.resize, each.frames) for i, each in enumerate(up) if each.resize
    ] == [(2, 24, 3), (5, 16, 5)]


def test_every_official_name_has_one_row():
    table = unet.key_table({"norm": "norm", "qkv": "qkv"})
    names = ["time_embed.0.weight", "label_emb.weight", "input_blocks.0.0.bias"]
    names += ["input_blocks.3.0.op.weight", "output_blocks.2.1.conv.bias"]
    names += ["output_blocks.5.2.conv.weight", "input_blocks.1.0.in_layers.2.weight"]
    names += ["middle_block.1.qkv.bias", "out.2.weight", "output_blocks.1.1.norm.bias"]
    found = {}
    for name, (pattern, ours) in itertools.product(names, table):
        if match := re.fullmatch(pattern, name):
            assert name not in found
            found[name] = match.expand(ours)
    assert list(found) == names and len(set(found.values())) == len(names)
    assert found["output_blocks.5.2.conv.weight"] == "up.5.resize.weight"
    assert found["input_blocks.1.0.in_layers.2.weight"] == "down.1.res.conv1.weight"


def test_time_is_embedded_as_the_official_code_does(rng):
    first, second = (
        conv.Linear(4, 6, rngs=nnx.Rngs(0)),
        conv.Linear(6, 6, rngs=nnx.Rngs(1)),
    )
    time = jnp.array([0.0, 3.0])
    found = unet.embed_time(time, first, second, 4)
    phase = np.array([[0, 0], [3, 3]]) * np.array([1, 10_000**-0.5])
    waves = np.concatenate([np.cos(phase), np.sin(phase)], -1)
    hidden = waves @ np.asarray(first.kernel[...])
    hidden = hidden / (1 + np.exp(-hidden))
    np.testing.assert_allclose(
        found, hidden @ np.asarray(second.kernel[...]), atol=1e-5
    )
