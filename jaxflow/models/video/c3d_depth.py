"""C3D's study of depth in time: five convolutions whose windows span 1 to 7 frames.

Tran, Bourdev, Fergus, Torresani, Paluri, "Learning Spatiotemporal Features with 3D
Convolutional Networks" (ICCV 2015), Sec. 3.2:

    depth-1, -3, -5, -7          c3d_depth1 (a 2-D network), c3d_depth3, ...
    increasing 3-3-5-5-7         c3d_increasing
    decreasing 7-5-5-3-3         c3d_decreasing

64, 128, 256, 256 and 256 filters, a max-pool behind each, which spares time at first;
two dense layers of 2048 units. No weights are published.

Deviations: a pool whose last window is partial keeps it, as Caffe does, which gives the
paper's 17.5 million parameters with windows of 3. It says that nets of depth 1 and 7
differ by 51 thousand parameters; that is what 960 filters of 3 x 3 weights would, if
each had one input channel, and not what this network or any with these filters does.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, dropout, resnet3d

FILTERS = (1, 2, 4, 4, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of one network of the study.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips: the dense layers fix it.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        num_frames: Frames of the clips: the dense layers fix it.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        depths: Frames that the windows of the five convolutions span; odd.
        width: Filters of the first.
        dense_features: Units of the dense layers.
        dropout_rate: Behind each of them.
    """

    num_classes: int = 101
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 1
    frame_rate: float | None = None
    depths: tuple[int, int, int, int, int] = (3, 3, 3, 3, 3)
    width: int = 64
    dense_features: int = 2048
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)
        if not all(depth % 2 for depth in self.depths):
            raise ValueError(f"`depths` must be odd; got {self.depths}")


class Model(nnx.Module):
    """A network of the study: a clip of fixed size to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "convolutions.4"
        self.deterministic = True
        self.mode = config.head_mode
        self.dropout = dropout.Dropout(config.dropout_rate)
        sizes = [3, *(config.width * factor for factor in FILTERS)]
        self.convolutions = nnx.data(
            [
                conv.Conv3d(inputs, outputs, (depth, 3, 3), rngs=rngs)
                for inputs, outputs, depth in zip(
                    sizes[:-1], sizes[1:], config.depths, strict=True
                )
            ]
        )
        time, side = config.num_frames, config.crop_size
        for index in range(5):
            time, side = time if index == 0 else -(-time // 2), -(-side // 2)
        units = config.dense_features
        self.fc6 = conv.Linear(time * side * side * sizes[-1], units, rngs=rngs)
        self.fc7 = conv.Linear(units, units, rngs=rngs)
        self.fc8 = conv.Linear(units, config.num_classes, rngs=rngs)

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], of the configured length and size.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; in evaluation probabilities if
            `config.head_mode` is not "logit_mean".

        Raises:
            ValueError: If the clip has another length or size.
        """
        clip = spec.check_fixed_clip(
            clip, frames=self.config.num_frames, side=self.config.crop_size
        )
        keys = dropout.split(key, 2)
        x = self.features(clip)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(jax.nn.relu(self.fc6(x)), key=keys[0])
        x = self.dropout(jax.nn.relu(self.fc7(x)), key=keys[1])
        scores = self.fc8(x.astype(jnp.float32))
        return resnet3d.activated(scores, self.mode) if self.deterministic else scores

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last pool's map, (B, T / 16, H / 32, W / 32, C), rounded up."""
        clip = spec.check_clip(clip)
        x = resnet3d.standardise(clip).astype(self.dtype)
        for index, convolution in enumerate(self.convolutions):
            x = jax.nn.relu(convolution(x))
            window = (1 if index == 0 else 2, 2, 2)
            odd = [
                -size % step for size, step in zip(x.shape[1:4], window, strict=True)
            ]
            x = jnp.pad(x, ((0, 0), *((0, n) for n in odd), (0, 0)), mode="edge")
            x = ops.max_pool(x, window)
        return x


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=4,
    depths=(3, 1, 3, 1, 3),
    width=4,
    dense_features=8,
)

VARIANTS = {
    **{
        f"c3d_depth{depth}": Config(depths=(depth, depth, depth, depth, depth))
        for depth in (1, 3, 5, 7)
    },
    "c3d_increasing": Config(depths=(3, 3, 5, 5, 7)),
    "c3d_decreasing": Config(depths=(7, 5, 5, 3, 3)),
}

PUBLISHED = {
    "c3d_depth3": spec.Published(
        source="Tran et al., ICCV 2015, Sec. 3.2", parameters="17.5"
    ),
}

RECORD = Model.record = spec.Record(
    model=Model, variants=VARIANTS, tiny=TINY, published=PUBLISHED
)
