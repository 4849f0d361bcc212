"""FlowNetC: two streams that meet in a correlation layer.

Fischer, Dosovitskiy, Ilg et al., "FlowNet: Learning Optical Flow with Convolutional
Networks" (ICCV 2015), Sec. 3; as re-trained for Ilg et al., "FlowNet 2.0" (CVPR 2017).

    FlowNetCorr, Fig. 2     Model
    correlation, Eq. 1      ops.local_correlation: 21 x 21 displacements, step 2
    refinement, Fig. 3      layers.flownet.Decoder

Weights: NVIDIA/flownet2-pytorch converted those of the FlowNet 2.0 authors, which are
for research only; open-mmlab/mmflow re-trained its own (Apache-2.0).

Deviations: none. Correlation is the mean over channels, as in the official code.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, flownet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a FlowNetC.

    Attributes:
        width: Factor on every channel count, but not on the correlation's.
        batch_norm: Whether the encoder is normalised.
        radius: Half the side of the correlation's window, in steps.
        step: Distance between the displacements that are compared, in 1/8-size pixels.
        mean: Subtracted from each channel; None takes the mean of the two frames.
        decoder_bias: Whether predictions and transposed convolutions have biases.
    """

    width: float = 1.0
    batch_norm: bool = False
    radius: int = 10
    step: int = 2
    mean: tuple[spec.Number, spec.Number, spec.Number] | None = None
    decoder_bias: bool = True

    def __post_init__(self):
        spec.check_config(self)


# name: (kernel, stride, channels in the full-width network), in order.
SIAMESE = {"conv1": (7, 2, 64), "conv2": (5, 2, 128), "conv3": (5, 2, 256)}
MERGED = {
    "conv3_1": (3, 1, 256),
    "conv4": (3, 2, 512),
    "conv4_1": (3, 1, 512),
    "conv5": (3, 2, 512),
    "conv5_1": (3, 1, 512),
    "conv6": (3, 2, 1024),
    "conv6_1": (3, 1, 1024),
}
SKIPS = {5: "conv5_1", 4: "conv4_1", 3: "conv3_1", 2: "conv2"}
REDIRECTED_FEATURES = 32


class Model(nnx.Module):
    """FlowNetC.

    It predicts levels 6 to 2; its flow is the finest of them, bilinearly up-sampled
    by 4.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=64, fit="resize")
        widths = {
            name: flownet.scaled(full, config.width)
            for name, (_, _, full) in (SIAMESE | MERGED).items()
        }
        self._add_blocks(SIAMESE, 3, widths, rngs=rngs)
        redirected = flownet.scaled(REDIRECTED_FEATURES, config.width)
        self.conv_redir = flownet.ConvBlock(
            widths["conv3"], redirected, 1, batch_norm=config.batch_norm, rngs=rngs
        )
        displacements = (2 * config.radius + 1) ** 2
        self._add_blocks(MERGED, redirected + displacements, widths, rngs=rngs)
        self.decoder = flownet.Decoder(
            widths["conv6_1"],
            {level: widths[name] for level, name in SKIPS.items()},
            {
                level: flownet.scaled(full, config.width)
                for level, full in flownet.DECONV_FEATURES.items()
            },
            inter_features={},
            upsample_bias=config.decoder_bias,
            use_bias=config.decoder_bias,
            rngs=rngs,
        )

    def _add_blocks(self, table, features, widths, *, rngs):
        for name, (kernel_size, strides, _) in table.items():
            block = flownet.ConvBlock(
                features,
                widths[name],
                kernel_size,
                strides=strides,
                batch_norm=self.config.batch_norm,
                rngs=rngs,
            )
            setattr(self, name, block)
            features = widths[name]

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        height, width = image1.shape[-3:-1]
        flows = self.flows(*flownet.centre(image1, image2, self.config.mean))
        return spec.Flow(
            flownet.upsample(flownet.DIV_FLOW * flows[-1]),
            flownet.in_own_pixels(flows, height, width),
        )

    def flows(self, x1: jax.Array, x2: jax.Array) -> list[jax.Array]:
        """Predicts flow from two normalised frames.

        Args:
            x1: Frame 1, (B, H, W, 3).
            x2: Frame 2, alike.

        Returns:
            Flow at 1/64, 1/32, 1/16, 1/8 and 1/4 of the size, in units of 20 pixels.
        """
        batch = x1.shape[0]
        features = {}
        x = jnp.concatenate([x1, x2]).astype(self.dtype)
        for name in SIAMESE:
            x = features[name] = getattr(self, name)(x)
        features["conv2"] = features["conv2"][:batch]
        f1, f2 = x[:batch], x[batch:]
        cost = ops.local_correlation(
            f1, f2, radius=self.config.radius, dilation=self.config.step
        )
        x = jnp.concatenate(
            [self.conv_redir(f1), flownet.leaky_relu(cost.astype(f1.dtype))], axis=-1
        )
        for name in MERGED:
            x = features[name] = getattr(self, name)(x)
        skips = {level: features[name] for level, name in SKIPS.items()}
        return self.decoder(x, skips)


TINY = Config(width=1 / 16, radius=2)

VARIANTS = {
    "flownetc": Config(),
    "flownetc_bn": Config(batch_norm=True),
    "flownet2c_small": Config(width=3 / 8),
    "flownetc_mmflow": Config(mean=flownet.NO_MEAN),
    "flownetc_pinard": Config(mean=flownet.PINARD_MEAN, decoder_bias=False),
}

WEIGHTS = {
    "flownetc/flownet2": spec.Weights(
        file="FlowNet2-C_checkpoint.pth.tar",
        source="https://github.com/NVIDIA/flownet2-pytorch",
        licence="research only (FlowNet 2.0 authors)",
        dialect="nvidia",
        num_params=39_175_298,
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownetc_mmflow/chairs": spec.mmflow_weights(
        "flownet",
        "flownetc_8x1_slong_flyingchairs_384x448.pth",
        num_params=39_175_298,
        metrics={"sintel_train_clean_epe": 3.6, "sintel_train_final_epe": 4.93},
        citation="Fischer et al., FlowNet, ICCV 2015",
    ),
    "flownetc_mmflow/things": spec.mmflow_weights(
        "flownet",
        "flownetc_8x1_sfine_flyingthings3d_subset_384x768.pth",
        num_params=39_175_298,
        metrics={"sintel_train_clean_epe": 2.74, "sintel_train_final_epe": 4.52},
        citation="Fischer et al., FlowNet, ICCV 2015",
    ),
}

_MMFLOW_BLOCKS = {
    **{f"encoder.layers.{level - 1}.layers.0": f"conv{level}" for level in (1, 2, 3)},
    "corr_encoder.conv_redir": "conv_redir",
    "corr_encoder.layers.0.layers.0": "conv3_1",
    **{
        f"corr_encoder.layers.{level - 3}.layers.{index}": f"conv{level}{'_1' * index}"
        for level in (4, 5, 6)
        for index in (0, 1)
    },
}


def _take_mean_cost(kernel: np.ndarray) -> np.ndarray:
    """Rescales what sees the cost: mmflow sums over channels, and we average.

    The activation between commutes with a positive factor.
    """
    kernel = kernel.copy()
    kernel[:, REDIRECTED_FEATURES:] *= SIAMESE["conv3"][2]
    return kernel


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
    "mmflow": (
        (r"encoder\.layers\.0\.layers\.0\.conv\.weight", conv.flip_colours),
        (r"corr_encoder\.layers\.0\.layers\.0\.conv\.weight", _take_mean_cost),
    ),
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
