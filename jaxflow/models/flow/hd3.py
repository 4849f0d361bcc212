"""HD3: hierarchical discrete distribution decomposition.

Yin, Darrell, Yu, "Hierarchical Discrete Distribution Decomposition for Match Density
Estimation" (CVPR 2019).

    match density, Sec. 3.1            Prediction.logits: 9 x 9 displacements a level
    density to vector, Sec. 3.3        density_to_vector
    decoder with HDA, Fig. 4           HDAMapping, Decoder
    context module (HD3-C)             ContextDecoder
    encoder                            DLAUp: Yu et al., "Deep Layer Aggregation" (2018)

Weights: ucbdrive/hd3 (BSD-3).

Deviations: none in the numbers. As in the official code, some weights exist without
effect, so that checkpoints convert whole: the projection of two-level trees, whose
inner tree projects again, and the half-size output of the aggregation, which no level
reads. They are listed in `OPTIONAL`.
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, norm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LEVELS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an HD3.

    Attributes:
        encoder: "dlaup" or "vgg".
        planes: Channels of the encoder's levels: for dlaup from full size to 1/64, for
            vgg from 1/2 to 1/64.
        decoder: "hda" (both blocks are aggregated) or "resnet" (one after the other).
        context: Whether the finest level is decoded by dilated convolutions.
        hidden: Channels of the decoders.
        radius: Largest displacement of a level's density, in pixels of the level.
    """

    encoder: Literal["dlaup", "vgg"] = "dlaup"
    planes: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 512)
    decoder: Literal["hda", "resnet"] = "hda"
    context: bool = False
    hidden: int = 128
    radius: int = 4

    def __post_init__(self):
        spec.check_config(self)


class Prediction(NamedTuple):
    """What the network says, level by level, coarse to fine.

    Attributes:
        flows: Flow, (B, h, w, 2), in pixels of the level.
        logits: Unnormalised log-density of the residual displacement, (B, h, w, D^2),
            row by row: dy slow, dx fast, from -radius to radius.
        starts: Flow that the residual adds to, alike `flows`.
    """

    flows: list
    logits: list
    starts: list


class ConvNorm(nnx.Module):
    """A convolution without bias, batch normalisation, and ReLU."""

    def __init__(self, in_features, features, kernel_size=3, *, rngs, **options):
        self.conv = conv.Conv(
            in_features, features, kernel_size, use_bias=False, rngs=rngs, **options
        )
        self.norm = norm.BatchNorm(features)

    def __call__(self, x: jax.Array, *, activate: bool = True) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H', W', C_out)."""
        x = self.norm(self.conv(x))
        return nnx.relu(x) if activate else x


class BasicBlock(nnx.Module):
    """Two normalised 3x3 convolutions and a residual from outside."""

    def __init__(self, in_features, features, *, strides=1, rngs):
        plain = {"use_bias": False, "rngs": rngs}
        self.conv1 = conv.Conv(in_features, features, strides=strides, **plain)
        self.bn1 = norm.BatchNorm(features)
        self.conv2 = conv.Conv(features, features, **plain)
        self.bn2 = norm.BatchNorm(features)

    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / strides, W / strides, C_out)."""
        x = nnx.relu(self.bn1(self.conv1(x)))
        return nnx.relu(self.bn2(self.conv2(x)) + residual)


class Root(nnx.Module):
    """Aggregates several features of one size by a 1x1 convolution."""

    def __init__(self, in_features, features, *, rngs):
        self.conv = conv.Conv(in_features, features, 1, use_bias=False, rngs=rngs)
        self.bn = norm.BatchNorm(features)

    def __call__(self, *xs: jax.Array) -> jax.Array:
        """Maps features (B, H, W, C_i) to (B, H, W, C_out)."""
        return nnx.relu(self.bn(self.conv(jnp.concatenate(xs, axis=-1))))


