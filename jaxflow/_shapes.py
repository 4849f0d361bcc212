"""Arrays at the door: chex compares, and one line names what does not fit.

All of it happens when a function is traced, and costs nothing when it runs.
"""

import types
from collections.abc import Sequence
from typing import Any

import chex

Axis = int | str | None | types.EllipsisType


def check(name: str, array: Any, expected: Sequence[Axis]) -> None:
    """Raises ValueError unless an array has a shape.

    Args:
        name: Of the argument.
        array: Its value.
        expected: A number an axis; a letter or None for an axis of any length; and at
            most one ``...`` for any axes: ``(..., "H", "W", 2)``.
    """
    _check_array(name, array)
    lengths = [None if isinstance(axis, str) else axis for axis in expected]
    try:
        chex.assert_shape(array, lengths)
    except AssertionError:
        words = ["..." if axis is ... else str(axis or "any") for axis in expected]
        wanted = ", ".join(words) + "," * (len(words) == 1)
        raise ValueError(
            f"`{name}` must have the shape ({wanted}); got {tuple(array.shape)}"
        ) from None


def check_floats(**arrays: Any) -> None:
    """Raises ValueError unless every array, given by its name, holds floats."""
    for name, array in arrays.items():
        _check_array(name, array)
        try:
            chex.assert_type(array, float)
        except AssertionError:
            raise ValueError(
                f"`{name}` must hold floats; got {array.dtype} of shape "
                f"{tuple(array.shape)}: pictures of bytes are divided by 255, other "
                "numbers cast by .astype(jnp.float32)"
            ) from None


def check_pixels(name: str, array: Any, *, axes: tuple[int, int] = (-3, -2)) -> None:
    """Raises ValueError if the height or width of an array, given by axes, is 0."""
    if not all(array.shape[axis] for axis in axes):
        raise ValueError(
            f"`{name}` must have pixels, a height and width of 1 or more; got the "
            f"shape {tuple(array.shape)}"
        )


def check_equal(**arrays: Any) -> None:
    """Raises ValueError unless the arrays, given by their names, have one shape."""
    for name, array in arrays.items():
        _check_array(name, array)
    try:
        chex.assert_equal_shape(list(arrays.values()))
    except AssertionError:
        names = " and ".join(f"`{name}`" for name in arrays)
        shapes = " and ".join(str(tuple(array.shape)) for array in arrays.values())
        raise ValueError(f"{names} must have one shape; got {shapes}") from None


def _check_array(name: str, value: Any) -> None:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise ValueError(
            f"`{name}` must be an array; got {type(value).__name__}: "
            "jnp.asarray makes one of numbers"
        )
