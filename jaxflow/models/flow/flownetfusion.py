"""The fusion network of FlowNet 2.0: two estimates in, one full-size flow out.

Ilg et al., "FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks"
(CVPR 2017), Sec. 5 and supplement Table 4.

Weights: part of FlowNet2 (NVIDIA/flownet2-pytorch, research only).

Deviations: none. By itself, without estimates to fuse, the model called on two frames
fuses zero flow with zero flow; it is meant to be called through `fuse`.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, flownet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a fusion network.

    Attributes:
        width: Factor on every channel count.
        batch_norm: Whether the encoder is normalised.
    """

    width: float = 1.0
    batch_norm: bool = False

    def __post_init__(self):
        spec.check_config(self)


# name: (stride, channels in the full-width network), in order; all windows are 3x3.
ENCODER = {
    "conv0": (1, 64),
    "conv1": (2, 64),
    "conv1_1": (1, 128),
    "conv2": (2, 128),
    "conv2_1": (1, 128),
}
SKIPS = {1: "conv1_1", 0: "conv0"}
FEATURES_UP = {1: 32, 0: 16}
IN_FEATURES = 11


class Model(nnx.Module):
    """FlowNet2's fusion network; see `fuse`."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=4, fit="resize")
        features = IN_FEATURES
        widths = {}
        for name, (strides, full) in ENCODER.items():
            widths[name] = flownet.scaled(full, config.width)
            block = flownet.ConvBlock(
                features,
                widths[name],
                strides=strides,
                batch_norm=config.batch_norm,
                rngs=rngs,
            )
            setattr(self, name, block)
            features = widths[name]
        up = {
            level: flownet.scaled(full, config.width)
            for level, full in FEATURES_UP.items()
        }
        self.decoder = flownet.Decoder(
            features,
            {level: widths[name] for level, name in SKIPS.items()},
            up,
            inter_features=up,
            upsample_bias=True,
            rngs=rngs,
        )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Fuses zero flow with itself for frames (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        image1, image2 = flownet.centre(image1, image2)
        zero = jnp.zeros((*image1.shape[:-1], 2), image1.dtype)
        flows = self.fuse(image1, image2, zero, zero)
        return spec.Flow(flows[-1], tuple(flows))

    def fuse(
        self,
        image1: jax.Array,
        image2: jax.Array,
        small: jax.Array,
        large: jax.Array,
    ) -> list[jax.Array]:
        """Fuses two full-size estimates.

        Args:
            image1: Normalised frame 1, (B, H, W, 3).
            image2: Normalised frame 2, alike.
            small: Estimate for small displacements, (B, H, W, 2), in pixels.
            large: Estimate for large displacements, alike.

        Returns:
            Flow at 1/4, 1/2 and full size, each in pixels of its own grid.
        """
        estimates = (small, large)
        norms = [flownet.channel_norm(flow) for flow in estimates]
        errors = [
            flownet.brightness_error(
                image1, ops.backward_warp(image2, flow, padding="border")
            )
            for flow in estimates
        ]
        inputs = [image1, *estimates, *norms, *errors]
        x = jnp.concatenate([x.astype(image1.dtype) for x in inputs], axis=-1)
        flows = self.flows(x)
        # The network speaks of full-size pixels at every level.
        return [
            flow.astype(jnp.float32) / 2**level
            for flow, level in zip(flows, (2, 1, 0), strict=True)
        ]

    def flows(self, x: jax.Array) -> list[jax.Array]:
        """Predicts flow from the stacked input of the fusion.

        Args:
            x: (B, H, W, 11): frame 1, flow for small and large displacements, their
                norms, their brightness errors.

        Returns:
            Flow at 1/4, 1/2 and full size, in full-size pixels.
        """
        features, x = {}, x.astype(self.dtype)
        for name in ENCODER:
            x = features[name] = getattr(self, name)(x)
        skips = {level: features[name] for level, name in SKIPS.items()}
        return self.decoder(x, skips)


TINY = Config(width=1 / 8)

VARIANTS = {"flownetfusion": Config()}

WEIGHTS: dict[str, spec.Weights] = {}

_MMFLOW_BLOCKS = {
    "encoder.layers.0.layers.0": "conv0",
    **{
        f"encoder.layers.{level}.layers.{index}": f"conv{level}{'_1' * index}"
        for level in (1, 2)
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
    "mmflow": flownet.mmflow_rows(_MMFLOW_BLOCKS, range(1, 4)),
}

ADAPT = {
    "mmflow": ((r"encoder\.layers\.0\.layers\.0\.conv\.weight", conv.flip_colours),),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    adapt=ADAPT,
)
