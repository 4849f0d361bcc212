"""Weights from elsewhere: official checkpoints into our models.

Every model file has `KEYS`: for each dialect (whose code wrote the checkpoint) a table
of (pattern of a foreign key, path of the weight in our model). This module recognises
the dialect, moves the axes from torch's layout to ours and fills the model. A model of
ours is archived as safetensors under its own dotted paths.
"""

import dataclasses
import json
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy
from flax import nnx, serialization

from jaxflow.io import files, torch7, torch_files

OWN_DIALECT = "jaxflow"
"""Name of the dialect whose keys are our own dotted paths."""

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "blobs")
_MAX_WRAPPING = 4
_DATA_PARALLEL = "module."


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
        """Writes the weight, converted to its own dtype."""
        value = np.asarray(array)
        if self._inflates(value.shape):
            frames = self.foreign_shape[2]
            value = np.repeat(value[:, :, None] / frames, frames, axis=2)
        value = value.reshape(self.foreign_shape)
        if self.axes is not None:
            value = value.transpose(self.axes)
        self.variable[...] = jnp.asarray(
            np.ascontiguousarray(value), self.variable.dtype
        )


def convert_state_dict(
    model: nnx.Module, state_dict: Mapping[str, Any], *, dialect: str | None = None
) -> nnx.Module:
    """Fills a model with the weights of a published checkpoint.

    A checkpoint that wraps its weights ({"state_dict": …}) is unwrapped, the "module."
    of torch's DataParallel is ignored, and `num_batches_tracked` is dropped. Weights
    are cast to the model's dtypes.

    Args:
        model: Any model of `jaxflow.models`; it is changed in place.
        state_dict: Official key -> array (anything that NumPy can read).
        dialect: Name of the key table, or "jaxflow" for our own dotted paths; None
            takes the table that knows the most keys.

    Returns:
        `model`.

    Raises:
        ValueError: If weights are missing, keys are not used, or shapes differ. The one
            message lists all of them, and the model is untouched. Also if the dialect's
            weights were trained for another config of the model.
    """
    state = _only_arrays(unwrap(state_dict))
    tables = key_tables(model)
    if dialect is not None and dialect not in tables:
        raise ValueError(f"`dialect` must be one of {sorted(tables)}; got {dialect!r}")
    names = [dialect] if dialect is not None else list(tables)
    parallel = all(key.startswith(_DATA_PARALLEL) for key in state)
    plans = [
        _plan(model, name, tables[name], state, _DATA_PARALLEL if strip else "")
        for name in names
        for strip in ((False, True) if parallel else (False,))
    ]
    plan = min(plans, key=lambda plan: len(plan.faults()))
    plan.check(model)
    _check_config(model, plan.dialect)
    for slot, array in plan.found.values():
        slot.fill(array)
    return model


def load_weights(
    model: nnx.Module,
    path: files.Path | Sequence[files.Path],
    *,
    dialect: str | None = None,
) -> nnx.Module:
    """Fills a model from a checkpoint file; see `read_checkpoint` for the formats.

    Args:
        model: Any model of `jaxflow.models`; it is changed in place.
        path: The file, or several that together hold the weights.
        dialect: Name of the key table; None recognises it.

    Returns:
        `model`.

    Raises:
        ValueError: If the file is not a checkpoint, or does not fit the model.
        OSError: If the file cannot be read.
    """
    state = read_checkpoint(path)
    try:
        return convert_state_dict(model, state, dialect=dialect)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_weights(model: nnx.Module, path: files.Path) -> None:
    """Writes a model's weights as safetensors, under our dotted paths.

    The header records the model's file and config. The file appears whole or not at
    all.

    Args:
        model: Any model of `jaxflow.models`.
        path: Where to write; the extension is not changed.

    Raises:
        OSError: If the file cannot be written.
    """
    arrays = {
        path: np.ascontiguousarray(jax.device_get(slot.variable[...]))
        for path, slot in weight_slots(model).items()
    }
    config = getattr(model, "config", None)
    metadata = {"format": OWN_DIALECT, "model": type(model).__module__}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        metadata["config"] = json.dumps(dataclasses.asdict(config), default=str)
    with files.atomic_path(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, metadata=metadata)


