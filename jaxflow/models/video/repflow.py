"""Representation flow anywhere in a 2-D, 3-D or (2+1)D ResNet: the paper's experiments.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019).

    flow layer, Algorithm 1; flow-of-flow, Sec. 3.3     layers.representation_flow
    placement, fusion, Sec. 4                           Config.location, Config.fusion
    the network                                         Model

The control "TV-L1 twice" is flow-of-flow of the input with nothing that learns.

Weights: of the backbones, torchvision's ResNets trained on ImageNet (BSD-3-Clause).
They saw frames less the mean and deviation of ImageNet, which `mean` and `std` of the
config are for; loaded by their published name they bring them. None are published of
the rest: the nets that the authors released are in repflow_hmdb.py and
repflow_kinetics.py.

Deviations: the paper leaves open what fusion does; here the flow (of fewer frames)
meets the first frames of the features, "layer_multiply" passes it through a 3 x 3
convolution first, and "concat" is followed by a 1 x 1 convolution. Flow of the input is
put back into three channels, which the stem sees. Features are normalised example by
example, so that a batch is its examples; the releases' way is an option.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import (
    basic3d,
    conv,
    dropout,
    representation_flow,
    resnet3d,
    resnet3d_keys,
)

LOCATIONS = ("input", "stem", "stage1", "stage2", "stage3", "stage4")
FLOWS = ("none", "single", "flow_of_flow", "flow_conv_flow")
FUSIONS = ("none", "late", "add", "multiply", "layer_multiply", "concat")
BACKBONES = ("2d", "3d", "2plus1d")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a ResNet with representation flow.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; any other runs.
        head_mode: "logit_mean" returns logits, those of the time steps averaged;
            "softmax_mean", in evaluation, their probabilities.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        backbone: "2d" on every frame, "3d" or "2plus1d".
        bottleneck: Whether blocks are bottlenecks ("2d" only): ResNet-50.
        blocks: Blocks in the four stages.
        width: Channels behind the stem.
        flow: "none" is the backbone alone; "single" one flow layer; "flow_of_flow" and
            "flow_conv_flow" two.
        location: What the flow layer follows. The paper's best is the third block,
            "stage2" here (the first is the stem).
        fusion: How the flow joins the features it is computed of: "none" replaces them;
            "late" gives both networks of their own from here on and averages scores.
        variant: See `representation_flow.FlowLayer`.
        inner_features: Channels that flow is computed of.
        iterations: Of each flow layer.
        learn: What of it learns; see `representation_flow.FlowLayer`.
        normalise_over: "tensor" or "sample"; see `representation_flow.stretch`.
        dropout_rate: Before the classifier.
        mean: Subtracted from RGB in [0, 1].
        std: Divided by.
    """

    num_classes: int = 400
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 2
    frame_rate: float | None = None
    backbone: Literal["2d", "3d", "2plus1d"] = "2d"
    bottleneck: bool = False
    blocks: tuple[int, ...] = basic3d.DEPTHS[34]
    width: int = 64
    flow: Literal["none", "single", "flow_of_flow", "flow_conv_flow"] = "single"
    location: Literal["input", "stem", "stage1", "stage2", "stage3", "stage4"] = (
        "stage2"
    )
    fusion: Literal["none", "late", "add", "multiply", "layer_multiply", "concat"] = (
        "none"
    )
    variant: representation_flow.Variant = "hmdb_release"
    inner_features: int = 32
    iterations: int = 10
    learn: representation_flow.Learn = (0, 1, 1, 1, 1)
    normalise_over: Literal["tensor", "sample"] = "sample"
    dropout_rate: spec.Share = 0.5
    mean: tuple[spec.Number, spec.Number, spec.Number] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    def __post_init__(self):
        spec.check_config(self)


