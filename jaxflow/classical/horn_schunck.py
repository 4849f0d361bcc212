"""Horn-Schunck optical flow: brightness constancy and a smooth field, both squared.

Horn and Schunck, "Determining Optical Flow" (1981); coarse to fine as in
Meinhardt-Llopis, Sánchez and Kondermann, "Horn-Schunck Optical Flow with a Multi-Scale
Strategy", IPOL (2013).
"""

import functools

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine


def horn_schunck(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    alpha: float = 7.0,
    levels: int = 10,
    step: float = 0.5,
    sigma: float = 0.8,
    warps: int = 10,
    iterations: int = 100,
    initial_flow: jax.Array | None = None,
) -> jax.Array:
    """Estimates flow under a quadratic data term and a quadratic prior.

    The flow minimises, from coarse to fine and linearised again at every warp,

        E(u) = sum (I2(x + u) - I1(x))^2 + alpha^2 (|grad u|^2 + |grad v|^2)

    with I in [0, 255]. Boundaries of motion become blurred, and an outlier counts by
    its square; `tvl1` and `brox` are better at both. Where a frame is flat, the flow
    stays 0, or stays what it started from. The flow is differentiable; each warp is
    computed again in the backward pass. A NaN pixel makes the flow NaN wherever the
    iterations carry it.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        alpha: Weight of the prior, in gray levels of [0, 255].
        levels: Pyramid levels; those with a side under 16 pixels are left out.
        step: Size of a level over that of the next finer one.
        sigma: Gaussian blur of both frames beforehand, in pixels.
        warps: Linearisations a level.
        iterations: Jacobi iterations a warp.
        initial_flow: Flow to start from, (*B, H, W, 2), in pixels.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Raises:
        ValueError: If `alpha` is not positive or the frames have neither 1 nor 3
            channels.

    Examples:
        >>> y, x = np.float32(np.mgrid[:16, :16])
        >>> one, two = (
        ...     jnp.asarray(0.5 + np.sin((x - dx) / 2) * np.cos(y / 2) / 2)[..., None]
        ...     for dx in (0, 1)
        ... )
        >>> flow = jax.jit(jaxflow.classical.horn_schunck.horn_schunck)(one, two)
        >>> flow.shape, round(float(jnp.median(flow[..., 0])), 1)
        ((16, 16, 2), 1.0)
    """
    _checks.counts(levels=levels, warps=warps, iterations=iterations)
    _checks.positive("alpha", alpha)
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    one, two = coarse_to_fine.by_one_program(
        lambda frame: ops.gaussian_blur(255 * coarse_to_fine.luminance(frame), sigma),
        frame1,
        frame2,
    )
    solve = functools.partial(
        _solve_level, alpha=alpha, warps=warps, iterations=iterations
    )
    blur = 0.6 * (1 / step**2 - 1) ** 0.5
    return coarse_to_fine.estimate(
        solve, one, two, levels=levels, step=step, sigma=blur, initial_flow=initial_flow
    )


def relax(
    ix: jax.Array,
    iy: jax.Array,
    it: jax.Array,
    flow: jax.Array,
    *,
    alpha: float,
    iterations: int,
) -> jax.Array:
    """Runs Horn and Schunck's own iteration on one set of linear constraints.

        u <- ubar - Ix (Ix ubar + Iy vbar + It) / (alpha^2 + Ix^2 + Iy^2)

    where the bar averages the four neighbours by 1/6 and the diagonal ones by 1/12; the
    edge is repeated outwards.

    Args:
        ix: Derivative along x, (*B, H, W, 1).
        iy: Derivative along y, likewise.
        it: Difference in time, likewise.
        flow: Where to start, (*B, H, W, 2), in pixels.
        alpha: Weight of the prior, in units of the derivatives.
        iterations: How often.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Examples:
        A ramp that rises by 1 a pixel, and falls by 2 in time, moves by 2 pixels.

        >>> ones, start = jnp.ones((4, 5, 1)), jnp.zeros((4, 5, 2))
        >>> flow = jaxflow.classical.horn_schunck.relax(
        ...     ones, 0 * ones, -2 * ones, start, alpha=0.5, iterations=20
        ... )
        >>> flow[0, 0].round(2).tolist()
        [2.0, 0.0]
    """
    divisor = alpha**2 + ix**2 + iy**2
    gradient = jnp.concatenate([ix, iy], axis=-1)

    def iterate(_, flow):
        mean = flow + ops.laplacian(flow, kernel="horn_schunck") / 3
        residual = (gradient * mean).sum(-1, keepdims=True) + it
        return mean - gradient * residual / divisor

    start = _mesh.alike(flow, ix, iy, it)
    return jax.lax.fori_loop(0, iterations, iterate, start)


def _solve_level(image1, image2, flow, *, alpha, warps, iterations):
    """Relinearises and relaxes at one pyramid level."""
    height, width = image1.shape[-3:-1]
    grid = ops.pixel_grid(height, width).astype(flow.dtype)
    grid = jax.lax.broadcast_to_rank(grid, flow.ndim)
    values = jnp.concatenate([image2, *ops.spatial_gradient(image2)], axis=-1)

    @jax.checkpoint
    def warp(flow, _):
        # A zero gradient silences the data term beyond the frame.
        warped = ops.backward_warp(values, flow, padding="border")
        inside = ops.sampling_mask(flow + grid, (height, width), mask="inside")
        value, *gradient = jnp.split(warped, 3, axis=-1)
        ix, iy = (jnp.where(inside[..., None], x, 0) for x in gradient)
        it = value - image1 - ix * flow[..., :1] - iy * flow[..., 1:]
        return relax(ix, iy, it, flow, alpha=alpha, iterations=iterations), None

    return jax.lax.scan(warp, flow, length=warps)[0]
