"""Convolutions in the forms that are fast on a CPU, chosen by shape.

Each computes what the plain form in `jaxflow.ops.conv` does, and is lowered for CPUs
instead of it. Half precision is widened first: sums are in float32 at least.
"""

import functools
import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow.ops.bilinear import Forms, in_first, in_second

# Where a scan over rows beats XLA's gradient in the kernel, by measurement.
_LEAST_WORK = 2**26  # Products of a tap
_FEW_FEATURES = 4  # XLA's is slow whatever the work
_LEAST_PIXELS = 512
_MAX_TAPS = 9
_BLOCK_PIXELS = 1024
# Where taps in time are channels or features of one convolution, by measurement.
_FEW_CHANNELS = 16


def forms(direct: Callable) -> Forms:
    """Returns the forms for CPUs, given the one that serves where none is faster."""
    makers = (_convolve, _input_gradient, _kernel_gradient)
    return Forms(
        *(
            functools.partial(_in_single, functools.partial(_by_group, maker, direct))
            for maker in makers
        )
    )


def _in_single(form, one, two, like, settings):
    """Calls a form in float32 where the arrays are of half precision."""
    if like.dtype not in (jnp.bfloat16, jnp.float16):
        return form(one, two, like, settings)
    one, two = one.astype(jnp.float32), two.astype(jnp.float32)
    wide = jax.ShapeDtypeStruct(like.shape, jnp.float32)
    return form(one, two, wide, settings).astype(like.dtype)