class Tree(nnx.Module):
    """A binary tree of blocks whose leaves meet in one root (DLA, Sec. 3.2).

    Args:
        depth: 1 for two blocks, 2 for two trees of them.
        in_features: Channels in.
        features: Channels out.
        strides: 2 halves the size.
        level_root: Whether the (pooled) input reaches the root too.
        extra_features: Channels that reach the root from outside.
        rngs: Source of the initial weights.
    """

    tree1: nnx.Module
    tree2: nnx.Module

    def __init__(
        self,
        depth: int,
        in_features: int,
        features: int,
        *,
        strides: int = 1,
        level_root: bool = False,
        extra_features: int = 0,
        rngs: nnx.Rngs,
    ):
        self.depth, self.strides, self.level_root = depth, strides, level_root
        extra = extra_features + (in_features if level_root else 0)
        if depth == 1:
            self.tree1 = BasicBlock(in_features, features, strides=strides, rngs=rngs)
            self.tree2 = BasicBlock(features, features, rngs=rngs)
            self.root = Root(2 * features + extra, features, rngs=rngs)
        else:
            self.tree1 = Tree(1, in_features, features, strides=strides, rngs=rngs)
            self.tree2 = Tree(
                1, features, features, extra_features=extra + features, rngs=rngs
            )
        self.project = (
            ConvNorm(in_features, features, 1, rngs=rngs)
            if in_features != features
            else nnx.data(None)
        )

    def __call__(self, x: jax.Array, children: tuple = ()) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / strides, W / strides, C_out)."""
        bottom = ops.max_pool(x, 2, strides=2) if self.strides > 1 else x
        if self.level_root:
            children = (*children, bottom)
        if self.depth == 2:
            x1 = self.tree1(x)
            return self.tree2(x1, (*children, x1))
        residual = (
            bottom if self.project is None else self.project(bottom, activate=False)
        )
        x1 = self.tree1(x, residual)
        x2 = self.tree2(x1, x1)
        return self.root(x2, x1, *children)


class DLA(nnx.Module):
    """DLA-34 with a seventh level."""

    def __init__(self, planes: tuple[int, ...], *, rngs: nnx.Rngs):
        self.base_layer = ConvNorm(3, planes[0], 7, rngs=rngs)
        self.level0 = ConvNorm(planes[0], planes[0], rngs=rngs)
        self.level1 = ConvNorm(planes[0], planes[1], strides=2, rngs=rngs)
        for level, depth in ((2, 1), (3, 2), (4, 2), (5, 1), (6, 1)):
            tree = Tree(
                depth,
                planes[level - 1],
                planes[level],
                strides=2,
                level_root=level > 2,
                rngs=rngs,
            )
            setattr(self, f"level{level}", tree)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of 1/2 to 1/64 of the size."""
        x = self.level0(self.base_layer(x))
        levels = []
        for level in range(1, 7):
            x = getattr(self, f"level{level}")(x)
            levels.append(x)
        return levels


class IDAUp(nnx.Module):
    """Fuses features of one size with the twice as large ones before them."""

    def __init__(self, before: tuple[int, ...], features: int, *, rngs: nnx.Rngs):
        self.depth = len(before)
        for i, width in enumerate(before, start=1):
            proj = (
                ConvNorm(width, features, 1, rngs=rngs)
                if width != features
                else nnx.data(None)
            )
            setattr(self, f"proj_{i}", proj)
            up = conv.ConvTranspose(
                features, features, groups=features, use_bias=False, rngs=rngs
            )
            setattr(self, f"up_{i}", up)
            setattr(self, f"node_{i}", ConvNorm(2 * features, features, rngs=rngs))

    def __call__(self, layers: list[jax.Array]) -> list[jax.Array]:
        """Returns the fused features, each better than the last."""
        x, fused = layers[0], []
        for i, layer in enumerate(layers[1:], start=1):
            proj = getattr(self, f"proj_{i}")
            layer = layer if proj is None else proj(layer)
            layer = getattr(self, f"up_{i}")(layer)
            x = getattr(self, f"node_{i}")(jnp.concatenate([x, layer], axis=-1))
            fused.append(x)
        return fused


