"""Sampling at sub-pixel points, and backward warping by optical flow.

Arrays are channels-last. Points and flow are (x, y) in pixels, x to the right and
y down; (0, 0) is the centre of the top-left pixel.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.ops import quads

Padding = Literal["zeros", "border"]
Mask = float | Literal["strict", "inside"] | None


def pixel_grid(height: int, width: int) -> jax.Array:
    """Returns the (x, y) position of every pixel centre, in pixels: (H, W, 2).

    Args:
        height: H, in pixels.
        width: W, in pixels.

    Examples:
        >>> jaxflow.ops.pixel_grid(1, 3).tolist()
        [[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]]
    """
    x = jnp.arange(width, dtype=jnp.float32)
    y = jnp.arange(height, dtype=jnp.float32)
    return jnp.stack(jnp.meshgrid(x, y), axis=-1)


def displaced(flow: jax.Array) -> jax.Array:
    """Returns where flow leads from every pixel centre, in the shape of the flow.

    Args:
        flow: (*B, H, W, 2) in pixels.
    """
    grid = pixel_grid(*flow.shape[-3:-1]).astype(flow.dtype)
    return flow + lax.broadcast_to_rank(grid, flow.ndim)


def bilinear_sample(
    image: jax.Array, points: jax.Array, *, padding: Padding = "zeros"
) -> jax.Array:
    """Samples an image at sub-pixel points, with bilinear weights.

    Jaderberg et al., "Spatial Transformer Networks" (2015), Eq. 5, in pixels:

        out(x, y) = sum_ij image[j, i] max(0, 1 - |x - i|) max(0, 1 - |y - j|)

    The result is differentiable in both arguments. Where a point falls on a pixel
    centre, the slope in `points` is that of the cell to the right and below; outside
    the image it is 0 under "border". A NaN point gives a NaN sample, and changes
    neither the other samples nor the gradient of `image`. A NaN pixel gives NaN for
    every sample in the four cells around it.

    Args:
        image: Values to sample, (*B, H, W, C), floating.
        points: Where to sample, (*B, *P, 2): (x, y) in pixels. Half-precision points
            are widened to float32 first.
        padding: What lies beyond the image: "zeros", or "border" for the value of
            the nearest edge pixel. Under "zeros" a point less than one pixel
            outside still blends with the edge.

    Returns:
        The samples, (*B, *P, C), blended in at least float32, in the dtype of `image`.

    Raises:
        ValueError: If `padding` is neither "zeros" nor "border".

    Examples:
        >>> image = jnp.array([[10.0, 20.0]])[..., None]
        >>> points = jnp.array([[0.5, 0.0], [5.0, 0.0]])  # (x, y)
        >>> jaxflow.ops.bilinear_sample(image, points)[:, 0].tolist()
        [15.0, 0.0]
        >>> jaxflow.ops.bilinear_sample(image, points, padding="border")[:, 0].tolist()
        [15.0, 20.0]
    """
    _checks.one_of("padding", padding, ("zeros", "border"))
    image, points, shape = _flatten(image, points)
    out = _sample(image, points[..., 0], points[..., 1], padding)
    return out.reshape(shape)


def backward_warp(
    image: jax.Array,
    flow: jax.Array,
    *,
    padding: Padding = "zeros",
    mask: Mask = None,
) -> jax.Array:
    """Pulls frame 2 back onto frame 1: ``out[y, x] = image(x + u, y + v)``.

    The published networks differ only in what happens beyond the image:

        NVIDIA Resample2d, SpyNet      padding="border"
        LiteFlowNet, RAFT              padding="zeros"
        PWC-Net, mmflow                padding="zeros", mask=0.9999
        pytorch-pwc                    padding="zeros", mask=0.999
        HD3                            padding="border", mask=0.9999
        VCN                            padding="zeros", mask="strict"
        Caffe FlowWarp                 padding="zeros", mask="inside"

    Gradients and NaN are as in `bilinear_sample`. The mask has no gradient. Where the
    flow is NaN the result is NaN, whatever the mask says.

    Args:
        image: Frame 2, (*B, H, W, C), floating.
        flow: Motion from frame 1 to frame 2, (*B, H, W, 2): (u, v) in pixels.
        padding: What lies beyond the image; see `bilinear_sample`.
        mask: Which samples to replace by 0; see `sampling_mask`. None for none.

    Returns:
        Frame 2 as frame 1 would see it if `flow` were exact, (*B, H, W, C).

    Raises:
        ValueError: If `padding` or `mask` is none of the above.

    Examples:
        >>> frame2 = jnp.array([[0.0, 1.0, 2.0]])[..., None]
        >>> flow = jnp.zeros((1, 3, 2)).at[..., 0].set(1.0)
        >>> jaxflow.ops.backward_warp(frame2, flow)[0, :, 0].tolist()
        [1.0, 2.0, 0.0]
    """
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check("flow", flow, (*image.shape[:-1], 2))
    _shapes.check_floats(image=image, flow=flow)
    _checks.one_of("padding", padding, ("zeros", "border"))
    image, flow, shape = _flatten(image, flow)
    height, width = shape[-3:-1]
    # A grid of its own would be made, and not be fused with what reads it.
    x = flow[..., 0] + jnp.tile(jnp.arange(width, dtype=flow.dtype), height)[None]
    y = flow[..., 1] + jnp.repeat(jnp.arange(height, dtype=flow.dtype), width)[None]
    out = _sample(image, x, y, padding).reshape(shape)
    if mask is None:
        return out
    points = jnp.stack([x, y], axis=-1).reshape(*shape[:-1], 2)
    keep = sampling_mask(points, (height, width), mask=mask)
    # A NaN point compares False with everything; it must not pass for a masked one.
    keep |= jnp.isnan(points).any(-1)
    return jnp.where(keep[..., None], out, 0)


def sampling_mask(
    points: jax.Array, size: tuple[int, ...], *, mask: Mask = 0.9999
) -> jax.Array:
    """Tells which points count as inside the image.

    Args:
        points: (*B, 2): (x, y) in pixels.
        size: (height, width) of the image.
        mask: A number t in (0, 1] keeps points whose bilinear weights on the image's
            pixels sum to t or more (equal to warping an image of ones with zeros
            outside). "inside" keeps 0 <= x <= W-1 and 0 <= y <= H-1; "strict" is
            without the equalities. None keeps all.

    Returns:
        Booleans, (*B). A NaN point is outside, unless `mask` is None.

    Raises:
        ValueError: If `mask` is not one of these.

    Examples:
        >>> points = jnp.array([[0.0, 0.0], [2.5, 0.0]])
        >>> jaxflow.ops.sampling_mask(points, (1, 3)).tolist()
        [True, False]
    """
    _shapes.check("points", points, (..., 2))
    if mask is None:
        return jnp.ones(points.shape[:-1], bool)
    points = _widen(jnp.asarray(points))
    last = jnp.array([size[1] - 1, size[0] - 1], points.dtype)
    last = lax.broadcast_to_rank(last, points.ndim)
    if mask == "inside":
        return ((points >= 0) & (points <= last)).all(-1)
    if mask == "strict":
        return ((points > 0) & (points < last)).all(-1)
    if isinstance(mask, str) or not 0 < mask <= 1:
        raise ValueError(
            f'`mask` must be None, "strict", "inside" or in (0, 1]; got {mask!r}'
        )
    # Along an axis the weights inside sum to 1, less the distance beyond the edge.
    beyond = jnp.maximum(jnp.maximum(-points, points - last), 0)
    return jnp.prod(jnp.maximum(1 - beyond, 0), axis=-1) >= mask


def bicubic_sample(
    image: jax.Array,
    points: jax.Array,
    *,
    padding: Padding = "border",
    a: float = -0.75,
) -> jax.Array:
    """Samples an image at sub-pixel points, with Keys' cubic convolution.

    Keys, "Cubic convolution interpolation for digital image processing" (1981):
    4 x 4 pixels weigh k(x - i) k(y - j), where

        k(d) = (a+2)|d|^3 - (a+3)|d|^2 + 1          for |d| <= 1
        k(d) = a|d|^3 - 5a|d|^2 + 8a|d| - 4a        for 1 < |d| < 2

    OpenCV and torch take `a` = -0.75. Keys himself, Pillow and the TV-L1 code at IPOL
    take -0.5, which is accurate to third order. Unlike ``cv2.remap``, this function
    does not round positions to 1/32 pixel. Results may lie outside the range of the
    image.

    The result is differentiable, and its slope in `points` is continuous; under
    "border" the slope is that of the image continued by its edge. NaN spreads as in
    `bilinear_sample`, but over 4 x 4 pixels.

    Args:
        image: Values to sample, (*B, H, W, C), floating.
        points: Where to sample, (*B, *P, 2): (x, y) in pixels.
        padding: What lies beyond the image: the nearest edge pixel ("border",
            cv2.BORDER_REPLICATE) or 0 ("zeros", cv2.BORDER_CONSTANT).
        a: Slope of the kernel at distance 1.

    Returns:
        The samples, (*B, *P, C), blended in at least float32, in the dtype of `image`.

    Raises:
        ValueError: If `padding` is neither "zeros" nor "border".

    Examples:
        >>> ramp = jnp.arange(8.0)[None, :, None]
        >>> jaxflow.ops.bicubic_sample(ramp, jnp.array([[3.5, 0.0]])).item()
        3.5
    """
    _checks.one_of("padding", padding, ("zeros", "border"))
    image, points, shape = _flatten(image, points)
    sample = jax.vmap(functools.partial(_bicubic, padding=padding, a=a))
    return sample(image, points).reshape(shape)


def cells(
    x: jax.Array, y: jax.Array, size: tuple[int, ...], *, padding: Padding = "zeros"
) -> tuple[jax.Array, jax.Array]:
    """Finds the 2 x 2 pixels around each point, for `jaxflow.ops.quads`.

    Args:
        x: (*N), in pixels.
        y: (*N), in pixels.
        size: (height, width) of the image.
        padding: "border" moves points outside to the nearest edge first.

    Returns:
        The row and column of each square's first pixel, integers (*N, 2); and the
        bilinear weights of its pixels, (*N, 4). Points a pixel or more outside, and NaN
        ones, get a square outside; the weights of NaN are NaN.
    """
    height, width = size
    if padding == "border":
        x, y = _hold(x, width - 1), _hold(y, height - 1)
    else:  # Infinity has no distance to a pixel.
        x, y = jnp.clip(x, -2, width + 1), jnp.clip(y, -2, height + 1)
    left, top = jnp.floor(x), jnp.floor(y)
    touches = (left >= -1) & (left < width) & (top >= -1) & (top < height)
    row = jnp.where(touches, _integers(top, -1, height), height)
    column = jnp.where(touches, _integers(left, -1, width), width)
    right, below = x - left, y - top
    weights = [d * a for d in (1 - below, below) for a in (1 - right, right)]
    return jnp.stack([row, column], axis=-1), jnp.stack(weights, axis=-1)


def _hold(x: jax.Array, last: int) -> jax.Array:
    """Clips to [0, last], with a slope of 0 from `last` on."""
    return jnp.where(x < 0, 0, jnp.where(x >= last, last, x))


def _sample(
    image: jax.Array, x: jax.Array, y: jax.Array, padding: Padding
) -> jax.Array:
    """Samples (B, H, W, C) at (B, N) points."""
    places, weights = cells(x, y, image.shape[1:3], padding=padding)
    return quads.blend(image, weights, places).astype(image.dtype)


def _flatten(
    image: jax.Array, points: jax.Array
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """Checks both, folds batch and point axes into one each, names the result's."""
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_floats(image=image, points=points)
    image, points = jnp.asarray(image), jnp.asarray(points)
    batch = image.shape[:-3]
    _shapes.check("points", points, (*batch, ..., 2))
    shape = (*points.shape[:-1], image.shape[-1])
    examples = math.prod(batch)
    points = _widen(points)
    if image.dtype == jnp.float64:
        points = points.astype(jnp.float64)
    image = image.reshape(examples, *image.shape[-3:])
    return (
        image,
        points.reshape(examples, math.prod(points.shape[len(batch) : -1]), 2),
        shape,
    )