class Fusion(nnx.Module):
    """Joins features and their flow.

    Args:
        features: Channels of both.
        how: "none", "add", "multiply", "layer_multiply" or "concat".
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, how: str, *, rngs: nnx.Rngs):
        self.how = how
        self.layer: Any = nnx.data(None)
        if how == "layer_multiply":
            self.layer = conv.Conv3d(features, features, (1, 3, 3), rngs=rngs)
        elif how == "concat":
            self.layer = conv.Conv3d(2 * features, features, 1, rngs=rngs)

    def __call__(self, x: jax.Array, flow: jax.Array) -> jax.Array:
        """Joins `x`, (B, T, H, W, C), and `flow`, which may have fewer frames."""
        x = x[:, : flow.shape[1]]
        if self.how == "add":
            return x + flow
        if self.how == "multiply":
            return x * flow
        if self.how == "layer_multiply":
            return x * self.layer(flow)
        if self.how == "concat":
            return self.layer(jnp.concatenate([x, flow], axis=-1))
        return flow


class Stem(nnx.Module):
    """The first convolution and, in a 2-D network, a max-pool.

    Args:
        backbone: "2d", "3d" or "2plus1d".
        width: Channels of the output.
        rngs: Source of the initial weights.
    """

    def __init__(self, backbone: str, width: int, *, rngs: nnx.Rngs):
        self.pooled = backbone == "2d"
        step = (1, 2, 2)
        if backbone == "2plus1d":
            self.conv = basic3d.Conv2Plus1D(
                3, 45, width, window=7, strides=step, rngs=rngs
            )
        else:
            window = (1 if backbone == "2d" else 3, 7, 7)
            self.conv = resnet3d.ConvNorm(3, width, window, strides=step, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters `x`, (B, T, H, W, 3)."""
        x = self.conv(x)
        if not self.pooled:
            return x
        return ops.max_pool(x, (1, 3, 3), strides=(1, 2, 2), padding=(0, 1, 1))


