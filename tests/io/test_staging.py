"""Tests for jaxflow.io.staging."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import mesh
from jaxflow.io import staging


def place(array, *axes):
    return jax.device_put(array, jax.NamedSharding(mesh.data_mesh(), jax.P(*axes)))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000.0, dtype=np.float32),
        np.float32(3),
        np.ones((0, 3), np.int8),
        np.ones((8, 3), jnp.bfloat16),
        np.array([True, False]),
    ],
)
def test_a_copy_has_the_same_values_and_type(array):
    copy = staging.Staging().copies({"x": jnp.asarray(array)})["x"]
    assert copy.dtype == array.dtype and copy.shape == array.shape
    np.testing.assert_array_equal(np.asarray(copy), array)


@pytest.mark.parametrize("axes", [(), ("data",)])
def test_a_copy_is_spread_as_the_array_is(axes):
    array = place(jnp.arange(8.0), *axes)
    copy = staging.Staging().copies({"x": array})["x"]
    assert copy.sharding == array.sharding
    np.testing.assert_array_equal(np.asarray(copy), np.arange(8))


def test_a_copy_stays_when_the_array_is_used_up_without_being_copied_again():
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.block_until_ready(add(jnp.zeros(100_000)))
    before = array.unsafe_buffer_pointer()
    copy = staging.Staging().copies({"x": array})["x"]
    after = jax.block_until_ready(add(array))
    # The result took the place of the array, which nobody held on to.
    assert after.unsafe_buffer_pointer() == before
    np.testing.assert_array_equal(np.asarray(copy), 1)
    np.testing.assert_array_equal(np.asarray(after), 2)


def test_the_memory_is_taken_again_where_it_fits():
    kept = staging.Staging()

    def address(array):
        return kept.copies({"x": array})["x"].unsafe_buffer_pointer()

    first = address(jnp.zeros(100_000))
    assert address(jnp.ones(100_000)) == first
    copy = kept.copies({"x": jnp.ones(7), "y": jnp.zeros(100_000)})
    np.testing.assert_array_equal(np.asarray(copy["x"]), np.ones(7))
    np.testing.assert_array_equal(np.asarray(copy["y"]), np.zeros(100_000))


@pytest.mark.parametrize("axes", [(), ("data",)])
def test_memory_that_was_reserved_is_what_copies_are_made_into(axes):
    array = place(jnp.arange(80_000.0), *axes)
    kept = staging.Staging()
    kept.reserve({"x": array, "empty": jnp.zeros((0, 3))})
    kept._taking.join()
    reserved = {memory.ctypes.data for memory in kept._memory.values() if memory.size}
    copy = kept.copies({"x": array})["x"]
    used = {shard.data.unsafe_buffer_pointer() for shard in copy.addressable_shards}
    assert used <= reserved
    np.testing.assert_array_equal(np.asarray(copy), np.arange(80_000))


def test_copies_do_not_wait_for_all_that_is_reserved(monkeypatch):
    kept, aligned = staging.Staging(), staging._aligned

    def slow(place):
        alone = threading.current_thread() is threading.main_thread()
        assert alone or place[0] == "a" or kept._stop.wait(60)
        return aligned(place)

    monkeypatch.setattr(staging, "_aligned", slow)
    arrays = {name: jnp.full(3000, 7.0) for name in "abc"}
    kept.reserve(arrays)
    copies = kept.copies(arrays)
    assert kept._taking is None
    for copy in copies.values():
        np.testing.assert_array_equal(np.asarray(copy), 7)


def test_reserving_holds_on_to_no_array():
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.block_until_ready(add(jnp.zeros(100_000)))
    before = array.unsafe_buffer_pointer()
    kept = staging.Staging()
    kept.reserve({"x": array})
    assert jax.block_until_ready(add(array)).unsafe_buffer_pointer() == before
    kept.stop()
