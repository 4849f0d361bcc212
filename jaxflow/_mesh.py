"""What varies over the axes of a mesh, where a function runs under `jax.shard_map`.

There an array has a type that says over which axes its parts differ, and a loop must
end with the types that it starts with. Zeros are the same everywhere, until something
is added to them.
"""

from typing import Any, TypeVar

import jax
from jax import lax

Tree = TypeVar("Tree")


def alike(start: Tree, *arrays: Any) -> Tree:
    """Marks what a loop starts with as varying over the axes that its inputs vary over.

    Args:
        start: A tree of arrays.
        *arrays: What the loop reads, trees too.

    Returns:
        `start`, each array of it varying over every axis of a mesh that one of them, or
        of `arrays`, varies over. Outside of `jax.shard_map` it is `start` itself.

    Examples:
        >>> from jaxflow import _mesh
        >>> zero = jnp.zeros(3)
        >>> _mesh.alike(zero, jnp.ones(3)) is zero
        True
    """
    every = frozenset().union(*map(_axes, jax.tree.leaves((start, arrays))))

    def mark(x):
        missing = every - _axes(x)
        return _vary(x, tuple(sorted(missing))) if missing else x

    return jax.tree.map(mark, start)


def _axes(x) -> frozenset:
    """Returns the names of the axes of a mesh that an array varies over."""
    kind = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())


def _vary(x, axes):
    if hasattr(lax, "pcast"):
        return lax.pcast(x, axes, to="varying")
    return lax.pvary(x, axes)  # JAX 0.7  # pyright: ignore[reportAttributeAccessIssue]
