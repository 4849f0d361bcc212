"""R(2+1)D of pytorchvideo: bottlenecks whose 3 x 3 x 3 convolution is split.

After Tran, Wang, Torresani, Ray, LeCun, Paluri, "A Closer Look at Spatiotemporal
Convolutions for Action Recognition" (CVPR 2018), Sec. 3.5; as in
https://github.com/facebookresearch/pytorchvideo (models/r2plus1d.py).

    bottleneck      Block
    the network     Model

It is another network than the paper's, which is r3d.py: time comes before space, both
have as many channels as the bottleneck, and there are bottlenecks at all.

Weights: pytorchvideo (Apache-2.0), trained on Kinetics-400.

Deviations: the head pools over the whole time of a clip, which may have any length. The
original returns probabilities averaged over positions, in training too: here that is
`head_mode="softmax_mean"`, in evaluation.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import resnet3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of pytorchvideo's R(2+1)D.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the head's window is a 32nd of it.
        head_mode: "logit_mean" returns logits; "softmax_mean" returns, in evaluation,
            probabilities averaged over positions.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames, at 30 frames a second.
        blocks: Bottlenecks in the four stages.
        width: Channels behind the stem.
        time_strides: Step in time of each stage.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 4
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    width: int = 64
    time_strides: tuple[int, ...] = (1, 1, 2, 2)
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)


class Block(nnx.Module):
    """1 x 1 x 1, 3 x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1 convolutions, plus the input.

    Args:
        in_features: Channels of the input.
        inner_features: Channels of the first three; the last has 4 times more.
        strides: Step in t, y and x, of the two in the middle.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        inner_features: int,
        *,
        strides: tuple[int, int, int],
        rngs: nnx.Rngs,
    ):
        inner, out_features = inner_features, 4 * inner_features
        in_time, in_space = (strides[0], 1, 1), (1, *strides[1:])
        unit = resnet3d.ConvNorm
        self.a = unit(in_features, inner, 1, rngs=rngs)
        self.time = unit(inner, inner, (3, 1, 1), strides=in_time, rngs=rngs)
        self.space = unit(inner, inner, (1, 3, 3), strides=in_space, rngs=rngs)
        self.c = unit(inner, out_features, 1, relu=False, rngs=rngs)
        self.shortcut = nnx.data(None)
        if in_features != out_features or strides != (1, 1, 1):
            self.shortcut = unit(
                in_features, out_features, 1, strides=strides, relu=False, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(residual + self.c(self.space(self.time(self.a(x)))))


class Model(nnx.Module):
    """pytorchvideo's R(2+1)D: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"stages.{len(config.blocks) - 1}.{config.blocks[-1] - 1}"
        self.deterministic = True
        self.stem = resnet3d.ConvNorm(
            3, config.width, (1, 7, 7), strides=(1, 2, 2), rngs=rngs
        )
        stages, features = [], config.width
        steps = zip(config.blocks, config.time_strides, strict=True)
        for index, (count, step) in enumerate(steps):
            stage = []
            for block in range(count):
                stage.append(
                    Block(
                        features,
                        config.width * 2**index,
                        strides=(step, 2, 2) if block == 0 else (1, 1, 1),
                        rngs=rngs,
                    )
                )
                features = 4 * config.width * 2**index
            stages.append(stage)
        self.stages = nnx.data(stages)
        self.head = resnet3d.Head(
            features,
            config.num_classes,
            window=resnet3d.head_window(config.crop_size),
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".
        """
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 4, H / 32, W / 32, C), sizes rounded up."""
        clip = spec.check_clip(clip)
        x = self.stem(resnet3d.standardise(clip).astype(self.dtype))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x


TINY = Config(num_classes=5, crop_size=64, num_frames=8, blocks=(1, 1, 1, 1), width=8)

VARIANTS = {"r2plus1d_r50": Config()}

WEIGHTS = {
    "r2plus1d_r50/kinetics400": spec.Weights(
        file="R2PLUS1D_16x4_R50.pyth",
        source="https://github.com/facebookresearch/pytorchvideo (model zoo)",
        licence="Apache-2.0",
        dialect="pytorchvideo",
        url="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
        "R2PLUS1D_16x4_R50.pyth",
        num_params=28_107_600,
        metrics={"kinetics400_top1": 76.01},
        citation="Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018",
    ),
}

PUBLISHED = {
    "r2plus1d_r50": spec.Published(
        source="pytorchvideo's model zoo",
        parameters="28.11",
        multiply_adds="76.45",
        crop_size=256,
        reason="the source also counts 5 operations for each normalised element",
    ),
}

_NORM = "weight|bias|running_mean|running_var"


def _keys():
    yield r"blocks\.0\.conv\.weight", "stem.conv.weight"
    yield rf"blocks\.0\.norm\.({_NORM})", r"stem.norm.\1"
    yield r"blocks\.5\.proj\.(weight|bias)", r"head.projection.\1"
    # The convolution in space is normalised outside of the split one.
    parts = (
        ("branch1_conv", "branch1_norm", "shortcut"),
        (r"branch2\.conv_a", r"branch2\.norm_a", "a"),
        (r"branch2\.conv_b\.conv_t", r"branch2\.conv_b\.norm", "time"),
        (r"branch2\.conv_b\.conv_xy", r"branch2\.norm_b", "space"),
        (r"branch2\.conv_c", r"branch2\.norm_c", "c"),
    )
    for stage in range(4):
        block, ours = rf"blocks\.{stage + 1}\.res_blocks\.(\d+)", rf"stages.{stage}.\1"
        for conv, norm, name in parts:
            yield rf"{block}\.{conv}\.weight", rf"{ours}.{name}.conv.weight"
            yield rf"{block}\.{norm}\.({_NORM})", rf"{ours}.{name}.norm.\2"


# PySlowFast saves pytorchvideo's models with one prefix more.
KEYS = {"pytorchvideo": tuple((rf"(?:model\.)?{key}", path) for key, path in _keys())}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
