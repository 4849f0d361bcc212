"""Convolution and pooling with explicit padding, on channels-last arrays.

Sizes, strides and paddings are in the order of the array's axes: (y, x) or (t, y, x).
Products are summed in float32 at least, and the result has the dtype of the input.
Reverse-mode derivatives of any order exist. Forward-mode ones do not in general: some
forms of a convolution have a gradient of their own.
"""

import functools
import math
from collections.abc import Sequence
from typing import cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Size = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
_Sides = tuple[tuple[int, int], ...]

# Where a scan over rows beats XLA's gradient in the kernel, by measurement on a CPU.
_LEAST_CHANNELS = 8192  # C_in C_out; half of it where strides skip pixels
_LEAST_PIXELS = 2048
_MAX_TAPS = 9
_BLOCK_PIXELS = 1024
# Windows that are wider are not worth their compile time.
_MAX_SLICES = 16


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
        ValueError: If an axis is given too few or too many numbers.
        AssertionError: If the channels of `x` and `kernel` do not fit.
    """
    chex.assert_rank(kernel, 4)
    chex.assert_axis_dimension(x, -1, kernel.shape[2] * groups)
    sides = _sides(padding, 2)
    flat = x.reshape(-1, *x.shape[-3:])
    y = _conv(flat, kernel, _each(strides, 2), sides, _each(dilation, 2), groups)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


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
        ValueError: If an axis is given too few or too many numbers.
        AssertionError: If the channels of `x` and `kernel` do not fit.
    """
    chex.assert_rank(kernel, 4)
    chex.assert_axis_dimension(x, -1, kernel.shape[2])
    flat = x.reshape(-1, *x.shape[-3:])
    y = _conv_transpose(flat, kernel, _each(strides, 2), _sides(padding, 2), groups)
    y = cast(jax.Array, y)
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

    The equation is that of `conv` with a third axis. On a CPU it runs as a sum of
    2-D convolutions of frames, or of shifted products where groups are channels.

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
        ValueError: If an axis is given too few or too many numbers.
        AssertionError: If the channels of `x` and `kernel` do not fit.
    """
    chex.assert_rank(kernel, 5)
    chex.assert_axis_dimension(x, -1, kernel.shape[3] * groups)
    settings = {
        "strides": _each(strides, 3),
        "sides": _sides(padding, 3),
        "dilation": _each(dilation, 3),
    }
    if _is_depthwise(kernel, groups):
        on_cpu = functools.partial(_depthwise, **settings)
    else:
        on_cpu = functools.partial(_conv3d_of_frames, groups=groups, **settings)
    direct = functools.partial(_conv3d_direct, groups=groups, **settings)
    flat = x.reshape(-1, *x.shape[-4:])
    on_cpu = functools.partial(_in_single, on_cpu)
    y = cast(jax.Array, _per_platform(on_cpu, direct, flat, kernel))
    return y.reshape(*x.shape[:-4], *y.shape[1:])


def max_pool(
    x: jax.Array,
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> jax.Array:
    """Takes the largest value of each window and channel.

    Padding never wins: it counts as minus infinity. A NaN does. The gradient goes to
    the first of equals, in the order of memory.

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
        ValueError: If an axis is given too few or too many numbers.
    """
    window, strides, sides = _pooling(x, window, strides, padding, ceil_mode)
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
        count_include_pad: Whether the zeros of the margin count in the mean.
        ceil_mode: Whether a last, partial window is kept where it starts inside the
            input or the leading margin. What it adds beyond the margin never counts.

    Returns:
        The pooled array, in the dtype of `x`.

    Raises:
        ValueError: If an axis is given too few or too many numbers.
    """
    margins = _sides(padding, 2 if isinstance(window, int) else len(window))
    window, strides, sides = _pooling(x, window, strides, padding, ceil_mode)
    summed = _reduce_windows(
        x.astype(_accumulator(x)), 0, jnp.add, window, strides, sides
    )
    axes = len(window)
    count = np.ones([1] * axes)
    for axis in range(axes):
        size = x.shape[axis - axes - 1]
        before, after = margins[axis] if count_include_pad else (0, 0)
        start = np.arange(summed.shape[axis - axes - 1]) * strides[axis]
        start = start - sides[axis][0]
        stop = np.minimum(start + window[axis], size + after)
        covered = stop - np.maximum(start, -before)
        count = count * np.expand_dims(
            covered, [other for other in range(axes) if other != axis]
        )
    return (summed / jnp.asarray(count[..., None], summed.dtype)).astype(x.dtype)


