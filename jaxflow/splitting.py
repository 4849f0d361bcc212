"""Networks as structure and weights, at once if they were seen before.

`nnx.split` walks a network and sorts what it finds, and hashing the structure walks it
again: four milliseconds for a network of two hundred layers, at every call. Both are
remembered here, and it is checked that they still hold.
"""

import dataclasses
import functools
import itertools
import operator
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

import jax
from flax import nnx


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """What a network is but for its weights; equal structures are one object."""

    graphdef: nnx.GraphDef
    tree: Any

    def model(self, leaves: list[jax.Array]) -> nnx.Module:
        """Returns a network of these weights."""
        state = jax.tree.unflatten(self.tree, leaves)
        return nnx.merge(self.graphdef, state, copy=True)


# Hashing a graph takes longer than a small network; an object hashes at once.
_structure = functools.lru_cache(maxsize=256)(Structure)


class _Known:
    """A network that was split before, and whether it is still the same.

    Weights are read from its variables anew at each call, so that they may change in
    place. Everything else that it holds must be the very objects of before.
    """

    def __init__(self, model: nnx.Module):
        graphdef, state = nnx.split(model)
        leaves, tree = jax.tree.flatten(state)
        self.structure = _structure(graphdef, tree)
        # Flax notes there which attributes are data; it is replaced and never changed.
        nodes = [x for path, x in nnx.iter_graph(model) if _NOTES not in path]
        found = {id(_raw(v)): v for v in nodes if isinstance(v, nnx.Variable)}
        self.variables = [found.get(id(leaf)) for leaf in leaves]
        holders = [
            holder
            for node in nodes
            if hasattr(node, "__dict__") and not isinstance(node, nnx.Variable)
            for holder in _holders(node)
        ]
        self.dicts = [holder for holder in holders if isinstance(holder, dict)]
        self.views = [holder.values() for holder in self.dicts]
        self.views += [holder for holder in holders if isinstance(holder, list)]
        # Kept, so that no other object gets the identity of one of them.
        self.held = [item for view in self.views for item in view]
        self.seen = self._look()
        distinct = len(found) == len(leaves) and None not in self.variables
        # A model that holds itself would be kept alive by being remembered.
        self.usable = distinct and not any(item is model for item in self.held)
        self.first = leaves

    def leaves(self) -> list[jax.Array]:
        """Returns the weights as they are now."""
        return list(map(_raw, cast(Any, self.variables)))

    def holds(self) -> bool:
        """Tells whether nothing but weights has changed since."""
        return self._look() == self.seen

    def _look(self) -> tuple[list[int], list[Any], list[int]]:
        """Returns how much each part holds, under which names, and which objects.

        It runs at every call, so that it loops in C alone.
        """
        each = itertools.chain.from_iterable
        sizes = list(map(len, self.views))
        return sizes, list(each(self.dicts)), list(map(id, each(self.views)))


# Flax 0.11 has an attribute where later versions have a method.
_raw = getattr(nnx.Variable, "get_raw_value", operator.attrgetter("raw_value"))


_NOTES = "_pytree__nodes"


def _items(holder: dict | list | tuple) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder


def _holders(node: Any) -> Iterator[dict | list | tuple]:
    """Yields the dictionary of an object's attributes, and what is nested in it."""
    waiting = [vars(node)]
    while waiting:
        holder = waiting.pop()
        yield holder
        waiting += [x for x in _items(holder) if isinstance(x, (dict, list, tuple))]


_known: dict[int, tuple[weakref.ref, _Known]] = {}


def split(model: nnx.Module) -> tuple[Structure, list[jax.Array]]:
    """Splits a network into structure and weights, to pass to a jitted function.

    The weights may change in place between calls, and modes, layers and settings may
    be replaced: what changed is split anew.

    Args:
        model: The network.

    Returns:
        Its structure, which hashes at once and is the same object for equal networks;
        and its arrays, which `Structure.model` takes.
    """
    reference, known = _known.get(id(model), (None, None))
    if reference is not None and known is not None and reference() is model:
        if known.holds():
            return known.structure, known.leaves()
    known = _Known(model)
    leaves, known.first = known.first, []
    key = id(model)
    if known.usable:
        forget = weakref.ref(model, lambda _: _known.pop(key, None))
        _known[key] = forget, known
    else:
        _known.pop(key, None)
    return known.structure, leaves
