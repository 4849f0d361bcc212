"""The algebra of flow fields: composition, inverse, occlusion, propagation.

Flow is (u, v) in pixels, (*B, H, W, 2): pixel (x, y) moves to (x + u, y + v).
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _mesh, _shapes
from jaxflow.ops import splat, warp


def compose(
    first: jax.Array, second: jax.Array, *, padding: warp.Padding = "border"
) -> jax.Array:
    """Chains two flows: ``first(x) + second(x + first(x))``.

    Args:
        first: From frame a to frame b, (*B, H, W, 2).
        second: From frame b to frame c, (*B, H, W, 2).
        padding: The second flow beyond the image; see `bilinear_sample`.

    Returns:
        From frame a to frame c, (*B, H, W, 2); NaN where either flow is.

    Raises:
        ValueError: If `padding` is neither "zeros" nor "border".

    Examples:
        >>> right = jnp.zeros((4, 4, 2)).at[..., 0].set(1.0)
        >>> down = jnp.zeros((4, 4, 2)).at[..., 1].set(1.0)
        >>> jaxflow.ops.compose(right, down)[0, 0].tolist()
        [1.0, 1.0]
    """
    _shapes.check("first", first, (..., "H", "W", 2))
    _shapes.check_equal(first=first, second=second)
    _shapes.check_floats(first=first, second=second)
    return first + warp.backward_warp(second, first, padding=padding)


def invert(
    flow: jax.Array,
    *,
    method: Literal["splat", "fixed_point"] = "splat",
    iterations: int = 20,
    tolerance: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Turns a flow from frame a to b into the one from b to a.

    "splat" moves the value -flow along the flow and averages what lands on each pixel.
    Holes are found, and where several motions meet, their mean is taken. "fixed_point"
    iterates g(x) = -flow(x + g(x)) from 0 (Chen et al., 2008), which converges to the
    inverse where the flow changes by less than a pixel per pixel, and is differentiable
    through the iterations.

    Args:
        flow: (*B, H, W, 2).
        method: "splat" or "fixed_point".
        iterations: Of the fixed point.
        tolerance: The largest residual |g(x) + flow(x + g(x))| of a valid pixel under
            "fixed_point", in pixels.

    Returns:
        The inverse, (*B, H, W, 2), 0 in holes; and where it is valid, (*B, H, W):
        something landed there, or the iteration converged inside the image.

    Raises:
        ValueError: If `method` is unknown.

    Examples:
        >>> flow = jnp.broadcast_to(jnp.array([1.0, 0.0]), (4, 4, 2))
        >>> inverse, known = jaxflow.ops.invert(flow)
        >>> inverse[0, 3].tolist(), known[0].tolist()
        ([-1.0, 0.0], [False, True, True, True])
    """
    _checks.one_of("method", method, ("splat", "fixed_point"))
    _shapes.check("flow", flow, (..., "H", "W", 2))
    _shapes.check_floats(flow=flow)
    if method == "splat":
        return splat.average_splat(-flow, flow)
    pull = functools.partial(warp.backward_warp, flow, padding="border")
    inverse, _ = lax.scan(
        lambda inverse, _: (-pull(inverse), None),
        _mesh.alike(jnp.zeros_like(flow), flow),
        length=iterations,
    )
    residual = inverse + pull(inverse)
    size = flow.shape[-3], flow.shape[-2]
    points = warp.displaced(inverse.astype(jnp.float32))
    inside = warp.sampling_mask(points, size, mask="inside")
    return inverse, inside & (_squared_length(residual) <= tolerance**2)


