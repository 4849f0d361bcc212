"""LiteFlowNet: feature warping, cascaded inference, feature-driven regularisation.

Hui, Tang, Loy, "LiteFlowNet: A Lightweight Convolutional Neural Network for Optical
Flow Estimation" (CVPR 2018).

    NetC, Sec. 3.1                   Features
    descriptor matching, Sec. 3.2    Matching (M)
    sub-pixel refinement, Sec. 3.2   Subpixel (S)
    regularisation, Eq. 3 to 5       Regularization (R)

Weights: twhui/LiteFlowNet (non-commercial research); sniklaus/pytorch-liteflownet
converted them.

Deviations: as in the PyTorch code, the images of a level are resized from those of the
level before; the Caffe original resizes three of them from the full size.
"""

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, flownet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a LiteFlowNet.

    Attributes:
        width: Factor on every channel count but the correlation's, the distance
            windows' and flow's.
    """

    width: float = 1.0

    def __post_init__(self):
        spec.check_config(self)


LEVELS = (6, 5, 4, 3, 2)
# Convolutions of each level of NetC: (kernel, stride, channels).
PYRAMID = {
    1: ((7, 1, 32),),
    2: ((3, 2, 32), (3, 1, 32), (3, 1, 32)),
    3: ((3, 2, 64), (3, 1, 64)),
    4: ((3, 2, 96), (3, 1, 96)),
    5: ((3, 2, 128),),
    6: ((3, 2, 192),),
}
FEATURES = {level: blocks[-1][2] for level, blocks in PYRAMID.items()}
# Channels of the features that a level's M and S compare: level 2 widens its own.
MATCHED = {**FEATURES, 2: 64}
LAST_KERNEL = {6: 3, 5: 3, 4: 5, 3: 5, 2: 7}
DISTANCE_WINDOW = {6: 3, 5: 3, 4: 5, 3: 5, 2: 7}
# Flow in units of 20 full-size pixels times this is in pixels of the level.
SCALE = {level: flownet.DIV_FLOW / 2 ** (level - 1) for level in LEVELS}
# Mean of each frame in the training set, RGB.
MEAN1 = (0.454253, 0.434631, 0.411618)
MEAN2 = (0.452793, 0.433645, 0.410782)


def _chain(layers: list, x: jax.Array, *, activate_last: bool) -> jax.Array:
    """Applies convolutions with LeakyReLU(0.1) between them; flow is float32."""
    for i, layer in enumerate(layers):
        if activate_last or i < len(layers) - 1:
            x = flownet.leaky_relu(layer(x))
        else:
            x = layer(x.astype(jnp.float32))
    return x


class Features(nnx.Module):
    """NetC: the pyramid of features of one frame."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        before = 3
        for level, blocks in PYRAMID.items():
            layers = []
            for kernel_size, strides, full in blocks:
                after = flownet.scaled(full, config.width)
                layers.append(
                    conv.Conv(before, after, kernel_size, strides=strides, rngs=rngs)
                )
                before = after
            setattr(self, f"level{level}", nnx.data(layers))

    def __call__(self, image: jax.Array) -> dict[int, jax.Array]:
        """Maps (B, H, W, 3) to features of levels 1 (full size) to 6 (1/32)."""
        pyramid, x = {}, image
        for level in PYRAMID:
            x = _chain(getattr(self, f"level{level}"), x, activate_last=True)
            pyramid[level] = x
        return pyramid


def _estimator(features: int, level: int, width: float, rngs: nnx.Rngs) -> list:
    """The convolutions that M and S share: 128, 64, 32 channels, then flow."""
    widths = [features, *(flownet.scaled(full, width) for full in (128, 64, 32))]
    layers = [
        conv.Conv(before, after, rngs=rngs)
        for before, after in itertools.pairwise(widths)
    ]
    return [*layers, conv.Conv(widths[-1], 2, LAST_KERNEL[level], rngs=rngs)]


def _widener(level: int, after: int, width: float, rngs: nnx.Rngs):
    """The 1x1 convolution that brings a level's features to `after` channels."""
    before = flownet.scaled(FEATURES[level], width)
    return conv.Conv(before, flownet.scaled(after, width), 1, rngs=rngs)


