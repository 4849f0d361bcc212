"""The brightness-constancy constraint, and the part of motion it determines.

A point keeps its brightness: I1(x, y) = I2(x + u, y + v). For small motion that is one
linear equation a pixel and channel, Ix u + Iy v + It = 0 (Horn and Schunck, 1981).
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxflow import _checks, _shapes, ops
from jaxflow.classical import coarse_to_fine
from jaxflow.ops import stencil

Source = Literal["mean", "frame1", "frame2"]


def motion_derivatives(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    kernel: stencil.Kernel = "central",
    source: Source = "mean",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Differentiates a pair of frames along x, y and time.

    Args:
        frame1: (*B, H, W, C), floating.
        frame2: Like `frame1`.
        kernel: Spatial derivative, see `ops.spatial_gradient`.
        source: What to differentiate in space. The mean of both frames leaves an error
            of third order in the motion, a single frame one of second order.

    Returns:
        Ix, Iy (per pixel) and It = frame2 - frame1 (per frame), each (*B, H, W, C), in
        float32 or wider.

    Raises:
        ValueError: If `kernel` or `source` is unknown.

    Examples:
        >>> frame1 = jnp.broadcast_to(jnp.arange(8.0), (5, 8))
        >>> frame2 = frame1 - 0.5  # the ramp has moved by half a pixel to the right
        >>> ix, iy, it = jaxflow.classical.constraint.motion_derivatives(
        ...     frame1[..., None], frame2[..., None]
        ... )
        >>> ix[2, 4].item(), iy[2, 4].item(), it[2, 4].item()
        (1.0, 0.0, -0.5)
    """
    _checks.one_of("source", source, ("mean", "frame1", "frame2"))
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    frame1, frame2 = coarse_to_fine.widen(frame1), coarse_to_fine.widen(frame2)
    image = {"mean": (frame1 + frame2) / 2, "frame1": frame1, "frame2": frame2}[source]
    ix, iy = ops.spatial_gradient(image, kernel=kernel)
    return ix, iy, frame2 - frame1


def constraint_residual(
    frame1: jax.Array,
    frame2: jax.Array,
    flow: jax.Array,
    *,
    kernel: stencil.Kernel = "central",
    source: Source = "mean",
) -> jax.Array:
    """Computes Ix u + Iy v + It, by how much a flow breaks the linear constraint.

    Args:
        frame1: (*B, H, W, C), floating.
        frame2: Like `frame1`.
        flow: (*B, H, W, 2), in pixels.
        kernel: See `motion_derivatives`.
        source: See `motion_derivatives`.

    Returns:
        (*B, H, W, C), in units of the frames.

    Raises:
        ValueError: If `kernel` or `source` is unknown.

    Examples:
        >>> frame1 = jnp.broadcast_to(jnp.arange(8.0)[:, None], (5, 8, 1))
        >>> flow = jnp.zeros((5, 8, 2)).at[..., 0].set(0.5)
        >>> error = jaxflow.classical.constraint.constraint_residual(
        ...     frame1, frame1 - 0.5, flow
        ... )
        >>> error[2, 4].item()
        0.0
    """
    _shapes.check("flow", flow, (*frame1.shape[:-1], 2))
    ix, iy, it = motion_derivatives(frame1, frame2, kernel=kernel, source=source)
    flow = flow.astype(ix.dtype)
    return ix * flow[..., :1] + iy * flow[..., 1:] + it


def normal_flow(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    kernel: stencil.Kernel = "central",
    source: Source = "mean",
    minimum_gradient: float = 1e-3,
) -> tuple[jax.Array, jax.Array]:
    """Computes the motion along the gradient, all that one pixel can tell.

        u = -It / |grad I|  grad I / |grad I|

    What moves along an edge is invisible (the aperture problem): 45-degree stripes that
    move by (1, 0) seem to move by (1/2, 1/2) (the barber pole).

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        kernel: See `motion_derivatives`.
        source: See `motion_derivatives`.
        minimum_gradient: Least |grad I|, in brightness a pixel.

    Returns:
        Normal flow in pixels, (*B, H, W, 2), 0 where the gradient is too small or a
        whole frame flat; and where neither is, (*B, H, W) booleans.

    Raises:
        ValueError: If a choice is unknown or the frames have neither 1 nor 3 channels.

    Examples:
        >>> frame1 = jnp.broadcast_to(jnp.arange(8.0)[:, None], (5, 8, 1))
        >>> flow, known = jaxflow.classical.constraint.normal_flow(frame1, frame1 - 0.5)
        >>> flow[2, 4].tolist(), known[2, 4].item()
        ([0.5, 0.0], True)
    """
    ix, iy, it = motion_derivatives(
        coarse_to_fine.luminance(frame1),
        coarse_to_fine.luminance(frame2),
        kernel=kernel,
        source=source,
    )
    square = ix**2 + iy**2
    seen = coarse_to_fine.both_textured(
        coarse_to_fine.widen(frame1), coarse_to_fine.widen(frame2)
    )
    valid = (square >= minimum_gradient**2) & seen
    scale = jnp.where(valid, -it / jnp.where(valid, square, 1), 0)
    return scale * jnp.concatenate([ix, iy], axis=-1), valid[..., 0]
