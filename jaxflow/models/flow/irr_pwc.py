"""IRR-PWC: one decoder for all levels, flow and occlusion in both directions.

Hur and Roth, "Iterative Residual Refinement for Joint Optical Flow and Occlusion
Estimation" (CVPR 2019).

    weight sharing over levels, Sec. 3.2   Model._estimate_level
    occlusion decoder, Sec. 3.3            DenseEstimator with one output
    bilateral refinement, Sec. 3.4         Refine
    occlusion up-sampling, Fig. 6          OcclusionUpsampler

Weights: visinf/irr (Apache-2.0).

Deviations. The official evaluation code rescales flow in place, so that the refinement
is given flow in the "global" unit (full-size pixels / 20) and its result is scaled once
more; the released weights were trained that way and this file does the same, without
mutation. A warped sample is dropped where less than 0.9999 of it lies inside the frame;
the official test, "less than exactly 1", depends on how float32 rounds.
"""

import dataclasses
import itertools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, flownet

DIV_FLOW = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an IRR-PWC.

    Attributes:
        pyramid: Channels of the feature pyramid, from 1/2 to 1/64 of the size.
        reduced: Channels that each level's features are brought to.
        estimator: Channels of the densely connected decoders.
        context: (channels, dilation) of the context networks.
        refinement: Channels of the refinement networks, before their nine weights.
        radius: Half the side of the correlation window, in pixels of a level.
    """

    pyramid: tuple[int, ...] = (16, 32, 64, 96, 128, 196)
    reduced: int = 32
    estimator: tuple[int, ...] = (128, 128, 96, 64, 32)
    context: tuple[tuple[int, int], ...] = (
        (128, 1),
        (128, 2),
        (128, 4),
        (96, 8),
        (64, 16),
        (32, 1),
    )
    refinement: tuple[int, ...] = (128, 128, 64, 64, 32, 32)
    radius: int = 4

    def __post_init__(self):
        spec.check_config(self)


class Estimates(NamedTuple):
    """What the network says about one direction.

    Attributes:
        flows: Flow of each level, coarse to fine, (B, h, w, 2), in full-size pixels
            divided by 20.
        contexts: Flow before refinement of the five coarser levels, alike.
        occlusions: Logits of occlusion of each level, (B, h, w, 1); positive is hidden.
        occlusion_contexts: Logits before refinement of the five coarser levels.
    """

    flows: list
    contexts: list
    occlusions: list
    occlusion_contexts: list


class DenseEstimator(nnx.Module):
    """Five densely connected convolutions and a prediction."""

    def __init__(self, features: int, out: int, widths, *, rngs: nnx.Rngs):
        layers = []
        for width in widths:
            layers.append(conv.Conv(features, width, rngs=rngs))
            features += width
        self.layers = nnx.data(layers)
        self.last = conv.Conv(features, out, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns all features, newest first, and the prediction."""
        for layer in self.layers:
            x = jnp.concatenate([flownet.leaky_relu(layer(x)), x], axis=-1)
        return x, self.last(x.astype(jnp.float32))


