"""ActionFlowNet: a 3-D ResNet that classifies a clip and estimates its flow.

Ng, Choi, Neumann, Davis, "ActionFlowNet: Learning Motion Representation for Action
Recognition" (WACV 2018).

    encoder shared by both tasks, Sec. 3.1      layers.basic3d
    flow decoder, Sec. 3.1                      Up, Model.flow
    both losses, Eq. 1                          multi_task_loss

Weights: none are published.

Deviations: the authors publish no code. The encoder is a 3-D ResNet-18; the widths of
the decoder (128, 64, 64), its up-sampling by repetition, and the resolution of the
flow, half that of the clip, are our reading.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import basic3d, conv, resnet3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an ActionFlowNet.

    Attributes:
        num_classes: Number of classes: 101 of UCF101.
        crop_size: Side of the training clips; any other runs.
        head_mode: "logit_mean" returns logits; "softmax_mean", in evaluation,
            probabilities.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        blocks: Blocks in the four stages.
        width: Channels behind the stem.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 101
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 1
    frame_rate: float | None = None
    blocks: tuple[int, ...] = basic3d.DEPTHS[18]
    width: int = 64
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)


class Up(nnx.Module):
    """Brings features to the size of finer ones, and joins both.

    Args:
        coarse_features: Channels of the coarse features.
        fine_features: Channels of the finer ones.
        out_features: Channels of the output.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        coarse_features: int,
        fine_features: int,
        out_features: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.conv = resnet3d.ConvNorm(
            coarse_features + fine_features, out_features, 3, rngs=rngs
        )

    def __call__(self, coarse: jax.Array, fine: jax.Array) -> jax.Array:
        """Joins `coarse`, (B, T / 2, H / 2, W / 2, C), and `fine`."""
        for axis in (1, 2, 3):
            coarse = jnp.repeat(coarse, 2, axis=axis)
        time, height, width = fine.shape[1:4]
        coarse = coarse[:, :time, :height, :width]
        return self.conv(jnp.concatenate([coarse, fine], axis=-1))


class Model(nnx.Module):
    """ActionFlowNet: a clip to one score a class, and to its flow."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        last = len(config.blocks) - 1
        self.cam_layer = f"stages.{last}.{config.blocks[-1] - 1}"
        self.deterministic = True
        self.stem = resnet3d.ConvNorm(
            3, config.width, (3, 7, 7), strides=(1, 2, 2), rngs=rngs
        )
        kinds = ("3d",) * len(config.blocks)
        self.stages = nnx.data(
            basic3d.stages(config.width, config.blocks, kinds, rngs=rngs)
        )
        features = [config.width * 2**index for index in range(len(config.blocks))]
        widths = [config.width * 2 ** max(0, index - 1) for index in range(last)]
        ups, coarse = [], features[-1]
        for index in reversed(range(last)):
            ups.append(Up(coarse, features[index], widths[index], rngs=rngs))
            coarse = widths[index]
        self.ups = nnx.data(ups)
        self.predictor = conv.Conv3d(coarse, 2, 3, rngs=rngs)
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
            `config.head_mode` is "softmax_mean".
        """
        return self.head(self.features(clip)[-1], key=key)

    def both(
        self, clip: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Classifies a clip and estimates its flow; `multi_task_loss` takes both.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            What a call returns, and what `flow` returns.
        """
        maps = self.features(clip)
        return self.head(maps[-1], key=key), self._decode(maps)

    def flow(self, clip: jax.Array) -> jax.Array:
        """Estimates flow from each frame to the next.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].

        Returns:
            (B, T, H / 2, W / 2, 2) float32, in pixels of that grid; sizes are rounded
            up. That of the last frame has nothing to be measured against.
        """
        return self._decode(self.features(clip))

    def features(self, clip: jax.Array) -> list[jax.Array]:
        """Returns the maps of the stages, fine to coarse."""
        clip = spec.check_clip(clip)
        x = self.stem(resnet3d.standardise(clip).astype(self.dtype))
        maps = []
        for stage in self.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        return maps

    def _decode(self, maps: list[jax.Array]) -> jax.Array:
        x = maps[-1]
        for up, fine in zip(self.ups, reversed(maps[:-1]), strict=True):
            x = up(x, fine)
        return self.predictor(x.astype(jnp.float32))


def multi_task_loss(
    outputs: tuple[jax.Array, jax.Array],
    labels: jax.Array,
    flow: jax.Array,
    *,
    weight: float = 0.1,
) -> jax.Array:
    """Returns cross entropy plus `weight` times the end-point error.

    Args:
        outputs: What `Model.both` returns in training mode, of T frames.
        labels: (B,) class numbers.
        flow: (B, T - 1, H / 2, W / 2, 2), the flow of a teacher, in pixels of that
            grid.
        weight: Of the flow.

    Returns:
        A number.
    """
    scores, estimate = outputs
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    difference = estimate[:, :-1] - flow
    error = jnp.sqrt(jnp.sum(difference**2, axis=-1) + 1e-12)
    return jnp.mean(entropy) + weight * jnp.mean(error)


TINY = Config(num_classes=5, crop_size=32, num_frames=4, blocks=(1, 1, 1), width=4)

VARIANTS = {"actionflownet": Config()}

WEIGHTS = {}

KEYS = {}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
