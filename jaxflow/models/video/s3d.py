"""S3D and S3D-G: Inception-v1 with convolutions in space, then in time.

Xie, Sun, Huang, Tu, Murphy, "Rethinking Spatiotemporal Feature Learning: Speed-Accuracy
Trade-offs in Video Classification" (ECCV 2018).

    separable convolution, Fig. 5      SeparableConv
    feature gating, Sec. 4.4           Gate
    S3D, S3D-G, Fig. 6                 Model, on layers.inception3d

Weights: torchvision (BSD-3-Clause), S3D trained on Kinetics-400.

Deviations: none from torchvision for S3D. It has no S3D-G: here the gate follows every
convolution in time.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import conv, inception3d, resnet3d

# torchvision's, whose running statistics move ten times slower than I3D's.
_unit = functools.partial(resnet3d.ConvNorm, epsilon=1e-3, momentum=1e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an S3D.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the average pool is a 32nd of it, rounded
            up.
        head_mode: "logit_mean" returns logits; "softmax_mean" returns, in evaluation,
            probabilities averaged over positions.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        gated: Whether features are gated: S3D-G.
        width: Factor on every channel count.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 64
    frame_stride: int = 1
    frame_rate: float | None = 15.0
    gated: bool = False
    width: float = 1.0
    dropout_rate: spec.Share = 0.2

    def __post_init__(self):
        spec.check_config(self)


class Gate(nnx.Module):
    """Scales channels by what they are on average: x sigmoid(W mean(x) + b).

    Args:
        features: Channels.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.dense = conv.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scales `x`, (B, T, H, W, C)."""
        return x * jax.nn.sigmoid(self.dense(jnp.mean(x, (1, 2, 3), keepdims=True)))


class SeparableConv(nnx.Module):
    """A 1 x k x k convolution, then a k x 1 x 1 one, each normalised, with ReLU.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output, and between the two.
        kernel_size: Side k of the window.
        strides: Step in t, y and x.
        gated: Whether a `Gate` follows.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        strides: int = 1,
        gated: bool = False,
        rngs: nnx.Rngs,
    ):
        self.spatial = _unit(
            in_features,
            out_features,
            (1, kernel_size, kernel_size),
            strides=(1, strides, strides),
            rngs=rngs,
        )
        self.temporal = _unit(
            out_features,
            out_features,
            (kernel_size, 1, 1),
            strides=(strides, 1, 1),
            rngs=rngs,
        )
        self.gate = Gate(out_features, rngs=rngs) if gated else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters `x`, (B, T, H, W, C_in)."""
        x = self.temporal(self.spatial(x))
        return x if self.gate is None else self.gate(x)


class Model(nnx.Module):
    """S3D: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "body.mixed_5c"
        self.deterministic = True
        self.body = inception3d.Inception(
            3,
            pointwise=_unit,
            spatial=functools.partial(SeparableConv, gated=config.gated),
            width=config.width,
            same=False,
            rngs=rngs,
        )
        self.classifier = inception3d.Classifier(
            self.body.out_features,
            config.num_classes,
            window=-(-config.crop_size // 32),
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], of at least 5 frames of 17 x 17.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".

        Raises:
            ValueError: If the clip is too short or too small.
        """
        return self.classifier(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 8, H / 32, W / 32, C)."""
        clip = spec.check_clip(clip, minimum=(5, 17, 17))
        mean, deviation = (
            lax.broadcast_to_rank(jnp.array(values, clip.dtype), clip.ndim)
            for values in ([0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])
        )
        return self.body(((clip - mean) / deviation).astype(self.dtype))


# The last maps are 3 x 3: pooled over 3 x 3, smaller ones would be constant.
TINY = Config(num_classes=5, crop_size=96, num_frames=17, gated=True, width=1 / 16)

VARIANTS = {"s3d": Config(), "s3dg": Config(gated=True)}

WEIGHTS = {
    "s3d/kinetics400": spec.Weights(
        file="s3d-d76dad2f.pth",
        source="https://download.pytorch.org/models (torchvision)",
        licence="BSD-3-Clause",
        dialect="torchvision",
        sha256="d76dad2f",
        url="https://download.pytorch.org/models/s3d-d76dad2f.pth",
        num_params=8_320_048,
        metrics={"kinetics400_top1": 68.368},
        citation="Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018",
    ),
}

PUBLISHED = {
    "s3d": spec.Published(
        source="torchvision's documentation",
        parameters="8.320048",
        multiply_adds="17.979",
        num_frames=16,
    ),
}

_NORM = "weight|bias|running_mean|running_var"
# Positions of the nine blocks in torchvision's list; max-pools are between them.
_MIXED_AT = (5, 6, 8, 9, 10, 11, 12, 14, 15)


def _keys():
    def unit(theirs, ours):
        yield rf"{theirs}\.0\.weight", f"{ours}.conv.weight"
        yield rf"{theirs}\.1\.({_NORM})", rf"{ours}.norm.\1"

    def separable(theirs, ours):
        yield from unit(rf"{theirs}\.0", f"{ours}.spatial")
        yield from unit(rf"{theirs}\.1", f"{ours}.temporal")

    yield r"classifier\.1\.(weight|bias)", r"classifier.conv.\1"
    yield from separable(r"features\.0", "body.conv_1a")
    yield from unit(r"features\.2", "body.conv_2b")
    yield from separable(r"features\.3", "body.conv_2c")
    for number, name in zip(_MIXED_AT, inception3d.MIXED, strict=True):
        block, ours = rf"features\.{number}", f"body.{name}"
        yield from unit(rf"{block}\.branch0", f"{ours}.b0")
        for branch in (1, 2):
            yield from unit(rf"{block}\.branch{branch}\.0", f"{ours}.b{branch}a")
            yield from separable(rf"{block}\.branch{branch}\.1", f"{ours}.b{branch}b")
        yield from unit(rf"{block}\.branch3\.1", f"{ours}.b3")


KEYS = {"torchvision": tuple(_keys())}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
