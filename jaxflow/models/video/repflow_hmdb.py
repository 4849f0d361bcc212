"""Flow-conv-flow in a (2+1)D ResNet: the authors' released code for HMDB.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019), as
published in February 2019 at https://github.com/piergiaj/representation-flow-cvpr19
(commit 787564a, flow_2p1d_resnets.py).

    flow-conv-flow, Sec. 3.3       layers.representation_flow.FlowConvFlow
    the network                    Model

Weights: the link of the authors is dead.

Deviations: none. Kept from the code: the input's sign is inverted; the stem has no
margin in time while strided windows of one frame have; features are normalised over the
whole batch, whose examples therefore depend on each other (`Config.normalise_over`).
Clips of fewer than 16 frames reach the last stages as little but margin.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import representation_flow, resnet3d

BLOCKS = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
SHORTEST = 11


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of the HMDB network.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the head's window is a 32nd of it,
            rounded up.
        head_mode: "logit_mean" returns logits; "softmax_mean" returns, in evaluation,
            probabilities averaged over positions.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        bottleneck: Whether blocks are of three convolutions (ResNet-50), or two (34).
        blocks: Blocks in the four stages.
        width: Channels behind the stem.
        inner_features: Channels that flow is computed of.
        iterations: Of each flow layer.
        learn: What of the flow layers learns; see `representation_flow.FlowLayer`.
        normalise_over: "tensor" or "sample"; see `representation_flow.stretch`.
        dropout_rate: Before the classifier.
        zero_init: Whether the flow's normalisation starts at scale 0.
    """

    num_classes: int = 51
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 2
    frame_rate: float | None = None
    bottleneck: bool = False
    blocks: tuple[int, ...] = BLOCKS[34]
    width: int = 64
    inner_features: int = 32
    iterations: int = 3
    learn: representation_flow.Learn = (0, 1, 1, 1, 1)
    normalise_over: Literal["tensor", "sample"] = "tensor"
    dropout_rate: spec.Share = 0.3
    zero_init: bool = True

    def __post_init__(self):
        spec.check_config(self)


