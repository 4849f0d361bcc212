"""What would fit, when a state dict does not fit a model."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxflow import models
from jaxflow.convert import matching, slots

# Variables of networks, described in a second or so, after which no more is tried.
_MOST_VARIABLES = 1200
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
    if _only_shapes(plan) and plan.misshapen.keys() <= matching.head_paths(model):
        classes = _classes(plan)
        other = (
            f", and num_classes={classes} makes a model that fits" if classes else ""
        )
        return f"Only the classifier differs: head='fresh' loads all the rest{other}"
    names = _variants_that_fit(plan, model, state)
    if not names:
        return ""
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"It fits {', '.join(names[:_MOST_NAMED])}{more}"


def _classes(plan: matching.Plan) -> int | None:
    """Returns the number of classes that the arrays of the classifier have."""
    shapes = [plan.found[path][1].shape for path in plan.misshapen]
    sizes = {shape[0] for shape in shapes if len(shape) == 1}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _only_shapes(plan: matching.Plan) -> bool:
    """Tells whether nothing but shapes differs."""
    return not plan.missing and not plan.unused


def _variants_that_fit(
    plan: matching.Plan, model: nnx.Module, state: Mapping[str, np.ndarray]
) -> list[str]:
    """Returns the variants whose weights, but for the classifier, are in the state.

    Describing a large network takes a third of a second, so that only those are whose
    tables know the keys, the published ones first, and no more than a second or so
    takes. What is looked at does not depend on the machine.
    """
    module = type(model).__module__
    modules: dict[str, Any] = {}
    for name in models.list_models():
        modules.setdefault(models.find(name).__name__, models.find(name))
    order = sorted(modules.values(), key=lambda each: each.__name__ != module)
    fitting = []
    left = _MOST_VARIABLES
    for each in order:
        if not (each.__name__ == module and plan.found) and not _knows(each, state):
            continue
        published = {name.partition("/")[0] for name in each.RECORD.weights}
        others = [
            name
            for name, config in each.RECORD.variants.items()
            if config != getattr(model, "config", None)
        ]
        for name in sorted(others, key=lambda name: name not in published):
            if left <= 0:
                return fitting
            other = models.describe(name)
            left -= len(slots.weight_slots(other))
            if _fits(other, state):
                fitting.append(name)
    return fitting


def _fits(model: nnx.Module, state: Mapping[str, np.ndarray]) -> bool:
    """Tells whether a state fits a model, but for the classifier."""
    plan = matching.best_plan(model, state, slots.key_tables(model))
    if plan.faults() == 0:
        return True
    return _only_shapes(plan) and plan.misshapen.keys() <= matching.head_paths(model)


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
