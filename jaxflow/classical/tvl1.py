"""TV-L1 optical flow, by duality.

Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (2007);
Sánchez, Meinhardt-Llopis, Facciolo, "TV-L1 Optical Flow Estimation", IPOL (2013). The
arithmetic of an iteration is that of the IPOL code and of OpenCV's
``DualTVL1OpticalFlow``.

Flow is (u, v) in pixels, x to the right and y down, from frame 1 to frame 2.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine
from jaxflow.classical import median as median_

Interpolation = Literal["bicubic", "bilinear"]
Gradient = Literal["frame2", "warped"]
# Iterations between two looks at the stopping rule, where they divide a block.
CHECK_EVERY = 10
# u, v and their two dual fields (p_x, p_y), each (H, W).
State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of cv2.optflow.DualTVL1OpticalFlow_create are those of `tvl1`.
    "opencv": {},
    # 2.4 times the displacement, at a tenth more time; of small fast objects
    # that vanish behind others it makes more than the defaults do.
    "wide": dict(levels=9),
    # skimage.registration.optical_flow_tvl1.
    "skimage": dict(
        weight=15 / 255,
        levels=10,
        step=0.5,
        sigma=2 / 3,
        warps=5,
        outer_iterations=1,
        inner_iterations=10,
        dual_iterations=2,
        tolerance=0.0,
        median=1,
        interpolation="bilinear",
        gradient="warped",
    ),
}


def tvl1(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    tau: float = 0.25,
    weight: float | jax.Array = 0.15,
    theta: float | jax.Array = 0.3,
    levels: int = 5,
    step: float = 0.8,
    sigma: float = 0.0,
    warps: int = 5,
    outer_iterations: int = 10,
    inner_iterations: int = 30,
    dual_iterations: int = 1,
    tolerance: float = 0.01,
    median: int = 5,
    interpolation: Interpolation = "bicubic",
    gradient: Gradient = "frame2",
    initial_flow: jax.Array | None = None,
) -> jax.Array:
    """Estimates flow with a total-variation prior and an absolute-difference data term.

    The flow minimises, from coarse to fine and linearised again at every warp,

        E(u) = sum |grad u1| + |grad u2| + weight |I2(x + u) - I1(x)|,   I in [0, 255]

    The defaults are OpenCV's; ``tvl1(a, b, **PRESETS[name])`` gives the others. Two
    things differ from OpenCV: positions are not rounded to 1/32 pixel, and the stopping
    rule is looked at after every ten iterations, not after each one.

    Where a frame is flat, the flow stays 0, or stays what it started from; in flat
    parts of a frame the prior alone decides. A displacement longer than about four
    pixels of the coarsest level is not found. The defaults shrink the frames by 0.8^4
    only; the preset "wide" shrinks them by 0.8^8.

    The flow is differentiable in the frames, `initial_flow`, `weight` and `theta`; each
    block of inner iterations is computed again in the backward pass. A NaN pixel makes
    the whole flow NaN.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        tau: Step of the dual iteration; at most 1/4 is proven to converge.
        weight: Weight of the data term for images in [0, 255] (lambda in the papers).
            An array, () or (H, W), may be learned; its sign is not checked.
        theta: How tightly the two half-problems are coupled, in pixels^2; or an array.
        levels: Pyramid levels; those with a side under 16 pixels are left out.
        step: Size of a level over that of the next finer one.
        sigma: Gaussian blur before each shrinking, in pixels.
        warps: Linearisations a level.
        outer_iterations: Blocks of iterations a warp; a median filter opens each.
        inner_iterations: Iterations a block.
        dual_iterations: Updates of the dual field an iteration.
        tolerance: A warp's remaining iterations are skipped once the root mean square
            change of the flow in one iteration is no more than this, in pixels; 0 to
            run them all.
        median: Side of the median filter's window, in pixels; 1 for none.
        interpolation: How frames are warped.
        gradient: Whether to warp the gradient of frame 2 ("frame2") or to take the
            gradient of the warped frame ("warped", with frame 2's edge repeated
            outwards instead of the data term switched off beyond it).
        initial_flow: Flow to start from, (*B, H, W, 2), in pixels.

    Returns:
        Flow, (*B, H, W, 2), float32 (float64 for float64 frames).

    Raises:
        ValueError: If a choice is unknown, a number is out of range or the frames have
            neither 1 nor 3 channels.

    Examples:
        >>> y, x = np.float32(np.mgrid[:16, :16])
        >>> one, two = (
        ...     jnp.asarray(0.5 + np.sin((x - dx) / 2) * np.cos(y / 2) / 2)[..., None]
        ...     for dx in (0, 1)
        ... )
        >>> flow = jax.jit(jaxflow.classical.tvl1.tvl1)(one, two)
        >>> flow.shape, round(float(jnp.median(flow[..., 0])), 1)
        ((16, 16, 2), 1.0)
    """
    _checks.counts(
        levels=levels,
        warps=warps,
        outer_iterations=outer_iterations,
        inner_iterations=inner_iterations,
        dual_iterations=dual_iterations,
        median=median,
    )
    _checks.one_of("interpolation", interpolation, ("bicubic", "bilinear"))
    _checks.one_of("gradient", gradient, ("frame2", "warped"))
    _check_numbers(tau=tau, theta=theta, weight=weight)
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    solve = functools.partial(
        _solve_level,
        tau=tau,
        weight=weight,
        theta=theta,
        warps=warps,
        outer_iterations=outer_iterations,
        inner_iterations=inner_iterations,
        dual_iterations=dual_iterations,
        tolerance=tolerance,
        median=median,
        interpolation=interpolation,
        gradient=gradient,
    )
    estimate = functools.partial(
        coarse_to_fine.estimate, solve, levels=levels, step=step, sigma=sigma
    )
    one, two = _to_gray_levels(frame1), _to_gray_levels(frame2)
    if initial_flow is None:
        initial_flow = jnp.zeros((*one.shape[:-1], 2), one.dtype)
    _shapes.check("initial_flow", initial_flow, (*one.shape[:-1], 2))
    return _each_pair(estimate, one, two, initial_flow)


def _check_numbers(**numbers: float | jax.Array) -> None:
    """Raises unless numbers are positive; of arrays, which may be learned, the axes.

    Raises:
        ValueError: If one is not; it is named.
    """
    for name, value in numbers.items():
        if not isinstance(value, jax.Array):
            _checks.positive(name, value)
        elif value.ndim == 1:
            raise ValueError(
                f"`{name}` must be a number, or an array of (H, W); got {value.shape}"
            )


def _each_pair(
    estimate: Callable[..., jax.Array], one: jax.Array, two: jax.Array, flow: jax.Array
) -> jax.Array:
    """Estimates one pair after the other: each stops when it has converged."""
    if one.ndim == 3:
        return estimate(one, two, initial_flow=flow)
    pairs = (x.reshape(-1, *x.shape[-3:]) for x in (one, two, flow))
    flows = jax.lax.map(
        lambda pair: estimate(*pair[:2], initial_flow=pair[2]), tuple(pairs)
    )
    return flows.reshape(flow.shape)


def _to_gray_levels(frame: jax.Array) -> jax.Array:
    """Scales a frame to [0, 255]; a level of an 8-bit image becomes exactly itself."""
    levels = 255 * coarse_to_fine.luminance(frame)
    if levels.dtype == jnp.float64:
        return levels
    # Rounded, or the product is fused into a difference of frames as a multiply-add,
    # whose error of 1e-5 gray levels a small gradient magnifies.
    return jax.lax.reduce_precision(levels, exponent_bits=8, mantissa_bits=22)


def _solve_level(
    image1: jax.Array,
    image2: jax.Array,
    flow: jax.Array,
    *,
    warps: int,
    outer_iterations: int,
    inner_iterations: int,
    tolerance: float,
    median: int,
    interpolation: Interpolation,
    gradient: Gradient,
    **numbers: Any,
) -> jax.Array:
    """Refines the flow of one pyramid level, (H, W, 1) and (H, W, 2)."""

    chunk = math.gcd(inner_iterations, CHECK_EVERY) if tolerance else inner_iterations
    chunks = inner_iterations // chunk
    opens_block = jnp.tile(jnp.arange(chunks) == 0, outer_iterations)
    smooth = functools.partial(median_.median_filter, size=median)

    def iterate(terms, carry, opens):
        state, _ = carry
        flow = jnp.stack(state[:2])[..., None]
        if chunks == 1:
            flow = smooth(flow)
        elif median > 1:
            flow = jax.lax.cond(opens, smooth, lambda flow: flow, flow)
        state = (*flow[..., 0], *state[2:])
        once = functools.partial(_iterate, terms, **numbers)
        before = jax.lax.fori_loop(0, chunk - 1, lambda _, state: once(state), state)
        state = once(before)
        pairs = zip(state[:2], before[:2], strict=True)
        return state, sum(((a - b) ** 2).mean() for a, b in pairs)

    def warp(state, _):
        terms = _linearise(image1, image2, state[:2], interpolation, gradient)
        run = jax.checkpoint(functools.partial(iterate, terms))

        def step(carry, opens):
            if not tolerance:
                return run(carry, opens), None
            done = carry[1] <= tolerance**2
            stay = lambda carry, opens: carry  # noqa: E731
            return jax.lax.cond(done, stay, run, carry, opens), None

        carry = _mesh.alike((state, jnp.full((), jnp.inf, flow.dtype)))
        (state, _), _ = jax.lax.scan(step, carry, opens_block)
        return state, None

    zero = jnp.zeros(flow.shape[:-1], flow.dtype)
    state = (flow[..., 0], flow[..., 1], zero, zero, zero, zero)
    state = _mesh.alike(state, image1, image2, numbers)
    state, _ = jax.lax.scan(warp, state, length=warps)
    return jnp.stack(state[:2], axis=-1)


def _linearise(image1, image2, flow, interpolation, gradient):
    """Returns grad I2 at x + u, its square, and rho at zero flow; each (H, W)."""
    u, v = flow
    height, width = u.shape
    points = jnp.stack([u, v], -1) + ops.pixel_grid(height, width).astype(u.dtype)
    sample = ops.bicubic_sample if interpolation == "bicubic" else ops.bilinear_sample
    if gradient == "frame2":
        values = jnp.stack([image2[..., 0], *_central(image2[..., 0])], axis=-1)
        warped, ix, iy = jnp.moveaxis(sample(values, points, padding="zeros"), -1, 0)
    else:
        warped = sample(image2, points, padding="border")[..., 0]
        iy, ix = jnp.gradient(warped)
    return ix, iy, ix**2 + iy**2, warped - ix * u - iy * v - image1[..., 0]


def _central(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Halves the difference of the two neighbours; the edge repeats itself."""
    padded = jnp.pad(image, 1, mode="edge")
    return (
        (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2,
        (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2,
    )


def _iterate(terms, state: State, *, tau, weight, theta, dual_iterations) -> State:
    """Thresholds the data term, then takes the dual steps (IPOL, Eqs. 12-16)."""
    ix, iy, square, constant = terms
    u, v, *p = state
    rho = constant + ix * u + iy * v
    limit = weight * theta
    # Where the gradient vanishes the step times the gradient does too.
    d = jnp.clip(-rho / jnp.maximum(square, 1e-10), -limit, limit)
    u_data, v_data = u + d * ix, v + d * iy
    return _regularise((u_data, v_data), p, tau, theta, dual_iterations)


def _regularise(data, p, tau, theta, iterations) -> State:
    """Pulls both components towards small total variation (IPOL, Eqs. 14, 16).

    u = v + theta div p;  p = (p + tau/theta grad u) / (1 + tau/theta |grad u|)
    """
    ratio = tau / theta
    u, v = u_data, v_data = data
    pux, puy, pvx, pvy = p
    for _ in range(iterations):
        u = u_data + theta * _divergence(pux, puy)
        v = v_data + theta * _divergence(pvx, pvy)
        (ux, uy), (vx, vy) = _forward(u), _forward(v)
        # 1e-14 gives the root a slope at 0; it changes p by less than 1e-6.
        du = 1 + ratio * jnp.sqrt(ux**2 + uy**2 + 1e-14)
        dv = 1 + ratio * jnp.sqrt(vx**2 + vy**2 + 1e-14)
        pux, puy = (pux + ratio * ux) / du, (puy + ratio * uy) / du
        pvx, pvy = (pvx + ratio * vx) / dv, (pvy + ratio * vy) / dv
    return u, v, pux, puy, pvx, pvy


def _forward(u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Takes forward differences, 0 in the last column and row."""
    return (
        jnp.pad(u[:, 1:] - u[:, :-1], ((0, 0), (0, 1))),
        jnp.pad(u[1:] - u[:-1], ((0, 1), (0, 0))),
    )


def _divergence(px: jax.Array, py: jax.Array) -> jax.Array:
    """Applies the negative adjoint of `_forward` to fields that are 0 where it is."""
    left = jnp.pad(px[:, :-1], ((0, 0), (1, 0)))
    above = jnp.pad(py[:-1], ((1, 0), (0, 0)))
    return px - left + py - above