def forward_backward_occlusion(
    flow_forward: jax.Array,
    flow_backward: jax.Array,
    *,
    alpha: float = 0.01,
    beta: float = 0.5,
) -> jax.Array:
    """Finds the pixels of frame 1 that frame 2 does not show.

    With b = flow_backward(x + f), a pixel is occluded where

        |f + b|^2 > alpha (|f|^2 + |b|^2) + beta

    (Sundaram et al., 2010; Meister et al., "UnFlow", 2018, Eq. 1), and where x + f is
    outside the image. The result has no gradient.

    Args:
        flow_forward: f, from frame 1 to frame 2, (*B, H, W, 2).
        flow_backward: From frame 2 to frame 1, (*B, H, W, 2).
        alpha: Relative tolerance.
        beta: Absolute tolerance, in square pixels.

    Returns:
        True where occluded, (*B, H, W); also where a flow is NaN.

    Examples:
        >>> there = jnp.broadcast_to(jnp.array([2.0, 0.0]), (1, 3, 2))
        >>> jaxflow.ops.forward_backward_occlusion(there, -there)[0].tolist()
        [False, True, True]
    """
    _shapes.check("flow_forward", flow_forward, (..., "H", "W", 2))
    _shapes.check_equal(flow_forward=flow_forward, flow_backward=flow_backward)
    _shapes.check_floats(flow_forward=flow_forward, flow_backward=flow_backward)
    height, width = flow_forward.shape[-3:-1]
    back = warp.backward_warp(flow_backward, flow_forward, padding="border")
    points = warp.displaced(flow_forward.astype(jnp.float32))
    inside = warp.sampling_mask(points, (height, width), mask="inside")
    size = _squared_length(flow_forward) + _squared_length(back)
    agrees = _squared_length(flow_forward + back) <= alpha * size + beta
    return ~(agrees & inside)


def forward_interpolate(flow: jax.Array) -> jax.Array:
    """Propagates a flow to the next pair of a video, to start an estimator there.

    Every pixel carries its flow along; each pixel then takes the flow of what landed
    nearest, in the Euclidean sense (Teed and Deng, "RAFT", 2020, Sec. 3.4). Pixels that
    land outside the open rectangle (0, W) x (0, H) are dropped. Of equally near ones
    the first in reading order counts.

    All pairs are compared: meant for flow at 1/8 of the image's size. Differentiable,
    as a selection. A pixel whose flow is NaN is dropped.

    Args:
        flow: (*B, H, W, 2).

    Returns:
        (*B, H, W, 2); 0 where no pixel stays inside.

    Examples:
        >>> flow = jnp.zeros((3, 4, 2)).at[:, :2, 0].set(0.75)
        >>> jaxflow.ops.forward_interpolate(flow)[1, :, 0].tolist()
        [0.75, 0.75, 0.0, 0.0]
    """
    _shapes.check("flow", flow, (..., "H", "W", 2))
    _shapes.check_floats(flow=flow)
    examples = flow.reshape(-1, *flow.shape[-3:])
    return jax.vmap(_propagate)(examples).reshape(flow.shape)


def _propagate(flow: jax.Array) -> jax.Array:
    """`forward_interpolate` of one example."""
    height, width, _ = flow.shape
    pixels = warp.pixel_grid(height, width)
    landed = lax.stop_gradient(flow.astype(jnp.float32)) + pixels
    size = jnp.array([[[width, height]]], jnp.float32)
    stays = ((landed > 0) & (landed < size)).all(-1, keepdims=True)
    # At infinity it is nearest to nothing.
    landed = jnp.where(stays, landed, jnp.inf)
    nearest = _nearest(pixels.reshape(-1, 2), landed.reshape(-1, 2))
    values = flow.reshape(-1, 2)[jnp.maximum(nearest, 0)]
    return jnp.where(nearest[:, None] >= 0, values, 0).reshape(flow.shape)


def _nearest(queries: jax.Array, points: jax.Array) -> jax.Array:
    """Index of the point nearest to each query; -1 if all are at infinity."""
    x, y = queries[:, 0], queries[:, 1]

    def visit(best, point):
        index, (point_x, point_y) = point
        distance = jnp.square(x - point_x) + jnp.square(y - point_y)
        nearer = distance < best[0]
        return (
            jnp.where(nearer, distance, best[0]),
            jnp.where(nearer, index, best[1]),
        ), None

    count = points.shape[0]
    start = jnp.full(x.shape, jnp.inf, x.dtype), jnp.full(x.shape, -1)
    start = _mesh.alike(start, queries, points)
    # One point against all queries at a time is a plain sweep over memory; an argmin
    # over a matrix of distances is many times slower on a CPU.
    (_, index), _ = lax.scan(
        visit, start, (jnp.arange(count), (points[:, 0], points[:, 1])), unroll=16
    )
    return index


def _squared_length(flow: jax.Array) -> jax.Array:
    """u^2 + v^2, in float32 or wider."""
    wide = flow.astype(jnp.float64 if flow.dtype == jnp.float64 else jnp.float32)
    return jnp.square(wide[..., 0]) + jnp.square(wide[..., 1])