class DLAUp(nnx.Module):
    """Aggregates the levels of a DLA from coarse to fine."""

    def __init__(self, planes: tuple[int, ...], *, rngs: nnx.Rngs):
        widths = list(planes[1:])
        self.depth = len(widths) - 1
        for i in range(self.depth):
            features = widths[-i - 2]
            before = tuple(widths[-i - 1 :])
            setattr(self, f"ida_{i}", IDAUp(before, features, rngs=rngs))
            widths[-i - 1 :] = [features] * (i + 1)

    def __call__(self, levels: list[jax.Array], count: int) -> list[jax.Array]:
        """Returns `count` feature maps: the coarsest level, then each fused one."""
        layers, outputs = list(levels), [levels[-1]]
        for i in range(count - 1):
            fused = getattr(self, f"ida_{i}")(layers[-i - 2 :])
            layers[-i - 1 :] = fused
            outputs.append(fused[-1])
        return outputs


class DLAUpEncoder(nnx.Module):
    """The "dlaup" encoder."""

    def __init__(self, planes: tuple[int, ...], *, rngs: nnx.Rngs):
        self.base = DLA(planes, rngs=rngs)
        self.dla_up = DLAUp(planes, rngs=rngs)
        self.features = (planes[6], *planes[5:1:-1])

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of 1/64 to 1/4 of the size."""
        return self.dla_up(self.base(x), LEVELS)


class VGGBlock(nnx.Module):
    """Three normalised convolutions, the first with stride 2."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        for i in range(1, 4):
            layer = conv.Conv(
                in_features if i == 1 else features,
                features,
                strides=2 if i == 1 else 1,
                use_bias=False,
                rngs=rngs,
            )
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", norm.BatchNorm(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / 2, W / 2, C_out)."""
        for i in range(1, 4):
            x = nnx.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return x


class VGGEncoder(nnx.Module):
    """The "vgg" encoder."""

    def __init__(self, planes: tuple[int, ...], *, rngs: nnx.Rngs):
        before = 3
        for i, width in enumerate(planes):
            setattr(self, f"block_{i}", VGGBlock(before, width, rngs=rngs))
            before = width
        self.depth = len(planes)
        self.features = planes[: -LEVELS - 1 : -1]

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of 1/64 to 1/4 of the size."""
        levels = []
        for i in range(self.depth):
            x = getattr(self, f"block_{i}")(x)
            levels.append(x)
        return levels[: -LEVELS - 1 : -1]


class PreActBlock(nnx.Module):
    """A residual block that normalises before it convolves.

    Args:
        in_features: Channels in; where they differ from `features`, the block starts
            without normalisation and its shortcut is convolved.
        features: Channels out.
        rngs: Source of the initial weights.
    """

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, first: bool):
        plain = {"use_bias": False, "rngs": rngs}
        self.bn1 = nnx.data(None) if first else norm.BatchNorm(in_features)
        self.conv1 = conv.Conv(in_features, features, **plain)
        self.bn2 = norm.BatchNorm(features)
        self.conv2 = conv.Conv(features, features, **plain)
        self.shortcut = (
            conv.Conv(in_features, features, 1, **plain) if first else nnx.data(None)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, in_features) to (B, H, W, features)."""
        active = x if self.bn1 is None else nnx.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        y = self.conv2(nnx.relu(self.bn2(self.conv1(active))))
        return y + shortcut


