"""Representation flow: TV-L1 optical flow of feature maps, as a layer that learns.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019),
Algorithm 1. The iterations are one `lax.scan` whose body is recomputed in the backward
pass; they run in float32 whatever the input. On a CPU few frames go through all of them
at a time, which then stay in its cache.
"""

import functools
import math
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxflow import _checks
from jaxflow.layers import conv, norm

Variant = Literal["paper", "hmdb_release", "kinetics_release"]
VARIANTS = ("paper", "hmdb_release", "kinetics_release")
Flag = Literal[0, 1]
Learn = tuple[Flag, Flag, Flag, Flag, Flag]
THETA, LAMBDA, TAU = 0.3, 0.15, 0.25
_TINY = 1e-12
# Numbers of a map that go through all iterations together on a CPU: its state and what
# the gradient needs of it, some 40 maps, then fit the cache of a core.
_CHUNK = 2**15


class Constant(nnx.Variable):
    """A number that checkpoints hold and training leaves alone."""


def tvl1(
    first: jax.Array,
    second: jax.Array,
    *,
    iterations: int = 10,
    theta: float | jax.Array = THETA,
    lam: float | jax.Array = LAMBDA,
    tau: float | jax.Array = TAU,
    border: Literal["first", "second"] = "first",
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
        for name, taps in _taps("hmdb_release").items()
    }
    return _iterate(
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


class FlowLayer(nnx.Module):
    """The iterations of `tvl1` with parameters that can learn.

    Three variants:

    - "paper": each channel by itself; 3 x 3 Sobel filters as gradient of the features
      (Eq. 8) and of the flow (Eq. 10), border replicated.
    - "hmdb_release" (the authors' code of February 2019, for HMDB): each channel by
      itself; central differences for the features, forward differences for the flow.
    - "kinetics_release" (June 2019, for Kinetics): every filter mixes all channels, and
      the four filters of the flow and its divergence are all vertical.

    Args:
        features: Channels C of the two inputs.
        iterations: Number of iterations.
        learn: Whether each of these learns: gradient of the features; gradient of the
            flow and divergence; theta; lambda; tau. The others are `Constant`.
        variant: One of the three.
        border: Whose differences stand at the border, for the releases.

    Raises:
        ValueError: If there is no such variant.
    """

    torch_names: ClassVar = {
        "img_grad": ("image_x", (2, 3, 1, 0)),
        "img_grad2": ("image_y", (2, 3, 1, 0)),
        "f_grad": ("flow_x", (2, 3, 1, 0)),
        "f_grad2": ("flow_y", (2, 3, 1, 0)),
        "div": ("div_x", (2, 3, 1, 0)),
        "div2": ("div_y", (2, 3, 1, 0)),
        "t": ("theta", None),
        "l": ("lam", None),
        "a": ("tau", None),
    }
    theta: nnx.Variable
    lam: nnx.Variable
    tau: nnx.Variable

    def __init__(
        self,
        features: int,
        *,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Variant = "paper",
        border: Literal["first", "second"] = "first",
    ):
        _checks.one_of("variant", variant, VARIANTS)
        _checks.one_of("border", border, ("first", "second"))
        self.iterations = iterations
        self.variant: Variant = variant
        self.border = border
        mixed = features if variant == "kinetics_release" else 1
        image, flow, *numbers = (nnx.Param if flag else Constant for flag in learn)
        for name, taps in _taps(variant).items():
            kind = image if name.startswith("image") else flow
            shape = (*taps.shape, mixed, features)
            kernel = jnp.broadcast_to(taps[..., None, None], shape)
            setattr(self, name, kind(jnp.array(kernel, jnp.float32)))
        values = {"theta": THETA, "lam": LAMBDA, "tau": TAU}
        for (name, value), kind in zip(values.items(), numbers, strict=True):
            setattr(self, name, kind(jnp.array([value], jnp.float32)))

    def __call__(
        self, first: jax.Array, second: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns u and v from `first` to `second`, each (..., H, W, C)."""
        kernels = {name: getattr(self, name)[...] for name in _taps(self.variant)}
        return _iterate(
            first,
            second,
            kernels,
            self.theta[...],
            self.lam[...],
            self.tau[...],
            self.iterations,
            self.variant,
            self.border,
        )


def parameter_labels(parameters: nnx.State | dict) -> nnx.State | dict:
    """Labels what flow layers learn, for `optax.partition`.

    Its learning rate is a hundredth of that of all else in the paper (Sec. 4).

    Args:
        parameters: Parameters of any model.

    Returns:
        The same tree with "flow" and "other" in place of arrays.
    """
    names = {leaf for leaf, _ in FlowLayer.torch_names.values()}

    def label(path, _):
        keys = {getattr(part, "key", getattr(part, "name", None)) for part in path}
        return "flow" if keys & names else "other"

    return jax.tree_util.tree_map_with_path(label, parameters)


class RepresentationFlow(nnx.Module):
    """Replaces features by their flow: (B, T, H, W, C) -> (B, T - 1, H, W, C).

    A 1 x 1 convolution to `inner_features`, normalisation, flow between consecutive
    frames, and a convolution of (u, v) back to C channels:

    - "paper": 3 x 3 (Appendix A).
    - "hmdb_release": the same.
    - "kinetics_release": 1 x 1, batch normalisation, plus the features of the first of
      each two frames, ReLU.

    Args:
        features: Channels C.
        inner_features: Channels that flow is computed of.
        iterations: Number of iterations.
        learn: See `FlowLayer`.
        variant: See `FlowLayer`.
        normalise_over: See `stretch`.
        out_features: Channels of the output, if not C.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        inner_features: int = 32,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Variant = "paper",
        normalise_over: Literal["tensor", "sample"] = "tensor",
        out_features: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.normalise_over: Literal["tensor", "sample"] = normalise_over
        self.released = variant == "kinetics_release"
        self.reduce = conv.Conv3d(
            features, inner_features, 1, use_bias=False, rngs=rngs
        )
        self.flow = FlowLayer(
            inner_features, iterations=iterations, learn=learn, variant=variant
        )
        out_features = features if out_features is None else out_features
        window = 1 if self.released else (1, 3, 3)
        self.expand = conv.Conv3d(
            2 * inner_features, out_features, window, use_bias=False, rngs=rngs
        )
        self.norm = norm.BatchNorm(features) if self.released else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C) with T > 1."""
        y = self.expand(self.flows(x))
        if self.norm is None:
            return y
        return jax.nn.relu(x[:, :-1] + self.norm(y))

    def flows(self, x: jax.Array) -> jax.Array:
        """Returns (u, v) of the reduced features, (B, T - 1, H, W, 2 inner)."""
        if x.shape[1] < 2:
            raise ValueError(
                f"flow needs at least 2 frames; this layer got {x.shape[1]}: "
                "feed a longer clip"
            )
        reduced = stretch(self.reduce(x), over=self.normalise_over, sign=-1)
        u, v = self.flow(reduced[:, :-1], reduced[:, 1:])
        return jnp.concatenate([u, v], axis=-1).astype(x.dtype)


class FlowConvFlow(nnx.Module):
    """Flow of the flow: motion that changes, such as acceleration (Sec. 3.3).

    `RepresentationFlow` twice, the first without going back to C channels. With a
    convolution between them ("flow-conv-flow") the second sees features of the first
    flow; without ("flow-of-flow"), the first flow itself.

    Args:
        features: Channels C.
        inner_features: Channels that flow is computed of.
        iterations: Number of iterations.
        learn: See `FlowLayer`.
        variant: "paper", or "hmdb_release": then the result is batch-normalised from
            scale 0, and the mean of each three frames of the input is added, ReLU.
        normalise_over: See `stretch`.
        convolve: Whether there is a convolution between the two.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        inner_features: int = 32,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Literal["paper", "hmdb_release"] = "paper",
        normalise_over: Literal["tensor", "sample"] = "tensor",
        convolve: bool = True,
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("variant", variant, ("paper", "hmdb_release"))
        self.convolve = convolve
        make = functools.partial(
            RepresentationFlow,
            inner_features=inner_features,
            iterations=iterations,
            learn=learn,
            variant=variant,
            normalise_over=normalise_over,
            rngs=rngs,
        )
        self.first = make(features, out_features=2 * inner_features)
        if not convolve:
            self.first.expand = nnx.data(None)  # pyright: ignore[reportAttributeAccessIssue] - only `flows` is called
        self.second = make(2 * inner_features, out_features=features)
        released = variant == "hmdb_release"
        self.norm = norm.BatchNorm(features) if released else nnx.data(None)
        if self.norm is not None and zero_init:
            self.norm.scale[...] = conv.zeros(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C) with T > 2, to (B, T - 2, H, W, C)."""
        y = self.first(x) if self.convolve else self.first.flows(x)
        y = self.second(y)
        if self.norm is None:
            return y
        mean = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
        return jax.nn.relu(mean + self.norm(y))


def _taps(variant: Variant) -> dict[str, jax.Array]:
    """Returns the initial filters, each (height, width)."""
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


def _iterate(first, second, kernels, theta, lam, tau, iterations, variant, border):
    """Runs Algorithm 1 with the given filters."""
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

    def body(state, _):
        (u, v), dual = state
        rho = constant + gx * u + gy * v + _TINY
        # A step along g: how far, in units of g.
        middle = jnp.where(square > _TINY, -rho / square, 0.0)
        step = jnp.where(rho > bound * square, -bound, middle)
        step = jnp.where(rho < -bound * square, bound, step)
        flow = tuple(
            component + step * g + theta * _divergence(px, py, kernels, variant)
            for component, g, (px, py) in zip((u, v), (gx, gy), dual, strict=True)
        )
        new = []
        for component, (px, py) in zip(flow, dual, strict=True):
            dx, dy = _flow_gradient(component, kernels, variant)
            scale = 1 + rate * jnp.sqrt(dx**2 + dy**2 + _TINY)
            new.append(((px + rate * dx) / scale, (py + rate * dy) / scale))
        return (flow, tuple(new)), None

    zero = jnp.zeros_like(first)
    state = ((zero, zero), ((zero, zero), (zero, zero)))
    (flow, _), _ = lax.scan(jax.checkpoint(body), state, length=iterations)
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
        _padded(_along(u, kernels[name], axis), axis, 0, 1)
        for name, axis in (("flow_x", axis_x), ("flow_y", -3))
    )


def _divergence(px, py, kernels, variant):
    """Sums backward differences; beyond the border, and in the last row, p is 0."""
    axis_x = -3 if variant == "kinetics_release" else -2
    return sum(
        _along(
            _padded(_cut(p, axis, 0, p.shape[axis] - 1), axis, 1, 1),
            kernels[name],
            axis,
        )
        for p, name, axis in ((px, "div_x", axis_x), (py, "div_y", -3))
    )


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
