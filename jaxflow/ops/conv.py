"""Convolution with explicit padding, on channels-last arrays.

Sizes, strides and paddings are in the order of the array's axes: (y, x) or (t, y, x).
Products are summed in float32 at least, and the result has the dtype of the input.
Derivatives of any order exist, forward or reverse.

A convolution is `_convolve`, and so are its transposes. On a CPU `jaxflow.ops.cpu_conv`
computes the same.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.ops import cpu_conv
from jaxflow.ops.bilinear import Forms, bilinear, in_first, in_second

Size = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
_Sides = tuple[tuple[int, int], ...]


class _Settings(NamedTuple):
    """What a convolution is called with, spelled out for each axis."""

    strides: tuple[int, ...]
    sides: _Sides
    dilation: tuple[int, ...]
    groups: int
    precision: str | None


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolves with a kernel that is not flipped, as neural networks do.

        out[y, x] = sum_ab kernel[a, b] . x[s y + d a - p, s x + d b - p]

    The border is filled with zeros.

    Args:
        x: The input, (*B, H, W, C_in).
        kernel: (kernel height, kernel width, C_in / groups, C_out), in the dtype of
            `x`.
        strides: Step s between windows in y and x.
        padding: Zeros p added in y and x: one number, one an axis, or a pair (before,
            after) an axis.
        dilation: Spacing d of the taps in y and x.
        groups: Number of groups that channels are split into.

    Returns:
        (*B, H', W', C_out), H' = floor((H + 2 p - d (kernel - 1) - 1) / s) + 1.

    Raises:
        ValueError: If an axis is given too few or too many numbers or one that is too
            small or no whole number, the shapes of `x` and `kernel` do not fit, or `x`
            with its padding is smaller than the kernel.

    Examples:
        >>> image = jnp.ones((4, 4, 3))
        >>> kernel = jnp.ones((3, 3, 3, 2))
        >>> jaxflow.ops.conv(image, kernel, padding=1)[:2, :, 0].tolist()
        [[12.0, 18.0, 18.0, 12.0], [18.0, 27.0, 27.0, 18.0]]
    """
    groups = _checks.whole("groups", groups, least=1)
    _shapes.check("kernel", kernel, ("h", "w", "C_in", "C_out"))
    _shapes.check("x", x, (..., "H", "W", kernel.shape[2] * groups))
    _shapes.check_floats(x=x, kernel=kernel)
    _check_groups(groups, "outputs of `kernel`", kernel.shape[3])
    return _apply(x, kernel, _settings(2, strides, padding, dilation, groups))


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Size = 2,
    padding: Padding = 0,
    groups: int = 1,
) -> jax.Array:
    """Applies the transpose of a strided `conv`: every input pixel stamps the kernel.

        out[s y + a - p, s x + b - p] += x[y, x] . kernel[a, b]

    Args:
        x: The input, (*B, H, W, C_in).
        kernel: (kernel height, kernel width, C_in, C_out / groups), not flipped, in the
            dtype of `x`.
        strides: Up-sampling factor s in y and x.
        padding: Rows and columns p cut off the full output, given as for `conv`.
        groups: Number of groups that channels are split into.

    Returns:
        (*B, H', W', C_out), H' = (H - 1) s - 2 p + kernel.

    Raises:
        ValueError: If an axis is given too few or too many numbers or one that is too
            small or no whole number, the shapes of `x` and `kernel` do not fit, or
            nothing is left.

    Examples:
        >>> image, kernel = jnp.ones((4, 4, 3)), jnp.ones((4, 4, 3, 2))
        >>> jaxflow.ops.conv_transpose(image, kernel, padding=1).shape
        (8, 8, 2)
    """
    groups = _checks.whole("groups", groups, least=1)
    _shapes.check("kernel", kernel, ("h", "w", "C_in", "C_out"))
    _shapes.check("x", x, (..., "H", "W", kernel.shape[2]))
    _shapes.check_floats(x=x, kernel=kernel)
    _check_groups(groups, "channels of `x`", kernel.shape[2])
    settings = _settings(2, strides, padding, 1, groups)
    size = [
        (length - 1) * step - before - after + taps
        for length, step, (before, after), taps in zip(
            x.shape[-3:-1], settings.strides, settings.sides, kernel.shape, strict=False
        )
    ]
    if min(size) < 1:
        raise ValueError(
            f"`padding` cuts everything off: `x` {tuple(x.shape)} would become an "
            f"image of the size {tuple(size)}"
        )
    flat = x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
    shape = (flat.shape[0], *size, kernel.shape[3] * groups)
    like = jax.ShapeDtypeStruct(shape, x.dtype)
    # The convolution maps the output's channels to the input's.
    y = CONVOLUTION.first(flat, kernel.swapaxes(2, 3), like, settings)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def conv3d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolves over time and space with a kernel that is not flipped.

    The equation is that of `conv` with a third axis.

    Args:
        x: The input, (*B, T, H, W, C_in).
        kernel: (kernel t, kernel y, kernel x, C_in / groups, C_out), in the dtype of
            `x`.
        strides: Step between windows in t, y and x.
        padding: Zeros added in t, y and x: one number, one an axis, or a pair (before,
            after) an axis.
        dilation: Spacing of the taps in t, y and x.
        groups: Number of groups that channels are split into.

    Returns:
        (*B, T', H', W', C_out); sizes as for `conv`.

    Raises:
        ValueError: If an axis is given too few or too many numbers or one that is too
            small or no whole number, the shapes of `x` and `kernel` do not fit, or `x`
            with its padding is smaller than the kernel.

    Examples:
        >>> clip, kernel = jnp.ones((8, 16, 16, 3)), jnp.ones((3, 7, 7, 3, 4))
        >>> jaxflow.ops.conv3d(clip, kernel, strides=(1, 2, 2), padding=(1, 3, 3)).shape
        (8, 8, 8, 4)
    """
    groups = _checks.whole("groups", groups, least=1)
    _shapes.check("kernel", kernel, ("t", "h", "w", "C_in", "C_out"))
    _shapes.check("x", x, (..., "T", "H", "W", kernel.shape[3] * groups))
    _shapes.check_floats(x=x, kernel=kernel)
    _check_groups(groups, "outputs of `kernel`", kernel.shape[4])
    return _apply(x, kernel, _settings(3, strides, padding, dilation, groups))


def per_axis(value: Size, axes: int, *, name: str = "size") -> tuple[int, ...]:
    """Spells out one number for each axis, of an argument of that name."""
    one = _whole([value])
    numbers = one * axes if one else _whole(value)
    if len(numbers) != axes:
        raise ValueError(
            f"`{name}` must be a whole number or {axes}, one for each axis; "
            f"got {value!r}"
        )
    return numbers


def per_side(padding: Padding, axes: int) -> _Sides:
    """Spells out (before, after) for each axis."""
    one = _whole([padding])
    if one:
        return ((one[0], one[0]),) * axes
    entries = list(padding) if isinstance(padding, Iterable) else []
    sides = [_whole([entry]) * 2 or _whole(entry) for entry in entries]
    if len(sides) != axes or any(len(pair) != 2 for pair in sides):
        raise ValueError(
            "`padding` must be a whole number, or have one or a pair of them (before, "
            f"after) in each of {axes} entries; got {padding!r}"
        )
    return tuple((before, after) for before, after in sides)


def check_least(least: int, **numbers: Sequence[int]) -> None:
    """Raises ValueError if a number, given by its argument's name, is too small."""
    for name, given in numbers.items():
        if min(given) < least:
            raise ValueError(f"`{name}` must be at least {least}; got {min(given)}")


def check_room(space: Sequence[int], sides: _Sides, window: Sequence[int]) -> None:
    """Raises ValueError if a window is larger than the input with its margins."""
    padded = tuple(size + sum(p) for size, p in zip(space, sides, strict=True))
    if any(size < reach for size, reach in zip(padded, window, strict=True)):
        raise ValueError(
            f"`x` is smaller than the window {tuple(window)}: it has the size "
            f"{tuple(space)}, with its padding {padded}"
        )


def _whole(values: object) -> tuple[int, ...]:
    """Returns whole numbers of any type as ints; none if not all of them are."""
    try:
        return tuple(map(operator.index, values))  # type: ignore[arg-type]
    except TypeError:
        return ()


def _check_groups(groups, what, count):
    if count % groups:
        raise ValueError(
            f"`groups` must divide the number of {what}, {count}; got {groups}"
        )


def _settings(axes, strides, padding, dilation, groups):
    strides = per_axis(strides, axes, name="strides")
    dilation = per_axis(dilation, axes, name="dilation")
    sides = per_side(padding, axes)
    check_least(1, strides=strides, dilation=dilation)
    check_least(0, padding=sum(sides, ()))
    return _Settings(
        strides,
        sides,
        dilation,
        groups,
        # As `jax.default_matmul_precision` has it here, not where it is lowered.
        jax.config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
    )


def _apply(x, kernel, settings):
    """Convolves with any number of batch axes."""
    axes = kernel.ndim - 1
    reach = [
        gap * (taps - 1) + 1
        for gap, taps in zip(settings.dilation, kernel.shape, strict=False)
    ]
    check_room(x.shape[-axes:-1], settings.sides, reach)
    flat = x.reshape(math.prod(x.shape[:-axes]), *x.shape[-axes:])
    y = CONVOLUTION.out(flat, kernel, settings)
    return y.reshape(*x.shape[:-axes], *y.shape[1:])


def _convolve(x, kernel, like, settings):
    """Convolves (B, *spatial, C)."""
    del like
    space = "THW"[5 - kernel.ndim :]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=settings.strides,
        padding=settings.sides,
        rhs_dilation=settings.dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=settings.groups,
        precision=settings.precision,
    )


CONVOLUTION = bilinear(
    "convolution",
    plain=Forms(_convolve, in_first(_convolve), in_second(_convolve)),
    on_cpu=cpu_conv.forms(_convolve),
    examples=(True, False, True),
)
