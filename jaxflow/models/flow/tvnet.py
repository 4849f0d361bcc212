"""TVNet: TV-L1 optical flow unrolled into a network that learns without ground truth.

Fan, Huang, Gan, Ermon, Gong, Huang, "End-to-End Learning of Motion Representation for
Video Understanding" (CVPR 2018).

    TV-L1, Algorithm 1                 Model._scale
    kernels that learn, Sec. 3.2       Model.divergence, Model.gradient
    loss, Eq. 9                        Model.loss

Weights: none are published; new weights are the TV-L1 algorithm. "tvnet" is TVNet-50:
one scale, one warp, 50 iterations.

Deviations from https://github.com/LijieFan/tvnet: none in the result. Kept from the
code: grey levels are rounded down, so that no gradient reaches the images
(`Config.quantise`); the sampler moves by u (W - 1) / W instead of u, gives 0 left of
and above the image and extrapolates linearly to the right of and below it. Asked for
more scales than the size allows, the code stops with an error; here there are then
fewer scales.
"""

import dataclasses
import math
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import _mesh, ops, spec

_TINY = 1e-12
# Weights of blue, green and red.
_LUMA = (0.114, 0.587, 0.299)
_GAUSSIAN = np.array(
    [
        [0.000874, 0.006976, 0.01386, 0.006976, 0.000874],
        [0.006976, 0.0557, 0.110656, 0.0557, 0.006976],
        [0.01386, 0.110656, 0.219833, 0.110656, 0.01386],
        [0.006976, 0.0557, 0.110656, 0.0557, 0.006976],
        [0.000874, 0.006976, 0.01386, 0.006976, 0.000874],
    ],
    np.float32,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a TVNet.

    Attributes:
        scales: Levels of the pyramid, at most.
        warps: Warps at each scale.
        iterations: Iterations after each warp.
        tau: Step.
        lam: Weight of the data term.
        theta: Tightness.
        factor: Size of a level to that of the level below.
        initial_size: (height, width) of the coarsest level, for a flow to start from
            that learns; None starts from 0.
        quantise: Whether grey levels are rounded down, as in the authors' code; False
            lets gradients reach the images.
    """

    scales: int = 1
    warps: int = 1
    iterations: int = 50
    tau: float = 0.25
    lam: float = 0.15
    theta: float = 0.3
    factor: float = 0.5
    initial_size: tuple[int, int] | None = None
    quantise: bool = True

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """TVNet: two images to flow, with the full size as its only prediction.

    `divergence` and `gradient` are (scales, warps, iterations, component, axis, 2): the
    two taps of every difference of p and of the flow, for u and v, along x and y, the
    finest scale first. `smoothness` is that of the loss.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        del rngs  # Nothing is drawn: the algorithm is the initialisation.
        self.config = config
        self.frames = spec.Frames(multiple=1, minimum=(3, 3))
        steps = (config.scales, config.warps, config.iterations)
        difference = jnp.array([-1.0, 1.0], jnp.float32)
        kernels = jnp.broadcast_to(difference, (*steps, 2, 2, 2))
        self.divergence = nnx.Param(jnp.array(kernels))
        self.gradient = nnx.Param(jnp.array(kernels))
        self.smoothness = nnx.Param(jnp.array(jnp.broadcast_to(difference, (2, 2, 2))))
        self.initial = nnx.data(None)
        if config.initial_size is not None:
            self.initial = nnx.Param(jnp.zeros((*config.initial_size, 2), jnp.float32))

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`.

        Args:
            image1: (B, H, W, 3), RGB in [0, 1].
            image2: The second frame.

        Returns:
            Flow; its only prediction is that at full size.
        """
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        flow = self.flow(_bytes(image1), _bytes(image2)).astype(jnp.float32)
        return spec.Flow(flow, (flow,))

    def loss(self, image1: jax.Array, image2: jax.Array) -> jax.Array:
        """Returns how badly the flow explains the images: the loss to train with.

            lambda mean |image2 warped - image1| + mean (|u_x| + |u_y| + |v_x| + |v_y|)

        Args:
            image1: (B, H, W, 3), RGB in [0, 1]; grey levels from 0 to 255 are compared.
            image2: The second frame.

        Returns:
            A number, float32.
        """
        first, second = _bytes(image1), _bytes(image2)
        flow = self.flow(first, second)
        data = jnp.mean(jnp.abs(_warp(second, flow) - first))
        smooth = sum(
            jnp.abs(part)
            for component in range(2)
            for part in _forward(flow[..., component], self.smoothness[...][component])
        )
        return self.config.lam * data + jnp.mean(smooth)

    def flow(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Estimates flow between images of range [0, 255], (B, H, W, 3), BGR."""
        config = self.config
        height, width = first.shape[1:3]
        first, second = _prepare(first, second, config.quantise)
        deepest = 1 + math.log(math.hypot(height, width) / 4) / -math.log(config.factor)
        scales = max(1, min(config.scales, int(deepest)))
        flow = None
        for scale in reversed(range(scales)):
            size = tuple(
                int(side * config.factor**scale + 0.5) for side in (height, width)
            )
            if flow is None:
                flow = self._start(first.shape[0], size)
            else:
                flow = _zoom(flow, size) / config.factor
            flow = self._scale(
                scale,
                _zoom(first[..., None], size)[..., 0],
                _zoom(second[..., None], size)[..., 0],
                flow,
            )
        return cast(jax.Array, flow)

    def _start(self, batch: int, size: tuple[int, ...]) -> jax.Array:
        """Returns the flow to start from, (B, *size, 2)."""
        if self.initial is None:
            return jnp.zeros((batch, *size, 2), jnp.float32)
        if self.initial.shape[:2] != size:
            raise ValueError(
                f"`initial_size` is {self.initial.shape[:2]}, but the coarsest level "
                f"of these images is {size}"
            )
        return jnp.broadcast_to(self.initial[...], (batch, *size, 2))

    def _scale(self, scale, first, second, flow) -> jax.Array:
        """Refines flow at one scale; images are (B, H, W)."""
        config = self.config
        bound, rate = config.lam * config.theta, config.tau / config.theta
        layers = jnp.stack([second, *_central(second)], axis=-1)

        def warp(state, kernels):
            flow, dual = state
            moved, gx, gy = jnp.moveaxis(_warp(layers, flow), -1, 0)
            g = jnp.stack([gx, gy], axis=-1)
            square = gx**2 + gy**2 + _TINY
            constant = moved - gx * flow[..., 0] - gy * flow[..., 1] - first

            def iterate(state, kernels):
                flow, dual = state
                divergence, gradient = kernels
                rho = constant + gx * flow[..., 0] + gy * flow[..., 1] + _TINY
                middle = jnp.where(square > _TINY, -rho / square, 0.0)
                step = jnp.where(rho > bound * square, -bound, middle)
                step = jnp.where(rho < -bound * square, bound, step)
                spread = [_backward(dual[i], divergence[i]) for i in range(2)]
                flow = flow + step[..., None] * g
                flow = flow + config.theta * jnp.stack(spread, axis=-1)
                new = []
                for i in range(2):
                    slope = jnp.stack(_forward(flow[..., i], gradient[i]))
                    norm = jnp.sqrt(jnp.sum(slope**2, axis=0, keepdims=True) + _TINY)
                    new.append((dual[i] + rate * slope) / (1 + rate * norm))
                return (flow, jnp.stack(new)), None

            return lax.scan(jax.checkpoint(iterate), (flow, dual), kernels)

        kernels = (self.divergence[...][scale], self.gradient[...][scale])
        dual = jnp.zeros((2, 2, *first.shape), first.dtype)
        start = _mesh.alike((flow, dual), layers, first, kernels)
        (flow, _), _ = lax.scan(warp, start, kernels)
        return flow


def _bytes(image: jax.Array) -> jax.Array:
    """Brings RGB in [0, 1] to BGR in [0, 255], float32; 8-bit values come out whole."""
    image = 255 * image[..., ::-1].astype(jnp.float32)
    whole = jnp.round(image)
    return jnp.where(jnp.abs(image - whole) < 1e-3, whole, image)


def _prepare(first, second, quantise):
    """Turns images grey, stretches each pair to [0, 255], and blurs: (B, H, W)."""
    grey = [sum(w * x[..., i] for i, w in enumerate(_LUMA)) for x in (first, second)]
    if quantise:
        grey = [jnp.floor(x) for x in grey]
    both = jnp.stack(grey, axis=1)
    low = jnp.min(both, axis=(1, 2, 3), keepdims=True)
    span = jnp.max(both, axis=(1, 2, 3), keepdims=True) - low
    both = jnp.where(span > 0, 255 * (both - low) / jnp.where(span > 0, span, 1), both)
    blurred = ops.conv(
        both[..., None], jnp.asarray(_GAUSSIAN)[..., None, None], padding=2
    )
    return blurred[:, 0, ..., 0], blurred[:, 1, ..., 0]


def _central(x):
    """Differentiates (B, H, W) along x and y, one-sided at the border."""
    slopes = []
    for axis in (2, 1):
        size = x.shape[axis]
        half = 0.5 * jnp.diff(x, axis=axis)
        inner = 0.5 * (
            lax.slice_in_dim(x, 2, size, axis=axis)
            - lax.slice_in_dim(x, 0, size - 2, axis=axis)
        )
        first = lax.slice_in_dim(half, 0, 1, axis=axis)
        last = lax.slice_in_dim(half, size - 2, size - 1, axis=axis)
        slopes.append(jnp.concatenate([first, inner, last], axis=axis))
    return slopes


def _forward(x, taps):
    """Takes differences to the next pixel along x and y; 0 in the last."""
    return (
        _padded(taps[0, 0] * x[:, :, :-1] + taps[0, 1] * x[:, :, 1:], 2, 0, 1),
        _padded(taps[1, 0] * x[:, :-1] + taps[1, 1] * x[:, 1:], 1, 0, 1),
    )


def _backward(p, taps):
    """Sums differences of (2, B, H, W) to the pixel before, along x and y."""
    along_x = _padded(p[0][:, :, :-1], 2, 1, 1)
    along_y = _padded(p[1][:, :-1], 1, 1, 1)
    return (
        taps[0, 0] * along_x[:, :, :-1]
        + taps[0, 1] * along_x[:, :, 1:]
        + taps[1, 0] * along_y[:, :-1]
        + taps[1, 1] * along_y[:, 1:]
    )


def _padded(x, axis, before, after):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)


def _grid(size: int) -> np.ndarray:
    """Returns `size` places from -1 to 1, rounded as the authors' framework does."""
    step = np.float32(2) / np.float32(max(size - 1, 1))
    return np.arange(size, dtype=np.float32) * step - np.float32(1)


def _pixels(place: jax.Array, size: int) -> jax.Array:
    """Turns places from -1 to 1 into pixels.

    Where nothing moves, the rounding of this expression decides which neighbour a
    gradient comes from; hence the detour by -1 to 1.
    """
    return (place + 1) * (size - 1) / 2


def _zoom(x, size):
    """Resizes (B, H, W, C), corner to corner."""
    height, width = x.shape[1:3]
    shape = (x.shape[0], *size)
    columns = jnp.broadcast_to(_grid(size[1]), shape)
    rows = jnp.broadcast_to(_grid(size[0])[:, None], shape)
    return _sample(x, _pixels(columns, width), _pixels(rows, height))


def _warp(x, flow):
    """Samples (B, H, W, C) where `flow`, (B, H, W, 2), points."""
    height, width = x.shape[1:3]
    columns = flow[..., 0] / width * 2 + _grid(width)[None, None, :]
    rows = flow[..., 1] / height * 2 + _grid(height)[None, :, None]
    return _sample(x, _pixels(columns, width), _pixels(rows, height))


def _sample(image, x, y):
    """Interpolates as the authors' spatial transformer, its border included."""
    batch, height, width, channels = image.shape

    def corners(position, size):
        start = jnp.floor(lax.stop_gradient(position)).astype(jnp.int32)
        low = jnp.clip(start, 0, size - 2)
        high = jnp.clip(start + 1, 0, size - 1)
        return (
            (low, high.astype(position.dtype) - position),
            (high, position - low.astype(position.dtype)),
        )

    flat = image.reshape(batch, height * width, channels)
    total = 0.0
    for column, weight_x in corners(x, width):
        for row, weight_y in corners(y, height):
            index = (row * width + column).reshape(batch, -1, 1)
            values = jnp.take_along_axis(flat, index, axis=1, mode="clip")
            weight = (weight_x * weight_y)[..., None]
            total = total + weight * values.reshape(*x.shape, channels)
    return cast(jax.Array, total)


TINY = Config(scales=2, warps=2, iterations=2)

VARIANTS = {"tvnet": Config()}

WEIGHTS = {}

KEYS = {}
# Only the loss has it.
OPTIONAL = (r"smoothness",)

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
)
