"""Two-stream I3D: one I3D on frames and one on flow, their logits added.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset" (CVPR 2017), Sec. 2.5.

    each stream     models.video.i3d_inception
    the two         Model

Weights: those of the two streams, see there; `jaxflow.two_stream.load_streams` reads
both files.

Deviations: those of the streams.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import dropout, resnet3d
from jaxflow.models.video import i3d_inception


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a two-stream I3D.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips.
        head_mode: "logit_mean" returns the sum of the streams' logits; "softmax_mean",
            in evaluation, the mean of their probabilities.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        width: Factor on every channel count.
        dropout_rate: Before the classifiers.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 64
    frame_stride: int = 1
    frame_rate: float | None = 25.0
    width: float = 1.0
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)

    @property
    def in_features(self) -> int:
        """Channels of a frame: RGB, and flow from it to the next frame."""
        return 5


class Model(nnx.Module):
    """Two I3Ds: a clip of frames and their flow to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.deterministic = True
        self.cam_layer = "rgb.body.mixed_5c"
        known = dataclasses.asdict(config)
        self.rgb, self.flow = (
            i3d_inception.Model(
                i3d_inception.Config(**known, in_features=count), rngs=rngs
            )
            for count in (3, 2)
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 5) in [0, 1]: RGB and, as a picture, the flow from each
                frame to the next: u and v clipped to 20 pixels, plus 20, divided by 40.
                `jaxflow.two_stream` computes it.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".
        """
        rgb, flow = self.scores(clip, key=key)
        logits = self.config.head_mode == "logit_mean" or not self.deterministic
        return rgb + flow if logits else (rgb + flow) / 2

    def scores(
        self, clip: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the scores of each stream, which can have a loss of its own.

        Args:
            clip: See `__call__`.
            key: Random key.
        """
        clip = spec.check_clip(clip, channels=5)
        one, two = dropout.split(key, 2)
        return self.rgb(clip[..., :3], key=one), self.flow(clip[..., 3:], key=two)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last maps of both streams, their channels joined."""
        clip = spec.check_clip(clip, channels=5)
        maps = self.rgb.features(clip[..., :3]), self.flow.features(clip[..., 3:])
        return jnp.concatenate(maps, axis=-1)


TINY = Config(num_classes=5, crop_size=64, num_frames=9, width=1 / 8)

VARIANTS = {"i3d_inception_two_stream": Config()}

WEIGHTS = {}

PUBLISHED = {
    "i3d_inception_two_stream": spec.Published(
        source="Feichtenhofer et al., ICCV 2019, Table 2",
        multiply_adds="216",
        reason="as for one stream; see i3d_inception_rgb",
    ),
}

KEYS = {
    "pytorch_i3d": tuple(
        (rf"{stream}\.{pattern}", f"{stream}.{path}")
        for stream in ("rgb", "flow")
        for pattern, path in i3d_inception.KEYS["pytorch_i3d"]
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
