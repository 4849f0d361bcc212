"""Checksums of arrays that do not depend on where their parts are.

A checksum is a sum over the elements, modulo 2**32, of

    mix(bits xor 0x9E3779B1 i),    i = 0, 1, 2, … in C order,

where `bits` are the element's, as unsigned words of 32, and `mix` is the last step of
MurmurHash3, which is one to one. So a change inside one word never goes unnoticed, and
any other one with probability 1 - 2**-32. A sum can be taken in parts: every device
adds up what it holds, and nothing is gathered on one host.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

_SPREAD = 0x9E3779B1
# Words that are mixed at a time: what fits into the caches of a processor.
_CHUNK = 2**18


@jax.jit
def on_devices(array: jax.Array) -> jax.Array:
    """Returns the checksum of an array on one or many devices.

    Args:
        array: Of any shape, sharding, and numeric or boolean type.

    Returns:
        A scalar, uint32, on every device of `array`.
    """
    words = _words(array)
    index = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = np.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        index += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    mixed = _mix(words ^ (index * np.uint32(_SPREAD)))
    return jnp.sum(mixed, dtype=jnp.uint32)


def on_host(array: np.ndarray) -> int:
    """Returns the checksum of a NumPy array; the same number as `on_devices`.

    Args:
        array: Of any shape, and numeric or boolean type.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    width = flat.dtype.itemsize
    words = flat.view(np.dtype(f"u{min(width, 4)}"))
    total = 0
    for start in range(0, words.size, _CHUNK):
        part = words[start : start + _CHUNK].astype(np.uint32)
        index = np.arange(start, start + part.size, dtype=np.uint64).astype(np.uint32)
        mixed = _mix(part ^ (index * np.uint32(_SPREAD)))
        total += int(mixed.sum(dtype=np.uint64))
    return total % 2**32


def _words(array: jax.Array) -> jax.Array:
    """Returns the bits of an array as uint32; wider elements get one more axis."""
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        array = jnp.stack([array.real, array.imag], -1)
    words = jnp.dtype(f"u{min(array.dtype.itemsize, 4)}")
    return jax.lax.bitcast_convert_type(array, words).astype(jnp.uint32)


def _mix(word):
    """The finaliser of MurmurHash3 on uint32 words."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return word ^ (word >> np.uint32(16))
