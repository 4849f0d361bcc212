"""Which key of a checkpoint is which weight of a model, and what does not fit.

A key is looked up in the key tables of the model's file. What wrappers put in front of
all keys ("module.", "net.", "module._orig_mod.model.") is found by looking for the
prefix behind which the tables know the keys; what torch puts between the parts of a key
when a part of a network is wrapped is left out where the keys fit no table with it.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import models, spec
from jaxflow.convert import recorded, slots

SHOWN = 3
"""How many faults of a kind a message shows."""

# Parts of keys that torch.nn.DataParallel, torch.compile, FSDP and checkpointing insert
# where they wrap a part of a network.
_INSERTED = (
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
)
_SAMPLE = 60
_COUNTER = "num_batches_tracked"


# A key without what wrappers put in front of it or into it -> the key itself.
Keys = Mapping[str, str]


@dataclasses.dataclass
class Plan:
    """What one key table makes of a state dict.

    Attributes:
        dialect: Name of the table.
        found: Our path -> the weight and the array for it.
        missing: Our paths for which there is no array.
        unused: Keys that no row of the table knows, or that come second.
        misshapen: What has another shape: our path -> the difference, as text.
    """

    dialect: str
    found: dict[str, tuple[slots.Slot, np.ndarray]]
    missing: list[str]
    unused: list[str]
    misshapen: dict[str, str]

    def faults(self) -> int:
        """Returns how many things do not fit."""
        return len(self.missing) + len(self.unused) + len(self.misshapen)

    def explain(self) -> str:
        """Returns the number of faults of each kind, and the first few."""
        kinds = {
            "missing": self.missing,
            "unused": self.unused,
            "misshapen": list(self.misshapen.values()),
        }
        return "; ".join(
            f"{len(keys)} {kind}: {_few(keys)}" for kind, keys in kinds.items() if keys
        )


def best_plan(
    model: nnx.Module,
    state: Mapping[str, np.ndarray],
    dialects: Collection[str],
    *,
    skip: Collection[str] = (),
) -> Plan:
    """Returns the plan with the fewest faults, over tables and prefixes.

    Args:
        model: Any model of `jaxflow.models`.
        state: Key -> array.
        dialects: Names of the tables to try.
        skip: Our paths that shall keep their values.
    """
    tables = slots.key_tables(model)
    own = slots.weight_slots(model)
    known = {name: _lookup(model, name, tables[name], own) for name in dialects}

    def plan(name: str, keys: Keys) -> Plan:
        return _plan(model, name, known[name], own, state, keys, skip)

    plans = [plan(name, {key: key for key in state}) for name in dialects]
    for keys in ({key: key for key in state}, _without_inserted(state)):
        if any(plan.faults() == 0 for plan in plans):
            break
        for name in dialects:
            for prefix in _prefixes(known[name], keys):
                plans.append(plan(name, _stripped(keys, prefix)))
    return min(plans, key=Plan.faults)


def head_paths(model: nnx.Module) -> set[str]:
    """Returns our paths of the classifier: what the number of classes gives its shape.

    Args:
        model: Any model; without `num_classes` in its config, or with None, it has no
            classifier.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "num_classes", None) is None:
        return set()
    other = dataclasses.replace(config, num_classes=config.num_classes + 1)
    larger = models.described(lambda rngs: cast(Any, type(model))(other, rngs=rngs))
    shapes = {
        path: slot.variable.shape for path, slot in slots.weight_slots(larger).items()
    }
    return {
        path
        for path, slot in slots.weight_slots(model).items()
        if shapes.get(path) != slot.variable.shape
    }


def _plan(
    model: nnx.Module,
    dialect: str,
    known: Callable[[str], tuple[bool, slots.Slot | None]],
    own: Mapping[str, slots.Slot],
    state: Mapping[str, np.ndarray],
    keys: Keys,
    skip: Collection[str],
) -> Plan:
    """Matches every key of `state` against one table."""
    plan = Plan(dialect, {}, [], [], {})
    for bare, key in keys.items():
        array = state[key]
        recognised, slot = known(bare)
        if slot is None:
            counter = array.ndim == 0 and array.dtype.kind in "iub"
            if not (recognised or counter or key.endswith(_COUNTER)):
                plan.unused.append(key)
            continue
        if slot.path in skip:
            continue
        array = _adapt(model, dialect, bare, array)
        if slot.path not in plan.found:
            plan.found[slot.path] = slot, array
            if not slot.accepts(array.shape):
                shapes = f"{array.shape} instead of {slot.foreign_shape}"
                plan.misshapen[slot.path] = f"{key} {shapes}"
        elif not np.array_equal(plan.found[slot.path][1], array):
            plan.unused.append(f"{key} (a second value for {slot.path})")
    plan.missing = [
        path
        for path, slot in own.items()
        if path not in plan.found
        and path not in skip
        and not slots.is_optional(model, path)
        and not (dialect == slots.OWN_DIALECT and _is_constant(slot.variable))
    ]
    return plan


