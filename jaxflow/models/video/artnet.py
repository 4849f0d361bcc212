"""ARTNet: 3-D ResNet-18 of blocks that see appearance and relation in two branches.

Wang, Li, Li, Van Gool, "Appearance-and-Relation Networks for Video Classification"
(CVPR 2018).

    SMART block, Sec. 3.2          Smart
    ARTNet-ResNet18, Table 1       Model

The layers, their biases and the place of each normalisation are those of the authors'
network definition for Caffe (github.com/wanglimin/ARTNet,
models/112_artnet_resnet_18_deploy.prototxt). ARTNet (s) has the block in
its first layer alone, ARTNet (d) in all layers before the last stage. Their weights are
Caffe's files, which are not read.

Deviations: colours are standardised as in the other networks here.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import conv, norm, resnet3d

STAGES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an ARTNet.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips it is published for; any other runs.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        num_frames: Frames of a clip.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        smart_stages: Stages, beside the first layer, whose blocks have both branches; 0
            is ARTNet (s), 3 is ARTNet (d). In the others they are 3-D convolutions.
        width: Channels of the first layer.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 1
    frame_rate: float | None = None
    smart_stages: spec.Count = 3
    width: int = 64
    dropout_rate: spec.Share = 0.2

    def __post_init__(self):
        spec.check_config(self)
        if self.smart_stages > STAGES:
            raise ValueError(
                f"`smart_stages` must be at most {STAGES}; got {self.smart_stages}"
            )
        if self.width % 2:
            raise ValueError(f"`width` must be even; got {self.width}")


class Smart(nnx.Module):
    """Appearance and relation of a clip, side by side (Sec. 3.2, Fig. 2).

        appearance   1 x k x k convolution of each frame
        relation     3 x k x k convolution, squared; half the sum of two channels

    Both are normalised and joined, and a 1 x 1 x 1 convolution brings them back to
    `features`. The squares make products of pixels of several frames, which tell a
    transformation from what is transformed.

    Args:
        in_features: Channels of the input.
        features: Channels of the output; even.
        window: Side k.
        stride: Step in t, y and x.
        use_bias: Whether the convolutions have biases.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        window: int = 3,
        stride: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        def filters(frames):
            return conv.Conv3d(
                in_features,
                features,
                (frames, window, window),
                strides=stride,
                use_bias=use_bias,
                rngs=rngs,
            )

        self.appearance = filters(1)
        self.appearance_norm = norm.BatchNorm(features)
        self.relation = filters(3)
        self.relation_norm = norm.BatchNorm(features)
        self.energy_norm = norm.BatchNorm(features // 2)
        self.reduce = conv.Conv3d(
            features + features // 2, features, 1, use_bias=use_bias, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        seen = self.appearance_norm(self.appearance(x))
        # Squares spread over twice the orders of magnitude.
        relation = self.relation_norm(self.relation(x).astype(jnp.float32))
        pairs = jnp.square(relation).reshape(*relation.shape[:-1], -1, 2)
        related = self.energy_norm(0.5 * jnp.sum(pairs, axis=-1)).astype(x.dtype)
        return self.reduce(jax.nn.relu(jnp.concatenate([seen, related], axis=-1)))


class Block(nnx.Module):
    """A residual unit whose sum is normalised afterwards.

    Args:
        in_features: Channels of the input.
        features: Channels of the output.
        stride: Step of the first convolution, and of the shortcut's if above 1.
        smart: Whether the second convolution is a `Smart` block.
        use_bias: Whether the convolutions have biases.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        stride: int,
        smart: bool,
        use_bias: bool,
        rngs: nnx.Rngs,
    ):
        def filters(inputs, step):
            return conv.Conv3d(
                inputs, features, 3, strides=step, use_bias=use_bias, rngs=rngs
            )

        self.norm = norm.BatchNorm(in_features)
        self.first = filters(in_features, stride)
        self.first_norm = norm.BatchNorm(features)
        if smart:
            self.second = Smart(features, features, use_bias=use_bias, rngs=rngs)
        else:
            self.second = filters(features, 1)
        self.down = filters(in_features, stride) if stride > 1 else nnx.data(None)

    def __call__(self, total: jax.Array) -> jax.Array:
        """Transforms the sum that the unit before gives, (B, T, H, W, C_in)."""
        x = jax.nn.relu(self.norm(total))
        shortcut = total if self.down is None else self.down(x)
        return shortcut + self.second(jax.nn.relu(self.first_norm(self.first(x))))


class Model(nnx.Module):
    """ARTNet: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"blocks.{2 * STAGES - 1}"
        self.deterministic = True
        width = config.width
        self.stem = Smart(3, width, window=7, stride=2, use_bias=False, rngs=rngs)
        features = [width, *(width * 2**stage for stage in range(STAGES))]
        self.blocks = nnx.data(
            [
                Block(
                    features[stage + number],
                    features[stage + 1],
                    stride=2 if stage and not number else 1,
                    smart=stage < config.smart_stages,
                    use_bias=stage > 0,
                    rngs=rngs,
                )
                for stage in range(STAGES)
                for number in range(2)
            ]
        )
        self.norm = norm.BatchNorm(features[-1])
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
            clip: (B, T, H, W, 3), RGB in [0, 1].
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` asks for them.
        """
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 16, H / 16, W / 16, C), rounded up."""
        clip = spec.check_clip(clip)
        total = self.stem(resnet3d.standardise(clip).astype(self.dtype))
        for block in self.blocks:
            total = block(total)
        return jax.nn.relu(self.norm(total))


TINY = Config(num_classes=5, crop_size=32, num_frames=4, smart_stages=1, width=4)

VARIANTS = {"artnet_resnet18": Config(), "artnet_s_resnet18": Config(smart_stages=0)}

PUBLISHED = {
    "artnet_resnet18": spec.Published(
        source="Feichtenhofer et al., SlowFast, ICCV 2019, Table 2",
        multiply_adds="23.5",
        reason="counted layer by layer, the authors' network definition has 25.7, too; "
        "how the source counts it does not say",
    ),
}

RECORD = Model.record = spec.Record(
    model=Model, variants=VARIANTS, tiny=TINY, published=PUBLISHED
)