def read_checkpoint(path: files.Path | Sequence[files.Path]) -> dict[str, np.ndarray]:
    """Reads the weights of a checkpoint file as a flat dict, without running its code.

    Formats: torch (.pth, .pth.tar, .pt, .ckpt, .pyth; zip and older), NumPy pickles
    (.pkl), Torch7 (.t7), safetensors, Flax msgpack (.msgpack) and an Orbax folder. What
    torch and pickle files are is told by their contents, not by their names.

    Args:
        path: The file or folder; or several files, whose keys then get the file's
            name without its extension in front: "modelL1_F.modules.1.weight".

    Returns:
        Key -> array. Nested tables are joined by dots; everything that is no array
        (epochs, options) is left out.

    Raises:
        ValueError: If the file is damaged, foreign, claims more than it holds, or
            contains anything that would have to be executed.
        OSError: If the file cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        return {
            f"{pathlib.Path(part).stem}.{key}": value
            for part in path
            for key, value in read_checkpoint(part).items()
        }
    if os.path.isdir(path):
        saved = _read_orbax(path)
    elif files.suffix(path) == ".safetensors":
        saved = _read_safetensors(path)
    elif files.suffix(path) == ".t7":
        saved = torch7.read_t7(path)
    elif files.suffix(path) == ".msgpack":
        saved = _read_msgpack(path)
    else:
        saved = torch_files.read_torch(path)
    if not isinstance(saved, Mapping):
        raise files.fault(path, f"holds one {type(saved).__name__}, not a state dict")
    state = _only_arrays(unwrap(_flatten(unwrap(saved))))
    if not state:
        raise files.fault(path, "holds no arrays")
    return state


def unwrap(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the innermost state dict of a checkpoint such as {"state_dict": …}."""
    for _ in range(_MAX_WRAPPING):
        inner = [saved.get(name) for name in _WRAPPERS]
        inner = [value for value in inner if isinstance(value, Mapping) and value]
        if not inner:
            break
        saved = inner[0]
    return saved


def key_tables(model: nnx.Module) -> dict[str, tuple]:
    """Returns the key tables of a model: dialect -> rows. Our own dialect has none."""
    module = sys.modules[type(model).__module__]
    return {OWN_DIALECT: (), **getattr(module, "KEYS", {})}


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


def is_optional(model: nnx.Module, path: str) -> bool:
    """Tells whether a checkpoint may lack a weight, which then keeps its value.

    Such weights are listed as patterns of our paths in `OPTIONAL` of the model's file.

    Args:
        model: Any model of `jaxflow.models`.
        path: Our dotted path.
    """
    patterns = getattr(sys.modules[type(model).__module__], "OPTIONAL", ())
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


@dataclasses.dataclass
class _Plan:
    """What one key table makes of a state dict."""

    dialect: str
    found: dict[str, tuple[Slot, np.ndarray]]
    missing: list[str]
    unused: list[str]
    misshapen: list[str]

    def faults(self) -> list[str]:
        """Returns everything that does not fit."""
        return self.missing + self.unused + self.misshapen

    def check(self, model: nnx.Module) -> None:
        """Raises the one error that lists everything that does not fit."""
        kinds = ("missing", "unused", "misshapen")
        lists = {kind: getattr(self, kind) for kind in kinds}
        if self.faults():
            name = type(model).__module__.rpartition(".")[2]
            raise ValueError(
                f"the state dict does not fit {name} (read as {self.dialect!r}): "
                + "; ".join(
                    f"{len(keys)} {kind}: {', '.join(keys)}"
                    for kind, keys in lists.items()
                    if keys
                )
            )


def _plan(model, dialect, table, state, prefix) -> _Plan:
    """Matches every key of `state`, less a prefix, against one table."""
    plan = _Plan(dialect, {}, [], [], [])
    rows = [(re.compile(pattern), template) for pattern, template in table]
    slots = weight_slots(model)
    for key, array in state.items():
        bare = key.removeprefix(prefix)
        if bare.rpartition(".")[2] == "num_batches_tracked":
            continue
        if dialect == OWN_DIALECT:
            slot = slots.get(bare)
        else:
            known, path = _translate(rows, bare)
            if known and path is None:
                continue
            slot = find_slot(model, path) if path else None
        if slot is not None:
            array = _adapt(model, dialect, bare, array)
        if slot is None:
            plan.unused.append(key)
        elif slot.path in plan.found:
            if not np.array_equal(plan.found[slot.path][1], array):
                plan.unused.append(f"{key} (a second value for {slot.path})")
        else:
            plan.found[slot.path] = slot, array
            if not slot.accepts(array.shape):
                plan.misshapen.append(
                    f"{key} {array.shape} instead of {slot.foreign_shape}"
                )
    plan.missing = [
        path
        for path in slots
        if path not in plan.found and not is_optional(model, path)
    ]
    return plan