def _lookup(
    model: nnx.Module, dialect: str, table: tuple, own: Mapping[str, slots.Slot]
) -> Callable[[str], tuple[bool, slots.Slot | None]]:
    """Returns key -> (whether a row of the table knows it, the weight if it is one)."""
    if dialect == slots.OWN_DIALECT:
        return lambda key: (key in own, own.get(key))
    rows = [(re.compile(pattern), template) for pattern, template in table]
    remembered: dict[str, tuple[bool, slots.Slot | None]] = {}

    def look(key: str) -> tuple[bool, slots.Slot | None]:
        for pattern, template in rows:
            if match := pattern.fullmatch(key):
                if template is None:
                    return True, None
                slot = slots.find_slot(model, match.expand(template))
                return slot is not None, slot
        return False, None

    def known(key: str) -> tuple[bool, slots.Slot | None]:
        if key not in remembered:
            remembered[key] = look(key)
        return remembered[key]

    return known


def _prefixes(known: Callable, keys: Keys) -> list[str]:
    """Returns the prefixes behind which a table knows the most of some keys."""
    counts: collections.Counter[str] = collections.Counter()
    for key in list(keys)[:: max(1, len(keys) // _SAMPLE)]:
        parts = key.split(".")
        for cut in range(len(parts)):
            if known(".".join(parts[cut:]))[1] is not None:
                counts[".".join([*parts[:cut], ""])] += 1
    return [prefix for prefix, _ in counts.most_common(2)]


def _stripped(keys: Keys, prefix: str) -> Keys:
    """Takes a prefix off the keys that have it, but for those that would then clash."""
    return _renamed(keys, lambda key: key.removeprefix(prefix))


def _without_inserted(state: Mapping[str, np.ndarray]) -> Keys:
    """Takes the parts that wrappers insert out of the keys."""

    def bare(key: str) -> str:
        return ".".join(part for part in key.split(".") if part not in _INSERTED)

    return _renamed({key: key for key in state}, bare)


def _renamed(keys: Keys, rename: Callable[[str], str]) -> Keys:
    """Renames bare keys; of two that become one, the second is known to no table."""
    renamed: dict[str, str] = {}
    for bare, key in keys.items():
        name = rename(bare) or bare
        renamed[f"{key} (a second one)" if name in renamed else name] = key
    return renamed


def _adapt(model: nnx.Module, dialect: str, key: str, array: np.ndarray) -> np.ndarray:
    """Returns an array as our network takes it, if the dialect's differs in it.

    `adapt` of the model's record lists, for a dialect, patterns of keys and a function
    of the array in torch's layout.
    """
    for pattern, function in spec.record_of(model).adapt.get(dialect, ()):
        if re.fullmatch(pattern, key):
            array = function(np.asarray(array))
    return array


def check_config(model: nnx.Module, dialect: str) -> None:
    """Raises if the weights are for another config (`requires` of its record)."""
    record = spec.record_of(model)
    for field, value in record.requires.get(dialect, {}).items():
        found = getattr(cast(Any, model).config, field)
        if found != value:
            name = recorded.kind_of(model)
            variants = [
                variant
                for variant, config in record.variants.items()
                if getattr(config, field) == value
            ]
            raise ValueError(
                f"weights in the dialect {dialect!r} are for a {name} with "
                f"{field}={value}; this one has {found}: create one of "
                f"{', '.join(variants)}"
            )


def check_numbers(path: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Raises if an array holds anything but finite floats that `dtype` can hold."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"the array for {path} is {array.dtype}, and weights are floating-point "
            "numbers: a quantised checkpoint has to be turned back first"
        )
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"the array for {path} holds {finite.size - np.count_nonzero(finite)} "
            f"numbers of {finite.size} that are NaN or infinite: the training that "
            "wrote it diverged, or the file is damaged"
        )
    most = float(jnp.finfo(dtype).max)
    if array.dtype.itemsize > dtype.itemsize and array.size:
        largest = float(np.abs(array).max())
        if largest > most:
            raise ValueError(
                f"the array for {path} holds {largest:.3g}, and the largest {dtype} is "
                f"{most:.3g}: training diverged, or the file is damaged"
            )


def _is_constant(variable: nnx.Variable) -> bool:
    return not isinstance(variable, (nnx.Param, nnx.BatchStat))


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
