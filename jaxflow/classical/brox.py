"""Robust variational flow with gradient constancy, and refinement of any flow by it.

Brox, Bruhn, Papenberg and Weickert, "High Accuracy Optical Flow Estimation Based on a
Theory for Warping" (2004); the normalised data terms are those of Zimmer, Bruhn and
Weickert (2011) and of ``cv2.VariationalRefinement``.
"""

import functools

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine

# Smallest squared derivative in a normaliser, and the width of the robust functions.
ZETA, EPSILON = 0.1, 1e-3


def brox(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    alpha: float = 10.0,
    delta: float = 5.0,
    gamma: float = 10.0,
    levels: int = 10,
    step: float = 0.5,
    sigma: float = 0.6,
    warps: int = 5,
    fixed_point_iterations: int = 5,
    sor_iterations: int = 5,
    omega: float = 1.6,
    initial_flow: jax.Array | None = None,
) -> jax.Array:
    """Estimates flow under robust brightness and gradient constancy, coarse to fine.

    The flow minimises, with psi(s^2) = sqrt(s^2 + 1e-6) and I in [0, 255],

        E(w) = sum delta psi(n |I2(x + w) - I1(x)|^2)
                 + gamma psi(n' |grad I2(x + w) - grad I1(x)|^2)
                 + alpha psi(|grad u|^2 + |grad v|^2)

    where n and n' divide each linearised constraint by its squared gradient. The
    gradient stays the same when the brightness changes.

    The flow is differentiable; each warp is computed again in the backward pass. A NaN
    pixel makes the flow NaN wherever the iterations carry it.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        alpha: Weight of the prior.
        delta: Weight of brightness constancy.
        gamma: Weight of gradient constancy.
        levels: Pyramid levels; those with a side under 16 pixels are left out.
        step: Size of a level over that of the next finer one.
        sigma: Gaussian blur of both frames beforehand, in pixels.
        warps: Linearisations a level.
        fixed_point_iterations: Updates of the robust weights a warp.
        sor_iterations: Red-black over-relaxations for each of these.
        omega: Factor of over-relaxation, in (0, 2).
        initial_flow: Flow to start from, (*B, H, W, 2), in pixels.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Raises:
        ValueError: If a number is out of range or the frames have neither 1 nor 3
            channels.

    Examples:
        >>> y, x = np.float32(np.mgrid[:16, :16])
        >>> one, two = (
        ...     jnp.asarray(0.5 + np.sin((x - dx) / 2) * np.cos(y / 2) / 2)[..., None]
        ...     for dx in (0, 1)
        ... )
        >>> flow = jax.jit(jaxflow.classical.brox.brox)(one, two)
        >>> flow.shape, round(float(jnp.median(flow[..., 0])), 1)
        ((16, 16, 2), 1.0)
    """
    _checks.counts(levels=levels, warps=warps)
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    one, two = coarse_to_fine.by_one_program(
        lambda frame: ops.gaussian_blur(255 * coarse_to_fine.luminance(frame), sigma),
        frame1,
        frame2,
    )
    refine = _refiner(
        alpha, delta, gamma, omega, fixed_point_iterations, sor_iterations
    )

    def solve(one, two, flow):
        return jax.lax.scan(
            lambda flow, _: (refine(one, two, flow), None), flow, length=warps
        )[0]

    blur = 0.6 * (1 / step**2 - 1) ** 0.5
    return coarse_to_fine.estimate(
        solve, one, two, levels=levels, step=step, sigma=blur, initial_flow=initial_flow
    )


def variational_refinement(
    frame1: jax.Array,
    frame2: jax.Array,
    flow: jax.Array,
    *,
    alpha: float = 20.0,
    delta: float = 5.0,
    gamma: float = 10.0,
    fixed_point_iterations: int = 5,
    sor_iterations: int = 5,
    omega: float = 1.6,
) -> jax.Array:
    """Improves a flow, of a network say, by descent on the energy of `brox`.

    The energy is linearised once, at full resolution, with the defaults of
    ``cv2.VariationalRefinement``. This sharpens a flow that is right to about a pixel;
    it cannot repair larger errors. Where a frame is flat the flow stays what it is.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        flow: Flow to improve, (*B, H, W, 2), in pixels.
        alpha: See `brox`.
        delta: See `brox`.
        gamma: See `brox`.
        fixed_point_iterations: See `brox`.
        sor_iterations: See `brox`.
        omega: See `brox`.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Raises:
        ValueError: As `brox`.

    Examples:
        >>> y, x = np.float32(np.mgrid[:16, :16])
        >>> one, two = (
        ...     jnp.asarray(0.5 + np.sin((x - dx) / 2) * np.cos(y / 2) / 2)[..., None]
        ...     for dx in (0, 1)
        ... )
        >>> near = jnp.zeros((16, 16, 2)).at[..., 0].set(0.8)
        >>> refine = lambda *given: jaxflow.classical.brox.variational_refinement(
        ...     *given, alpha=1.0
        ... )
        >>> flow = jax.jit(refine)(one, two, near)
        >>> round(float(jnp.median(flow[..., 0])), 1)
        1.0
    """
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    _shapes.check("flow", flow, (*frame1.shape[:-1], 2))
    refine = _refiner(
        alpha, delta, gamma, omega, fixed_point_iterations, sor_iterations
    )
    one, two = (255 * coarse_to_fine.luminance(frame) for frame in (frame1, frame2))
    flow = _mesh.alike(flow.astype(one.dtype), one, two)
    seen = coarse_to_fine.both_textured(one, two)
    return jnp.where(seen, refine(one, two, flow), flow)


