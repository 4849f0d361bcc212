"""Forward warping: pixels thrown along their flow.

Arrays are channels-last; flow is (u, v) in pixels, from the frame of the values.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _shapes
from jaxflow.ops import quads, warp


def forward_splat(
    values: jax.Array, flow: jax.Array, *, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Adds every pixel to the four around where it lands, with bilinear weights.

        sum[j, i] = sum_yx w[y, x] values[y, x] k(x + u - i) k(y + v - j)
        weight[j, i] = sum_yx w[y, x] k(x + u - i) k(y + v - j),  k(d) = max(0, 1 - |d|)

    What lands outside the image is lost, and a pixel with a NaN flow lands nowhere. A
    NaN value makes the four pixels NaN that it lands on. The sum is the adjoint of
    `backward_warp` with zeros outside. It is differentiable in all three arguments.

    Args:
        values: (*B, H, W, C), floating.
        flow: From the frame of `values` to the new one, (*B, H, W, 2): (u, v) in
            pixels.
        weights: How much each pixel counts, (*B, H, W); None for 1.

    Returns:
        The sum, (*B, H, W, C), added up in at least float32, in the dtype of `values`;
        and the weight, (*B, H, W), in at least float32.

    Examples:
        >>> values = jnp.array([[1.0, 2.0, 3.0]])[..., None]
        >>> flow = jnp.zeros((1, 3, 2)).at[..., 0].set(1.0)
        >>> jaxflow.ops.forward_splat(values, flow)[0][0, :, 0].tolist()
        [0.0, 1.0, 2.0]
    """
    _shapes.check("values", values, (..., "H", "W", "C"))
    _shapes.check_floats(values=values, flow=flow)
    *batch, height, width, channels = values.shape
    _shapes.check("flow", flow, (*values.shape[:-1], 2))
    wide = jnp.float64 if values.dtype == jnp.float64 else jnp.float32
    if weights is None:
        weights = jnp.ones(values.shape[:-1], wide)
    _shapes.check("weights", weights, values.shape[:-1])
    points = warp.displaced(flow.astype(wide))
    weights = weights.astype(wide)[..., None]
    counted = jnp.concatenate([weights * values.astype(wide), weights], axis=-1)
    flat = (math.prod(batch), height * width)
    points = points.reshape(*flat, 2)
    places, shares = warp.cells(points[..., 0], points[..., 1], (height, width))
    counted = counted.reshape(*flat, channels + 1)
    total = quads.spread(counted, shares, places, (height, width))
    total = total.reshape(*batch, height, width, channels + 1)
    return total[..., :-1].astype(values.dtype), total[..., -1]


def average_splat(
    values: jax.Array, flow: jax.Array, *, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Averages the pixels that land on each pixel.

    Args:
        values: (*B, H, W, C), floating.
        flow: (*B, H, W, 2): (u, v) in pixels; see `forward_splat`.
        weights: How much each pixel counts, (*B, H, W), not negative; None for 1.

    Returns:
        The average, (*B, H, W, C), 0 where nothing lands; and where something does,
        booleans (*B, H, W).

    Examples:
        >>> values = jnp.array([[1.0, 2.0, 3.0]])[..., None]
        >>> meet = jnp.zeros((1, 3, 2)).at[0, 0, 0].set(1.0)  # pixel 0 moves onto 1
        >>> jaxflow.ops.average_splat(values, meet)[0][0, :, 0].tolist()
        [0.0, 1.5, 3.0]
    """
    _shapes.check("values", values, (..., "H", "W", "C"))
    _shapes.check_floats(values=values)
    wide = jnp.float64 if values.dtype == jnp.float64 else jnp.float32
    total, weight = forward_splat(values.astype(wide), flow, weights=weights)
    covered = weight > 0
    # The inner `where` keeps 0/0 out of the gradient.
    average = total / jnp.where(covered, weight, 1)[..., None]
    return jnp.where(covered[..., None], average, 0).astype(values.dtype), covered


def softmax_splat(
    values: jax.Array, flow: jax.Array, importance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Averages the pixels that land on each pixel, weighed by exp(importance).

    Niklaus and Liu, "Softmax Splatting for Video Frame Interpolation" (2020). Where
    two pixels meet, the more important one (the nearer, say) wins. A constant added to
    `importance` changes nothing; pixels 87 below the maximum of their image count as
    absent.

    Args:
        values: (*B, H, W, C), floating.
        flow: (*B, H, W, 2): (u, v) in pixels; see `forward_splat`.
        importance: Logits, (*B, H, W).

    Returns:
        As `average_splat`.

    Examples:
        >>> values = jnp.array([[1.0, 2.0, 3.0]])[..., None]
        >>> meet = jnp.zeros((1, 3, 2)).at[0, 0, 0].set(1.0)  # pixel 0 moves onto 1
        >>> front = jnp.array([[50.0, 0.0, 0.0]])  # and hides it
        >>> jaxflow.ops.softmax_splat(values, meet, front)[0][0, :, 0].tolist()
        [0.0, 1.0, 3.0]
    """
    _shapes.check("values", values, (..., "H", "W", "C"))
    _shapes.check("importance", importance, values.shape[:-1])
    wide = jnp.float64 if values.dtype == jnp.float64 else jnp.float32
    logits = importance.astype(wide)
    peak = lax.stop_gradient(jnp.max(logits, axis=(-2, -1), keepdims=True))
    return average_splat(values, flow, weights=jnp.exp(logits - peak))
