"""Representation flow in a (2+1)D ResNet-50: the authors' released Kinetics network.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019), as
published in June 2019 at https://github.com/piergiaj/representation-flow-cvpr19
(commit b9dcb0a, kinetics_2p1d_model.py, rep_flow_layer.py).

    representation flow       layers.representation_flow, variant "kinetics_release"
    the network               Model

Weights: the link of the authors is dead.

Deviations: none. Kept from the code: its flow layer sums over channels and
differentiates the flow vertically only, which makes more than one iteration chaotic
(float32 differs from float64 by a percent after five); projections are normalised
twice.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import inception3d, norm, representation_flow, resnet3d

SHORTEST = 11


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of the Kinetics network.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips it is published for; the head averages all.
        head_mode: "logit_mean" returns logits; "softmax_mean", in evaluation,
            probabilities averaged over time steps.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        blocks: Bottlenecks in the four stages.
        width: Channels behind the stem.
        inner_features: Channels that flow is computed of.
        iterations: Of the flow layer.
        learn: What of the flow layer learns; see `representation_flow.FlowLayer`.
        normalise_over: "tensor" or "sample"; see `representation_flow.stretch`.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 32
    frame_stride: int = 2
    frame_rate: float | None = None
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    width: int = 64
    inner_features: int = 32
    iterations: int = 10
    learn: representation_flow.Learn = (1, 1, 1, 1, 1)
    normalise_over: Literal["tensor", "sample"] = "tensor"
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)


class Projection(nnx.Module):
    """A strided 1 x 1 x 1 convolution, normalised twice, as old checkpoints have it.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        stride: Step in y and x.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, in_features: int, out_features: int, *, stride: int, rngs: nnx.Rngs
    ):
        self.first = resnet3d.ConvNorm(
            in_features,
            out_features,
            1,
            strides=(1, stride, stride),
            relu=False,
            rngs=rngs,
        )
        self.second = norm.BatchNorm(out_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Projects `x`, (B, T, H, W, C_in)."""
        return self.second(self.first(x))


class Block(nnx.Module):
    """T x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1 convolutions with "SAME" margins.

    Args:
        in_features: Channels of the input.
        features: Channels of the first two; the last has 4 times more.
        window: Size T.
        stride: Step in y and x of the second.
        project: Whether the shortcut is a `Projection`.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        window: int,
        stride: int,
        project: bool,
        rngs: nnx.Rngs,
    ):
        self.a = resnet3d.ConvNorm(in_features, features, (window, 1, 1), rngs=rngs)
        self.b = resnet3d.ConvNorm(
            features,
            features,
            (1, 3, 3),
            strides=(1, stride, stride),
            padding="same",
            rngs=rngs,
        )
        self.c = resnet3d.ConvNorm(features, 4 * features, 1, relu=False, rngs=rngs)
        self.shortcut = nnx.data(None)
        if project:
            self.shortcut = Projection(
                in_features, 4 * features, stride=stride, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(self.c(self.b(self.a(x))) + residual)


def _stage(index: int, config: Config, *, rngs: nnx.Rngs) -> list[Block]:
    """Makes a stage of blocks; each has twice the channels of the one before."""
    features = config.width * 2**index
    before = config.width if index == 0 else 2 * features
    return [
        Block(
            before if block == 0 else 4 * features,
            features,
            # 3, then 3, 1, 3, 1, ...
            window=3 if block == 0 or block % 2 else 1,
            stride=2 if index > 0 and block == 0 else 1,
            project=block == 0,
            rngs=rngs,
        )
        for block in range(config.blocks[index])
    ]


class Model(nnx.Module):
    """A (2+1)D ResNet with representation flow behind its second stage."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"stages.{len(config.blocks) - 1}.{config.blocks[-1] - 1}"
        self.deterministic = True
        self.stem = resnet3d.ConvNorm(
            3,
            config.width,
            7,
            strides=2,
            padding=0,
            epsilon=1e-3,
            momentum=0.01,
            rngs=rngs,
        )
        self.stages = nnx.data(
            [_stage(index, config, rngs=rngs) for index in range(len(config.blocks))]
        )
        self.flow = representation_flow.RepresentationFlow(
            8 * config.width,
            inner_features=config.inner_features,
            iterations=config.iterations,
            learn=config.learn,
            variant="kinetics_release",
            normalise_over=config.normalise_over,
            rngs=rngs,
        )
        self.head = resnet3d.Head(
            2 ** (len(config.blocks) + 1) * config.width,
            config.num_classes,
            window=None,
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], of at least 11 frames.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".

        Raises:
            ValueError: If the clip is too short.
        """
        x = self.features(clip)
        return self.head(jnp.mean(x, axis=(2, 3), keepdims=True), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last stage's map, (B, T', H / 32, W / 32, C)."""
        clip = spec.check_clip(clip, minimum=(SHORTEST, 7, 7))
        x = self.stem((2 * clip - 1).astype(self.dtype))
        x = inception3d.max_pool(x, (3, 3, 3), (2, 2, 2), same=True)
        for index, stage in enumerate(self.stages):
            for block in stage:
                x = block(x)
            if index == 1:
                x = self.flow(x)
        return x


TINY = Config(
    num_classes=5,
    crop_size=64,
    num_frames=19,
    blocks=(1, 1, 1, 1),
    width=4,
    inner_features=2,
    iterations=1,
    normalise_over="sample",
)

VARIANTS = {"repflow_kinetics_resnet50": Config()}
RENAMED = {"repflow_kinetics_head": "repflow_kinetics_resnet50"}

WEIGHTS = {}

_NORM = "weight|bias|running_mean|running_var"


def _keys():
    yield r"stem\.weight", "stem.conv.weight"
    yield rf"bn1\.({_NORM})", r"stem.norm.\1"
    for stage in range(4):
        block, ours = rf"res{stage + 2}\.blocks\.(\d+)", rf"stages.{stage}.\1"
        yield rf"{block}\.shortcut\.1\.weight", rf"{ours}.shortcut.first.conv.weight"
        yield rf"{block}\.shortcut\.2\.({_NORM})", rf"{ours}.shortcut.first.norm.\2"
        yield rf"{block}\.shortcut\.3\.({_NORM})", rf"{ours}.shortcut.second.\2"
        for number, name in ((1, "a"), (5, "b"), (8, "c")):
            layers = rf"{block}\.layers"
            yield rf"{layers}\.{number}\.weight", rf"{ours}.{name}.conv.weight"
            yield rf"{layers}\.{number + 1}\.({_NORM})", rf"{ours}.{name}.norm.\2"
    yield r"rep_flow\.bottleneck\.weight", "flow.reduce.weight"
    yield r"rep_flow\.unbottleneck\.weight", "flow.expand.weight"
    yield rf"rep_flow\.bn\.({_NORM})", r"flow.norm.\1"
    yield r"rep_flow\.(\w+)", r"flow.flow.\1"
    yield r"classify\.(weight|bias)", r"head.projection.\1"


KEYS = {"representation_flow": tuple(_keys())}
# The code keeps numbers that do not learn out of its checkpoints.
OPTIONAL = (r"flow\.flow\.\w+",)

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    renamed=RENAMED,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
)