def _refiner(alpha, delta, gamma, omega, fixed_point_iterations, sor_iterations):
    """Checks the numbers; returns a function (image1, image2, flow) -> flow."""
    _checks.counts(
        fixed_point_iterations=fixed_point_iterations, sor_iterations=sor_iterations
    )
    _checks.positive("alpha", alpha)
    if not 0 < omega < 2:
        raise ValueError(f"`omega` must be in (0, 2); got {omega}")

    @jax.checkpoint
    def refine(image1, image2, flow):
        terms = _linearise(image1, image2, flow)

        def update(increment, _):
            system = _system(terms, flow, increment, alpha, delta, gamma)
            relax = functools.partial(_relax, system, omega)
            return jax.lax.fori_loop(0, sor_iterations, relax, increment), None

        increment, _ = jax.lax.scan(
            update,
            _mesh.alike(jnp.zeros_like(flow), flow),
            length=fixed_point_iterations,
        )
        return flow + increment

    return refine


def _linearise(image1, image2, flow):
    """Lists (derivatives along x, along y, difference) of I, Ix and Iy at x + w."""
    warped = ops.backward_warp(image2, flow, padding="border")
    mean, difference = (image1 + warped) / 2, warped - image1
    ix, iy = ops.spatial_gradient(mean)
    ixx, ixy = ops.spatial_gradient(ix)
    iyy = ops.spatial_gradient(iy)[1]
    height, width = flow.shape[-3:-1]
    grid = ops.pixel_grid(height, width).astype(flow.dtype)
    points = flow + jax.lax.broadcast_to_rank(grid, flow.ndim)
    inside = ops.sampling_mask(points, (height, width), mask="inside")[..., None]
    dx, dy = ops.spatial_gradient(difference)
    return inside, ((ix, iy, difference), (ixx, ixy, dx), (ixy, iyy, dy))


def _system(terms, flow, increment, alpha, delta, gamma):
    """Assembles the linear system of one fixed-point iteration.

    Returns:
        The 2 x 2 data block (a11, a12, a22) and right side (b1, b2) of each pixel, each
        (*B, H, W, 1); and the prior's weights of the links to the right and below.
    """
    inside, constraints = terms
    du, dv = increment[..., :1], increment[..., 1:]
    normal = [1 / (x**2 + y**2 + ZETA**2) for x, y, _ in constraints]
    square = [
        n * (t + x * du + y * dv) ** 2
        for n, (x, y, t) in zip(normal, constraints, strict=True)
    ]
    brightness = delta / 2 / jnp.sqrt(square[0] + EPSILON**2)
    edges = gamma / 2 / jnp.sqrt(square[1] + square[2] + EPSILON**2)
    weights = [
        jnp.where(inside, n * w, 0)
        for n, w in zip(normal, (brightness, edges, edges), strict=True)
    ]
    triples = list(zip(weights, constraints, strict=True))
    a11 = sum(w * x * x for w, (x, y, t) in triples)
    a12 = sum(w * x * y for w, (x, y, t) in triples)
    a22 = sum(w * y * y for w, (x, y, t) in triples)
    b1 = -sum(w * x * t for w, (x, y, t) in triples)
    b2 = -sum(w * y * t for w, (x, y, t) in triples)

    ux, uy = ops.spatial_gradient(flow + increment, kernel="forward")
    steep = (ux**2 + uy**2).sum(-1, keepdims=True)
    prior = alpha / 2 / jnp.sqrt(steep + EPSILON**2)
    right = prior.at[..., -1, :].set(0)
    below = prior.at[..., -1, :, :].set(0)
    fx, fy = ops.spatial_gradient(flow, kernel="forward")
    pull = ops.divergence(right * fx, below * fy)
    return (a11, a12, a22, b1 + pull[..., :1], b2 + pull[..., 1:]), (right, below)


def _relax(system, omega, _, increment):
    """Over-relaxes the red pixels, then the black ones."""
    (a11, a12, a22, b1, b2), (right, below) = system
    left, above = _shift(right, -2), _shift(below, -3)
    total = right + below + left + above
    height, width = increment.shape[-3:-1]
    odd = (jnp.arange(height)[:, None] + jnp.arange(width)[None, :]) % 2 == 1
    du, dv = increment[..., :1], increment[..., 1:]
    for colour in (odd, ~odd):
        both = jnp.concatenate([du, dv], axis=-1)
        neighbours = (
            right * _shift(both, -2, back=True)
            + left * _shift(both, -2)
            + below * _shift(both, -3, back=True)
            + above * _shift(both, -3)
        )
        sum_u, sum_v = neighbours[..., :1], neighbours[..., 1:]
        new_u = (b1 + sum_u - a12 * dv) / (a11 + total)
        du = jnp.where(colour[..., None], du + omega * (new_u - du), du)
        new_v = (b2 + sum_v - a12 * du) / (a22 + total)
        dv = jnp.where(colour[..., None], dv + omega * (new_v - dv), dv)
    return jnp.concatenate([du, dv], axis=-1)


def _shift(x: jax.Array, axis: int, *, back: bool = False) -> jax.Array:
    """Moves an image by a pixel to larger (`back`: smaller) indices; 0 comes in."""
    extent = x.shape[axis]
    kept = jax.lax.slice_in_dim(x, int(back), extent - 1 + int(back), axis=axis)
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, 1) if back else (1, 0)
    return jnp.pad(kept, pads)
