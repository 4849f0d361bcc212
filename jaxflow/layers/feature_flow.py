"""TV-L1 optical flow of feature maps: the iterations of representation flow.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019),
Algorithm 1. The iterations are one `lax.scan` whose body is recomputed in the backward
pass; they run in float32 whatever the input. On a CPU few frames go through all of them
at a time, which then stay in its cache.
"""

import functools
import math
from collections.abc import Mapping
from typing import Literal, cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _mesh
from jaxflow.ops import bilinear

Variant = Literal["paper", "hmdb_release", "kinetics_release"]
VARIANTS = ("paper", "hmdb_release", "kinetics_release")
Border = Literal["first", "second"]
THETA, LAMBDA, TAU = 0.3, 0.15, 0.25
_TINY = 1e-12
# Numbers of a map that go through all iterations together on a CPU: its state and what
# the gradient needs of it, some 40 maps, then fit the cache of a core.
_CHUNK = 2**15


def tvl1(
    first: jax.Array,
    second: jax.Array,
    *,
    iterations: int = 10,
    theta: float | jax.Array = THETA,
    lam: float | jax.Array = LAMBDA,
    tau: float | jax.Array = TAU,
    border: Border = "first",
) -> tuple[jax.Array, jax.Array]:
    """Estimates the flow of every channel by TV-L1 iterations at one scale.

    With g the gradient of `second`, rho = second - first + g . u, and u = p = 0 at the
    start:

        v = u + theta lambda g                   where rho < -theta lambda |g|^2
            u - theta lambda g                   where rho >  theta lambda |g|^2
            u - rho g / |g|^2                    elsewhere
        u = v + theta div p
        p = (p + tau / theta grad u) / (1 + tau / theta |grad u|)

    Args:
        first: Features of the first frame, (..., H, W, C), in the range of 8-bit
            images.
        second: Features of the second frame.
        iterations: Number of iterations.
        theta: Tightness.
        lam: Weight of the data term.
        tau: Step.
        border: Whose differences are g in the outermost rows and columns. The authors'
            code takes those of `first`.

    Returns:
        u along x and v along y, in pixels, each shaped as `first`. What decides between
        the three cases has no gradient.
    """
    features = first.shape[-1]
    kernels = {
        name: jnp.broadcast_to(taps[..., None, None], (*taps.shape, 1, features))
        for name, taps in initial_filters("hmdb_release").items()
    }
    return iterate(
        first, second, kernels, theta, lam, tau, iterations, "hmdb_release", border
    )


def stretch(
    x: jax.Array,
    *,
    over: Literal["tensor", "sample"] = "tensor",
    sign: Literal[1, -1] = 1,
) -> jax.Array:
    """Stretches features linearly to [0, 255], or to [-255, 0].

    Args:
        x: Features, (B, ...).
        over: Whether least and greatest are those of the whole batch, as in the
            authors' code, or of each example, which then do not depend on each other.
        sign: -1 gives the authors' code's [-255, 0]; flow is the same.

    Returns:
        The stretched features; 0 where all are equal.

    Raises:
        ValueError: If `over` is unknown.
    """
    _checks.one_of("over", over, ("tensor", "sample"))
    axes = None if over == "tensor" else tuple(range(1, x.ndim))
    x = x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
    low = jnp.min(x, axis=axes, keepdims=True)
    high = jnp.max(x, axis=axes, keepdims=True)
    span = high - low
    return sign * 255 * (x - low) / jnp.where(span > 0, span, 1)


def initial_filters(variant: Variant) -> dict[str, jax.Array]:
    """Returns the filters that differentiate before any has learnt.

    Args:
        variant: One of `VARIANTS`.

    Returns:
        Of images, flow and its dual field, along x and along y, by name: each
        (height, width).
    """
    two = jnp.array([[-1.0, 1.0]], jnp.float32)
    if variant == "paper":
        sobel = jnp.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], jnp.float32)
        image_x = flow_x = sobel
    else:
        image_x, flow_x = jnp.array([[-0.5, 0.0, 0.5]], jnp.float32), two
    taps = {"image_x": image_x, "image_y": image_x.T}
    if variant == "kinetics_release":
        return taps | dict.fromkeys(("flow_x", "flow_y", "div_x", "div_y"), two.T)
    return taps | {"flow_x": flow_x, "flow_y": flow_x.T, "div_x": two, "div_y": two.T}


