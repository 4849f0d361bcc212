"""Copies of a CPU's arrays, in memory that is kept from one save to the next.

What lies on an accelerator is brought to the host before it is written, and so copied.
The arrays of a CPU are the host's: while they are read, a training step that is given
them cannot write over them and has to find memory for all of them, which the system
hands out page by page. To copy them into memory that is at hand takes a tenth of that.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# What JAX asks of memory that it takes over without a copy, in bytes.
_ALIGNMENT = 64


class Staging:
    """Memory for copies of arrays, as much as they have on CPUs of this process.

    Examples:
        >>> staging = jaxflow.io.staging.Staging()
        >>> copies = staging.copies({"x": jnp.arange(3)})
        >>> copies["x"]
        Array([0, 1, 2], dtype=int32)
    """

    def __init__(self):
        self._memory: dict[tuple, np.ndarray] = {}

    def copies(self, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Copies arrays; those of accelerators are returned as they are.

        Args:
            arrays: By name, sharded or not.

        Returns:
            Arrays of the same values and shardings, until this is called again.
        """
        known, self._memory = self._memory, {}
        return {name: self._copy(name, array, known) for name, array in arrays.items()}

    def _copy(self, name: str, array: jax.Array, known: dict) -> jax.Array:
        if next(iter(array.sharding.device_set)).platform != "cpu":
            return array
        parts = []
        for shard in array.addressable_shards:
            place = (name, str(shard.index), shard.data.shape, shard.data.dtype)
            if place not in self._memory:  # or it is another copy of what was there
                memory = known[place] if place in known else _aligned(shard.data)
                np.copyto(memory, np.asarray(shard.data))
                self._memory[place] = memory
            parts.append(jax.device_put(self._memory[place], shard.device))
        return jax.make_array_from_single_device_arrays(
            array.shape, array.sharding, parts
        )


def _aligned(like: Any) -> np.ndarray:
    """Returns memory for an array."""
    raw = np.empty(like.nbytes + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return np.ndarray(like.shape, like.dtype, raw, offset)
