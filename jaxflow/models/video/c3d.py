"""C3D: eight 3 x 3 x 3 convolutions and three dense layers.

Tran, Bourdev, Fergus, Torresani, Paluri, "Learning Spatiotemporal Features with 3D
Convolutional Networks" (ICCV 2015), Fig. 3: Model.

Weights: open-mmlab/mmaction2 (Apache-2.0), trained on Sports-1M and UCF101.

Deviations: `Config.pool5` names the three margins of the last pool that are in use; the
PyTorch ports' is the default. The input's range is 0 to 255, less the mean
[104, 117, 128], which is that of blue, green and red but which mmaction2 subtracts from
the channels in whatever order they are: `Config.colour` is that order.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, dropout, resnet3d

POOL5 = {"pad": 1, "ceil": 0, "floor": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a C3D.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips: the dense layers fix it.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        num_frames: Frames of the clips: the dense layers fix it.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        pool5: Margin of the last pool: "pad" starts its windows one pixel outside, as
            PyTorch's ports; "ceil" keeps a partial last window, as Caffe; "floor" drops
            it, as VMZ.
        colour: Channel order that the network sees.
        width: Channels of the first convolution.
        dense_features: Units of the first two dense layers.
        dropout_rate: Behind each of them.
    """

    num_classes: int = 101
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 1
    frame_rate: float | None = None
    pool5: Literal["pad", "ceil", "floor"] = "pad"
    colour: Literal["rgb", "bgr"] = "rgb"
    width: int = 64
    dense_features: int = 4096
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)
        side = 32 if self.pool5 == "floor" else 16
        if self.num_frames < 16 or self.crop_size < side:
            raise ValueError(
                f"`num_frames` must be at least 16 and `crop_size` {side}, or the five "
                f"pools leave nothing; got {self.num_frames} and {self.crop_size}"
            )


# name: factor on the width, and the size in time of the pool behind it, if any.
CONVOLUTIONS = {
    "conv1a": (1, 1),
    "conv2a": (2, 2),
    "conv3a": (4, 0),
    "conv3b": (4, 2),
    "conv4a": (8, 0),
    "conv4b": (8, 2),
    "conv5a": (8, 0),
    "conv5b": (8, 0),
}


class Model(nnx.Module):
    """C3D: a clip of 16 frames of 112 x 112 to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "conv5b"
        self.deterministic = True
        self.mode = config.head_mode
        self.dropout = dropout.Dropout(config.dropout_rate)
        features = 3
        for name, (factor, _) in CONVOLUTIONS.items():
            out = factor * config.width
            setattr(self, name, conv.Conv3d(features, out, 3, rngs=rngs))
            features = out
        size = (1, config.num_frames, config.crop_size, config.crop_size, 3)
        pooled = jax.eval_shape(self.features, jax.ShapeDtypeStruct(size, jnp.float32))
        units = config.dense_features
        self.fc6 = conv.Linear(pooled.shape[-1], units, rngs=rngs)
        self.fc7 = conv.Linear(units, units, rngs=rngs)
        self.fc8 = conv.Linear(units, config.num_classes, rngs=rngs)

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], of the configured length and size.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".

        Raises:
            ValueError: If the clip has another length or size.
        """
        clip = spec.check_fixed_clip(
            clip, frames=self.config.num_frames, side=self.config.crop_size
        )
        keys = dropout.split(key, 2)
        x = self.features(clip)
        x = self.dropout(jax.nn.relu(self.fc6(x)), key=keys[0])
        x = self.dropout(jax.nn.relu(self.fc7(x)), key=keys[1])
        scores = self.fc8(x.astype(jnp.float32))
        return resnet3d.activated(scores, self.mode) if self.deterministic else scores

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the flattened last map, (B, features), channels slowest."""
        clip = spec.check_clip(clip)
        mean = lax.broadcast_to_rank(jnp.array([104.0, 117.0, 128.0], clip.dtype), 5)
        x = clip[..., ::-1] if self.config.colour == "bgr" else clip
        x = (255 * x - mean).astype(self.dtype)
        for name, (_, pool) in CONVOLUTIONS.items():
            x = jax.nn.relu(getattr(self, name)(x))
            if pool:
                x = ops.max_pool(x, (pool, 2, 2))
        margin = POOL5[self.config.pool5]
        x = ops.max_pool(
            x,
            (2, 2, 2),
            padding=(0, margin, margin),
            ceil_mode=self.config.pool5 == "ceil",
        )
        return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)


TINY = Config(num_classes=5, crop_size=32, num_frames=16, width=4, dense_features=8)

VARIANTS = {"c3d": Config(), "c3d_sports1m": Config(num_classes=487)}

_UCF101 = "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb"
WEIGHTS = {
    "c3d/ucf101": spec.Weights(
        file=f"{_UCF101}_20220811-31723200.pth",
        source="https://github.com/open-mmlab/mmaction2 (configs/recognition/c3d)",
        licence="Apache-2.0",
        dialect="mmaction2",
        sha256="31723200",
        url="https://download.openmmlab.com/mmaction/v1.0/recognition/c3d/"
        f"{_UCF101}/{_UCF101}_20220811-31723200.pth",
        num_params=78_409_573,
        citation="Tran et al., Learning Spatiotemporal Features with 3D ConvNets, 2015",
    ),
}

PUBLISHED = {
    "c3d": spec.Published(
        source="mmaction2's README", parameters="78.4", multiply_adds="38.5"
    ),
}

KEYS = {
    "mmaction2": (
        (r"backbone\.(conv\d[ab])\.conv\.(weight|bias)", r"\1.\2"),
        (r"backbone\.(fc[67])\.(weight|bias)", r"\1.\2"),
        (r"cls_head\.fc_cls\.(weight|bias)", r"fc8.\1"),
    ),
    "original": ((r"(conv\d[ab]|fc[678])\.(weight|bias)", r"\1.\2"),),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
