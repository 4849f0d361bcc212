"""Resizing and upsampling of images and flow fields.

Arrays are channels-last; sizes are (height, width). Flow is (u, v) in pixels of the
array it indexes, so its values change with its size.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _checks, _shapes

Method = Literal["bilinear", "nearest", "bicubic"]


def resize(
    image: jax.Array,
    size: tuple[int, ...],
    *,
    method: Method = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
) -> jax.Array:
    """Resizes height and width as ``torch.nn.functional.interpolate`` does.

    Output pixel i samples the input at (i + 1/2) in/out - 1/2, or, with
    `align_corners`, at i (in - 1)/(out - 1). "nearest" takes floor(i in/out). Beyond
    the edge, the edge pixel is repeated. "bicubic" is Keys' kernel with a = -0.75 (-0.5
    with `antialias`, as in Pillow) and overshoots. `antialias` widens the kernel by
    in/out when shrinking and normalises it at the edge.

    The function is linear in `image`, and its gradient costs as much as itself. A NaN
    pixel makes every output NaN that reads it.

    Args:
        image: (*B, H, W, C), floating; any dtype for "nearest".
        size: The new (height, width).
        method: "bilinear", "nearest" or "bicubic".
        align_corners: Maps corner pixel centres on corner pixel centres.
        antialias: Filters before shrinking; for "bilinear" and "bicubic" on the
            half-pixel grid.

    Returns:
        (*B, *size, C), summed in at least float32, in the dtype of `image`.

    Raises:
        ValueError: If `method` is unknown, `size` not positive, an option does not
            apply, or `image` has no pixels.

    Examples:
        >>> row = jnp.array([[0.0, 1.0]])[..., None]
        >>> jaxflow.ops.resize(row, (1, 4))[0, :, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
        >>> jaxflow.ops.resize(row, (1, 3), align_corners=True)[0, :, 0].tolist()
        [0.0, 0.5, 1.0]
    """
    _checks.one_of("method", method, ("bilinear", "nearest", "bicubic"))
    for extent in size:
        _checks.positive("size", extent)
    if align_corners and (antialias or method == "nearest"):
        raise ValueError(
            "`align_corners` applies to neither antialias=True nor method='nearest'"
        )
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_pixels("image", image)
    image = jnp.asarray(image)
    if method == "nearest":
        return _nearest(image, size)
    _shapes.check_floats(image=image)
    out = image.astype(jnp.float64 if image.dtype == jnp.float64 else jnp.float32)
    # The axis that shrinks most goes first: less is left for the second.
    for axis in sorted((-3, -2), key=lambda axis: size[axis + 3] / image.shape[axis]):
        extents = image.shape[axis], size[axis + 3]
        if extents[0] != extents[1]:
            taps = _taps(*extents, method, align_corners, antialias)
            out = _apply(taps, out, axis)
    return out.astype(image.dtype)


def resize_opencv_uint8(image: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes bytes bit for bit as ``cv2.resize(..., interpolation=INTER_LINEAR)``.

    OpenCV's rule for bytes, on the half-pixel grid: weights are rounded to 11 bits
    (half to even); rows are blended exactly along x, and then along y as

        (((b0 (top >> 4)) >> 16) + ((b1 (bottom >> 4)) >> 16) + 2) >> 2

    At the left and right edge the weight goes to the edge pixel; at the top and bottom
    the row is repeated and both parts are rounded. Halving both sides is the mean of 2
    x 2 pixels instead, rounded half up for 1, 3 and 4 channels and half to even
    otherwise. The result was equal to that of OpenCV 5.0.0, built for x86-64, at every
    size tried.

    Args:
        image: (*B, H, W, C), uint8.
        size: The new (height, width).

    Returns:
        (*B, *size, C), uint8.

    Raises:
        TypeError: If `image` is not uint8.
        ValueError: If `size` is not positive, or `image` has no pixels.

    Examples:
        >>> row = jnp.array([[0, 255]], jnp.uint8)[..., None]
        >>> jaxflow.ops.resize_opencv_uint8(row, (1, 4))[0, :, 0].tolist()
        [0, 64, 191, 255]
    """
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_pixels("image", image)
    if image.dtype != jnp.uint8:
        raise TypeError(
            f"`image` must be uint8; got {image.dtype}: use `resize` for floats"
        )
    for extent in size:
        _checks.positive("size", extent)
    height, width, channels = image.shape[-3:]
    if (height, width) == tuple(size):
        return jnp.asarray(image)
    wide = jnp.asarray(image).astype(jnp.int32)
    if (height, width) == (2 * size[0], 2 * size[1]):
        return _halve_bytes(wide, round_half_up=channels in (1, 3, 4))
    (left, right), (a0, a1) = _fixed_point_taps(width, size[1], keep_edge=True)
    (top, bottom), (b0, b1) = _fixed_point_taps(height, size[0], keep_edge=False)
    a0, a1 = (weight.reshape(*[1] * (wide.ndim - 2), -1, 1) for weight in (a0, a1))
    b0, b1 = (weight.reshape(*[1] * (wide.ndim - 3), -1, 1, 1) for weight in (b0, b1))
    rows = (wide[..., left, :] * a0 + wide[..., right, :] * a1) >> 4
    above = (rows[..., top, :, :] * b0) >> 16
    below = (rows[..., bottom, :, :] * b1) >> 16
    return ((above + below + 2) >> 2).astype(jnp.uint8)


def resize_flow(
    flow: jax.Array,
    size: tuple[int, ...],
    *,
    method: Method = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
) -> jax.Array:
    """Resizes a flow field, and its values with it: u by W'/W and v by H'/H.

    The factors are those of the sizes even with `align_corners`, as in the published
    networks (RAFT-small's x8 upsampling is `align_corners=True`). A NaN makes the
    outputs NaN that read it, in its component only.

    Args:
        flow: (*B, H, W, 2): (u, v) in pixels.
        size: The new (height, width).
        method: See `resize`.
        align_corners: See `resize`.
        antialias: See `resize`.

    Returns:
        (*B, *size, 2), in pixels of the new grid.

    Raises:
        ValueError: As `resize`.

    Examples:
        >>> flow = jnp.ones((4, 4, 2))  # one pixel to the right and down
        >>> jaxflow.ops.resize_flow(flow, (8, 16))[0, 0].tolist()
        [4.0, 2.0]
    """
    _shapes.check("flow", flow, (..., "H", "W", 2))
    _shapes.check_floats(flow=flow)
    height, width = flow.shape[-3:-1]
    resized = resize(
        flow, size, method=method, align_corners=align_corners, antialias=antialias
    )
    factors = jnp.array([size[1] / width, size[0] / height], flow.dtype)
    return resized * lax.broadcast_to_rank(factors, flow.ndim)


def convex_upsample(flow: jax.Array, mask: jax.Array, *, factor: int = 8) -> jax.Array:
    """Upsamples flow by learned convex combinations (Teed and Deng, "RAFT", 2020).

    Each fine pixel is a mixture of the 3 x 3 coarse pixels around its own, multiplied
    by `factor`. The weights of the mixture are a softmax of `mask`. Beyond the edge the
    flow is 0. A NaN pixel makes the 3 x 3 blocks around it NaN.

    Args:
        flow: (*B, H, W, 2): (u, v) in coarse pixels. Any other number of channels is
            combined, and multiplied, likewise.
        mask: Logits, (*B, H, W, 9 factor^2); channel ``(3 dy + dx) factor^2 + factor i
            + j`` is for fine pixel (i, j) and the neighbour at (dy - 1, dx - 1).
        factor: Fine pixels per coarse pixel, along each axis.

    Returns:
        (*B, factor H, factor W, 2) in fine pixels, in the dtype of `flow`.

    Examples:
        >>> flow, mask = jnp.ones((2, 3, 2)), jnp.zeros((2, 3, 9 * 8 * 8))
        >>> jaxflow.ops.convex_upsample(flow, mask).shape
        (16, 24, 2)
    """
    _shapes.check("flow", flow, (..., "H", "W", "C"))
    _shapes.check_floats(flow=flow, mask=mask)
    *batch, height, width, channels = flow.shape
    _shapes.check("mask", mask, (*flow.shape[:-1], 9 * factor**2))
    wide = jnp.float64 if flow.dtype == jnp.float64 else jnp.float32
    logits = mask.astype(wide).reshape(*flow.shape[:-1], 9, factor**2)
    peak = lax.stop_gradient(jnp.max(logits, axis=-2, keepdims=True))
    weights = jnp.exp(logits - peak)
    total = sum(weights[..., k, :] for k in range(9))
    no_pads = [(0, 0)] * len(batch)
    padded = jnp.pad(factor * flow.astype(wide), [*no_pads, (1, 1), (1, 1), (0, 0)])
    # Channel by channel: XLA vectorises over the factor^2 fine pixels, not over two
    # components.
    fine = []
    for c in range(channels):
        blend = jnp.zeros((), wide)
        for k, (dy, dx) in enumerate(np.ndindex(3, 3)):
            neighbour = padded[..., dy : dy + height, dx : dx + width, c]
            blend += weights[..., k, :] * neighbour[..., None]
        fine.append(blend / total)
    fine = jnp.stack(fine, axis=-1)
    fine = fine.reshape(*flow.shape[:-1], factor, factor, channels)
    # (*B, H, i, W, j, C) reads as (*B, H factor, W factor, C).
    fine = jnp.swapaxes(fine, -4, -3)
    return fine.reshape(*batch, height * factor, width * factor, channels).astype(
        flow.dtype
    )


@dataclasses.dataclass(frozen=True)
class _Taps:
    """A sparse matrix by rows: out[i] = sum_k weights[i, k] x[indices[i, k]]."""

    indices: np.ndarray
    weights: np.ndarray
    inputs: int


def _taps(
    inputs: int, outputs: int, method: Method, align_corners: bool, antialias: bool
) -> _Taps:
    """The matrix that resizes one axis, in float64."""
    position = np.arange(outputs, dtype=np.float64)
    if align_corners:
        position *= (inputs - 1) / max(outputs - 1, 1)
    else:
        position = (position + 0.5) * (inputs / outputs) - 0.5
    stretch = max(inputs / outputs, 1.0) if antialias else 1.0
    radius = 1 if method == "bilinear" else 2
    first = np.floor(position - radius * stretch).astype(int) + 1
    count = int(np.ceil(2 * radius * stretch)) + (1 if antialias else 0)
    indices = first[:, None] + np.arange(count)
    distance = np.abs(indices - position[:, None]) / stretch
    if method == "bilinear":
        weights = np.maximum(1 - distance, 0)
    else:
        weights = _cubic(distance, a=-0.5 if antialias else -0.75)
    if antialias:
        weights *= (indices >= 0) & (indices < inputs)
        weights /= weights.sum(axis=1, keepdims=True)
    return _Taps(np.clip(indices, 0, inputs - 1), weights, inputs)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel; see `jaxflow.ops.warp.bicubic_sample`."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _transpose(taps: _Taps) -> _Taps:
    """The transposed matrix; rows are filled up with weights of 0."""
    outputs, count = taps.indices.shape
    column = taps.indices.ravel()
    row = np.repeat(np.arange(outputs), count)
    order = np.argsort(column, kind="stable")
    sizes = np.bincount(column, minlength=taps.inputs)
    slot = np.arange(column.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    indices = np.zeros((taps.inputs, sizes.max()), int)
    weights = np.zeros(indices.shape)
    indices[column[order], slot] = row[order]
    weights[column[order], slot] = taps.weights.ravel()[order]
    return _Taps(indices, weights, outputs)


def _apply(taps: _Taps, x: jax.Array, axis: int) -> jax.Array:
    """Multiplies one axis (-3 or -2) by a matrix."""

    @jax.custom_jvp
    def product(x):
        return _combine(taps, x, axis)

    @product.defjvp
    def _(primals, tangents):
        # Written as the transpose of the transpose, so that reverse mode, which
        # transposes once more, gathers; XLA's scatter is many times slower on a CPU.
        out = product(*primals)
        adjoint = functools.partial(_combine, _transpose(taps), axis=axis)
        return out, *jax.linear_transpose(adjoint, out)(*tangents)

    return product(x)


def _combine(taps: _Taps, x: jax.Array, axis: int) -> jax.Array:
    """Multiplies one axis by a matrix: few taps are gathered, many are a product."""
    outputs, count = taps.indices.shape
    if count > 16:
        matrix = np.zeros((outputs, taps.inputs))
        np.add.at(matrix, (np.arange(outputs)[:, None], taps.indices), taps.weights)
        out = jnp.tensordot(
            jnp.asarray(matrix, x.dtype), x, (1, axis % x.ndim), precision="highest"
        )
        return jnp.moveaxis(out, 0, axis)
    out = jnp.zeros((), x.dtype)
    along = np.ones(x.ndim, int)
    along[axis] = outputs
    for index, weight in zip(taps.indices.T, taps.weights.T, strict=True):
        where = (..., index, *[slice(None)] * (-axis - 1))
        weight = weight.reshape(along)
        values = x.at[where].get(mode="promise_in_bounds")
        out += jnp.asarray(weight, x.dtype) * values
    return out


def _nearest(image: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Takes input floor(i in/out) along both axes, the ratio in float32 as torch."""
    rows, columns = (
        np.minimum(
            np.floor(np.arange(new, dtype=np.float32) * np.float32(old / new)), old - 1
        ).astype(int)
        for old, new in zip(image.shape[-3:-1], size, strict=True)
    )
    return image[..., rows, :, :][..., columns, :]


def _fixed_point_taps(
    inputs: int, outputs: int, *, keep_edge: bool
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """OpenCV's two taps per output: their indices, and weights times 2048."""
    scale = 1.0 / (outputs / inputs)
    position = ((np.arange(outputs) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int32)
    fraction = position - first.astype(np.float32)
    if keep_edge:
        beyond = (first < 0) | (first >= inputs - 1)
        fraction[beyond] = 0
    weights = (
        np.rint((np.float32(1) - fraction) * np.float32(2048)).astype(np.int32),
        np.rint(fraction * np.float32(2048)).astype(np.int32),
    )
    last = inputs - 1
    return (np.clip(first, 0, last), np.clip(first + 1, 0, last)), weights


def _halve_bytes(wide: jax.Array, *, round_half_up: bool) -> jax.Array:
    """The mean of 2 x 2 pixels, as OpenCV's area fast path rounds it."""
    *batch, height, width, channels = wide.shape
    cells = wide.reshape(*batch, height // 2, 2, width // 2, 2, channels)
    total = cells.sum(axis=(-4, -2))
    rounding = 2 if round_half_up else 1 + ((total >> 2) & 1)
    return ((total + rounding) >> 2).astype(jnp.uint8)