class Matching(nnx.Module):
    """M: flow of a level from short-range matching of warped features."""

    def __init__(self, config: Config, level: int, *, rngs: nnx.Rngs):
        self.level = level
        self.feat = self.upflow = self.upcorr = nnx.data(None)
        if level == 2:
            self.feat = _widener(level, MATCHED[2], config.width, rngs)
        if level < 6:
            self.upflow = conv.ConvTranspose(2, 2, groups=2, use_bias=False, rngs=rngs)
        if level < 4:
            self.upcorr = conv.ConvTranspose(
                49, 49, groups=49, use_bias=False, rngs=rngs
            )
        self.main = nnx.data(_estimator(49, level, config.width, rngs))

    def __call__(self, f1: jax.Array, f2: jax.Array, flow: jax.Array | None):
        """Maps features of both frames and the coarser flow to flow, (B, h, w, 2)."""
        if self.feat is not None:
            f1, f2 = (flownet.leaky_relu(self.feat(f)) for f in (f1, f2))
        if flow is not None:
            assert self.upflow is not None
            flow = self.upflow(flow)
            f2 = ops.backward_warp(f2, flow * SCALE[self.level])
        step = 1 if self.upcorr is None else 2
        cost = ops.local_correlation(f1, f2, radius=3, stride=step, dilation=step)
        cost = flownet.leaky_relu(cost.astype(f1.dtype))
        if self.upcorr is not None:
            # Odd sizes: the half-size volume rounds up.
            cost = self.upcorr(cost)[:, : f1.shape[-3], : f1.shape[-2]]
        change = _chain(self.main, cost, activate_last=False)
        return change if flow is None else flow + change


class Subpixel(nnx.Module):
    """S: corrects flow from the features themselves, not their correlation."""

    def __init__(self, config: Config, level: int, *, rngs: nnx.Rngs):
        self.level = level
        self.feat = (
            _widener(level, MATCHED[2], config.width, rngs)
            if level == 2
            else nnx.data(None)
        )
        features = 2 * flownet.scaled(MATCHED[level], config.width) + 2
        self.main = nnx.data(_estimator(features, level, config.width, rngs))

    def __call__(self, f1: jax.Array, f2: jax.Array, flow: jax.Array) -> jax.Array:
        """Maps features of both frames and flow to better flow, (B, h, w, 2)."""
        if self.feat is not None:
            f1, f2 = (flownet.leaky_relu(self.feat(f)) for f in (f1, f2))
        warped = ops.backward_warp(f2, flow * SCALE[self.level])
        x = jnp.concatenate([f1, warped, flow.astype(f1.dtype)], axis=-1)
        return flow + _chain(self.main, x, activate_last=False)


class Regularization(nnx.Module):
    """R: replaces flow by an average over a window, with weights learned per pixel.

    flow'(x) = sum_i exp(-d_i^2) s_i flow(x_i) / sum_i exp(-d_i^2)
    """

    def __init__(self, config: Config, level: int, *, rngs: nnx.Rngs):
        self.level = level
        self.feat = nnx.data(None)
        features = flownet.scaled(FEATURES[level], config.width)
        if level < 5:
            self.feat = _widener(level, 128, config.width, rngs)
            features = flownet.scaled(128, config.width)
        widths = [
            features + 3,
            *(flownet.scaled(n, config.width) for n in (128, 128, 64, 64, 32, 32)),
        ]
        self.main = nnx.data(
            [
                conv.Conv(before, after, rngs=rngs)
                for before, after in itertools.pairwise(widths)
            ]
        )
        side = DISTANCE_WINDOW[level]
        area = side**2
        windows = ((3, 3),) if level >= 5 else ((side, 1), (1, side))
        self.dist = nnx.data(
            [
                conv.Conv(area if i else widths[-1], area, window, rngs=rngs)
                for i, window in enumerate(windows)
            ]
        )
        self.scale_x = conv.Conv(area, 1, 1, rngs=rngs)
        self.scale_y = conv.Conv(area, 1, 1, rngs=rngs)
        # At the start a plain weighted average.
        for layer in (self.scale_x, self.scale_y):
            layer.kernel[...] = jnp.ones_like(layer.kernel[...])

    def __call__(
        self, image1: jax.Array, image2: jax.Array, f1: jax.Array, flow: jax.Array
    ) -> jax.Array:
        """Maps the level's frames, features and flow to smoother flow, (B, h, w, 2)."""
        warped = ops.backward_warp(image2, flow * SCALE[self.level])
        error = flownet.brightness_error(image1, warped)
        mean = jnp.mean(flow, axis=(-3, -2), keepdims=True)
        if self.feat is not None:
            f1 = flownet.leaky_relu(self.feat(f1))
        parts = [error.astype(f1.dtype), (flow - mean).astype(f1.dtype), f1]
        x = _chain(self.main, jnp.concatenate(parts, axis=-1), activate_last=True)
        x = x.astype(jnp.float32)
        for layer in self.dist:
            x = layer(x)
        log_weight = -jnp.square(x)
        peak = jnp.max(log_weight, axis=-1, keepdims=True)
        weight = jnp.exp(log_weight - peak)
        total = jnp.sum(weight, axis=-1, keepdims=True)
        windows = ops.extract_windows(flow, DISTANCE_WINDOW[self.level])
        # The bias is divided by the total too, as in the official code.
        u = self.scale_x(weight * windows[..., 0]) / total
        v = self.scale_y(weight * windows[..., 1]) / total
        return jnp.concatenate([u, v], axis=-1)