class Mapping(nnx.Module):
    """Two residual blocks; "hda" aggregates both, "resnet" takes the second."""

    def __init__(self, kind: str, in_features: int, features: int, *, rngs: nnx.Rngs):
        self.block1 = PreActBlock(in_features, features, first=True, rngs=rngs)
        self.block2 = PreActBlock(features, features, first=False, rngs=rngs)
        self.root_norm = self.root_conv = nnx.data(None)
        if kind == "hda":
            self.root_norm = norm.BatchNorm(2 * features)
            self.root_conv = conv.Conv(
                2 * features, features, 1, use_bias=False, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, in_features) to (B, h, w, features)."""
        y1 = self.block1(x)
        y2 = self.block2(y1)
        if self.root_norm is None or self.root_conv is None:
            return y2
        both = jnp.concatenate([y1, y2], axis=-1)
        return self.root_conv(nnx.relu(self.root_norm(both)))


class Decoder(nnx.Module):
    """Predicts a level's density, and features for the next."""

    def __init__(self, config: Config, in_features: int, *, up: bool, rngs: nnx.Rngs):
        hidden, classes = config.hidden, (2 * config.radius + 1) ** 2
        self.mapping = Mapping(config.decoder, in_features, hidden, rngs=rngs)
        self.cls_norm = norm.BatchNorm(hidden)
        self.cls_conv = conv.Conv(hidden, classes, 1, rngs=rngs)
        self.up_norm1 = self.up_conv = self.up_norm2 = nnx.data(None)
        if up:
            self.up_norm1 = norm.BatchNorm(hidden)
            self.up_conv = conv.ConvTranspose(
                hidden, classes, use_bias=False, rngs=rngs
            )
            self.up_norm2 = norm.BatchNorm(classes)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns logits, (B, h, w, D^2), and features, (B, 2h, 2w, D^2), or None."""
        x = self.mapping(x)
        logits = self.cls_conv(nnx.relu(self.cls_norm(x)).astype(jnp.float32))
        if self.up_norm1 is None or self.up_conv is None or self.up_norm2 is None:
            return logits, None
        up = self.up_conv(nnx.relu(self.up_norm1(x)))
        return logits, nnx.relu(self.up_norm2(up))


class ContextDecoder(nnx.Module):
    """Predicts the finest level's density by dilated convolutions."""

    def __init__(self, config: Config, in_features: int, *, rngs: nnx.Rngs):
        self.dilations = (1, 1, 2, 4, 8, 16, 1)
        for i, dilation in enumerate(self.dilations):
            layer = ConvNorm(
                config.hidden if i else in_features,
                config.hidden,
                dilation=dilation,
                rngs=rngs,
            )
            setattr(self, f"dc_conv_{i}", layer)
        classes = (2 * config.radius + 1) ** 2
        self.cls_conv = conv.Conv(config.hidden, classes, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, None]:
        """Returns logits, (B, h, w, D^2), and None."""
        for i in range(len(self.dilations)):
            x = getattr(self, f"dc_conv_{i}")(x)
        return self.cls_conv(x.astype(jnp.float32)), None


