"""What would fit, when a state dict does not fit a model."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxflow import models
from jaxflow.convert import matching, slots

_MOST_TRIED = 24
_MOST_NAMED = 4
_ENOUGH = 0.9


def what_fits(
    plan: matching.Plan, model: nnx.Module, state: Mapping[str, np.ndarray]
) -> str:
    """Returns a sentence that helps, or "".

    Args:
        plan: The best there is, with faults.
        model: The model that it is for.
        state: Key -> array.
    """
    head = matching.head_paths(model)
    if head and not plan.missing and not plan.unused and plan.misshapen.keys() <= head:
        classes = _classes(plan)
        other = (
            f", and num_classes={classes} makes a model that fits" if classes else ""
        )
        return f"Only the classifier differs: head='fresh' loads all the rest{other}"
    names = _variants_that_fit(model, state)
    if not names:
        return ""
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"It fits {', '.join(names[:_MOST_NAMED])}{more}"


def _classes(plan: matching.Plan) -> int | None:
    """Returns the number of classes that the arrays of the classifier have."""
    shapes = [plan.found[path][1].shape for path in plan.misshapen]
    sizes = {shape[0] for shape in shapes if len(shape) == 1}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _variants_that_fit(model: nnx.Module, state: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the variants whose weights, but for the classifier, are in the state."""
    module = type(model).__module__
    modules: dict[str, Any] = {}
    for name in models.list_models():
        modules.setdefault(models.find(name).__name__, models.find(name))
    order = sorted(modules, key=lambda name: name != module)
    knowing = [name for name in order if name == module or _knows(modules[name], state)]
    tried = [name for each in knowing for name in modules[each].RECORD.variants]
    fitting = []
    for name in tried[:_MOST_TRIED]:
        other = models.describe(name)
        head = matching.head_paths(other)
        tables = slots.key_tables(other)
        if matching.best_plan(other, state, tables, skip=head).faults() == 0:
            fitting.append(name)
    return fitting


def _knows(module: Any, state: Mapping[str, np.ndarray]) -> bool:
    """Tells whether one of a file's key tables knows nearly all keys, but for prefixes.

    The model is not built for it.
    """
    keys = list(state)[:: max(1, len(state) // 20)]
    for rows in module.RECORD.keys.values():
        patterns = [re.compile(pattern) for pattern, path in rows if path]
        known = sum(_ends_with_one(key, patterns) for key in keys)
        if known >= _ENOUGH * len(keys):
            return True
    return False


def _ends_with_one(key: str, patterns: list[re.Pattern]) -> bool:
    parts = key.split(".")
    ends = (".".join(parts[cut:]) for cut in range(len(parts)))
    return any(pattern.fullmatch(end) for end in ends for pattern in patterns)