class Model(nnx.Module):
    """LiteFlowNet.

    Its predictions are the regularised flow of levels 6 (1/32) to 2 (1/2); its flow is
    the finest of them, bilinearly up-sampled by 2.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=32, fit="resize", flow_source="finest")
        self.features = Features(config, rngs=rngs)
        for level in LEVELS:
            setattr(self, f"matching{level}", Matching(config, level, rngs=rngs))
            setattr(self, f"subpixel{level}", Subpixel(config, level, rngs=rngs))
            setattr(
                self, f"regularization{level}", Regularization(config, level, rngs=rngs)
            )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        # The network sees blue, green, red.
        mean1, mean2 = jnp.array([MEAN1, MEAN2], jnp.float32)[:, None, None, None]
        image1 = (image1 - mean1)[..., ::-1]
        image2 = (image2 - mean2)[..., ::-1]
        pyramid1 = self.features(image1.astype(self.dtype))
        pyramid2 = self.features(image2.astype(self.dtype))
        images = {1: (image1, image2)}
        for level in range(2, 7):
            size = pyramid1[level].shape[-3:-1]
            one, two = images[level - 1]
            images[level] = ops.resize(one, size), ops.resize(two, size)
        flow, flows = None, []
        for level in LEVELS:
            f1, f2 = pyramid1[level], pyramid2[level]
            flow = getattr(self, f"matching{level}")(f1, f2, flow)
            flow = getattr(self, f"subpixel{level}")(f1, f2, flow)
            flow = getattr(self, f"regularization{level}")(*images[level], f1, flow)
            flows.append(flow * SCALE[level])
        full = ops.resize_flow(flows[-1], image1.shape[-3:-1])
        return spec.Flow(full, tuple(flows))


TINY = Config(width=1 / 16)

VARIANTS = {"liteflownet": Config()}

WEIGHTS = {
    f"liteflownet/{tag}": spec.Weights(
        file=f"network-{tag}.pytorch",
        source="https://github.com/sniklaus/pytorch-liteflownet",
        licence="non-commercial research (twhui/LiteFlowNet)",
        dialect="sniklaus",
        num_params=5_381_969,
        colour="bgr",
        metrics=metrics,
        citation="Hui et al., LiteFlowNet, CVPR 2018",
    )
    for tag, metrics in (
        ("default", {"sintel_train_clean_epe": 2.48, "sintel_train_final_epe": 4.04}),
        ("kitti", {}),
        ("sintel", {}),
    )
}

_NUMBER = {1: "One", 2: "Two", 3: "Thr", 4: "Fou", 5: "Fiv", 6: "Six"}
_PREFIX = "(?:module|net)"


def _sniklaus():
    """Yields the table of the PyTorch conversion, whose index 0 is level 2."""
    for level, blocks in PYRAMID.items():
        theirs = rf"{_PREFIX}Features\.{_PREFIX}{_NUMBER[level]}"
        for i in range(len(blocks)):
            yield (
                rf"{theirs}\.{2 * i}\.(weight|bias)",
                rf"features.level{level}.{i}.\1",
            )
    for part in ("Matching", "Subpixel", "Regularization"):
        for level in LEVELS:
            theirs = rf"{_PREFIX}{part}\.{level - 2}\.{_PREFIX}"
            ours = f"{part.lower()}{level}"
            yield rf"{theirs}Feat\.0\.(weight|bias)", rf"{ours}.feat.\1"
            yield rf"{theirs}Upflow\.(weight)", rf"{ours}.upflow.\1"
            yield rf"{theirs}Upcorr\.(weight)", rf"{ours}.upcorr.\1"
            yield rf"{theirs}ScaleX\.(weight|bias)", rf"{ours}.scale_x.\1"
            yield rf"{theirs}ScaleY\.(weight|bias)", rf"{ours}.scale_y.\1"
            yield rf"{theirs}Dist\.(\d)\.(weight|bias)", rf"{ours}.dist.\1.\2"
            for i in range(6):
                yield (
                    rf"{theirs}Main\.{2 * i}\.(weight|bias)",
                    rf"{ours}.main.{i}.\1",
                )


KEYS = {"sniklaus": tuple(_sniklaus())}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