def iterate(
    first: jax.Array,
    second: jax.Array,
    kernels: Mapping[str, jax.Array],
    theta: float | jax.Array,
    lam: float | jax.Array,
    tau: float | jax.Array,
    iterations: int,
    variant: Variant,
    border: Border,
) -> tuple[jax.Array, jax.Array]:
    """Runs Algorithm 1 with the given filters; see `tvl1`.

    Args:
        first: Features of the first frame, (..., H, W, C).
        second: Of the second frame.
        kernels: Filters by name, (height, width, C or 1, C), as `initial_filters`.
        theta: Tightness.
        lam: Weight of the data term.
        tau: Step.
        iterations: Number of iterations.
        variant: One of `VARIANTS`.
        border: Whose differences count in the outermost rows and columns.
    """
    dtype, shape = first.dtype, first.shape
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    first, second = (x.astype(wide).reshape(-1, *shape[-3:]) for x in (first, second))
    run = functools.partial(
        _iterate_frames, iterations=iterations, variant=variant, border=border
    )

    def in_turn(first, second, *learnt):
        count, *size = first.shape
        chunk = _chunk(count, math.prod(size))
        frames = (x.reshape(-1, chunk, *size) for x in (first, second))
        flows = lax.map(jax.checkpoint(lambda x: run(*x, *learnt)), tuple(frames))
        return tuple(flow.reshape(first.shape) for flow in flows)

    flow = lax.platform_dependent(
        first, second, kernels, theta, lam, tau, cpu=in_turn, default=run
    )
    u, v = (component.reshape(shape).astype(dtype) for component in flow)
    return u, v


