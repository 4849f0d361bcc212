"""Tests for jaxflow.layers.remat."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow.layers import conv, resnet3d, unet
from jaxflow.train import step as steps

CLIP = (2, 4, 8, 8, 6)


def bottlenecks():
    return resnet3d.Stage(6, 4, (3, 1), stride=2, rngs=nnx.Rngs(0)), ()


def res_block():
    block = unet.ResBlock(
        6, 8, convolution=conv.Conv3d, groups=2, embedding=5, scale_shift=True,
        dropout_rate=0.3, rngs=nnx.Rngs(0),
    )  # fmt: skip
    # What begins at zero would hide the dropout.
    block.conv2.kernel[...] = jax.random.normal(jax.random.key(2), (3, 3, 3, 8, 8))
    return unet.Stage(block), (jnp.ones((2, 5)), iter([None, None]))


def gradient(module, more, *, again):
    """Returns a function of the weights and a clip: loss, gradient and statistics."""
    rebuild = steps.separate(module, remat=again)

    def loss(params, stats, clip):
        model = rebuild(params, stats, jax.random.key(3))
        value = jnp.mean(jnp.sin(model(clip, *more)))
        return value, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    return jax.value_and_grad(loss, has_aux=True)


def gradient_free(module, more, *, again):
    """Returns a function of the weights and a clip: the loss."""
    rebuild = steps.separate(module, remat=again)

    def loss(params, stats, clip):
        model = rebuild(params, stats, jax.random.key(3))
        return jnp.mean(jnp.sin(model(clip, *more)))

    return loss


def kept(loss, weights, inputs):
    """Returns how many numbers stay between the forward and the backward pass."""

    def forward(params):
        return jax.vjp(lambda params: loss(params, weights["stats"], inputs), params)[1]

    left = jax.tree.leaves(jax.eval_shape(forward, weights["params"]))
    return sum(leaf.size for leaf in left) - sum(
        leaf.size for leaf in jax.tree.leaves(weights["params"])
    )


def compare(ours, expected, *, within=1e-6):
    one, other = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (ours, expected)
    )
    # The same sums, but fused otherwise.
    assert np.linalg.norm(one - other) <= within * np.linalg.norm(other)
    assert np.linalg.norm(other) > 0


@pytest.mark.parametrize("make", [bottlenecks, res_block])
def test_loss_gradient_and_statistics_are_those_without(make):
    weights = jaxflow.checkpoint.weights_of(make()[0])
    clip = jax.random.normal(jax.random.key(1), CLIP)

    @jax.jit
    def both(params, stats, clip):
        return [
            gradient(*make(), again=again)(params, stats, clip)
            for again in (True, False)
        ]

    ours, expected = both(weights["params"], weights["stats"], clip)
    compare(ours, expected)
    less, more = (
        kept(gradient_free(*make(), again=again), weights, clip)
        for again in (True, False)
    )
    assert less < 0.6 * more


@pytest.mark.slow
def test_raft_needs_less_memory_for_the_same_gradient():
    model = jaxflow.create_model("raft_small", iterations=8)
    pair = jax.random.uniform(jax.random.key(0), (2, 2, 128, 136, 3))

    def loss(params, stats, pair, rebuild):
        model = rebuild(params, stats, jax.random.key(3))
        return jnp.mean(jnp.abs(model(*pair).flow))

    given = (*jaxflow.checkpoint.weights_of(model).values(), pair)
    found = []
    for again in (True, False):
        rebuild = steps.separate(model, remat=again)
        slope = jax.jit(jax.value_and_grad(functools.partial(loss, rebuild=rebuild)))
        compiled = slope.lower(*given).compile()
        found.append((compiled.memory_analysis(), compiled(*given)))
    (less, ours), (more, expected) = found
    assert less.temp_size_in_bytes < 0.7 * more.temp_size_in_bytes
    # Eight iterations, each with the last one's rounding.
    compare(ours, expected, within=1e-5)


def test_a_model_without_such_parts_is_refused():
    model = jaxflow.create_model("jaxflow_fast")
    with pytest.raises(ValueError, match=r"`remat`: no part of .* can be computed"):
        steps.separate(model, remat=True)
