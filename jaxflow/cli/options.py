"""Options of models and methods: ``--option NAME=VALUE``, read by their types."""

import ast
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Kinds = dict[str, Any]
"""Name of an option -> type annotation."""


def read(words: Sequence[str], kinds: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Returns the options that are given.

    Args:
        words: NAME=VALUE each.
        kinds: The options there are.
        owner: Whose they are, for messages.

    Raises:
        ValueError: If a word is no such option, or its value has another type.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--option: give NAME=VALUE; got {word!r}")
        if name not in kinds:
            there = ", ".join(sorted(kinds)) or "none"
            raise ValueError(
                f"--option: {owner} has no option {name!r}; there are {there}"
            )
        try:
            found[name] = _value(text, kinds[name])
        except ValueError as error:
            raise ValueError(f"--option {name}: {error}") from None
    return found


def of_config(config: Any) -> Kinds:
    """Returns the fields of a config."""
    hints = typing.get_type_hints(type(config))
    return {
        field.name: hints.get(field.name, Any) for field in dataclasses.fields(config)
    }


def of_call(function: Callable) -> Kinds:
    """Returns the keywords of a function, and of the function that a partial holds."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    hints = typing.get_type_hints(inner)
    return {
        name: hints.get(name, Any)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _value(text: str, kind: Any) -> Any:
    """Reads one value as its type says."""
    if _is_array(kind):
        return _array(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if isinstance(value, list):
        value = tuple(value)
    candidates: tuple[Any, ...] = (value, text)
    for candidate in candidates:
        if _fits(candidate, kind):
            whole = float in _members(kind) and type(candidate) is int
            return float(candidate) if whole else candidate
    raise ValueError(f"must be {_describe(kind)}; got {text!r}")


def _fits(value: Any, kind: Any) -> bool:
    """Tells whether a value is of a type, as far as types of options go."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, member) for member in inner)
    if origin is typing.Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float):
        number = type(value) is int or (kind is float and type(value) is float)
        return number and math.isfinite(value)
    if kind in (bool, str, tuple):
        return type(value) is kind
    return True


def _members(kind: Any) -> tuple:
    """Returns a type, or those of a union."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


def _describe(kind: Any) -> str:
    """Says what a type is to somebody who writes a value of it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, inner))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return "numbers such as (1, 2)"
    names = {int: "a whole number", float: "a number", bool: "True or False"}
    return {**names, str: "text", type(None): "None"}.get(kind, str(kind))


def _is_array(kind: Any) -> bool:
    import jax

    return any(member in (jax.Array, np.ndarray) for member in _members(kind))


def _array(path: str) -> np.ndarray:
    """Reads an array: flow from any flow file, or what an .npy file holds."""
    from jaxflow import io
    from jaxflow.io import files

    if files.suffix(path) == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise files.fault(path, f"no readable .npy file: {error}") from None
    return io.read_flow(path)[0]