def _chunk(count: int, size: int) -> int:
    """Returns how many of `count` maps to take at once: a divisor."""
    fitting = range(1, max(1, min(count, _CHUNK // max(1, size))) + 1)
    return max(chunk for chunk in fitting if count % chunk == 0)


def _iterate_frames(
    first, second, kernels, theta, lam, tau, *, iterations, variant, border
):
    """Runs Algorithm 1 on (N, H, W, C) frames."""
    gx, gy = _image_gradient(first, second, kernels, variant, border)
    square = gx**2 + gy**2 + _TINY
    constant = second - first
    theta, lam, tau = (lax.broadcast_to_rank(x, first.ndim) for x in (theta, lam, tau))
    bound, rate = lam * theta, tau / theta

    def follow(flow, divergence):
        """Moves the flow towards what the data say, and by the divergence."""
        u, v = flow
        rho = constant + gx * u + gy * v + _TINY
        # A step along g: how far, in units of g.
        middle = jnp.where(square > _TINY, -rho / square, 0.0)
        step = jnp.where(rho > bound * square, -bound, middle)
        step = jnp.where(rho < -bound * square, bound, step)
        return tuple(
            component + step * g + theta * spread
            for component, g, spread in zip(flow, (gx, gy), divergence, strict=True)
        )

    def body(state, _):
        flow, dual = state
        new = []
        for component, (px, py) in zip(flow, dual, strict=True):
            dx, dy = _flow_gradient(component, kernels, variant)
            scale = 1 + rate * jnp.sqrt(dx**2 + dy**2 + _TINY)
            new.append(((px + rate * dx) / scale, (py + rate * dy) / scale))
        divergence = [_divergence(px, py, kernels, variant) for px, py in new]
        return (follow(flow, divergence), tuple(new)), None

    zero = jnp.zeros_like(first)
    if not iterations:
        return zero, zero
    # p is not needed after the last iteration, and is 0 in the first. A gradient finds
    # the flow that differences are taken of among what the scan keeps.
    state = (follow((zero, zero), (zero, zero)), ((zero, zero), (zero, zero)))
    state = _mesh.alike(state, kernels)
    (flow, _), _ = lax.scan(jax.checkpoint(body), state, length=iterations - 1)
    return flow


def _image_gradient(first, second, kernels, variant, border):
    """Differentiates `second`; in the releases the border has one-sided differences."""
    if variant == "paper":
        return _window(second, kernels["image_x"]), _window(second, kernels["image_y"])
    outer = first if border == "first" else second
    gradients = []
    for name, axis in (("image_x", -2), ("image_y", -3)):
        size = second.shape[axis]
        if size < 2:
            gradients.append(jnp.zeros_like(second))
            continue
        one_sided = 0.5 * jnp.diff(outer, axis=axis)
        parts = [_cut(one_sided, axis, 0, 1), _cut(one_sided, axis, size - 2, size - 1)]
        if size > 2:
            parts.insert(1, _along(second, kernels[name], axis))
        gradients.append(jnp.concatenate(parts, axis=axis))
    return tuple(gradients)


def _flow_gradient(u, kernels, variant):
    """Differentiates a component of flow along x and y."""
    if variant == "paper":
        return _window(u, kernels["flow_x"]), _window(u, kernels["flow_y"])
    axis_x = -3 if variant == "kinetics_release" else -2
    return tuple(
        _differences(_FORWARD, u, kernels[name], axis)
        for name, axis in (("flow_x", axis_x), ("flow_y", -3))
    )


def _divergence(px, py, kernels, variant):
    """Sums backward differences; beyond the border, and in the last row, p is 0."""
    axis_x = -3 if variant == "kinetics_release" else -2
    return _differences(_BACKWARD, px, kernels["div_x"], axis_x) + _differences(
        _BACKWARD, py, kernels["div_y"], -3
    )


def _differences(pair, x, kernel, axis):
    """Differentiates along one axis, channel by channel or mixing all."""
    form, single = pair
    if kernel.shape[2] == 1:
        return single.out(x, kernel, axis)
    return form(x, kernel, None, axis)


def _forward(x, kernel, like, axis):
    """Takes differences with what follows; 0 in the last row."""
    del like
    return _padded(_along(x, kernel, axis), axis, 0, 1)


def _backward(x, kernel, like, axis):
    """Takes differences with what is before; the last row of `x` counts as 0."""
    del like
    inner = _cut(x, axis, 0, x.shape[axis] - 1)
    return _along(_padded(inner, axis, 1, 1), kernel, axis)


def _transposed(form):
    """Each of the two, channel by channel, is the other's transpose, taps reversed."""
    return lambda c, kernel, like, axis: form(c, kernel[::-1, ::-1], like, axis)


def _single(name, form, other):
    forms = bilinear.Forms(form, _transposed(other), bilinear.in_second(form))
    return bilinear.bilinear(name, forms, forms, examples=(True, False, True))


# Their gradients are sums of one padded array, not of one for each tap.
_FORWARD = (_forward, _single("forward_differences", _forward, _backward))
_BACKWARD = (_backward, _single("backward_differences", _backward, _forward))


def _along(x, kernel, axis):
    """Correlates along one axis, without a margin; channel by channel, or mixing all.

    Shifted products: a convolution inside `lax.scan` has a very slow gradient on CPUs.
    """
    taps = kernel.shape[0] * kernel.shape[1]
    length = x.shape[axis] - taps + 1
    shifted = [_cut(x, axis, tap, tap + length) for tap in range(taps)]
    weights = kernel.reshape(taps, *kernel.shape[2:]).astype(x.dtype)
    if kernel.shape[2] == 1:
        products = (
            p * row[None, None] for p, row in zip(shifted, weights, strict=True)
        )
        return cast(jax.Array, sum(products))
    return jnp.concatenate(shifted, axis=-1) @ weights.reshape(-1, x.shape[-1])


def _window(x, kernel):
    """Correlates each channel with a 3 x 3 filter; the border is replicated."""
    height, width = x.shape[-3:-1]
    margin = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    x = jnp.pad(x, margin, mode="edge")
    return sum(
        x[..., i : i + height, j : j + width, :]
        * kernel[i, j, None, None].astype(x.dtype)
        for i in range(3)
        for j in range(3)
    )


def _cut(x, axis, start, stop):
    return lax.slice_in_dim(x, start, stop, axis=axis % x.ndim)


def _padded(x, axis, before, after):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)