def _each(value: Size, axes: int) -> tuple[int, ...]:
    """Spells out one number for each axis."""
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ValueError(
            f"expected one number or {axes}, one for each axis; got {value}"
        )
    return tuple(value)


def _sides(padding: Padding, axes: int) -> _Sides:
    """Spells out (before, after) for each axis."""
    if isinstance(padding, int):
        return ((padding, padding),) * axes
    if len(padding) != axes:
        raise ValueError(
            f"`padding` must be one number, or have {axes} entries; got {padding}"
        )
    return tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding)


def _accumulator(x: jax.Array) -> jnp.dtype:
    return jnp.dtype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def _conv(x, kernel, strides, sides, dilation, groups) -> jax.Array:
    """Convolves one batch axis, in the form that is fast for these shapes."""
    taps = math.prod(kernel.shape[:2])
    if taps == groups == 1 and not any(sum(sides, ())):
        return _matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    if groups == 1 and 1 < taps <= _MAX_TAPS:
        least = _LEAST_CHANNELS // (2 if max(strides) > 1 else 1)
        outputs = math.prod(_sizes(x, kernel, strides, sides, dilation))
        if math.prod(kernel.shape[2:]) >= least and outputs >= _LEAST_PIXELS:
            y = _conv_scanned(x, kernel, strides, sides, dilation)
            return cast(jax.Array, y)
    direct = functools.partial(
        _conv_direct, strides=strides, sides=sides, dilation=dilation, groups=groups
    )
    if not _is_depthwise(kernel, groups):
        return direct(x, kernel)
    shifted = functools.partial(
        _depthwise, strides=strides, sides=sides, dilation=dilation
    )
    on_cpu = functools.partial(_in_single, shifted)
    return cast(jax.Array, _per_platform(on_cpu, direct, x, kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _per_platform(on_cpu, elsewhere, x, kernel):
    """Calls one of two forms of a convolution; only its inputs are kept for later."""
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _per_platform_forward(on_cpu, elsewhere, x, kernel):
    return _per_platform(on_cpu, elsewhere, x, kernel), (x, kernel)


def _per_platform_backward(on_cpu, elsewhere, residuals, cotangent):
    def gradient(form, x, kernel, cotangent):
        return jax.vjp(form, x, kernel)[1](cotangent)

    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=functools.partial(gradient, on_cpu),
        default=functools.partial(gradient, elsewhere),
    )


_per_platform.defvjp(_per_platform_forward, _per_platform_backward)


def _is_depthwise(kernel, groups):
    return groups > 1 and kernel.shape[-2] == 1 and kernel.shape[-1] == groups


def _depthwise(x, kernel, *, strides, sides, dilation):
    """Convolves each channel alone: a sum of shifted products, which XLA fuses."""
    window = kernel.shape[:-2]
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    sizes = [
        (size - gap * (taps - 1) - 1) // step + 1
        for size, taps, step, gap in zip(
            x.shape[1:-1], window, strides, dilation, strict=True
        )
    ]

    def met(tap):
        starts = [offset * gap for offset, gap in zip(tap, dilation, strict=True)]
        ends = [
            start + step * (size - 1) + 1
            for start, step, size in zip(starts, strides, sizes, strict=True)
        ]
        return lax.slice(
            x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1)
        )

    wide = _accumulator(x)
    products = (
        met(tap).astype(wide) * kernel[tap].astype(wide) for tap in np.ndindex(window)
    )
    return cast(jax.Array, sum(products)).astype(x.dtype)


