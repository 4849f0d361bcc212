"""The weights of a model, by our dotted paths and as foreign checkpoints see them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import spec

OWN_DIALECT = "jaxflow"
"""Name of the dialect whose keys are our own dotted paths."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """One weight of a model, as a foreign checkpoint sees it.

    Attributes:
        path: Our dotted path, e.g. "levels.0.convs.1.kernel".
        variable: The weight itself.
        axes: Permutation that brings the foreign axes into our order, or None.
    """

    path: str
    variable: nnx.Variable
    axes: tuple[int, ...] | None

    @property
    def foreign_shape(self) -> tuple[int, ...]:
        """Shape that the weight has in the foreign layout."""
        shape = self.variable.shape
        if self.axes is None:
            return shape
        return tuple(shape[self.axes.index(axis)] for axis in range(len(shape)))

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Tells whether an array of this shape can fill the weight.

        A kernel of a 2-D network fills one of a 3-D network: it is repeated in time,
        and divided by the repetitions, so that a clip of one repeated frame gives the
        2-D answer (Carreira and Zisserman, CVPR 2017, Sec. 2.4). Torch7 stores a
        kernel flat, as (O, rest), and so do 1x1 convolutions that were written as
        matrices.
        """
        own = self.foreign_shape
        if shape == own or self._inflates(shape):
            return True
        flat = len(shape) == 2 or len(own) == 2
        return (
            flat
            and len(shape) > 1
            and len(own) > 1
            and _as_matrix(shape) == _as_matrix(own)
        )

    def _inflates(self, shape: tuple[int, ...]) -> bool:
        """Tells whether this is the 2-D form of our 3-D kernel."""
        own = self.foreign_shape
        return len(shape) == 4 and len(own) == 5 and shape == (*own[:2], *own[3:])

    def fill(self, array: np.ndarray) -> None:
        """Writes the weight, converted to its own layout and dtype."""
        self.variable[...] = self.converted(array)

    def converted(self, array: np.ndarray) -> jax.Array:
        """Returns an array of the foreign layout in our layout and dtype."""
        value = np.asarray(array)
        if self._inflates(value.shape):
            frames = self.foreign_shape[2]
            value = np.repeat(value[:, :, None] / frames, frames, axis=2)
        value = value.reshape(self.foreign_shape)
        if self.axes is not None:
            value = value.transpose(self.axes)
        return jnp.asarray(np.array(value, order="C"), self.variable.dtype)


def key_tables(model: nnx.Module) -> dict[str, tuple]:
    """Returns the key tables of a model: dialect -> rows. Our own dialect has none."""
    return {OWN_DIALECT: (), **spec.record_of(model).keys}


def weight_slots(model: nnx.Module) -> dict[str, Slot]:
    """Returns every weight of a model by its dotted path: parameters and statistics."""
    found = {}
    for parts, variable in nnx.to_flat_state(nnx.state(model)):
        if not isinstance(variable, nnx.RngState):
            path = ".".join(str(part) for part in parts)
            found[path] = Slot(path, node_at(model, path), None)
    return found


def find_slot(model: nnx.Module, path: str) -> Slot | None:
    """Returns the weight at a path of a key table, or None if there is none.

    Args:
        model: Any model of `jaxflow.models`.
        path: Dotted attributes and indices. The last part is torch's name of the leaf,
            which the layer translates, or ours.
    """
    parent, _, leaf = path.rpartition(".")
    owner = node_at(model, parent)
    names = getattr(owner, "torch_names", {})
    name, axes = names.get(leaf, (leaf, None))
    variable = node_at(owner, name)
    if not isinstance(variable, nnx.Variable):
        return None
    return Slot(f"{parent}.{name}" if parent else name, variable, axes)


def write(model: nnx.Module, values: Mapping[str, jax.Array]) -> None:
    """Writes weights, also into a model that is described only.

    Args:
        model: Any model; the weights that are not named keep their values.
        values: Our path -> array in our layout.
    """
    state = nnx.to_flat_state(nnx.state(model))
    named = [
        (parts, variable.replace(values[path]))
        for parts, variable in state
        if (path := ".".join(str(part) for part in parts)) in values
    ]
    nnx.update(model, nnx.from_flat_state(named))


def unfilled(model: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns what of a described model has no values yet, by our dotted path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if isinstance(leaf, jax.ShapeDtypeStruct)
    }


def is_optional(model: nnx.Module, path: str) -> bool:
    """Tells whether a checkpoint may lack a weight, which then keeps its value.

    Such weights are patterns of our paths in `optional` of the model's record.

    Args:
        model: Any model of `jaxflow.models`.
        path: Our dotted path.
    """
    patterns = spec.record_of(model).optional
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def node_at(node: Any, path: str) -> Any:
    """Follows dotted attributes, dict keys and list indices.

    Args:
        node: Where to begin.
        path: E.g. "levels.0.convs.1"; "" is `node` itself.

    Returns:
        What is there, or None.
    """
    for part in path.split(".") if path else ():
        if isinstance(node, Mapping):
            node = node.get(part)
        elif hasattr(node, part):
            node = getattr(node, part)
        elif part.isdigit() and hasattr(node, "__getitem__") and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:]))