def _widen(x: jax.Array) -> jax.Array:
    """Casts to float32 or wider: bfloat16 cannot tell 256.5 from its neighbours."""
    return x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def _bicubic(
    image: jax.Array, points: jax.Array, padding: Padding, a: float
) -> jax.Array:
    """Samples (H, W, C) at (N, 2)."""
    height, width = image.shape[:2]
    # The result is the same from here on, and infinity has no distance to a pixel.
    x, y = jnp.clip(points[:, 0], -3, width + 2), jnp.clip(points[:, 1], -3, height + 2)
    left, top = jnp.floor(x), jnp.floor(y)
    columns = [left + k for k in (-1, 0, 1, 2)]
    weights_x = _cubic_weights(x - left, a)
    out = jnp.zeros((), points.dtype)
    for k, weight_y in zip((-1, 0, 1, 2), _cubic_weights(y - top, a), strict=True):
        row = sum(
            weight[:, None] * _read(image, column, top + k, padding)
            for weight, column in zip(weights_x, columns, strict=True)
        )
        out += weight_y[:, None] * row
    return out.astype(image.dtype)


def _cubic_weights(d: jax.Array, a: float) -> tuple[jax.Array, ...]:
    """Weights of the pixels at -1, 0, 1, 2 for a point at `d` in [0, 1)."""
    e = 1 - d
    # k(1 + d) with its double root at d = 1 factored out, k(d), and their mirrors.
    far, near = a * d * e * e, ((a + 2) * d - (a + 3)) * d * d + 1
    mirror_near, mirror_far = ((a + 2) * e - (a + 3)) * e * e + 1, a * e * d * d
    return far, near, mirror_near, mirror_far


def _read(image: jax.Array, x: jax.Array, y: jax.Array, padding: Padding) -> jax.Array:
    """Reads pixels of (H, W, C) at integral (N,) positions, in the dtype of `x`."""
    height, width, channels = image.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = _integers(x, 0, width - 1), _integers(y, 0, height - 1)
    pixels = image.reshape(height * width, channels)
    # The promise spares a second clip, or fill, per value read.
    values = pixels.at[row * width + column].get(mode="promise_in_bounds")
    values = values.astype(x.dtype)
    if padding == "border":
        return values
    return jnp.where(inside[:, None], values, 0)


def _integers(x: jax.Array, low: int, high: int) -> jax.Array:
    """Rounds down and clips; a NaN becomes any integer from `low` to `high`."""
    # Clipped twice: large floats and NaN have no integer of their own.
    return jnp.clip(jnp.clip(x, low, high).astype(jnp.int32), low, high)
