"""One batch over all devices of this process: each computes its own examples.

Nothing passes between them, so that the result is what one device computes, up to the
rounding of programs for batches of another size.
"""

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_EACH, _ALL = PartitionSpec("data"), PartitionSpec()


def devices() -> list[Any]:
    """Returns the devices that share the work: one, if a default was chosen."""
    if jax.config.jax_default_device is not None:  # type: ignore[attr-defined]
        return jax.local_devices()[:1]
    return jax.local_devices()


def call(
    function: Callable[..., jax.Array], known: tuple, examples: tuple, count: int
) -> jax.Array | np.ndarray:
    """Calls a jitted function of a batch, each device with its share of the examples.

    Args:
        function: (*known, *examples) -> array whose first axis has the examples. It
            computes every example for itself.
        known: What it is told before them: lists of arrays, such as weights, and what
            it was compiled for, which has a hash.
        examples: Trees of arrays. Those with two axes or more, of which the first is
            `count` long, are split; the others go to every device.
        count: The number of examples.

    Returns:
        What the function returns for all of them.
    """
    found = devices()
    if len(found) < 2 or count < 2:
        return function(*known, *examples)
    share = math.ceil(count / len(found))
    used = math.ceil(count / share)
    mesh = Mesh(np.array(found[:used]), ("data",))
    leaves, tree = jax.tree.flatten(examples)
    split = tuple(x.ndim > 1 and x.shape[0] == count for x in leaves)
    put = [
        jax.device_put(
            _filled(x, share * used) if own else x,
            NamedSharding(mesh, _EACH if own else _ALL),
        )
        for x, own in zip(leaves, split, strict=True)
    ]
    fixed = tuple(None if isinstance(part, list) else part for part in known)
    weights = [_everywhere(part, mesh) for part in known if isinstance(part, list)]
    out = _spread(function, mesh, fixed, tree, split, weights, put)
    return np.asarray(out)[:count]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _spread(
    function: Callable,
    mesh: Mesh,
    fixed: tuple,
    tree: Any,
    split: tuple[bool, ...],
    weights: list[list[jax.Array]],
    leaves: list[jax.Array],
) -> jax.Array:
    def one(weights, leaves):
        lists = iter(weights)
        known = (next(lists) if part is None else part for part in fixed)
        return function(*known, *jax.tree.unflatten(tree, leaves))

    specs = [_EACH if own else _ALL for own in split]
    each = jax.shard_map(
        one, mesh=mesh, in_specs=(_ALL, specs), out_specs=_EACH, check_vma=False
    )
    return each(weights, leaves)


def _filled(array: Any, count: int) -> np.ndarray:
    """Repeats the last example until there are `count`."""
    array = np.asarray(array)
    more = np.repeat(array[-1:], count - len(array), axis=0)
    return np.concatenate([array, more]) if len(more) else array


# The weights that were copied last: (references to them, mesh, copies).
_copied: list[tuple[list[weakref.ref], Mesh, list[jax.Array]]] = []


def _everywhere(leaves: list[jax.Array], mesh: Mesh) -> list[jax.Array]:
    """Returns weights on every device; once copied, they are there the next time."""
    for known, where, copies in _copied:
        same = where == mesh and len(known) == len(leaves)
        if same and all(r() is x for r, x in zip(known, leaves, strict=True)):
            return copies
    copies = jax.device_put(leaves, NamedSharding(mesh, _ALL))
    _copied[:] = [([weakref.ref(leaf) for leaf in leaves], mesh, copies)]
    return copies
