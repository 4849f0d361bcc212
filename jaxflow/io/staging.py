"""Copies of a CPU's arrays, in memory that is kept from one save to the next.

What lies on an accelerator is brought to the host before it is written, and so copied.
The arrays of a CPU are the host's: while they are read, a training step that is given
them cannot write over them and has to find memory for all of them, which the system
hands out page by page. To copy them into memory that is at hand takes a tenth of that.
The first time there is none, unless another thread has taken it before.
"""

import math
import threading
from collections.abc import Mapping, Sequence

import jax
import numpy as np

# What JAX asks of memory that it takes over without a copy, in bytes.
_ALIGNMENT = 64
_PAGE = 4096
# Pages that are touched before it is asked whether to go on.
_CHUNK = 4096
# Name and part of an array, shape and type: whose memory it is.
_Place = tuple[str, str, tuple[int, ...], np.dtype]


class Staging:
    """Memory for copies of arrays, as much as they have on CPUs of this process.

    Examples:
        >>> staging = jaxflow.io.staging.Staging()
        >>> copies = staging.copies({"x": jnp.arange(3)})
        >>> copies["x"]
        Array([0, 1, 2], dtype=int32)
    """

    def __init__(self):
        self._memory: dict[_Place, np.ndarray] = {}
        self._taking: threading.Thread | None = None
        self._stop = threading.Event()

    def reserve(self, arrays: Mapping[str, jax.Array]) -> None:
        """Takes memory for copies of arrays, in a thread of its own, and returns.

        Args:
            arrays: As for `copies`; only their shapes and places count.
        """
        self.stop()
        self._stop = threading.Event()
        every = {part for name, array in arrays.items() for part in _parts(name, array)}
        places = sorted(every - self._memory.keys(), key=str)
        self._taking = threading.Thread(
            target=self._take, args=(places, self._stop), daemon=True
        )
        self._taking.start()

    def stop(self) -> None:
        """Stops taking memory; what was taken is kept."""
        if self._taking is not None:
            self._stop.set()
            self._taking.join()
            self._taking = None

    def copies(self, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Copies arrays; those of accelerators are returned as they are.

        Args:
            arrays: By name, sharded or not.

        Returns:
            Arrays of the same values and shardings, until this is called again.
        """
        self.stop()
        known, self._memory = self._memory, {}
        return {name: self._copy(name, array, known) for name, array in arrays.items()}

    def _take(self, places: Sequence[_Place], stop: threading.Event) -> None:
        """Takes memory for some parts, one after the other, until it is stopped."""
        for place in places:
            try:
                memory = _aligned(place)
            except MemoryError:
                return  # Whoever needs it says so.
            pages = memory.reshape(-1).view(np.uint8)[::_PAGE]
            for start in range(0, pages.size, _CHUNK):
                if stop.is_set():
                    return
                pages[start : start + _CHUNK] = 0
            self._memory[place] = memory

    def _copy(self, name: str, array: jax.Array, known: dict) -> jax.Array:
        places = _parts(name, array)
        if not places:
            return array
        parts = []
        for shard, place in zip(array.addressable_shards, places, strict=True):
            if place not in self._memory:  # or it is another copy of what was there
                memory = known[place] if place in known else _aligned(place)
                np.copyto(memory, np.asarray(shard.data))
                self._memory[place] = memory
            parts.append(jax.device_put(self._memory[place], shard.device))
        return jax.make_array_from_single_device_arrays(
            array.shape, array.sharding, parts
        )


def _parts(name: str, array: jax.Array) -> list[_Place]:
    """Returns the parts of an array that CPUs of this process hold."""
    if next(iter(array.sharding.device_set)).platform != "cpu":
        return []
    return [
        (name, str(shard.index), shard.data.shape, np.dtype(shard.data.dtype))
        for shard in array.addressable_shards
    ]


def _aligned(place: _Place) -> np.ndarray:
    """Returns memory for a part of an array."""
    *_, shape, dtype = place
    raw = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return np.ndarray(shape, dtype, raw, offset)
