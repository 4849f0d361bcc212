"""Tests for jaxflow.models.video.artnet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxflow import cost
from jaxflow.models.video import artnet


def smart(inputs, width, window, bias):
    """Parameters of a SMART block."""
    joined = width + width // 2
    filters = 4 * window * window * inputs * width + joined * width
    return filters + bias * 3 * width + 2 * (2 * width + width // 2)


@pytest.mark.parametrize(
    ("name", "stages"), [("artnet_resnet18", 3), ("artnet_s_resnet18", 0)]
)
def test_has_as_many_parameters_as_its_parts(name, stages):
    total, inputs = smart(3, 64, 7, 0), 64
    for stage in range(4):
        width, bias = 64 * 2**stage, stage > 0
        for number in range(2):
            total += 27 * inputs * width + bias * width + 2 * (inputs + width)
            if stage < stages:
                total += smart(width, width, 3, bias)
            else:
                total += 27 * width * width + bias * width
            if stage and not number:
                total += 27 * inputs * width + width
            inputs = width
    total += 2 * 512 + 513 * 400
    assert cost.read_table()[name].parameters == total


def test_a_block_is_appearance_beside_halved_sums_of_squares(rng):
    block = artnet.Smart(3, 4, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(rng.normal(size=(2, 3, 5, 6, 3)), jnp.float32)

    def filtered(layer, x):
        kernel = layer.kernel[...]
        sides = [((size - 1) // 2,) * 2 for size in kernel.shape[:3]]
        numbers = ("NDHWC", "DHWIO", "NDHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1, 1), sides, dimension_numbers=numbers
        )

    @jax.jit
    def both(x):
        # Of a new layer the statistics are 0 and 1.
        whiten = 1 / np.sqrt(1 + 1e-5)
        squares = (filtered(block.relation, x) * whiten) ** 2
        energy = 0.5 * (squares[..., 0::2] + squares[..., 1::2]) * whiten
        seen = filtered(block.appearance, x) * whiten
        joined = jax.nn.relu(jnp.concatenate([seen, energy], -1))
        return block(x), filtered(block.reduce, joined)

    found, expected = both(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_relation_alone_joins_frames_and_has_no_sign(rng):
    block = artnet.Smart(3, 4, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(rng.normal(size=(1, 4, 3, 3, 3)), jnp.float32)
    kernel = block.relation.kernel[...]
    graph, state = nnx.split(block)

    @jax.jit
    def run(x, kernel):
        block = nnx.merge(graph, state, copy=True)
        block.relation.kernel[...] = kernel
        return block(x)

    whole = run(x, kernel)
    np.testing.assert_allclose(run(x, -kernel), whole, atol=1e-6)
    for weights, reach in ((kernel, [1, 1, 1, 0]), (0 * kernel, [0, 1, 0, 0])):
        changed = run(x.at[:, 1].add(1.0), weights) - run(x, weights)
        far = np.abs(changed).max((0, 2, 3, 4)) > 1e-5
        np.testing.assert_array_equal(far, np.array(reach, bool))


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match="`smart_stages` must be at most 4; got 5"):
        dataclasses.replace(artnet.TINY, smart_stages=5)
    with pytest.raises(ValueError, match="`width` must be even; got 5"):
        dataclasses.replace(artnet.TINY, width=5)