class Chain(nnx.Module):
    """Blocks one behind the other.

    Args:
        blocks: The blocks.
    """

    def __init__(self, blocks: Sequence[Any]):
        self.blocks = nnx.data(list(blocks))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`."""
        for block in self.blocks:
            x = block(x)
        return x


def make_parts(config: Config, *, rngs: nnx.Rngs) -> list[nnx.Module]:
    """Returns the stem and the four stages of the backbone."""
    if config.bottleneck:
        stages = [
            resnet3d.Stage(
                config.width * (1 if index == 0 else 2 ** (index + 1)),
                config.width * 2**index,
                (1,) * count,
                stride=1 if index == 0 else 2,
                zero_init=False,
                rngs=rngs,
            )
            for index, count in enumerate(config.blocks)
        ]
    else:
        kinds = (config.backbone,) * len(config.blocks)
        stages = [
            Chain(blocks)
            for blocks in basic3d.stages(config.width, config.blocks, kinds, rngs=rngs)
        ]
    return [Stem(config.backbone, config.width, rngs=rngs), *stages]


class Model(nnx.Module):
    """A ResNet with representation flow: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.deterministic = True
        expansion = 4 if config.bottleneck else 1
        outputs = (expansion * config.width * 2**i for i in range(len(config.blocks)))
        features = (3, config.width, *outputs)
        parts = make_parts(config, rngs=rngs)
        self.cam_layer = f"parts.{len(parts) - 1}"
        self.parts = nnx.data(parts)
        self.place = LOCATIONS.index(config.location)
        self.flow = self.fusion = self.appearance = nnx.data(None)
        if config.flow != "none":
            channels = features[self.place]
            self.flow = make_flow(config, channels, rngs=rngs)
            if config.fusion == "late":
                parts = make_parts(config, rngs=rngs)
                self.appearance = nnx.data(parts[self.place :])
            else:
                self.fusion = Fusion(channels, config.fusion, rngs=rngs)
        self.head = resnet3d.Head(
            features[-1],
            config.num_classes,
            window=None,
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1]. A flow layer takes one frame off, two
                layers take two; at least one must be left where they are.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".

        Raises:
            ValueError: If the clip is too short.
        """
        clip = spec.check_clip(clip)
        mean, std = (
            lax.broadcast_to_rank(jnp.array(values, clip.dtype), clip.ndim)
            for values in (self.config.mean, self.config.std)
        )
        x = ((clip - mean) / std).astype(self.dtype)
        for part in self.parts[: self.place]:
            x = part(x)
        joined = x
        if self.flow is not None:
            flow = self.flow(x)
            joined = flow if self.fusion is None else self.fusion(x, flow)
        for part in self.parts[self.place :]:
            joined = part(joined)
        keys = dropout.split(key, 2)
        scores = self.head(joined, key=keys[0])
        if self.appearance is None:
            return scores
        for part in self.appearance:
            x = part(x)
        return (scores + self.head(x, key=keys[1])) / 2


def make_flow(config: Config, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
    """Returns the flow layer, or the two."""
    settings = {
        "inner_features": config.inner_features,
        "iterations": config.iterations,
        "learn": config.learn,
        "variant": config.variant,
        "normalise_over": config.normalise_over,
        "rngs": rngs,
    }
    if config.flow == "single":
        return representation_flow.RepresentationFlow(features, **settings)
    return representation_flow.FlowConvFlow(
        features, convolve=config.flow == "flow_conv_flow", **settings
    )


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=4,
    blocks=(1, 1),
    width=4,
    flow="flow_conv_flow",
    location="stage1",
    fusion="concat",
    inner_features=2,
    iterations=2,
)

_R18, _R34 = basic3d.DEPTHS[18], basic3d.DEPTHS[34]
_R50, _R101 = resnet3d.DEPTHS[50], resnet3d.DEPTHS[101]
_FIXED: representation_flow.Learn = (0, 0, 0, 0, 0)
_CONTROL: dict[str, Any] = {
    "location": "input",
    "flow": "flow_of_flow",
    "learn": _FIXED,
}
VARIANTS = {
    "resnet18_2d": Config(blocks=_R18, flow="none"),
    "resnet34_2d": Config(flow="none"),
    "resnet50_2d": Config(bottleneck=True, blocks=_R50, flow="none"),
    "resnet101_2d": Config(bottleneck=True, blocks=_R101, flow="none"),
    "repflow_resnet18": Config(blocks=_R18),
    "repflow_resnet34": Config(),
    "repflow_resnet50": Config(
        bottleneck=True, blocks=_R50, num_frames=32, crop_size=224, iterations=20
    ),
    "repflow_r3d_18": Config(backbone="3d", blocks=_R18),
    "repflow_r2plus1d_18": Config(backbone="2plus1d", blocks=_R18),
    "repflow_flow_of_flow_resnet34": Config(flow="flow_of_flow"),
    "repflow_flow_conv_flow_resnet34": Config(flow="flow_conv_flow"),
    "tvl1_resnet34": Config(location="input", learn=_FIXED),
    "tvl1_twice_resnet34": Config(**_CONTROL),
}

_IMAGENET = {
    "num_classes": 1000,
    "crop_size": 224,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def _weights(file: str, num_params: int, top1: float, dialect: str) -> spec.Weights:
    return spec.Weights(
        file=file,
        source="https://download.pytorch.org/models (torchvision)",
        licence="BSD-3-Clause",
        dialect=dialect,
        sha256=file.rpartition("-")[2].removesuffix(".pth"),
        url=f"https://download.pytorch.org/models/{file}",
        config=_IMAGENET,
        num_params=num_params,
        metrics={"imagenet_top1": top1},
        citation="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
    )


WEIGHTS = {
    "resnet18_2d/imagenet": _weights(
        "resnet18-f37072fd.pth", 11_689_512, 69.758, "torchvision"
    ),
    "resnet34_2d/imagenet": _weights(
        "resnet34-b627a593.pth", 21_797_672, 73.314, "torchvision"
    ),
    "resnet50_2d/imagenet": _weights(
        "resnet50-0676ba61.pth", 25_557_032, 76.13, "torchvision_bottleneck"
    ),
    "resnet101_2d/imagenet": _weights(
        "resnet101-63fe2227.pth", 44_549_160, 77.374, "torchvision_bottleneck"
    ),
}

_PAPER = "Piergiovanni and Ryoo, CVPR 2019"
PUBLISHED = {
    "resnet34_2d": spec.Published(source=_PAPER, parameters="21"),
    "resnet50_2d": spec.Published(
        source="mmaction2's README of TSN", parameters="24.33"
    ),
    "repflow_resnet34": spec.Published(source=_PAPER, parameters="21"),
}

_STAGES = [f"parts.{number}" for number in range(1, 5)]
KEYS = {
    "torchvision": resnet3d_keys.image_keys(
        "parts.0.conv", _STAGES, ("first", "second")
    ),
    "torchvision_bottleneck": resnet3d_keys.image_keys("parts.0.conv", _STAGES, "abc"),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
