"""The values that a model's config may have, as its annotations say."""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

Count = Annotated[int, "at least 0"]
"""An integer of a config that may be 0; all others must be positive."""
Share = Annotated[float, "in [0, 1)"]
"""A number of a config in [0, 1), such as a rate of dropout."""
Number = Annotated[float, "finite"]
"""A number of a config that may be 0 or negative; all others must be positive."""

_RANGES: dict[str, Callable[[float], bool]] = {
    "positive": lambda value: 0 < value < math.inf,
    "at least 0": lambda value: 0 <= value < math.inf,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "finite": math.isfinite,
}


def check_config(config: Any) -> None:
    """Verifies a model's config against its annotations; for its `__post_init__`.

    A `Literal` lists the values there are. Numbers must be positive, unless they are
    annotated as `Count`, `Share` or `Number`. Tuples are verified item by item.

    Args:
        config: A frozen dataclass of plain values.

    Raises:
        ValueError: If a field has a value that its annotation does not allow.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if not _allows(hint, value):
            raise ValueError(f"`{name}` must be {_describe(hint)}; got {value!r}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Returns the annotations of a dataclass's fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _allows(hint: Any, value: Any) -> bool:
    """Tells whether a value is what an annotation says."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(value == choice for choice in parts)
    if origin in (Union, types.UnionType):
        return any(_allows(part, value) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is Ellipsis:
            return all(_allows(parts[0], item) for item in value)
        return len(value) == len(parts) and all(map(_allows, parts, value))
    kind, limits = parts if origin is Annotated else (hint, "positive")
    if kind in (int, float):
        abstract = numbers.Integral if kind is int else numbers.Real
        real = isinstance(value, abstract) and not isinstance(value, bool)
        return real and _RANGES[limits](float(value))
    return isinstance(value, kind) if isinstance(kind, type) else True


def _describe(hint: Any) -> str:
    """Says in words what an annotation allows."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is tuple and parts[-1] is Ellipsis:
        return f"a tuple, each item {_describe(parts[0])}"
    if origin is tuple:
        each = dict.fromkeys(map(_describe, parts))
        return f"a tuple of {len(parts)}, each item {' or '.join(each)}"
    kind, limits = parts if origin is Annotated else (hint, "positive")
    if kind in (int, float):
        noun, article = ("integer", "an") if kind is int else ("number", "a")
        if limits in ("positive", "finite"):
            return f"a {limits} {noun}"
        return f"{article} {noun} {limits}"
    names = {types.NoneType: "None", bool: "True or False"}
    return names.get(kind) or str(getattr(kind, "__name__", kind))
