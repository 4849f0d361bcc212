"""STC: 3-D ResNets whose blocks weigh channels by what they are in space and time.

Diba, Fayyaz, Sharma, Arzani, Yousefzadeh, Gall, Van Gool, "Spatio-Temporal Channel
Correlation Networks for Action Classification" (ECCV 2018).

    spatial and temporal correlation branch, Sec. 3.1   ChannelCorrelation
    STC-ResNet, Sec. 3.2                                Model

The networks around the block are those of Hara, Kataoka, Satoh, "Can Spatiotemporal 3D
CNNs Retrace the History of 2D CNNs and ImageNet?" (CVPR 2018). No weights are
published.

Deviations: the authors publish no code. That the temporal branch joins the channels of
all its frames in one dense layer, its hidden units, as many as the spatial branch's,
and that the block stands before each shortcut's sum are our reading.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, resnet3d

EXPANSION = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an STC-ResNet.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips it is published for; any other runs.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        num_frames: Frames of a clip, which the temporal branches fix.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        blocks: Bottlenecks in the four stages.
        width: Channels behind the stem.
        reduction: Channels to one hidden unit of the block; 0 for a network without.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 2
    frame_rate: float | None = None
    blocks: tuple[int, ...] = resnet3d.DEPTHS[101]
    width: int = 64
    reduction: spec.Count = 4
    dropout_rate: spec.Share = 0.0

    def __post_init__(self):
        spec.check_config(self)
        if self.reduction > self.width * EXPANSION:
            raise ValueError(
                f"`reduction` must be at most {EXPANSION} times `width`, "
                f"{self.width * EXPANSION}; got {self.reduction}"
            )


class ChannelCorrelation(nnx.Module):
    """Weighs channels by their means over space and time (Sec. 3.1).

        z_s = mean of x over t, y, x      (C)        spatial branch
        z_t = mean of x over y, x         (T C)      temporal branch
        s   = sigmoid(W2 relu(W1 z))      (C), each branch with its own weights
        x  -> (s_s x + s_t x) / 2

    Args:
        features: Channels C.
        frames: Frames T that arrive here.
        hidden: Units of each branch.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, frames: int, hidden: int, *, rngs: nnx.Rngs):
        self.frames = frames
        self.spatial_1 = conv.Linear(features, hidden, rngs=rngs)
        self.spatial_2 = conv.Linear(hidden, features, rngs=rngs)
        self.temporal_1 = conv.Linear(frames * features, hidden, rngs=rngs)
        self.temporal_2 = conv.Linear(hidden, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Weighs `x`, (B, T, H, W, C).

        Raises:
            ValueError: If there are more or fewer frames than the branch is built for.
        """
        if x.shape[1] != self.frames:
            raise ValueError(
                f"`x` must have the {self.frames} frames that the temporal branch is "
                f"built for; got {x.shape[1]}"
            )
        by_frame = jnp.mean(x, axis=(2, 3))  # (B, T, C)
        space = jax.nn.relu(self.spatial_1(jnp.mean(by_frame, axis=1)))
        time = jax.nn.relu(self.temporal_1(by_frame.reshape(x.shape[0], -1)))
        weight = jax.nn.sigmoid(self.spatial_2(space))
        weight = 0.5 * (weight + jax.nn.sigmoid(self.temporal_2(time)))
        return x * weight[:, None, None, None, :]


class Bottleneck(nnx.Module):
    """1 x 1 x 1, 3 x 3 x 3 and 1 x 1 x 1 convolutions, weighed, plus the input.

    Args:
        in_features: Channels of the input.
        inner: Channels of the first two convolutions; the output has four times more.
        stride: Step in t, y and x, of the 3 x 3 x 3 convolution.
        frames: Frames of the output, for the channel correlation.
        reduction: See `Config`.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        inner: int,
        *,
        stride: int,
        frames: int,
        reduction: int,
        rngs: nnx.Rngs,
    ):
        out = EXPANSION * inner
        self.a = resnet3d.ConvNorm(in_features, inner, 1, rngs=rngs)
        self.b = resnet3d.ConvNorm(inner, inner, 3, strides=stride, rngs=rngs)
        self.c = resnet3d.ConvNorm(inner, out, 1, relu=False, rngs=rngs)
        self.correlation = self.shortcut = nnx.data(None)
        if reduction:
            self.correlation = ChannelCorrelation(
                out, frames, out // reduction, rngs=rngs
            )
        if stride > 1 or in_features != out:
            self.shortcut = resnet3d.ConvNorm(
                in_features, out, 1, strides=stride, relu=False, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        inner = self.c(self.b(self.a(x)))
        if self.correlation is not None:
            inner = self.correlation(inner)
        return jax.nn.relu(inner + (x if self.shortcut is None else self.shortcut(x)))


class Model(nnx.Module):
    """STC-ResNet: a clip of fixed length to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"blocks.{sum(config.blocks) - 1}"
        self.deterministic = True
        self.stem = resnet3d.ConvNorm(3, config.width, 7, strides=(1, 2, 2), rngs=rngs)
        features, frames = config.width, -(-config.num_frames // 2)
        blocks = []
        for stage, count in enumerate(config.blocks):
            for number in range(count):
                stride = 2 if stage and not number else 1
                frames = -(-frames // stride)
                inner = config.width * 2**stage
                block = Bottleneck(
                    features,
                    inner,
                    stride=stride,
                    frames=frames,
                    reduction=config.reduction,
                    rngs=rngs,
                )
                blocks.append(block)
                features = EXPANSION * inner
        self.blocks = nnx.data(blocks)
        self.head = resnet3d.Head(
            features,
            config.num_classes,
            window=None,
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], of the configured length.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` asks for them.

        Raises:
            ValueError: If the clip has another length.
        """
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 16, H / 32, W / 32, C), rounded up."""
        clip = spec.check_clip(clip)
        frames = self.config.num_frames
        if self.config.reduction and clip.shape[1] != frames:
            raise ValueError(
                f"`clip` must have {frames} frames, which the temporal branches fix; "
                f"got {clip.shape[1]}: sample as many, or set num_frames"
            )
        x = self.stem(resnet3d.standardise(clip).astype(self.dtype))
        x = ops.max_pool(x, (3, 3, 3), strides=(2, 2, 2), padding=(1, 1, 1))
        for block in self.blocks:
            x = block(x)
        return x


TINY = Config(
    num_classes=5, crop_size=32, num_frames=4, blocks=(1, 1), width=4, reduction=2
)

VARIANTS = {
    "stc_resnet50": Config(blocks=resnet3d.DEPTHS[50]),
    "stc_resnet101": Config(),
}

RECORD = Model.record = spec.Record(model=Model, variants=VARIANTS, tiny=TINY)
