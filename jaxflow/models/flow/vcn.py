"""VCN: volumetric correspondence networks.

Yang and Ramanan, "Volumetric Correspondence Networks for Optical Flow" (NeurIPS 2019).

    multi-channel cost volume, Sec. 3.1   Model._cost_volume, ops.correlation_volume
    separable 4-D filtering, Sec. 3.2     SeparableConv4d, Butterfly4d
    multi-hypothesis, Sec. 3.3            regress: truncated soft-argmax and entropies
    hypothesis fusion, Sec. 3.3           Fusion

Weights: gengshan-y/VCN (MIT).

Deviations: the volume is padded with zeros, so frames smaller than the official
minimum (256x256; 256x512 and 320x448 for the wider ranges) run too. The heads that
predict whether a match is out of range exist only in training and are left out. The
mean of the training frames, which official checkpoints carry beside the weights, is
`Config.mean1` and `Config.mean2`.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, flownet, norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a VCN.

    Attributes:
        radius: Largest displacement (y, x) at 1/64 of the size, in pixels of that grid;
            all finer levels search +-4.
        levels: Levels that are matched, from 1/64 (6) to 1/4 (2) or 1/8 (3), one after
            the other.
        width: Factor on the channels of the feature network and of the fusion.
        hypotheses: Channels of the filtered volumes, level by level.
        mean1: Mean of frame 1 in the training set, RGB, in [0, 1].
        mean2: Mean of frame 2, alike.
    """

    radius: tuple[int, int] = (4, 4)
    levels: tuple[int, ...] = (6, 5, 4, 3, 2)
    width: float = 1.0
    hypotheses: tuple[int, ...] = (16, 16, 16, 16, 12)
    mean1: tuple[spec.Number, spec.Number, spec.Number] = (0.33, 0.33, 0.33)
    mean2: tuple[spec.Number, spec.Number, spec.Number] = (0.33, 0.33, 0.33)

    def __post_init__(self):
        spec.check_config(self)


class Prediction(NamedTuple):
    """What the network says, level by level, coarse to fine.

    Attributes:
        flows: Fused flow, (B, h, w, 2), in pixels of the level.
        entropies: Global entropy of each level's own hypotheses, (B, h, w, K), in
            [0, 1]; low is confident.
        uncertainty: Mean of the entropies, of the window and of the whole volume, of
            all hypotheses of the finest level, its own and the coarser ones: (B, h, w).
    """

    flows: list
    entropies: list
    uncertainty: jax.Array