def _matmul(x, matrix):
    # XLA's CPU backend is slow at the gradients of products of more than two axes.
    flat = x.reshape(-1, x.shape[-1])
    y = jnp.matmul(flat, matrix, preferred_element_type=_accumulator(x))
    return y.astype(x.dtype).reshape(*x.shape[:-1], -1)


def _conv_direct(x, kernel, strides, sides, dilation, groups):
    return _convolve(
        x,
        kernel,
        window_strides=strides,
        padding=sides,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _convolve(x, kernel, **settings):
    """Convolves; sums of half precision are single, as accelerators take them.

    To ask XLA for sums of another type would leave the gradients in that type, which
    JAX 0.7 refuses to mix with the inputs.
    """
    convolve = functools.partial(lax.conv_general_dilated, **settings)
    if x.dtype not in (jnp.bfloat16, jnp.float16):
        return convolve(x, kernel)

    on_cpu = functools.partial(_in_single, convolve)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=convolve)


def _in_single(form, x, kernel):
    """Calls a form of a convolution in float32 at least."""
    wide = _accumulator(x)
    return form(x.astype(wide), kernel.astype(wide)).astype(x.dtype)


def _sizes(x, kernel, strides, sides, dilation):
    """Returns the height and width of a convolution."""
    return tuple(
        (size + sum(side) - gap * (taps - 1) - 1) // step + 1
        for size, taps, step, side, gap in zip(
            x.shape[1:3], kernel.shape, strides, sides, dilation, strict=False
        )
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_scanned(x, kernel, strides, sides, dilation):
    """Convolves; on a CPU, the gradient in the kernel is a scan over blocks of rows."""
    return _conv_direct(x, kernel, strides, sides, dilation, 1)


def _conv_scanned_forward(x, kernel, strides, sides, dilation):
    return _conv_scanned(x, kernel, strides, sides, dilation), (x, kernel)


def _conv_scanned_backward(strides, sides, dilation, residuals, cotangent):
    x, kernel = residuals
    settings = (strides, sides, dilation)

    def default(x, cotangent):
        def convolve(kernel):
            return _conv_direct(x, kernel, *settings, 1)

        return jax.vjp(convolve, kernel)[1](cotangent)[0]

    def cpu(x, cotangent):
        return _kernel_gradient(x, cotangent, kernel.shape[:2], *settings)

    _, for_x = jax.vjp(lambda x: _conv_direct(x, kernel, *settings, 1), x)
    for_kernel = lax.platform_dependent(x, cotangent, cpu=cpu, default=default)
    return *for_x(cotangent), for_kernel


_conv_scanned.defvjp(_conv_scanned_forward, _conv_scanned_backward)


def _kernel_gradient(x, cotangent, window, strides, sides, dilation):
    """Sums, block of rows by block of rows, one matrix product for each tap."""
    height, width, features = cotangent.shape[1:]
    blocks = -(-height // max(1, _BLOCK_PIXELS // width))
    rows = -(-height // blocks)
    cotangent = jnp.pad(
        cotangent, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0))
    )
    span, block_span = (
        [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(*each, strict=True)]
        for each in (
            ((blocks * rows, width), strides, dilation, window),
            ((rows, width), strides, dilation, window),
        )
    )
    # What is beyond the last window is cut off, by negative padding.
    margins = [
        (before, need - size - before, 0)
        for need, size, (before, _) in zip(span, x.shape[1:3], sides, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *margins, (0, 0, 0)))

    def add_block(total, k):
        image, row = k // blocks, k % blocks * rows
        pixels = lax.dynamic_slice_in_dim(
            x[image], row * strides[0], block_span[0], axis=0
        )
        slopes = lax.dynamic_slice_in_dim(cotangent[image], row, rows, axis=0)

        def tap(a, b):
            a, b = a * dilation[0], b * dilation[1]
            met = pixels[a :: strides[0], b :: strides[1]][:rows, :width]
            return lax.dot_general(
                met.reshape(-1, x.shape[-1]),
                slopes.reshape(-1, features),
                (((0,), (0,)), ((), ())),
                preferred_element_type=_accumulator(x),
            )

        products = [tap(a, b) for a in range(window[0]) for b in range(window[1])]
        return total + jnp.stack(products), None

    empty = jnp.zeros((math.prod(window), x.shape[-1], features), _accumulator(x))
    total, _ = lax.scan(add_block, empty, jnp.arange(x.shape[0] * blocks))
    return total.astype(x.dtype).reshape(*window, x.shape[-1], features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_transpose(x, kernel, strides, sides, groups):
    """Convolves the input, spread out by the strides, with the flipped kernel."""
    *window, features, per_group = kernel.shape
    flipped = kernel[::-1, ::-1].reshape(*window, groups, features // groups, per_group)
    flipped = jnp.moveaxis(flipped, 2, 3).reshape(*window, features // groups, -1)
    return _convolve(
        x,
        flipped,
        window_strides=(1, 1),
        padding=[
            (size - 1 - before, size - 1 - after)
            for size, (before, after) in zip(window, sides, strict=True)
        ],
        lhs_dilation=strides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _conv_transpose_forward(x, kernel, strides, sides, groups):
    return _conv_transpose(x, kernel, strides, sides, groups), (x, kernel)


def _conv_transpose_backward(strides, sides, groups, residuals, cotangent):
    x, kernel = residuals

    def convolve(kernel):
        return _conv(cotangent, kernel, strides, sides, (1, 1), groups)

    for_x, pull = jax.vjp(convolve, kernel.swapaxes(2, 3))
    return for_x, pull(x)[0].swapaxes(2, 3)


# XLA differentiates a convolution with a spread-out input a hundred times slower, on a
# CPU, than the strided convolution that this is the transpose of.
_conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)


def _conv3d_direct(x, kernel, *, strides, sides, dilation, groups):
    return _convolve(
        x,
        kernel,
        window_strides=strides,
        padding=sides,
        rhs_dilation=dilation,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        feature_group_count=groups,
    )


def _conv3d_of_frames(x, kernel, *, strides, sides, dilation, groups):
    """Sums 2-D convolutions of the frames that each tap in time meets."""
    x = jnp.pad(x, ((0, 0), sides[0], (0, 0), (0, 0), (0, 0)))
    reach = dilation[0] * (kernel.shape[0] - 1)
    steps = (x.shape[1] - reach - 1) // strides[0] + 1

    def frames(tap):
        first = dilation[0] * tap
        met = x[:, first : first + strides[0] * (steps - 1) + 1 : strides[0]]
        return met.reshape(-1, *x.shape[2:])

    pointwise = groups == 1 and kernel.shape[1:3] == (1, 1)
    if pointwise and not any(sum(sides[1:], ())):
        x = x[:, :, :: strides[1], :: strides[2]]
        terms = (_matmul(frames(t), kernel[t, 0, 0]) for t in range(kernel.shape[0]))
    else:
        terms = (
            _conv(frames(t), kernel[t], strides[1:], sides[1:], dilation[1:], groups)
            for t in range(kernel.shape[0])
        )
    y = cast(jax.Array, sum(terms))
    return y.reshape(x.shape[0], steps, *y.shape[1:])


def _pooling(x, window, strides, padding, ceil_mode):
    """Returns window, strides and sides; the last side grows under `ceil_mode`."""
    axes = 2 if isinstance(window, int) else len(window)
    window = _each(window, axes)
    strides = window if strides is None else _each(strides, axes)
    sides = []
    for axis, (before, after) in enumerate(_sides(padding, axes)):
        size = x.shape[axis - axes - 1]
        step = strides[axis]
        spare = size + before + after - window[axis]
        if ceil_mode and spare % step:
            last = math.ceil(spare / step) * step
            if last < size + before:
                after += last - spare
        sides.append((before, after))
    return window, strides, tuple(sides)


def _first_largest(a, b):
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def _reduce_windows(x, empty, operation, window, strides, sides):
    """Reduces axis by axis, over shifted slices.

    On a CPU, XLA's own windows are several times slower, and their gradient more; they
    serve where a window has many pixels.
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