def _adapt(model: nnx.Module, dialect: str, key: str, array: np.ndarray) -> np.ndarray:
    """Returns an array as our network takes it, if the dialect's differs in it.

    `ADAPT` of the model's file lists, for a dialect, patterns of keys and a function of
    the array in torch's layout.
    """
    module = sys.modules[type(model).__module__]
    for pattern, function in getattr(module, "ADAPT", {}).get(dialect, ()):
        if re.fullmatch(pattern, key):
            array = function(np.asarray(array))
    return array


def _check_config(model: nnx.Module, dialect: str) -> None:
    """Raises if the weights are for another config (`REQUIRES` of the model's file)."""
    module = sys.modules[type(model).__module__]
    for field, value in getattr(module, "REQUIRES", {}).get(dialect, {}).items():
        found = getattr(cast(Any, model).config, field)
        if found != value:
            name = module.__name__.rpartition(".")[2]
            variants = [
                variant
                for variant, config in module.VARIANTS.items()
                if getattr(config, field) == value
            ]
            raise ValueError(
                f"weights in the dialect {dialect!r} are for a {name} with "
                f"{field}={value}; this one has {found}: create one of "
                f"{', '.join(variants)}"
            )


def _translate(rows, key: str) -> tuple[bool, str | None]:
    """Returns whether a row knows the key, and the path that it gives."""
    for pattern, template in rows:
        if match := pattern.fullmatch(key):
            return True, None if template is None else match.expand(template)
    return False, None


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:]))


def _flatten(saved: Mapping) -> dict[str, Any]:
    """Joins the keys of nested tables by dots; each table is visited once."""
    flat: dict[str, Any] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", saved)]
    while waiting:
        prefix, table = waiting.pop()
        if id(table) in seen:
            continue
        seen.add(id(table))
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        for key, value in items:
            if isinstance(value, (Mapping, list, tuple)):
                waiting.append((f"{prefix}{key}.", value))
            else:
                flat[f"{prefix}{key}"] = value
    return flat


def _only_arrays(saved: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keeps what NumPy takes for an array of numbers."""
    arrays = {}
    for key, value in saved.items():
        if isinstance(value, nnx.Variable):
            value = value[...]
        if hasattr(value, "__array__") or isinstance(value, (list, tuple)):
            array = np.asarray(value)
            if array.dtype.kind in "biufV":
                arrays[str(key)] = array
    return arrays


def _read_safetensors(path: files.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise files.fault(path, f"is not a safetensors file: {error}") from error


def _read_msgpack(path: files.Path) -> Any:
    with open(path, "rb") as file:
        data = file.read()
    try:
        return serialization.msgpack_restore(data)
    except Exception as error:  # msgpack raises a family of its own
        raise files.fault(path, f"is not a Flax msgpack file: {error}") from error


def _read_orbax(path: files.Path) -> Any:
    """Restores a saved model, or the newest step of a training run, as nested dicts."""
    folder = pathlib.Path(path).resolve()
    steps = [child for child in folder.iterdir() if child.name.isdigit()]
    if steps and not (folder / "_METADATA").exists():
        folder = max(steps, key=lambda child: int(child.name))
    if (folder / "state").is_dir():
        folder = folder / "state"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(folder)
    except Exception as error:  # Orbax raises whatever its parts raise
        what = str(error).partition("\n")[0]
        raise files.fault(path, f"is not an Orbax checkpoint: {what}") from error
    if isinstance(saved.get("params"), Mapping):
        # A training state: the optimiser's arrays are not the model's.
        return {**_flatten(saved["params"]), **_flatten(saved.get("stats", {}))}
    return saved