def _by_group(form, direct, one, two, like, settings):
    """Calls a form for one group after the other.

    XLA's gradients in the kernel of all groups at once are up to 140 times as slow.
    """
    kernel = like if form is _kernel_gradient else two
    groups = settings.groups
    pointwise = math.prod(kernel.shape[:-2]) == 1 and form is not _kernel_gradient
    if groups == 1 or _is_depthwise(kernel, settings) or pointwise:
        return form(direct, one, two, like, settings)

    def split(array):
        return jnp.moveaxis(array.reshape(*array.shape[:-1], groups, -1), -2, 0)

    part = jax.ShapeDtypeStruct(
        (*like.shape[:-1], like.shape[-1] // groups), like.dtype
    )
    alone = settings._replace(groups=1)
    parts = lax.map(
        lambda pair: form(direct, *pair, part, alone), (split(one), split(two))
    )
    return jnp.moveaxis(parts, 0, -2).reshape(like.shape)


def _convolve(direct, x, kernel, like, settings):
    """Convolves (B, *spatial, C) in the form that is fast for these shapes."""
    window = kernel.shape[:-2]
    if _is_depthwise(kernel, settings):
        return _depthwise(x, kernel, settings)
    if _is_matmul(kernel.shape, settings):
        steps = (slice(None, None, step) for step in settings.strides)
        return _matmul(x[:, *steps], kernel.reshape(kernel.shape[-2:]))
    if len(window) == 2:
        return direct(x, kernel, like, settings)
    if _has_few_outputs(kernel, settings):
        return _sum_of_outputs(direct, x, kernel, settings)
    flat = _flat(kernel, settings)
    if kernel.shape[3] <= _FEW_CHANNELS and math.prod(window[1:]) > 1:
        # One 2-D convolution: what every tap in time meets is a channel of it.
        stacked = jnp.concatenate(_frames(x, kernel, settings), axis=-1)
        taps = kernel.transpose(1, 2, 0, 3, 4).reshape(
            *window[1:], -1, kernel.shape[-1]
        )
        y = _convolve(direct, stacked, taps, None, flat)
        return y.reshape(x.shape[0], -1, *y.shape[1:])
    # A sum of 2-D convolutions of frames.
    terms = (
        _convolve(direct, met, tap, None, flat)
        for tap, met in zip(kernel, _frames(x, kernel, settings), strict=True)
    )
    y = cast(jax.Array, sum(terms))
    return y.reshape(x.shape[0], -1, *y.shape[1:])


def _has_few_outputs(kernel, settings):
    """Tells whether it is faster to shift what a tap makes than what it meets.

    Patches of the frames, or the frames themselves, are then read once and not once a
    tap, and more numbers are written.
    """
    taps, *window, channels, features = kernel.shape
    if settings.strides[0] > 1 or taps == 1:
        return False
    if math.prod(window) == 1:
        return 2 * features <= channels
    patch = math.prod(window) * channels
    return features <= _FEW_CHANNELS and 2 * taps * features <= patch


def _sum_of_outputs(direct, x, kernel, settings):
    """Convolves all frames with all taps in time at once, and sums what they make."""
    taps, *window, channels, features = kernel.shape
    flat = _flat(kernel, settings)
    if flat.strides != settings.strides[1:]:
        x = x[:, :, :: settings.strides[1], :: settings.strides[2]]
    every = kernel.transpose(1, 2, 3, 0, 4).reshape(*window, channels, taps * features)
    y = _convolve(direct, x.reshape(-1, *x.shape[2:]), every, None, flat)
    y = y.reshape(*x.shape[:2], *y.shape[1:])
    before, after = settings.sides[0]
    margins = [(0, 0, 0), (before, after, 0), *[(0, 0, 0)] * 3]
    y = lax.pad(y, jnp.zeros((), y.dtype), margins)
    dilation = settings.dilation[0]
    steps = y.shape[1] - dilation * (taps - 1)
    terms = (
        y[:, dilation * tap :, ..., features * tap :][:, :steps, ..., :features]
        for tap in range(taps)
    )
    return cast(jax.Array, sum(terms))


def _input_gradient(direct, y, kernel, like, settings):
    """Transposes `_convolve` in the input, whose gradient is `like`.

    Where a convolution stands in a loop, as those of a scan do, XLA knows fast code for
    those alone whose axes are in the order of `_plainly`. JAX's own gradients have
    another, and are up to 40 times as slow there.
    """
    if settings.groups > 1 or _is_matmul(kernel.shape, settings):
        return in_first(functools.partial(_convolve, direct))(y, kernel, like, settings)
    if kernel.ndim == 5:
        meet = in_first(lambda x, k, _, s: jnp.stack(_frames(x, k, s)))
        flat = _flat(kernel, settings)
        frames = jax.eval_shape(lambda x: _frames(x, kernel, settings), like)
        y = y.reshape(-1, *y.shape[2:])
        slopes = [
            _input_gradient(direct, y, tap, met, flat)
            for tap, met in zip(kernel, frames, strict=True)
        ]
        return meet(jnp.stack(slopes), kernel, like, settings)
    margins = []
    for size, outputs, taps, (before, _), step, gap in zip(
        like.shape[1:3],
        y.shape[1:3],
        kernel.shape[:2],
        settings.sides,
        settings.strides,
        settings.dilation,
        strict=True,
    ):
        ahead = gap * (taps - 1) - before
        span = (outputs - 1) * step + 1 - gap * (taps - 1)
        margins.append((ahead, size - span - ahead))
    return _plainly(
        y,
        kernel[::-1, ::-1].swapaxes(2, 3),
        padding=margins,
        lhs_dilation=settings.strides,
        rhs_dilation=settings.dilation,
        precision=settings.precision,
    )


def _kernel_gradient(direct, x, y, like, settings):
    """Transposes `_convolve` in the kernel, whose gradient is `like`."""
    window = like.shape[:-2]
    if len(window) == 3 and not _is_depthwise(like, settings):
        frames, flat = _frames(x, like, settings), _flat(like, settings)
        frame = jax.ShapeDtypeStruct(like.shape[1:], like.dtype)
        y = y.reshape(-1, *y.shape[2:])
        taps = (_kernel_gradient(direct, met, y, frame, flat) for met in frames)
        return jnp.stack(list(taps))
    if settings.groups == 1 and _is_large(y.shape, like.shape):
        return _scanned(x, y, window, settings)
    if settings.groups > 1 or _is_matmul(like.shape, settings):
        return in_second(functools.partial(_convolve, direct))(x, y, like, settings)
    # Channels take the place of examples: see `_input_gradient`.
    slopes = _plainly(
        x.transpose(3, 1, 2, 0),
        y.transpose(1, 2, 0, 3),
        padding=_margins(x, y.shape[1:3], window, settings),
        window_strides=settings.dilation,
        rhs_dilation=settings.strides,
        precision=settings.precision,
    )
    return slopes.transpose(1, 2, 0, 3)


def _is_large(y, kernel):
    """Tells whether `_scanned` makes this gradient faster, given shapes."""
    taps, pixels = math.prod(kernel[:-2]), math.prod(y[1:-1])
    work = y[0] * pixels * math.prod(kernel[-2:])
    fits = 1 < taps <= _MAX_TAPS and pixels >= _LEAST_PIXELS
    few = kernel[-1] <= _FEW_FEATURES and pixels >= 2 * _LEAST_PIXELS
    return fits and (work >= _LEAST_WORK or few)


def _plainly(x, kernel, *, window_strides=(1, 1), **options):
    """Convolves (B, H, W, C) with (h, w, C, F)."""
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, window_strides, dimension_numbers=axes, **options
    )


def _is_depthwise(kernel, settings):
    return settings.groups > 1 and kernel.shape[-2] == 1


def _is_matmul(kernel, settings):
    """Tells whether a kernel of that shape meets pixels one by one, and no margin."""
    margins = any(sum(settings.sides, ()))
    return math.prod(kernel[:-2]) == settings.groups == 1 and not margins


def _matmul(x, matrix):
    # XLA's CPU backend is slow at the gradients of products of more than two axes.
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)


def _flat(kernel, settings):
    """Returns the settings of the convolution of frames that each tap in time is."""
    flat = settings._replace(
        strides=settings.strides[1:],
        sides=settings.sides[1:],
        dilation=settings.dilation[1:],
    )
    return flat._replace(strides=(1, 1)) if _is_matmul(kernel.shape[1:], flat) else flat


