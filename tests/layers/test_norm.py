"""Tests for jaxflow.layers.norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import norm


def batch_norm(rng, features=4):
    layer = norm.BatchNorm(features)
    layer.scale[...] = jnp.float32(rng.normal(size=features))
    layer.bias[...] = jnp.float32(rng.normal(size=features))
    layer.mean[...] = jnp.float32(rng.normal(size=features))
    layer.var[...] = jnp.float32(rng.uniform(0.5, 2, size=features))
    return layer


def test_evaluation_uses_the_running_statistics(rng):
    layer = batch_norm(rng)
    layer.eval()
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    scale, bias, mean, var = (
        np.float64(getattr(layer, name)[...])
        for name in ("scale", "bias", "mean", "var")
    )
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    # One product and one sum in float32 of values of order 1.
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5, 4), (2, 2, 3, 3, 4)], ids=str)
def test_training_normalises_by_the_batch_and_moves_the_statistics_as_torch(rng, shape):
    layer = batch_norm(rng)
    layer.train()
    before = np.float64(layer.mean[...]), np.float64(layer.var[...])
    x = rng.normal(3, 2, size=shape).astype(np.float32)
    y = layer(x)
    flat = np.float64(x).reshape(-1, 4)
    normal = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    expected = normal * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(y, expected, atol=1e-4)
    # torch keeps the unbiased variance: n - 1 in the denominator.
    np.testing.assert_allclose(
        layer.mean[...], 0.9 * before[0] + 0.1 * flat.mean(0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        layer.var[...], 0.9 * before[1] + 0.1 * flat.var(0, ddof=1), rtol=1e-5
    )


def test_a_frozen_layer_trains_as_it_evaluates_and_learns_nothing(rng):
    layer, kept = batch_norm(rng), batch_norm(rng)
    norm.freeze(layer, but=[kept])
    x = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    expected, mean = layer(x), np.asarray(layer.mean[...])
    layer.train()
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(layer.mean[...], mean)
    graph, params, stats = nnx.split(layer, nnx.Param, nnx.BatchStat)

    def loss(params):
        return jnp.sum(nnx.merge(graph, params, stats, copy=True)(x) ** 2)

    slope = jax.grad(loss)(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))
    norm.freeze(kept, but=[kept])
    assert not kept.frozen


def test_variance_of_a_large_mean_survives_float32(rng):
    layer = norm.BatchNorm(1)
    layer.train()
    x = rng.normal(1e4, 1, size=(4096, 1)).astype(np.float32)
    # E[x^2] - E[x]^2 would leave nothing: float32 resolves 1e8 to 8.
    assert 0.9 < np.std(layer(x)) < 1.1


def test_a_sharded_batch_is_normalised_as_a_whole(rng):
    layer = norm.BatchNorm(3)
    layer.train()
    graphdef, state = nnx.split(layer)
    x = rng.normal(np.arange(8)[:, None, None, None], size=(8, 2, 2, 3))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    run = jax.jit(lambda state, x: nnx.merge(graphdef, state, copy=True)(x))
    sharded = run(state, jax.device_put(jnp.float32(x), place))
    np.testing.assert_allclose(sharded, layer(jnp.float32(x)), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_in_half_precision_out(rng, dtype):
    layer = batch_norm(rng)
    x = jnp.asarray(rng.normal(size=(2, 4, 4, 4)), dtype)
    assert layer(x).dtype == dtype
    assert layer.mean[...].dtype == jnp.float32
    assert norm.instance_norm(x).dtype == dtype


def test_instance_norm_has_mean_0_and_variance_1_a_channel(rng):
    x = rng.normal(5, 3, size=(2, 7, 9, 4)).astype(np.float32)
    y = np.float64(norm.instance_norm(x))
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2)), 1, atol=1e-4)


def test_instance_norm_of_a_constant_is_zero_and_its_gradient_finite():
    x = jnp.full((1, 4, 4, 1), 3.0)
    np.testing.assert_array_equal(norm.instance_norm(x), 0)
    slope = jax.grad(lambda x: norm.instance_norm(x)[0, 0, 0, 0])(x)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("batch_axes", [1, 2])
def test_group_norm_equals_its_equation(rng, batch_axes):
    layer = norm.GroupNorm(6, 2, epsilon=1e-2)
    scale, bias = rng.normal(size=(2, 6))
    layer.scale[...], layer.bias[...] = jnp.float32(scale), jnp.float32(bias)
    x = rng.normal(2, 3, size=(2, 3, 4, 5, 6))
    expected = np.empty_like(x)
    for group in (slice(0, 3), slice(3, 6)):
        part = x[..., group]
        axes = tuple(range(batch_axes, x.ndim))
        mean, var = part.mean(axes, keepdims=True), part.var(axes, keepdims=True)
        normal = (part - mean) / np.sqrt(var + 1e-2)
        expected[..., group] = normal * scale[group] + bias[group]
    y = layer(jnp.float32(x), batch_axes=batch_axes)
    # Float32 of values of order 1.
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_group_norm_without_weights_and_in_half_precision(rng):
    layer = norm.GroupNorm(4, 4, affine=False)
    assert not jax.tree.leaves(nnx.state(layer))
    x = rng.normal(5, 3, size=(2, 7, 9, 4)).astype(np.float32)
    # A group of one channel is an instance norm.
    np.testing.assert_allclose(layer(x), norm.instance_norm(x), atol=1e-5)
    assert norm.GroupNorm(4, 2)(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("groups", [0, 3])
def test_group_norm_rejects_groups_that_do_not_divide(groups):
    with pytest.raises(ValueError, match="`groups` must divide the 4 features"):
        norm.GroupNorm(4, groups)


@pytest.mark.parametrize("use_bias", [False, True])
def test_channel_norm_equals_its_equation(rng, use_bias):
    layer = norm.ChannelNorm(6, use_bias=use_bias)
    layer.scale[...] = jnp.float32(scale := rng.normal(size=6))
    bias = rng.normal(size=6) if use_bias else np.zeros(6)
    if use_bias:
        layer.bias[...] = jnp.float32(bias)
    x = rng.normal(size=(2, 3, 6)) + 2
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(layer(jnp.float32(x)), expected, atol=1e-5)
