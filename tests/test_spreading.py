"""Tests for jaxflow.spreading; what networks make of it is in test_estimate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import spreading


@functools.partial(jax.jit, static_argnums=0)
def affine(sign, weights, x, options):
    """Of every example by itself, with an option of each and one of all."""
    slope, offset = weights
    mean = x.mean(axis=(1, 2), keepdims=True)
    everywhere = options["each"] + options["all"][None, None]
    return sign * slope * (x - mean) + offset[None, None] + everywhere


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_many_devices_compute_what_one_does(count, rng):
    x = rng.normal(size=(count, 4, 5)).astype(np.float32)
    options = {"each": x[:, :1], "all": np.ones(5, np.float32)}
    known = (-1, [jnp.float32(3), jnp.arange(5.0)])
    found = spreading.call(affine, known, (x, options), count)
    expected = -3 * (x - x.mean((1, 2), keepdims=True)) + np.arange(5) + x[:, :1] + 1
    assert found.shape == x.shape
    # Sums of 20 numbers in another order.
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_devices_share_the_examples(monkeypatch, rng):
    used = []

    def spread(function, mesh, fixed, tree, split, weights, leaves):
        used.append((mesh.size, leaves[0].shape[0]))
        return leaves[0]

    monkeypatch.setattr(spreading, "_spread", spread)
    for count in (2, 8, 9, 20):
        x = rng.normal(size=(count, 2)).astype(np.float32)
        np.testing.assert_array_equal(spreading.call(None, (), (x,), count), x)
    assert used == [(2, 2), (8, 8), (5, 10), (7, 21)]


def test_weights_are_copied_once():
    spreading._copied.clear()
    weights = [jnp.ones(3)]
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    first = spreading._everywhere(weights, mesh)
    assert spreading._everywhere(weights, mesh) is first
    assert first[0].sharding.device_set == set(jax.devices())
    other = spreading._everywhere([2 * jnp.ones(3)], mesh)
    np.testing.assert_array_equal(other[0], 2 * np.ones(3))


def test_a_chosen_device_works_alone():
    with jax.default_device(jax.devices()[3]):
        assert len(spreading.devices()) == 1
        found = spreading.call(lambda x: x + 1, (), (jnp.zeros((4, 2)),), 4)
    assert found.sharding.device_set == {jax.devices()[3]}
