"""FlowNetS: one U-shaped network on two stacked frames.

Fischer, Dosovitskiy, Ilg et al., "FlowNet: Learning Optical Flow with Convolutional
Networks" (ICCV 2015), Sec. 3; as re-trained for Ilg et al., "FlowNet 2.0" (CVPR 2017).

    FlowNetSimple, Fig. 2   Model
    refinement, Fig. 3      layers.flownet.Decoder

Weights: NVIDIA/flownet2-pytorch converted those of the FlowNet 2.0 authors, which are
for research only; open-mmlab/mmflow re-trained its own (Apache-2.0).

Deviations: none. The reduced network ("s" of the FlowNet 2.0 paper) has 3/8 of the
channels everywhere but in flow; batch normalisation is the variant of NVIDIA's code.
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
    """Numbers of a FlowNetS.

    Attributes:
        in_features: Channels of the input: 6 for two frames, 12 as a later stage of a
            stack (two frames, warped frame, flow, brightness error).
        width: Factor on every channel count.
        batch_norm: Whether the encoder is normalised.
        mean: Subtracted from each channel; None takes the mean of the two frames.
        decoder_bias: Whether predictions and transposed convolutions have biases.
    """

    in_features: int = 6
    width: float = 1.0
    batch_norm: bool = False
    mean: tuple[spec.Number, spec.Number, spec.Number] | None = None
    decoder_bias: bool = True

    def __post_init__(self):
        spec.check_config(self)


# name: (kernel, stride, channels in the full-width network), in order.
ENCODER = {
    "conv1": (7, 2, 64),
    "conv2": (5, 2, 128),
    "conv3": (5, 2, 256),
    "conv3_1": (3, 1, 256),
    "conv4": (3, 2, 512),
    "conv4_1": (3, 1, 512),
    "conv5": (3, 2, 512),
    "conv5_1": (3, 1, 512),
    "conv6": (3, 2, 1024),
    "conv6_1": (3, 1, 1024),
}
SKIPS = {5: "conv5_1", 4: "conv4_1", 3: "conv3_1", 2: "conv2"}


class Model(nnx.Module):
    """FlowNetS.

    It predicts levels 6 to 2; its flow is the finest of them, bilinearly up-sampled
    by 4.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=64, fit="resize")
        features = config.in_features
        for name, (kernel_size, strides, full) in ENCODER.items():
            out = flownet.scaled(full, config.width)
            block = flownet.ConvBlock(
                features,
                out,
                kernel_size,
                strides=strides,
                batch_norm=config.batch_norm,
                rngs=rngs,
            )
            setattr(self, name, block)
            features = out
        self.decoder = flownet.Decoder(
            features,
            {
                level: flownet.scaled(ENCODER[name][2], config.width)
                for level, name in SKIPS.items()
            },
            {
                level: flownet.scaled(full, config.width)
                for level, full in flownet.DECONV_FEATURES.items()
            },
            inter_features={},
            upsample_bias=False,
            use_bias=config.decoder_bias,
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
        """Predicts flow from stacked, normalised input.

        Args:
            x: (B, H, W, in_features).

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
    "flownets": Config(),
    "flownets_bn": Config(batch_norm=True),
    "flownet2s_small": Config(width=3 / 8),
    "flownets_mmflow": Config(mean=flownet.NO_MEAN),
    "flownets_pinard": Config(mean=flownet.PINARD_MEAN, decoder_bias=False),
}

_RESEARCH = "research only (FlowNet 2.0 authors)"
WEIGHTS = {
    "flownets/flownet2": spec.Weights(
        file="FlowNet2-S_checkpoint.pth.tar",
        source="https://github.com/NVIDIA/flownet2-pytorch",
        licence=_RESEARCH,
        dialect="nvidia",
        num_params=38_676_506,
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownets_mmflow/chairs": spec.mmflow_weights(
        "flownet",
        "flownets_8x1_slong_flyingchairs_384x448.pth",
        num_params=38_676_506,
        metrics={"sintel_train_clean_epe": 4.25, "sintel_train_final_epe": 5.64},
        citation="Fischer et al., FlowNet, ICCV 2015",
    ),
}

_MMFLOW_BLOCKS = {
    f"encoder.layers.{level - 1}.layers.{index}": f"conv{level}{'_1' * index}"
    for level in range(1, 7)
    for index in range(1 if level < 3 else 2)
}

KEYS = {
    "nvidia": (
        (r"(conv\w+)\.0\.(weight|bias)", r"\1.conv.\2"),
        (r"(conv\w+)\.1\.(weight|bias|running_mean|running_var)", r"\1.norm.\2"),
        (r"conv\w+\.1\.num_batches_tracked", None),
        (r"(deconv\d)\.0\.(weight|bias)", r"decoder.\1.conv.\2"),
        (r"(predict_flow\d|upsampled_flow\d_to_\d)\.(weight|bias)", r"decoder.\1.\2"),
    ),
    "mmflow": flownet.mmflow_rows(_MMFLOW_BLOCKS, range(2, 7)),
}

ADAPT = {
    "mmflow": ((r"encoder\.layers\.0\.layers\.0\.conv\.weight", conv.flip_colours),),
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