class Model(nnx.Module):
    """HD3.

    It predicts flow at five levels, 1/64 to 1/4 of the size; its flow is the finest of
    them, bilinearly up-sampled. Its confidence is the probability of the finest level's
    densest 2x2 cell, see `density_to_confidence`. `predict` gives the densities, which
    the network is trained by.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(
            multiple=64,
            fit="resize_nearest",
            method="align_corners",
            flow_method="align_corners",
            flow_source="finest",
        )
        encoder = DLAUpEncoder if config.encoder == "dlaup" else VGGEncoder
        self.encoder = encoder(config.planes, rngs=rngs)
        classes = (2 * config.radius + 1) ** 2
        for level, features in enumerate(self.encoder.features):
            setattr(self, f"cost_bn_{level}", norm.BatchNorm(classes))
            inputs = classes if level == 0 else 2 * classes + features + 2
            last = level == LEVELS - 1
            decoder = (
                ContextDecoder(config, inputs, rngs=rngs)
                if config.context and last
                else Decoder(config, inputs, up=not last, rngs=rngs)
            )
            setattr(self, f"decoder_{level}", decoder)

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        size = image1.shape[-3:-1]
        said = self.predict(image1, image2)
        sure = density_to_confidence(said.logits[-1], radius=self.config.radius)
        return spec.Flow(
            ops.resize_flow(said.flows[-1], size, align_corners=True),
            tuple(said.flows),
            confidence=ops.resize(sure[..., None], size, align_corners=True)[..., 0],
        )

    def predict(self, image1: jax.Array, image2: jax.Array) -> Prediction:
        """Estimates the density of each level.

        Args:
            image1: Frame 1, (B, H, W, 3) in [0, 1].
            image2: Frame 2, alike.

        Returns:
            Flow, logits and starts of the five levels, 1/64 to 1/4 of the size.
        """
        batch = image1.shape[0]
        images = jnp.concatenate([image1, image2]).astype(jnp.float32)
        mean, std = jnp.array([MEAN, STD], jnp.float32)[:, None, None, None]
        images = ((images - mean) / std).astype(self.dtype)
        prediction = Prediction([], [], [])
        up_features = flow = None
        for level, features in enumerate(self.encoder(images)):
            f1, f2 = features[:batch], features[batch:]
            start = jnp.zeros((*f1.shape[:-1], 2), jnp.float32)
            if flow is not None:
                start = 2 * ops.resize(flow, f1.shape[-3:-1], align_corners=True)
                f2 = ops.backward_warp(f2, start, padding="border", mask=0.9999)
            # In float32 from here: the densest cell chooses the match.
            cost = ops.local_correlation(f1, f2, radius=self.config.radius)
            x = getattr(self, f"cost_bn_{level}")(cost.astype(jnp.float32))
            if up_features is not None:
                f1 = f1.astype(jnp.float32)
                x = jnp.concatenate([x, f1, up_features, start], axis=-1)
            logits, up_features = getattr(self, f"decoder_{level}")(x)
            flow = start + density_to_vector(logits, radius=self.config.radius)
            prediction.flows.append(flow)
            prediction.logits.append(logits)
            prediction.starts.append(start)
        return prediction


def density_to_vector(logits: jax.Array, *, radius: int) -> jax.Array:
    """Returns the mean displacement over the densest 2x2 cell (Sec. 3.3).

    Args:
        logits: Unnormalised log-density, (*B, h, w, D^2) with D = 2 radius + 1; dy
            slow, dx fast.
        radius: Largest displacement.

    Returns:
        Displacement, (*B, h, w, 2), in pixels, in float32; the choice of the cell has
        no gradient.
    """
    side = 2 * radius + 1
    cells = _cells(logits, side)
    best = jnp.argmax(jnp.mean(cells, axis=-1), axis=-1)
    corners = jnp.take_along_axis(cells, best[..., None, None], axis=-2)[..., 0, :]
    corners = corners / jnp.sum(corners, axis=-1, keepdims=True)
    left = corners[..., 0] + corners[..., 2]
    top = corners[..., 0] + corners[..., 1]
    x = best % (side - 1) - radius
    y = best // (side - 1) - radius
    return jnp.stack(
        [x.astype(jnp.float32) + 1 - left, y.astype(jnp.float32) + 1 - top], axis=-1
    )


def density_to_confidence(logits: jax.Array, *, radius: int) -> jax.Array:
    """Returns the probability of the densest 2x2 cell, which the vector comes from.

    The official code draws it as its map of confidence.

    Args:
        logits: Unnormalised log-density, (*B, h, w, D^2) with D = 2 radius + 1.
        radius: Largest displacement.

    Returns:
        Probabilities, (*B, h, w), in float32.
    """
    cells = jnp.sum(_cells(logits, 2 * radius + 1), axis=-1)
    # Rounding can take a sum of probabilities beyond 1.
    return jnp.minimum(jnp.max(cells, axis=-1), 1)


def _cells(logits: jax.Array, side: int) -> jax.Array:
    """Returns the probabilities in each 2x2 cell, (*B, h, w, (side - 1)^2, 4)."""
    density = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    square = density.reshape(*density.shape[:-1], side, side)
    cells = jnp.stack(
        [
            square[..., dy : side - 1 + dy, dx : side - 1 + dx]
            for dy in (0, 1)
            for dx in (0, 1)
        ],
        axis=-1,
    )
    return cells.reshape(*density.shape[:-1], (side - 1) ** 2, 4)


TINY = Config(
    encoder="dlaup", planes=(2, 4, 4, 4, 4, 8, 8), hidden=8, radius=2, context=True
)

# At 1/64 of the size, batch statistics need more than one pixel.
TINY_SIZE = (128, 192)

VARIANTS = {
    "hd3_dlaup_hda": Config(),
    "hd3c_dlaup_hda": Config(context=True),
    "hd3_vgg_resnet": Config(
        encoder="vgg", planes=(16, 32, 64, 96, 128, 196), decoder="resnet"
    ),
}

# Weights that exist in the official checkpoints and have no effect.
OPTIONAL = (r"encoder\.base\.level[34]\.project\..*", r"encoder\.dla_up\.ida_4\..*")

_SOURCE = "https://github.com/ucbdrive/hd3"
# README.md of the repository states no terms, so these are fetched by hand.
WEIGHTS = {
    f"{variant}/{data}": spec.Weights(
        file=f"{prefix}_{data}-{digest}.pth",
        source=f"{_SOURCE}, http://dl.yf.io/hd3/models/{prefix}_{data}-{digest}.pth",
        licence="see the repository",
        dialect="ucbdrive",
        sha256=digest,
        num_params=count,
        citation="Yin et al., HD3, CVPR 2019",
    )
    for variant, prefix, count, data, digest in (
        ("hd3_dlaup_hda", "hd3f", 39_561_975, "chairs", "04bf114d"),
        ("hd3_dlaup_hda", "hd3f", 39_561_975, "chairs_things", "462a3896"),
        ("hd3_dlaup_hda", "hd3f", 39_561_975, "chairs_things_kitti", "41b15827"),
        ("hd3_dlaup_hda", "hd3f", 39_561_975, "chairs_things_sintel", "5b4ad51a"),
        ("hd3c_dlaup_hda", "hd3fc", 39_942_647, "chairs", "1367436d"),
        ("hd3c_dlaup_hda", "hd3fc", 39_942_647, "chairs_things", "0b92a7f5"),
        ("hd3c_dlaup_hda", "hd3fc", 39_942_647, "chairs_things_kitti", "bfa97911"),
        ("hd3c_dlaup_hda", "hd3fc", 39_942_647, "chairs_things_sintel", "0be17c83"),
    )
}

_LEAF = r"(weight|bias|running_mean|running_var)"
_HEAD = r"(?:hd3net\.)?"
KEYS = {
    "ucbdrive": (
        (r".*\.num_batches_tracked", None),
        (
            rf"{_HEAD}(encoder\..*(?:base_layer|level[01]|project|proj_\d|node_\d))"
            rf"\.0\.{_LEAF}",
            r"\1.conv.\2",
        ),
        (
            rf"{_HEAD}(encoder\..*(?:base_layer|level[01]|project|proj_\d|node_\d))"
            rf"\.1\.{_LEAF}",
            r"\1.norm.\2",
        ),
        (
            rf"{_HEAD}(encoder\..*\.(?:conv\d?|bn\d?|up_\d))\.{_LEAF}",
            r"\1.\2",
        ),
        (rf"{_HEAD}(cost_bn_\d)\.{_LEAF}", r"\1.\2"),
        (
            rf"{_HEAD}Decoder_(\d)\.(mapping\.block\d\.(?:conv|bn)\d)\.{_LEAF}",
            r"decoder_\1.\2.\3",
        ),
        (
            rf"{_HEAD}Decoder_(\d)\.(mapping\.block\d\.shortcut)\.0\.{_LEAF}",
            r"decoder_\1.\2.\3",
        ),
        (
            rf"{_HEAD}Decoder_(\d)\.mapping\.root\.0\.{_LEAF}",
            r"decoder_\1.mapping.root_norm.\2",
        ),
        (
            rf"{_HEAD}Decoder_(\d)\.mapping\.root\.2\.{_LEAF}",
            r"decoder_\1.mapping.root_conv.\2",
        ),
        (rf"{_HEAD}Decoder_(\d)\.cls\.0\.{_LEAF}", r"decoder_\1.cls_norm.\2"),
        (rf"{_HEAD}Decoder_(\d)\.cls(?:\.2)?\.{_LEAF}", r"decoder_\1.cls_conv.\2"),
        (rf"{_HEAD}Decoder_(\d)\.up\.0\.{_LEAF}", r"decoder_\1.up_norm1.\2"),
        (rf"{_HEAD}Decoder_(\d)\.up\.2\.{_LEAF}", r"decoder_\1.up_conv.\2"),
        (rf"{_HEAD}Decoder_(\d)\.up\.3\.{_LEAF}", r"decoder_\1.up_norm2.\2"),
        (rf"{_HEAD}Decoder_(\d)\.(dc_conv_\d)\.0\.{_LEAF}", r"decoder_\1.\2.conv.\3"),
        (rf"{_HEAD}Decoder_(\d)\.(dc_conv_\d)\.1\.{_LEAF}", r"decoder_\1.\2.norm.\3"),
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    tiny_size=TINY_SIZE,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
)
