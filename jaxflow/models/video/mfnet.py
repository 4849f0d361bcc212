"""MFNet: a 2-D ResNet whose motion blocks compare shifted features of two frames.

Lee, Lee, Son, Park, Kwak, "Motion Feature Network: Fixed Motion Filter for Action
Recognition" (ECCV 2018).

    motion filter and motion block, Sec. 3.1 and 3.2      MotionBlock
    the network, Sec. 3.3                                 Model

Weights: none are published.

Deviations: the authors publish no code. The reduction of channels in a motion block
(16) and its place, behind each of the four stages, are our reading; the last frame,
which has no next one, is compared with itself. Scores of the frames are averaged (TSN).
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import _checks, spec
from jaxflow.layers import conv, norm, resnet3d

# Shifts of the next frame, in pixels of the feature map: none, and the four neighbours.
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
JOINS = ("sum", "concat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an MFNet.

    Attributes:
        num_classes: Number of classes: 174 of Something-Something v1.
        crop_size: Side of the training clips; the head's window is a 32nd of it.
        head_mode: "logit_mean" returns logits; "softmax_mean", in evaluation,
            probabilities averaged over positions.
        num_frames: Frames of a clip: segments of the video.
        frame_stride: Steps between those frames, if another placement is asked for.
        placement: Where the frames of a video are; see `data.clips.clip_indices`.
        blocks: Bottlenecks in the four stages.
        width: Channels behind the stem.
        reduction: Channels of the features to one that is compared.
        join: How motion joins appearance: "sum", or "concat" and a convolution.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 174
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 7
    frame_stride: int = 8
    placement: Literal["spread", "pyslowfast", "segments", "random", "dense"] = (
        "segments"
    )
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    width: int = 64
    reduction: int = 16
    join: Literal["sum", "concat"] = "sum"
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)


class MotionBlock(nnx.Module):
    """Adds to features how they differ from the next frame's, shifted by a pixel.

        R_d(x) = F_t+1(x + d) - F_t(x)    for the five d of `SHIFTS`     (Eq. 4)

    on channels reduced by a 1 x 1 convolution; another restores them.

    Args:
        features: Channels.
        reduced: Channels that are compared.
        join: "sum", or "concat" and a 1 x 1 convolution.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If `join` is another.
    """

    def __init__(self, features: int, reduced: int, *, join: str, rngs: nnx.Rngs):
        _checks.one_of("join", join, JOINS)
        self.reduce = conv.Conv3d(features, reduced, 1, use_bias=False, rngs=rngs)
        self.restore = conv.Conv3d(
            len(SHIFTS) * reduced, features, 1, use_bias=False, rngs=rngs
        )
        self.norm = norm.BatchNorm(features)
        self.merge = nnx.data(None)
        if join == "concat":
            self.merge = conv.Conv3d(
                2 * features, features, 1, use_bias=False, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        # Consecutive frames are alike: coarse features would differ by their rounding.
        differences = residuals(self.reduce(x.astype(jnp.float32)))
        motion = self.norm(self.restore(differences.astype(x.dtype)))
        if self.merge is None:
            return x + motion
        return self.merge(jnp.concatenate([x, motion], axis=-1))


def residuals(features: jax.Array) -> jax.Array:
    """Subtracts features from the next frame's, shifted in five ways.

    Args:
        features: (B, T, H, W, C).

    Returns:
        (B, T, H, W, 5 C), by shift, then channel. Beyond the border is 0; the last
        frame is compared with itself.
    """
    height, width = features.shape[2:4]
    following = jnp.concatenate([features[:, 1:], features[:, -1:]], axis=1)
    margin = ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))
    padded = jnp.pad(following, margin)
    return jnp.concatenate(
        [
            padded[:, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width] - features
            for y, x in SHIFTS
        ],
        axis=-1,
    )


class Model(nnx.Module):
    """MFNet: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "motion.3"
        self.deterministic = True
        self.trunk = resnet3d.Pathway(
            3,
            width=config.width,
            windows=[(1,) * count for count in config.blocks],
            zero_init=False,
            rngs=rngs,
        )
        features = [4 * config.width * 2**index for index in range(4)]
        self.motion = nnx.data(
            [
                MotionBlock(
                    count, count // config.reduction, join=config.join, rngs=rngs
                )
                for count in features
            ]
        )
        self.head = resnet3d.Head(
            features[-1],
            config.num_classes,
            window=resnet3d.head_window(config.crop_size),
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1]: the segments of a video.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".
        """
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T, H / 32, W / 32, C)."""
        clip = spec.check_clip(clip)
        x = self.trunk.start(resnet3d.standardise(clip).astype(self.dtype))
        for index, motion in enumerate(self.motion):
            x = motion(self.trunk.stage(index + 2, x))
        return x


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=3,
    blocks=(1, 1, 1, 1),
    width=4,
    reduction=8,
    join="concat",
)

VARIANTS = {"mfnet_r50": Config(), "mfnet_concat_r50": Config(join="concat")}

WEIGHTS = {}

KEYS = {}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
