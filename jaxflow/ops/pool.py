"""Pooling with explicit padding, on channels-last arrays.

Sizes, strides and paddings are in the order of the array's axes: (y, x) or (t, y, x).
All derivatives exist, forward or reverse.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _shapes
from jaxflow.ops.conv import (
    Padding,
    Size,
    check_least,
    check_room,
    per_axis,
    per_side,
)

# Windows that are wider are not worth their compile time.
_MAX_SLICES = 16


def max_pool(
    x: jax.Array,
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> jax.Array:
    """Takes the largest value of each window and channel.

    The padding is never the largest, for it counts as minus infinity; a NaN always is.
    Where several values are the largest, the gradient goes to the first of them in
    memory.

    Args:
        x: (*B, H, W, C), or (*B, T, H, W, C) for a window of three numbers.
        window: Size in y and x, or in t, y and x; one number means y and x.
        strides: Step between windows; the window's size by default.
        padding: Margin, given as for `conv` and `conv3d`.
        ceil_mode: Whether a last, partial window is kept where it starts inside the
            input or the leading margin.

    Returns:
        The pooled array, in the dtype of `x`.

    Raises:
        ValueError: If an axis is given too few or too many numbers or one that is too
            small or no whole number, if `x` with its margin is smaller than a window,
            or if `x` holds no real numbers.

    Examples:
        >>> image = jnp.arange(16.0).reshape(4, 4, 1)
        >>> jaxflow.ops.max_pool(image, 2)[..., 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    window, strides, _, sides = _pooling(x, window, strides, padding, ceil_mode)
    if jnp.issubdtype(x.dtype, jnp.floating):
        lowest = -jnp.inf
    else:
        lowest = jnp.iinfo(x.dtype).min
    return _reduce_windows(x, lowest, _first_largest, window, strides, sides)


def avg_pool(
    x: jax.Array,
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> jax.Array:
    """Averages each window, channel by channel.

    Args:
        x: (*B, H, W, C), or (*B, T, H, W, C) for a window of three numbers.
        window: Size in y and x, or in t, y and x; one number means y and x.
        strides: Step between windows; the window's size by default.
        padding: Margin of zeros, given as for `conv` and `conv3d`.
        count_include_pad: Whether the zeros of the margin count in the mean. If not, a
            window that lies in the margin alone gives 0.
        ceil_mode: Whether a last, partial window is kept where it starts inside the
            input or the leading margin. What it adds beyond the margin never counts.

    Returns:
        The pooled array, in the dtype of `x`.

    Raises:
        ValueError: If an axis is given too few or too many numbers or one that is too
            small or no whole number, if `x` with its margin is smaller than a window,
            or if `x` holds no real numbers.

    Examples:
        >>> image = jnp.arange(16.0).reshape(4, 4, 1)
        >>> jaxflow.ops.avg_pool(image, 2)[..., 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    window, strides, margins, sides = _pooling(x, window, strides, padding, ceil_mode)
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    summed = _reduce_windows(x.astype(wide), 0, jnp.add, window, strides, sides)
    axes = len(window)
    count = np.ones([1] * x.ndim)
    for axis in range(axes):
        size = x.shape[axis - axes - 1]
        before, after = margins[axis] if count_include_pad else (0, 0)
        start = np.arange(summed.shape[axis - axes - 1]) * strides[axis]
        start = start - sides[axis][0]
        stop = np.minimum(start + window[axis], size + after)
        covered = stop - np.maximum(start, -before)
        along = [1] * x.ndim
        along[axis - axes - 1] = -1
        count = count * np.maximum(covered, 0).reshape(along)
    count = np.maximum(count, 1)  # The sum of no pixels is 0, and stays so.
    return (summed / jnp.asarray(count, summed.dtype)).astype(x.dtype)


def _pooling(x, window, strides, padding, ceil_mode):
    """Returns window, strides, the sides given, and those that `ceil_mode` needs."""
    axes = 3 if np.shape(window) == (3,) else 2
    window = per_axis(window, axes, name="window")
    _shapes.check("x", x, (..., *"THW"[-axes:], "C"))
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(
            f"`x` must hold floats or integers; got {x.dtype} of shape "
            f"{tuple(x.shape)}: .astype(jnp.float32) casts truth values"
        )
    strides = window if strides is None else per_axis(strides, axes, name="strides")
    given = per_side(padding, axes)
    check_least(1, window=window, strides=strides)
    check_least(0, padding=sum(given, ()))
    sides = []
    for axis, (before, after) in enumerate(given):
        size = x.shape[axis - axes - 1]
        step = strides[axis]
        spare = size + before + after - window[axis]
        if ceil_mode and spare % step:
            last = math.ceil(spare / step) * step
            if last < size + before:
                after += last - spare
        sides.append((before, after))
    check_room(x.shape[-axes - 1 : -1], tuple(sides), window)
    return window, strides, given, tuple(sides)


def _first_largest(a, b):
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def _reduce_windows(x, empty, operation, window, strides, sides):
    """Reduces axis by axis, over shifted slices; XLA's windows serve for large ones.

    Their gradient is that of a maximum of two, whatever the order of derivatives.
    """
    axes = len(window)
    margins = [(0, 0)] * (x.ndim - axes - 1) + [*sides, (0, 0)]
    x = jnp.pad(x, margins, constant_values=empty)
    # The innermost axis goes first, so that the first of equals wins in memory's order.
    for size, step, axis in zip(
        window[::-1], strides[::-1], range(x.ndim - 2, -1, -1), strict=False
    ):
        if size > _MAX_SLICES:
            reduce = {_first_largest: lax.max, jnp.add: lax.add}[operation]
            sizes, steps = np.ones((2, x.ndim), int)
            sizes[axis], steps[axis] = size, step
            start = np.asarray(empty, x.dtype)
            x = lax.reduce_window(
                x, start, reduce, sizes.tolist(), steps.tolist(), "VALID"
            )
            continue
        count = (x.shape[axis] - size) // step + 1
        slices = [
            lax.slice_in_dim(x, i, i + step * (count - 1) + 1, step, axis)
            for i in range(size)
        ]
        x = functools.reduce(operation, slices)
    return x