def _frames(x, kernel, settings):
    """Lists the frames, (B T', H, W, C), that each tap in time meets."""
    step, dilation, taps = settings.strides[0], settings.dilation[0], kernel.shape[0]
    x = jnp.pad(x, ((0, 0), settings.sides[0], (0, 0), (0, 0), (0, 0)))
    if _flat(kernel, settings).strides != settings.strides[1:]:
        x = x[:, :, :: settings.strides[1], :: settings.strides[2]]
    steps = (x.shape[1] - dilation * (taps - 1) - 1) // step + 1

    def met(tap):
        first = dilation * tap
        frames = x[:, first : first + step * (steps - 1) + 1 : step]
        return frames.reshape(-1, *x.shape[2:])

    return [met(tap) for tap in range(taps)]


def _depthwise(x, kernel, settings):
    """Convolves each channel alone: a sum of shifted products, which XLA fuses."""
    window = kernel.shape[:-2]
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], axis=-1)
    x = jnp.pad(x, ((0, 0), *settings.sides, (0, 0)))
    sizes = [
        (size - gap * (taps - 1) - 1) // step + 1
        for size, taps, step, gap in zip(
            x.shape[1:-1], window, settings.strides, settings.dilation, strict=True
        )
    ]

    def met(tap):
        starts = [o * gap for o, gap in zip(tap, settings.dilation, strict=True)]
        ends = [
            start + step * (size - 1) + 1
            for start, step, size in zip(starts, settings.strides, sizes, strict=True)
        ]
        return lax.slice(
            x,
            (0, *starts, 0),
            (x.shape[0], *ends, x.shape[-1]),
            (1, *settings.strides, 1),
        )

    weights = kernel.reshape(*window, *(1,) * (x.ndim - 1), -1)
    products = (met(tap) * weights[tap] for tap in np.ndindex(window))
    return cast(jax.Array, sum(products))


def _span(outputs, window, settings):
    """Returns the height and width that the windows of so many outputs cover."""
    sides = zip(outputs, settings.strides, settings.dilation, window, strict=True)
    return [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in sides]


def _margins(x, outputs, window, settings):
    """Returns what to add to `x` before and after, or to cut off where it is negative.

    Then `x` is what the windows of so many outputs cover.
    """
    span = _span(outputs, window, settings)
    return [
        (before, need - size - before)
        for need, size, (before, _) in zip(
            span, x.shape[1:3], settings.sides, strict=True
        )
    ]


def _scanned(x, y, window, settings):
    """Sums, block of rows by block of rows, products of `y` and patches of `x`.

    Where strides skip no pixels, these are also products of `x` and patches of `y`,
    tap by tap in the opposite order; patches of fewer channels are smaller.
    """
    height, width, features = y.shape[1:]
    strides, dilation = settings.strides, settings.dilation
    if max(strides) == 1 and features < x.shape[-1]:
        before = [
            (gap * (taps - 1) - before, 0)
            for gap, taps, (before, _) in zip(
                dilation, window, settings.sides, strict=True
            )
        ]
        slopes = _scanned(y, x, window, settings._replace(sides=before))
        return slopes[::-1, ::-1].swapaxes(2, 3)
    blocks = -(-height // max(1, _BLOCK_PIXELS // width))
    rows = -(-height // blocks)
    y = jnp.pad(y, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0)))
    margins = _margins(x, (blocks * rows, width), window, settings)
    margins = [(0, 0, 0), *((*sides, 0) for sides in margins), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), margins)
    seen_rows, seen_columns = _span((rows, width), (1, 1), settings)
    taps = math.prod(window)

    def add_block(total, k):
        image, row = k // blocks, k % blocks * rows
        slopes = lax.dynamic_slice_in_dim(y[image], row, rows, axis=0)

        def add_tap(tap, patches):
            a, b = tap // window[1] * dilation[0], tap % window[1] * dilation[1]
            start = (image, row * strides[0] + a, b, 0)
            met = lax.dynamic_slice(x, start, (1, seen_rows, seen_columns, x.shape[-1]))
            met = met[0, :: strides[0], :: strides[1], None]
            return lax.dynamic_update_slice(patches, met, (0, 0, tap, 0))

        # A loop, since each slice of its own would be compiled.
        patches = jnp.zeros((rows, width, taps, x.shape[-1]), x.dtype)
        patches = lax.fori_loop(0, taps, add_tap, patches).reshape(rows * width, -1)
        return total + slopes.reshape(-1, features).T @ patches, None

    empty = jnp.zeros((features, taps * x.shape[-1]), x.dtype)
    total, _ = lax.scan(add_block, empty, jnp.arange(x.shape[0] * blocks))
    return total.reshape(features, *window, -1).transpose(1, 2, 3, 0)