class ConvNorm(nnx.Module):
    """A convolution, batch normalisation, and LeakyReLU(0.1) if wanted."""

    def __init__(
        self, in_features, features, kernel_size=3, *, use_bias=False, rngs, **options
    ):
        self.conv = conv.Conv(
            in_features, features, kernel_size, use_bias=use_bias, rngs=rngs, **options
        )
        self.norm = norm.BatchNorm(features)

    def __call__(self, x: jax.Array, *, activate: bool = True) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H', W', C_out)."""
        x = self.norm(self.conv(x))
        return flownet.leaky_relu(x) if activate else x


class ResidualBlock(nnx.Module):
    """Two normalised convolutions beside a normalised 1x1 one, with stride 2."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        self.conv1 = ConvNorm(in_features, features, strides=2, rngs=rngs)
        self.conv2 = ConvNorm(features, features, rngs=rngs)
        self.downsample = ConvNorm(in_features, features, 1, strides=2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / 2, W / 2, C_out)."""
        y = self.conv2(self.conv1(x), activate=False)
        return flownet.leaky_relu(y + self.downsample(x, activate=False))


class PyramidPooling(nnx.Module):
    """Adds averages over three grids, from fine to a single cell."""

    PATHS = 3

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.paths = nnx.data(
            [ConvNorm(features, features, 1, rngs=rngs) for _ in range(self.PATHS)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, C) to (B, h, w, C)."""
        size = height, width = x.shape[-3:-1]
        finest = max(min(size) // 2, 1)
        cells = np.linspace(1, finest, self.PATHS, dtype=int)
        total = x
        for path, count in zip(self.paths, cells[::-1], strict=True):
            window = (height // int(count), width // int(count))
            pooled = path(ops.avg_pool(x, window, strides=window))
            total = total + ops.resize(pooled, size) / self.PATHS
        return flownet.leaky_relu(total / 2)


class Features(nnx.Module):
    """The U-shaped feature network.

    Args:
        width: Factor on every channel count.
        finest: Finest level that is wanted: 2 (1/4 of the size) or 3 (1/8).
        rngs: Source of the initial weights.
    """

    def __init__(self, width: float, finest: int, *, rngs: nnx.Rngs):
        self.finest = finest
        n16, n32, n64, n128 = (flownet.scaled(n, width) for n in (16, 32, 64, 128))
        self.conv1_1 = ConvNorm(3, n16, strides=2, rngs=rngs)
        self.conv1_2 = ConvNorm(n16, n16, rngs=rngs)
        self.conv1_3 = ConvNorm(n16, n32, rngs=rngs)
        self.res_block3 = ResidualBlock(n32, n64, rngs=rngs)
        self.res_block5 = ResidualBlock(n64, n128, rngs=rngs)
        self.res_block6 = ResidualBlock(n128, n128, rngs=rngs)
        self.res_block7 = ResidualBlock(n128, n128, rngs=rngs)
        self.pyramid_pooling = PyramidPooling(n128, rngs=rngs)
        self.upconv6 = ConvNorm(n128, n64, rngs=rngs)
        self.iconv5 = ConvNorm(n128 + n64, n128, rngs=rngs)
        self.upconv5 = ConvNorm(n128, n64, rngs=rngs)
        self.iconv4 = ConvNorm(n128 + n64, n128, rngs=rngs)
        self.upconv4 = ConvNorm(n128, n64, rngs=rngs)
        self.iconv3 = ConvNorm(n64 + n64, n64, rngs=rngs)
        if finest == 2:
            self.upconv3 = ConvNorm(n64, n32, rngs=rngs)
            self.iconv2 = ConvNorm(n32 + n32, n64, rngs=rngs)
        # Of levels 2 to 6; a dict would make the model's description unhashable.
        self.widths = (n64, n64, n128, n128, n128)

    def __call__(self, x: jax.Array) -> dict[int, jax.Array]:
        """Maps (B, H, W, 3) to features of levels 6 (1/64) to the finest."""
        x = self.conv1_3(self.conv1_2(self.conv1_1(x)))
        skips = {2: ops.max_pool(x, 3, strides=2, padding=1)}
        skips[3] = self.res_block3(skips[2])
        skips[4] = self.res_block5(skips[3])
        skips[5] = self.res_block6(skips[4])
        levels = {6: self.pyramid_pooling(self.res_block7(skips[5]))}
        for level in range(5, self.finest - 1, -1):
            up = ops.resize(levels[level + 1], skips[level].shape[-3:-1])
            up = getattr(self, f"upconv{level + 1}")(up)
            both = jnp.concatenate([skips[level], up], axis=-1)
            levels[level] = getattr(self, f"iconv{level}")(both)
        return levels


def _over_displacements(layer, x: jax.Array) -> jax.Array:
    """Applies a 3-D layer over (u, v) of (B, U, V, H, W, C)."""
    *lead, height, width, features = x.shape
    y = layer(x.reshape(*lead, height * width, features))
    return y.reshape(*y.shape[:-2], height, width, y.shape[-1])


def _over_positions(layer, x: jax.Array) -> jax.Array:
    """Applies a 3-D layer over (h, w) of (B, U, V, H, W, C)."""
    batch, u, v, *rest = x.shape
    y = layer(x.reshape(batch, u * v, *rest))
    return y.reshape(batch, u, v, *y.shape[2:])


class SeparableConv4d(nnx.Module):
    """A convolution over displacements, ReLU, then one over positions (Sec. 3.2).

    Args:
        in_features: Channels in.
        features: Channels out.
        kernel_size: Side of both windows.
        stride: Step in (u, v).
        position_stride: Step in (h, w).
        normalise: Whether both are batch-normalised; otherwise they have biases.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        position_stride: int = 1,
        normalise: bool = True,
        rngs: nnx.Rngs,
    ):
        k, plain = kernel_size, not normalise
        self.conv2 = conv.Conv3d(
            in_features,
            features,
            (k, k, 1),
            strides=(stride, stride, 1),
            use_bias=plain,
            rngs=rngs,
        )
        self.conv1 = conv.Conv3d(
            features,
            features,
            (1, k, k),
            strides=(1, position_stride, position_stride),
            use_bias=plain,
            rngs=rngs,
        )
        self.norm1 = norm.BatchNorm(features) if normalise else nnx.data(None)
        self.norm2 = norm.BatchNorm(features) if normalise else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, U, V, H, W, C_in) to (B, U', V', H', W', C_out)."""
        x = _over_displacements(self.conv2, x)
        x = nnx.relu(x if self.norm2 is None else self.norm2(x))
        x = _over_positions(self.conv1, x)
        return x if self.norm1 is None else self.norm1(x)


class Projection4d(nnx.Module):
    """A normalised 1x1 convolution of a volume, with a step in (u, v)."""

    def __init__(self, in_features: int, features: int, *, stride=1, rngs: nnx.Rngs):
        self.conv1 = conv.Conv3d(
            in_features,
            features,
            1,
            strides=(stride, stride, 1),
            use_bias=False,
            rngs=rngs,
        )
        self.bn = norm.BatchNorm(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, U, V, H, W, C_in) to (B, U', V', H, W, C_out)."""
        return self.bn(_over_displacements(self.conv1, x))


class Block4d(nnx.Module):
    """A residual block of two separable 4-D convolutions."""

    def __init__(self, features: int, *, stride: int, full: bool, rngs: nnx.Rngs):
        self.conv1 = SeparableConv4d(
            features,
            features,
            stride=stride,
            position_stride=stride if full else 1,
            rngs=rngs,
        )
        self.conv2 = SeparableConv4d(features, features, rngs=rngs)
        self.downsample = nnx.data(None)
        if stride > 1 and full:
            self.downsample = SeparableConv4d(
                features,
                features,
                kernel_size=1,
                stride=stride,
                position_stride=stride,
                rngs=rngs,
            )
        elif stride > 1:
            self.downsample = Projection4d(features, features, stride=stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, U, V, H, W, C) to (B, U', V', H', W', C)."""
        y = self.conv2(nnx.relu(self.conv1(x)))
        return nnx.relu(y + (x if self.downsample is None else self.downsample(x)))


class Butterfly4d(nnx.Module):
    """Filters a cost volume at three scales of displacement, like a U-Net.

    Args:
        in_features: Channels of the volume.
        features: Channels of the filtered volume.
        full: Whether positions are down-sampled too.
        rngs: Source of the initial weights.
    """

    conva1: nnx.Module
    conva2: nnx.Module
    convb3: nnx.Module
    convb2: nnx.Module
    convb1: nnx.Module

    def __init__(self, in_features: int, features: int, *, full: bool, rngs: nnx.Rngs):
        self.proj = Projection4d(in_features, features, rngs=rngs)
        for name, stride in (("a1", 2), ("a2", 2), ("b3", 1), ("b2", 1), ("b1", 1)):
            block = Block4d(features, stride=stride, full=full, rngs=rngs)
            setattr(self, f"conv{name}", block)

    def __call__(self, volume: jax.Array) -> jax.Array:
        """Filters a volume that `proj` made already: (B, U, V, H, W, features)."""
        half = self.conva1(volume)
        quarter = self.convb3(self.conva2(half))
        half = self.convb2(half + _resize4d(quarter, half.shape[1:5]))
        return self.convb1(volume + _resize4d(half, volume.shape[1:5]))


def _resize4d(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Resizes displacements, then positions, bilinearly."""
    u, v, height, width = size
    batch, _, _, rows, columns, features = x.shape
    x = ops.resize(x.reshape(*x.shape[:3], rows * columns * features), (u, v))
    x = x.reshape(batch, u, v, rows, columns, features)
    return x if (rows, columns) == (height, width) else ops.resize(x, (height, width))


def regress(
    cost: jax.Array, *, window: int = 7
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds flow and its uncertainty in a volume of matching scores (Sec. 3.3).

    The expectation is taken over a window around the best displacement, cut at the
    volume's border; the choice of the window has no gradient.

    Args:
        cost: Scores, (*B, U, V); displacement in x, then in y, around the middle.
        window: Side of the window, odd.

    Returns:
        Flow, (*B, 2), in float32; and two entropies in [0, 1], (*B): of the window,
        over log(window^2), and of the whole volume, over log(U V).
    """
    u, v = cost.shape[-2:]
    cost = cost.astype(jnp.float32)
    flat = cost.reshape(*cost.shape[:-2], u * v)
    best = jnp.argmax(flat, axis=-1)[..., None, None]
    x, y = np.meshgrid(np.arange(u), np.arange(v), indexing="ij")
    column, row = (lax.broadcast_to_rank(offset, cost.ndim) for offset in (x, y))
    near = (jnp.abs(column - best // v) <= window // 2) & (
        jnp.abs(row - best % v) <= window // 2
    )
    local = jnp.where(near, cost, -jnp.inf).reshape(flat.shape)
    local, whole = jax.nn.softmax(local, axis=-1), jax.nn.softmax(flat, axis=-1)
    offsets = np.stack([x - (u - 1) // 2, y - (v - 1) // 2], axis=-1).reshape(-1, 2)
    flow = jnp.einsum(
        "...k,kc->...c", local, offsets.astype(np.float32), precision="highest"
    )
    return (
        flow,
        _entropy(local) / math.log(window**2),
        _entropy(whole) / math.log(u * v),
    )


def _entropy(p: jax.Array) -> jax.Array:
    return -jnp.sum(p * jnp.log(jnp.clip(p, min=1e-9)), axis=-1)


class Fusion(nnx.Module):
    """Blends a level's hypotheses with weights that sum to one in each component."""

    def __init__(self, features: int, hypotheses: int, width: float, *, rngs: nnx.Rngs):
        self.hypotheses = hypotheses
        in_features = features + 4 * hypotheses
        widths = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))
        for i, (full, dilation) in enumerate(widths, start=1):
            out = flownet.scaled(full, width)
            layer = ConvNorm(
                in_features, out, use_bias=True, dilation=dilation, rngs=rngs
            )
            setattr(self, f"conv{i}", layer)
            in_features = out
        self.conv7 = conv.Conv(in_features, 2 * hypotheses, rngs=rngs)

    def __call__(
        self, entropies: jax.Array, flows: jax.Array, features: jax.Array
    ) -> jax.Array:
        """Maps (B, h, w, K, 2) twice and (B, h, w, C) to flow (B, h, w, 2)."""
        flat = (*features.shape[:-1], 2 * self.hypotheses)
        parts = [entropies.reshape(flat), flows.reshape(flat)]
        x = jnp.concatenate([*(p.astype(features.dtype) for p in parts), features], -1)
        for i in range(1, 7):
            x = getattr(self, f"conv{i}")(x)
        weights = self.conv7(x.astype(jnp.float32)).reshape(flows.shape)
        return jnp.sum(jax.nn.softmax(weights, axis=-2) * flows, axis=-2)


class Model(nnx.Module):
    """VCN.

    It predicts flow at each level; its flow is the finest of them, bilinearly
    up-sampled. Its confidence is 1 minus the mean of the entropies of all hypotheses,
    which is what the official code returns beside the flow. `predict` gives more.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=64, fit="resize", method="opencv_uint8")
        self.features = Features(config.width, config.levels[-1], rngs=rngs)
        total = 0
        for level, hypotheses in zip(config.levels, config.hypotheses, strict=False):
            features = self.features.widths[level - 2]
            filters = Butterfly4d(features, hypotheses, full=level == 2, rngs=rngs)
            setattr(self, f"f{level}", filters)
            scorer = SeparableConv4d(hypotheses, hypotheses, normalise=False, rngs=rngs)
            setattr(self, f"p{level}", scorer)
            total += hypotheses
            fusion = Fusion(features, total, config.width, rngs=rngs)
            setattr(self, f"fusion{level}", fusion)

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        size = image1.shape[-3:-1]
        said = self.predict(image1, image2)
        finest = said.flows[-1]
        return spec.Flow(
            ops.resize((size[0] // finest.shape[-3]) * finest, size),
            tuple(said.flows),
            confidence=1 - ops.resize(said.uncertainty[..., None], size)[..., 0],
        )

    def predict(self, image1: jax.Array, image2: jax.Array) -> Prediction:
        """Estimates flow and confidence of each level.

        Args:
            image1: Frame 1, (B, H, W, 3) in [0, 1].
            image2: Frame 2, alike.

        Returns:
            Flow and entropies, coarse to fine.
        """
        batch = image1.shape[0]
        image1 -= jnp.array(self.config.mean1, jnp.float32)[None, None, None]
        image2 -= jnp.array(self.config.mean2, jnp.float32)[None, None, None]
        # The network sees blue, green, red.
        images = jnp.concatenate([image1, image2])[..., ::-1]
        pyramid = self.features(images.astype(self.dtype))
        found, certainty = [], []
        flow = flows = entropies = None
        for level in self.config.levels:
            context = pyramid[level][:batch]
            f1, f2 = jnp.split(_unit(pyramid[level]), 2)
            size = f1.shape[-3:-1]
            start = jnp.zeros((*f1.shape[:-1], 2), jnp.float32)
            radius = self.config.radius if level == 6 else (4, 4)
            if flow is not None:
                start = 2 * ops.resize(flow, size)
                f2 = ops.backward_warp(f2, start, mask="strict")
            cost = self._score(level, f1, f2, radius)
            own, local, whole = regress(jnp.moveaxis(cost, (1, 2), (-2, -1)))
            own = own + start[..., None, :]
            uncertainty = jnp.stack([local, whole], axis=-1)
            if flows is None or entropies is None:
                flows, entropies = own, uncertainty
            else:
                flows = jnp.concatenate([own, 2 * _resize_each(flows, size)], axis=-2)
                entropies = jnp.concatenate(
                    [uncertainty, _resize_each(entropies, size)], axis=-2
                )
            flow = getattr(self, f"fusion{level}")(entropies, flows, context)
            found.append(flow)
            certainty.append(whole)
        entropies = cast(jax.Array, entropies)
        return Prediction(found, certainty, jnp.mean(entropies, axis=(-2, -1)))

    def _score(self, level: int, f1: jax.Array, f2: jax.Array, radius) -> jax.Array:
        """Returns filtered matching scores, (B, U, V, h, w, K)."""
        filters = getattr(self, f"f{level}")
        radius_y, radius_x = radius
        width = f1.shape[-2]
        margins = ((0, 0), (0, 0), (radius_x, radius_x), (0, 0))
        padded = jnp.pad(f2, margins)

        def project(u):
            # One displacement in x at a time: the whole volume of products is never
            # held, only its projection to a few channels.
            shifted = lax.dynamic_slice_in_dim(padded, u, width, axis=2)
            products = ops.correlation_volume(f1, shifted, radius=(radius_y, 0))
            return filters.proj.conv1(
                flownet.leaky_relu(products[:, 0]).reshape(
                    f1.shape[0], 2 * radius_y + 1, -1, width, f1.shape[-1]
                )
            )

        volume = lax.map(project, jnp.arange(2 * radius_x + 1))
        volume = nnx.relu(filters.proj.bn(jnp.moveaxis(volume, 0, 1)))
        return getattr(self, f"p{level}")(filters(volume))


def _unit(features: jax.Array) -> jax.Array:
    """Divides each pixel's features by their norm, in float32.

    So are the volumes made of them: the best of their scores chooses the match.
    """
    wide = features.astype(jnp.float32)
    return wide / (flownet.channel_norm(wide) + 1e-9)


def _resize_each(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Resizes (B, h, w, K, 2), bilinearly."""
    flat = x.reshape(*x.shape[:-2], -1)
    return ops.resize(flat, size).reshape(x.shape[0], *size, *x.shape[-2:])


# Matching begins where small frames have pixels enough for a radius of 4.
TINY = Config(width=1 / 16, levels=(3, 2), hypotheses=(4, 4))

VARIANTS = {
    "vcn": Config(),
    "vcn_small": Config(levels=(6, 5, 4, 3)),
    "vcn_kitti": Config(radius=(4, 8)),
    "vcn_sintel": Config(radius=(5, 7)),
}

_SOURCE = "https://github.com/gengshan-y/VCN"
WEIGHTS = {
    "vcn/things": spec.Weights(
        file="pretrained_things.pth.tar",
        source=_SOURCE,
        licence="MIT",
        dialect="gengshan-y",
        num_params=6_227_224,
        colour="bgr",
        metrics={"sintel_train_clean_epe": 2.21, "sintel_train_final_epe": 3.68},
        citation="Yang and Ramanan, VCN, NeurIPS 2019",
    ),
    "vcn_small/things": spec.Weights(
        file="pretrained_things_small.pth.tar",
        source=_SOURCE,
        licence="MIT",
        dialect="gengshan-y",
        num_params=5_192_432,
        colour="bgr",
        metrics={"sintel_train_clean_epe": 2.45, "sintel_train_final_epe": 3.63},
        citation="Yang and Ramanan, VCN, NeurIPS 2019",
    ),
}

_LEAF = r"(weight|bias|running_mean|running_var)"


def _conv_norm(theirs: str, ours: str):
    """A convolution at index 0 and its normalisation at index 1."""
    yield rf"{theirs}\.0\.{_LEAF}", rf"{ours}.conv.\{_groups(theirs)}"
    yield rf"{theirs}\.1\.{_LEAF}", rf"{ours}.norm.\{_groups(theirs)}"


def _groups(pattern: str) -> int:
    """Number of the group that follows those of `pattern`."""
    return pattern.count("(") - pattern.count("(?:") + 1


def _separable(theirs: str, ours: str):
    """The two convolutions of a separable one, with or without normalisation."""
    g = _groups(theirs)
    yield rf"{theirs}\.conv([12])\.{_LEAF}", rf"{ours}.conv\{g}.\{g + 1}"
    yield rf"{theirs}\.conv([12])\.0\.{_LEAF}", rf"{ours}.conv\{g}.\{g + 1}"
    yield rf"{theirs}\.conv([12])\.1\.{_LEAF}", rf"{ours}.norm\{g}.\{g + 1}"


def _gengshan():
    """Yields the table of the official code."""
    yield r".*\.num_batches_tracked", None
    yield r".*grid.*|flow_reg.*|dc\d_convo.*", None
    net = r"pspnet"
    yield from _conv_norm(rf"{net}\.convbnrelu(1_\d)\.cbr_unit", r"features.conv\1")
    block = rf"{net}\.(res_block\d)\.0"
    yield from _conv_norm(rf"{block}\.convbnrelu1\.cbr_unit", r"features.\1.conv1")
    yield from _conv_norm(rf"{block}\.convbn2\.cb_unit", r"features.\1.conv2")
    yield from _conv_norm(rf"{block}\.downsample", r"features.\1.downsample")
    yield from _conv_norm(
        rf"{net}\.pyramid_pooling\.path_module_list\.(\d)\.cbr_unit",
        r"features.pyramid_pooling.paths.\1",
    )
    yield from _conv_norm(rf"{net}\.(upconv\d)\.1\.cbr_unit", r"features.\1")
    yield from _conv_norm(rf"{net}\.(iconv\d)\.cbr_unit", r"features.\1")
    yield rf"(f\d)\.proj\.0\.(conv1|bn)\.{_LEAF}", r"\1.proj.\2.\3"
    for part in ("conv1", "conv2", "downsample"):
        yield from _separable(rf"(f\d)\.(conv\w\d)\.{part}", rf"\1.\2.{part}")
    yield rf"(f\d)\.(conv\w\d)\.downsample\.bn\.{_LEAF}", r"\1.\2.downsample.bn.\3"
    yield from _separable(r"(p\d)", r"\1")
    yield from _conv_norm(r"dc(\d)_conv([1-6])", r"fusion\1.conv\2")
    yield rf"dc(\d)_conv7\.{_LEAF}", r"fusion\1.conv7.\2"


KEYS = {"gengshan-y": tuple(_gengshan())}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
