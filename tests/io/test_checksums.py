"""Tests for jaxflow.io.checksums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow.io import checksums


def by_definition(array):
    """The sum in the module's docstring, with Python's integers."""
    words = np.ascontiguousarray(array).reshape(-1)
    words = words.view(f"u{min(array.dtype.itemsize, 4)}").tolist()
    total = 0
    for i, word in enumerate(words):
        word ^= 0x9E3779B1 * i % 2**32
        word = (word ^ (word >> 16)) * 0x85EBCA6B % 2**32
        word = (word ^ (word >> 13)) * 0xC2B2AE35 % 2**32
        total += word ^ (word >> 16)
    return total % 2**32


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "int8", "uint32", "bool", "complex64"]
)
def test_devices_and_host_agree_with_the_definition(dtype, rng):
    array = jnp.asarray(rng.normal(0, 9, (3, 5, 2))).astype(dtype)
    expected = by_definition(np.asarray(array))
    assert int(checksums.on_devices(array)) == expected
    assert checksums.on_host(np.asarray(array)) == expected


def test_scalars_and_empty_arrays_have_one():
    assert checksums.on_host(np.float32(3)) == int(checksums.on_devices(jnp.array(3.0)))
    assert checksums.on_host(np.zeros((0, 4), np.float32)) == 0
    assert int(checksums.on_devices(jnp.zeros((0, 4)))) == 0


def test_the_host_sums_long_arrays_in_parts(monkeypatch, rng):
    array = rng.normal(size=(7, 9)).astype(np.float32)
    whole = checksums.on_host(array)
    monkeypatch.setattr(checksums, "_CHUNK", 10)
    assert checksums.on_host(array) == whole


def test_it_is_the_same_however_an_array_is_split(rng):
    array = rng.normal(size=(8, 12, 3)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
    expected = checksums.on_host(array)
    for parts in ((), ("a", "b"), (None, "b"), (("a", "b"),)):
        split = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*parts)))
        assert int(checksums.on_devices(split)) == expected


def test_flipped_bits_and_swapped_elements_change_it(rng):
    array = rng.normal(size=64).astype(np.float32)
    sums = {checksums.on_host(array), checksums.on_host(array[::-1])}
    for place in range(0, 64 * 32, 5):
        bits = array.view(np.uint32).copy()
        bits[place // 32] ^= np.uint32(1 << place % 32)
        sums.add(checksums.on_host(bits.view(np.float32)))
    assert len(sums) == 2 + len(range(0, 64 * 32, 5))