class Context(nnx.Module):
    """Dilated convolutions and a prediction."""

    def __init__(self, features: int, out: int, widths, *, rngs: nnx.Rngs):
        layers = []
        for width, dilation in widths:
            layers.append(conv.Conv(features, width, dilation=dilation, rngs=rngs))
            features = width
        self.layers = nnx.data([*layers, conv.Conv(features, out, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, features) to (B, h, w, out)."""
        *inner, last = self.layers
        for layer in inner:
            x = flownet.leaky_relu(layer(x))
        return last(x.astype(jnp.float32))


class Refine(nnx.Module):
    """Averages a field over 3x3 windows, with weights learned per pixel.

    field'(x) = sum_i softmax_i(-f_i^2) field(x_i)
    """

    def __init__(self, features: int, widths, *, rngs: nnx.Rngs):
        layers = []
        for width in (*widths, 9):
            layers.append(conv.Conv(features, width, rngs=rngs))
            features = width
        self.layers = nnx.data(layers)

    def __call__(self, field: jax.Array, x: jax.Array) -> jax.Array:
        """Smooths `field`, (B, h, w, C), as `x`, (B, h, w, features), says."""
        for layer in self.layers:
            x = flownet.leaky_relu(layer(x))
        weights = jax.nn.softmax(-jnp.square(x.astype(jnp.float32)), axis=-1)
        windows = ops.extract_windows(field, 3, padding="border")
        summed = jnp.sum(weights[..., None] * windows.astype(jnp.float32), axis=-2)
        return summed.astype(field.dtype)


class OcclusionUpsampler(nnx.Module):
    """Doubles the size of an occlusion map, with a residual network (Fig. 6)."""

    def __init__(self, features: int, width: int, *, rngs: nnx.Rngs):
        self.init_conv = conv.Conv(features, width, rngs=rngs)
        self.res_conv1 = conv.Conv(width, width, rngs=rngs)
        self.res_conv2 = conv.Conv(width, width, rngs=rngs)
        self.res_end_conv = conv.Conv(width, width, rngs=rngs)
        self.out_conv = conv.Conv(width, 1, rngs=rngs)

    def __call__(self, occlusion: jax.Array, x: jax.Array) -> jax.Array:
        """Maps (B, h / 2, w / 2, 1) and (B, h, w, features - 1) to (B, h, w, 1)."""
        height, width = occlusion.shape[-3:-1]
        occlusion = ops.resize(occlusion, (2 * height, 2 * width), method="nearest")
        if occlusion.shape[-3:-1] != x.shape[-3:-1]:
            occlusion = ops.resize(occlusion, x.shape[-3:-1])
        start = x = flownet.leaky_relu(self.init_conv(_joined(x.dtype, occlusion, x)))
        for _ in range(3):
            x = x + 0.1 * self.res_conv2(flownet.leaky_relu(self.res_conv1(x)))
        x = start + flownet.leaky_relu(self.res_end_conv(x))
        return occlusion + flownet.leaky_relu(self.out_conv(x.astype(jnp.float32)))


class Model(nnx.Module):
    """IRR-PWC.

    It predicts flow at seven levels, up to full size, and at the five coarser ones
    before refinement and after it: the refinement passes no gradient on, so that the
    estimators learn from what they say before. `both_directions` gives the occlusion
    of all levels and the other direction, which the network is trained by too.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(
            multiple=1, fit="resize", flow_method="align_corners", minimum=(64, 64)
        )
        before, downs, convs = 3, [], []
        for width in config.pyramid:
            downs.append(conv.Conv(before, width, strides=2, rngs=rngs))
            convs.append(conv.Conv(width, width, rngs=rngs))
            before = width
        self.downs, self.convs = nnx.data(downs), nnx.data(convs)
        reduced = config.reduced
        self.reduce = nnx.data(
            [conv.Conv(w, reduced, 1, rngs=rngs) for w in config.pyramid[:1:-1]]
        )
        self.reduce_half = conv.Conv(config.pyramid[0], 3, 1, rngs=rngs)
        features = (2 * config.radius + 1) ** 2 + reduced
        dense = sum(config.estimator)
        for name, out in (("flow", 2), ("occ", 1)):
            estimator = DenseEstimator(features + out, out, config.estimator, rngs=rngs)
            context = Context(
                features + dense + 2 * out, out, config.context, rngs=rngs
            )
            setattr(self, f"{name}_estimator", estimator)
            setattr(self, f"{name}_context", context)
        self.refine_flow = Refine(reduced + 3, config.refinement, rngs=rngs)
        self.refine_occ = Refine(2 * reduced + 1, config.refinement, rngs=rngs)
        self.occ_upsampler = OcclusionUpsampler(11, reduced, rngs=rngs)

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        forward, _ = self.both_directions(image1, image2)
        height, width = image1.shape[-3:-1]
        flows = [*itertools.chain(*zip(forward.contexts, forward.flows, strict=False))]
        flows += forward.flows[len(forward.contexts) :]
        return spec.Flow(
            _resize(forward.flows[-1].astype(jnp.float32), image1) / DIV_FLOW,
            flownet.in_own_pixels(flows, height, width),
            occlusion=nnx.sigmoid(forward.occlusions[-1][..., 0].astype(jnp.float32)),
        )

    def both_directions(
        self, image1: jax.Array, image2: jax.Array
    ) -> tuple[Estimates, Estimates]:
        """Estimates flow and occlusion from each frame to the other.

        Args:
            image1: Frame 1, (B, H, W, 3) in [0, 1].
            image2: Frame 2, alike.

        Returns:
            Estimates of frame 1 to 2 and of frame 2 to 1, at seven levels: 1/64 to
            full size.
        """
        # Both directions are one batch: [1 -> 2, 2 -> 1] of features [1, 2], [2, 1].
        first = jnp.concatenate([image1, image2]).astype(jnp.float32)
        pyramid = self._pyramid(first)
        estimates = Estimates([], [], [], [])
        shape = (*pyramid[0].shape[:-1], 1)
        occlusion = jnp.zeros(shape, first.dtype)
        flow = jnp.concatenate([occlusion, occlusion], axis=-1)
        for level, x in enumerate(pyramid):
            if level < len(pyramid) - 2:
                flow, occlusion = self._estimate_level(
                    level, x, first, flow, occlusion, estimates
                )
            else:
                flow, occlusion = self._upsample_level(
                    level, x, first, flow, occlusion, last=level == len(pyramid) - 1
                )
            estimates.flows.append(flow)
            estimates.occlusions.append(occlusion)
        batch = image1.shape[0]
        forward = Estimates(*([x[:batch] for x in part] for part in estimates))
        backward = Estimates(*([x[batch:] for x in part] for part in estimates))
        return forward, backward

    def _pyramid(self, image: jax.Array) -> list[jax.Array]:
        """Returns features from 1/64 to 1/2 of the size, then the image."""
        levels, x = [image], image.astype(self.dtype)
        for down, level_conv in zip(self.downs, self.convs, strict=True):
            x = flownet.leaky_relu(level_conv(flownet.leaky_relu(down(x))))
            levels.append(x)
        return levels[::-1]

    def _estimate_level(self, level, x1, image, flow, occlusion, estimates):
        """One step of the iteration that all levels share."""
        x2 = _swap(x1)
        warped = x2
        if level > 0:
            flow, occlusion = _resize(flow, x1), _resize(occlusion, x1)
            warped = _warp(x2, flow, image)
        cost = ops.local_correlation(x1, warped, radius=self.config.radius)
        cost = flownet.leaky_relu(cost.astype(x1.dtype))
        if level < len(self.reduce):
            x1 = flownet.leaky_relu(self.reduce[level](x1))
        to_global = _global_scale(x1, image)

        local = flow / to_global
        contextual = self._decode("flow", cost, x1, local)
        occlusion = self._decode("occ", cost, x1, occlusion)
        # What the in-place rescaling of the official code amounts to: see the top.
        contextual = contextual * to_global
        small = _resize(image, x1)
        difference = small - _warp(_swap(small), contextual, image)
        flow = self._refine_flow(lax.stop_gradient(contextual), difference, x1)
        flow = flow * to_global
        estimates.contexts.append(contextual * to_global)
        estimates.occlusion_contexts.append(occlusion)

        difference = x1 - _warp(_swap(x1), flow, image)
        occlusion = lax.stop_gradient(occlusion)
        occlusion = self.refine_occ(
            occlusion, _joined(self.dtype, occlusion, x1, difference)
        )
        return flow, occlusion

    def _decode(self, name, cost, features, start):
        """Adds the change of the estimator and of the context network to `start`."""
        inputs = _joined(self.dtype, cost, features, start)
        dense, change = getattr(self, f"{name}_estimator")(inputs)
        estimate = start + change
        context = getattr(self, f"{name}_context")
        return estimate + context(_joined(self.dtype, dense, estimate))

    def _refine_flow(self, flow, difference, features):
        error = flownet.channel_norm(difference)
        centred = flow - jnp.mean(flow, axis=(-3, -2), keepdims=True)
        return self.refine_flow(flow, _joined(self.dtype, centred, error, features))

    def _upsample_level(self, level, x1, image, flow, occlusion, *, last: bool):
        """Doubles the size without new matching."""
        flow = _resize(flow, x1)
        warped = _warp(_swap(x1), flow, image)
        backward = _warp(_swap(flow), flow, image)
        if not last:
            x1, warped = (flownet.leaky_relu(self.reduce_half(x)) for x in (x1, warped))
        inputs = _joined(self.dtype, x1, warped, flow, backward)
        return flow, self.occ_upsampler(occlusion, inputs)


def _joined(dtype: DTypeLike, *parts: jax.Array) -> jax.Array:
    """Joins the channels of features, flow and images in the type of features."""
    return jnp.concatenate([part.astype(dtype) for part in parts], axis=-1)


def _swap(x: jax.Array) -> jax.Array:
    """Exchanges the two directions, which are the halves of the batch."""
    half = x.shape[0] // 2
    return jnp.concatenate([x[half:], x[:half]])


def _resize(x: jax.Array, like: jax.Array) -> jax.Array:
    """Resizes to the height and width of `like`; values are kept."""
    return ops.resize(x, like.shape[-3:-1], align_corners=True)


def _global_scale(x: jax.Array, image: jax.Array) -> jax.Array:
    """Full-size pixels / 20 that one pixel of the level is, for u and v."""
    (height, width), (rows, columns) = image.shape[-3:-1], x.shape[-3:-1]
    scale = (DIV_FLOW * width / columns, DIV_FLOW * height / rows)
    return jnp.array(scale, jnp.float32)[None, None, None]


def _warp(x: jax.Array, flow: jax.Array, image: jax.Array) -> jax.Array:
    """Warps a level by global flow, as if the corners of all levels coincided."""
    (height, width), (rows, columns) = image.shape[-3:-1], x.shape[-3:-1]
    scale = (
        (columns - 1) / max(width - 1, 1) / DIV_FLOW,
        (rows - 1) / max(height - 1, 1) / DIV_FLOW,
    )
    scale = jnp.array(scale, jnp.float32)[None, None, None]
    pixels = flow.astype(jnp.float32) * scale
    return ops.backward_warp(x, pixels, mask=0.9999)


TINY = Config(
    pyramid=(4, 4, 4, 4, 4, 4),
    reduced=4,
    estimator=(4, 4, 4, 4, 4),
    context=((4, 1), (4, 2), (4, 1)),
    refinement=(4, 4),
    radius=1,
)

VARIANTS = {"irr_pwc": Config()}

WEIGHTS = {
    "irr_pwc/things": spec.Weights(
        file="checkpoint_best.ckpt",
        source="https://github.com/visinf/irr (saved_check_point/pwcnet/"
        "IRR-PWC_things3d)",
        licence="see the repository",  # README.md states none: fetched by hand
        dialect="visinf",
        num_params=6_362_092,
        metrics={"sintel_train_clean_epe": 2.34, "sintel_train_final_epe": 3.95},
        citation="Hur and Roth, IRR-PWC, CVPR 2019",
    ),
}

_WB = r"(weight|bias)"


def _visinf():
    """Yields the table of the official code."""
    m = r"(?:_model\.)?"
    for i in range(6):
        convs = rf"{m}feature_pyramid_extractor\.convs\.{i}"
        yield rf"{convs}\.0\.0\.{_WB}", rf"downs.{i}.\1"
        yield rf"{convs}\.1\.0\.{_WB}", rf"convs.{i}.\1"
    for name in ("flow", "occ"):
        estimator = rf"{m}{name}_estimators"
        context = (
            rf"{m}context_networks" if name == "flow" else rf"{m}occ_context_networks"
        )
        for i in range(5):
            yield (
                rf"{estimator}\.conv{i + 1}\.0\.{_WB}",
                rf"{name}_estimator.layers.{i}.\1",
            )
        yield rf"{estimator}\.conv_last\.0\.{_WB}", rf"{name}_estimator.last.\1"
        yield rf"{context}\.convs\.(\d)\.0\.{_WB}", rf"{name}_context.layers.\1.\2"
        refine = rf"{m}refine_{name}\.convs\.(\d)\.0\.{_WB}"
        yield refine, rf"refine_{name}.layers.\1.\2"
    yield rf"{m}conv_1x1\.(\d)\.0\.{_WB}", r"reduce.\1.\2"
    yield rf"{m}conv_1x1_1\.0\.{_WB}", r"reduce_half.\1"
    up = rf"{m}occ_shuffle_upsample"
    yield rf"{up}\.init_conv\.0\.{_WB}", r"occ_upsampler.init_conv.\1"
    yield rf"{up}\.res_convs\.0\.0\.{_WB}", r"occ_upsampler.res_conv1.\1"
    yield rf"{up}\.res_convs\.1\.0\.{_WB}", r"occ_upsampler.res_conv2.\1"
    yield rf"{up}\.res_end_conv\.0\.{_WB}", r"occ_upsampler.res_end_conv.\1"
    yield rf"{up}\.out_convs\.0\.{_WB}", r"occ_upsampler.out_conv.\1"


KEYS = {"visinf": tuple(_visinf())}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