class Block(nnx.Module):
    """Convolutions in space and time, plus the input.

    With two: 1 x 3 x 3, 3 x 3 x 3. With three: 3 x 1 x 1, 1 x 3 x 3, 1 x 1 x 1. The
    strided one steps in time too, and then has a margin of one frame whatever its
    window.

    Args:
        in_features: Channels of the input.
        features: Channels of the convolutions (the last of three has 4 times more).
        bottleneck: Whether there are three.
        stride: Step in t, y and x.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        bottleneck: bool,
        stride: int,
        rngs: nnx.Rngs,
    ):
        margin = 1 if stride > 1 else 0
        out_features = features * (4 if bottleneck else 1)

        unit = functools.partial(resnet3d.ConvNorm, rngs=rngs)
        spatial: dict[str, Any] = {"strides": stride, "padding": (margin, 1, 1)}
        if bottleneck:
            self.units = nnx.data(
                [
                    unit(in_features, features, (3, 1, 1)),
                    unit(features, features, (1, 3, 3), **spatial),
                    unit(features, out_features, 1, relu=False),
                ]
            )
        else:
            self.units = nnx.data(
                [
                    unit(in_features, features, (1, 3, 3), **spatial),
                    unit(features, features, 3, relu=False),
                ]
            )
        self.shortcut = nnx.data(None)
        if stride > 1 or in_features != out_features:
            self.shortcut = unit(
                in_features,
                out_features,
                1,
                relu=False,
                strides=stride,
                padding=(margin, 0, 0),
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        for unit in self.units:
            x = unit(x)
        return jax.nn.relu(x + residual)


def _stage(index: int, config: Config, *, rngs: nnx.Rngs) -> list[Block]:
    """Makes a stage of blocks; each has twice the channels of the one before."""
    features = config.width * 2**index
    expanded = features * (4 if config.bottleneck else 1)
    before = config.width if index == 0 else expanded // 2
    return [
        Block(
            before if block == 0 else expanded,
            features,
            bottleneck=config.bottleneck,
            stride=2 if index > 0 and block == 0 else 1,
            rngs=rngs,
        )
        for block in range(config.blocks[index])
    ]


class Model(nnx.Module):
    """A (2+1)D ResNet with flow-conv-flow behind its second stage."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"stages.{len(config.blocks) - 1}.{config.blocks[-1] - 1}"
        self.deterministic = True
        self.stem = resnet3d.ConvNorm(
            3, config.width, 7, strides=(1, 2, 2), padding=(0, 3, 3), rngs=rngs
        )
        expansion = 4 if config.bottleneck else 1
        self.stages = nnx.data(
            [_stage(index, config, rngs=rngs) for index in range(len(config.blocks))]
        )
        self.flow = representation_flow.FlowConvFlow(
            2 * config.width * expansion,
            inner_features=config.inner_features,
            iterations=config.iterations,
            learn=config.learn,
            variant="hmdb_release",
            normalise_over=config.normalise_over,
            zero_init=config.zero_init,
            rngs=rngs,
        )
        self.head = resnet3d.Head(
            2 ** (len(config.blocks) - 1) * config.width * expansion,
            config.num_classes,
            window=-(-config.crop_size // 32),
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
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last stage's map, (B, T', H / 32, W / 32, C)."""
        clip = spec.check_clip(clip, minimum=(SHORTEST, 1, 1))
        x = self.stem((1 - 2 * clip).astype(self.dtype))
        x = ops.max_pool(x, (3, 3, 3), strides=(2, 2, 2), padding=1)
        for index, stage in enumerate(self.stages):
            for block in stage:
                x = block(x)
            if index == 1:
                x = self.flow(x)
        return x


TINY = Config(
    num_classes=5,
    crop_size=32,
    blocks=(1, 1, 1, 1),
    width=4,
    inner_features=2,
    normalise_over="sample",
    zero_init=False,
)

VARIANTS = {
    "repflow_hmdb_resnet34": Config(),
    "repflow_hmdb_resnet50": Config(bottleneck=True, iterations=10),
}
RENAMED = {
    f"repflow_resnet{depth}_787564a": f"repflow_hmdb_resnet{depth}"
    for depth in (34, 50)
}

WEIGHTS = {}

_NORM = "weight|bias|running_mean|running_var"


def _keys():
    yield r"conv1\.weight", "stem.conv.weight"
    yield rf"bn1\.({_NORM})", r"stem.norm.\1"
    for stage in range(4):
        block, ours = rf"layer{stage + 1}\.(\d+)", rf"stages.{stage}.\1"
        yield rf"{block}\.downsample\.0\.weight", rf"{ours}.shortcut.conv.weight"
        yield rf"{block}\.downsample\.1\.({_NORM})", rf"{ours}.shortcut.norm.\2"
        for number in range(3):
            unit = rf"{ours}.units.{number}"
            yield rf"{block}\.conv{number + 1}\.weight", rf"{unit}.conv.weight"
            yield rf"{block}\.bn{number + 1}\.({_NORM})", rf"{unit}.norm.\2"
    for suffix, ours in (("", "first"), ("2", "second")):
        yield rf"flow_cmp{suffix}\.weight", f"flow.{ours}.reduce.weight"
        yield rf"flow_conv{suffix}\.weight", f"flow.{ours}.expand.weight"
        yield rf"flow_layer{suffix}\.(\w+)", rf"flow.{ours}.flow.\1"
    yield rf"bnf\.({_NORM})", r"flow.norm.\1"
    yield r"fc\.(weight|bias)", r"head.projection.\1"


KEYS = {"representation_flow": tuple(_keys())}
# The code keeps numbers that do not learn out of its checkpoints.
OPTIONAL = (r"flow\.(first|second)\.flow\.\w+",)

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    renamed=RENAMED,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
)
