"""FlowNetSD: FlowNetS made for small displacements.

Ilg et al., "FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks"
(CVPR 2017), Sec. 5: small windows in the first layers, a full-size first convolution,
and a convolution without activation before each prediction.

    FlowNet2-SD, supplement Table 3   Model
    refinement                        layers.flownet.Decoder with inter_conv

Weights: NVIDIA/flownet2-pytorch converted those of the authors (research only);
open-mmlab/mmflow re-trained its own (Apache-2.0).

Deviations: none.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import conv, flownet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a FlowNetSD.

    Attributes:
        width: Factor on every channel count.
        batch_norm: Whether the encoder is normalised.
        mean: Subtracted from each channel; None takes the mean of the two frames.
    """

    width: float = 1.0
    batch_norm: bool = False
    mean: tuple[spec.Number, spec.Number, spec.Number] | None = None

    def __post_init__(self):
        spec.check_config(self)


# name: (stride, channels in the full-width network), in order; all windows are 3x3.
ENCODER = {
    "conv0": (1, 64),
    "conv1": (2, 64),
    "conv1_1": (1, 128),
    "conv2": (2, 128),
    "conv2_1": (1, 128),
    "conv3": (2, 256),
    "conv3_1": (1, 256),
    "conv4": (2, 512),
    "conv4_1": (1, 512),
    "conv5": (2, 512),
    "conv5_1": (1, 512),
    "conv6": (2, 1024),
    "conv6_1": (1, 1024),
}
SKIPS = {5: "conv5_1", 4: "conv4_1", 3: "conv3_1", 2: "conv2_1"}
INTER_FEATURES = {5: 512, 4: 256, 3: 128, 2: 64}


class Model(nnx.Module):
    """FlowNetSD.

    It predicts levels 6 to 2; its flow is the finest of them, bilinearly up-sampled
    by 4.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=64, fit="resize")
        features = 6
        for name, (strides, full) in ENCODER.items():
            out = flownet.scaled(full, config.width)
            block = flownet.ConvBlock(
                features, out, strides=strides, batch_norm=config.batch_norm, rngs=rngs
            )
            setattr(self, name, block)
            features = out

        def scaled(table):
            return {
                level: flownet.scaled(full, config.width)
                for level, full in table.items()
            }

        self.decoder = flownet.Decoder(
            features,
            scaled({level: ENCODER[name][1] for level, name in SKIPS.items()}),
            scaled(flownet.DECONV_FEATURES),
            inter_features=scaled(INTER_FEATURES),
            upsample_bias=True,
            rngs=rngs,
        )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        height, width = image1.shape[-3:-1]
        frames = flownet.centre(image1, image2, self.config.mean)
        flows = self.flows(jnp.concatenate(frames, axis=-1))
        return spec.Flow(
            flownet.upsample(flownet.DIV_FLOW * flows[-1]),
            flownet.in_own_pixels(flows, height, width),
        )

    def flows(self, x: jax.Array) -> list[jax.Array]:
        """Predicts flow from two stacked, normalised frames.

        Args:
            x: (B, H, W, 6).

        Returns:
            Flow at 1/64, 1/32, 1/16, 1/8 and 1/4 of the size, in units of 20 pixels.
        """
        features, x = {}, x.astype(self.dtype)
        for name in ENCODER:
            x = features[name] = getattr(self, name)(x)
        skips = {level: features[name] for level, name in SKIPS.items()}
        return self.decoder(x, skips)


TINY = Config(width=1 / 16)

VARIANTS = {
    "flownetsd": Config(),
    "flownetsd_bn": Config(batch_norm=True),
    "flownetsd_mmflow": Config(mean=flownet.NO_MEAN),
}

WEIGHTS = {
    "flownetsd/flownet2": spec.Weights(
        file="FlowNet2-SD_checkpoint.pth.tar",
        source="https://github.com/NVIDIA/flownet2-pytorch",
        licence="research only (FlowNet 2.0 authors)",
        dialect="nvidia",
        num_params=45_371_666,
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownetsd_mmflow/sdhom": spec.mmflow_weights(
        "flownet2",
        "flownet2sd_8x1_slong_chairssdhom_384x448.pth",
        num_params=45_371_666,
        metrics={},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
}

_MMFLOW_BLOCKS = {
    "encoder.plugin_layer": "conv0",
    **{
        f"encoder.layers.{level - 1}.layers.{index}": f"conv{level}{'_1' * index}"
        for level in range(1, 7)
        for index in (0, 1)
    },
}

KEYS = {
    "nvidia": (
        (r"(conv\w+)\.0\.(weight|bias)", r"\1.conv.\2"),
        (r"(conv\w+)\.1\.(weight|bias|running_mean|running_var)", r"\1.norm.\2"),
        (r"conv\w+\.1\.num_batches_tracked", None),
        (r"(deconv\d)\.0\.(weight|bias)", r"decoder.\1.conv.\2"),
        (r"(inter_conv\d)\.0\.(weight|bias)", r"decoder.\1.\2"),
        (r"(predict_flow\d|upsampled_flow\d_to_\d)\.(weight|bias)", r"decoder.\1.\2"),
    ),
    "mmflow": flownet.mmflow_rows(_MMFLOW_BLOCKS, range(2, 7)),
}

ADAPT = {
    "mmflow": ((r"encoder\.plugin_layer\.conv\.weight", conv.flip_colours),),
}

REQUIRES = {"mmflow": {"mean": flownet.NO_MEAN}}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    adapt=ADAPT,
    requires=REQUIRES,
)
