"""SpyNet: flow from coarse to fine, one small network a pyramid level.

Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network" (CVPR 2017).

    spatial sampling, Sec. 3.1      Model._pyramid, Model.upsample
    network of a level, Fig. 2      LevelNet
    inference, Sec. 3.2, Eq. 2-4    Model.__call__

Weights: anuragranj/spynet (Torch7, one file a level; non-commercial, not to be
redistributed), converted by sniklaus/pytorch-spynet. Those trained on FlyingChairs have
five levels, the others six.

Deviations: none from sniklaus' code, which resizes the frames to multiples of 32 on the
half-pixel grid and brings flow back the same way; the original Lua resizes with aligned
corners and back by nearest neighbour. At multiples of 32 both are the same. The Lua
code's rule (levels by the longer side: 32, 64, 128, 256, 512, beyond) gives the same
number of levels, but it refuses sides above 1472. Flow is float32 in any precision.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a SpyNet.

    Attributes:
        networks: How many networks there are. Level 0 is the coarsest of a frame; the
            last network serves all further levels.
        max_levels: Most levels that a frame is given.
        coarsest: Halving stops when neither side is longer, in pixels.
        features: Channels between the five convolutions of a network.
        kernel_size: Side of their windows.
    """

    networks: int = 6
    max_levels: int = 6
    coarsest: int = 32
    features: tuple[int, ...] = (32, 64, 32, 16)
    kernel_size: int = 7

    def __post_init__(self):
        spec.check_config(self)


class LevelNet(nnx.Module):
    """Predicts what the flow of the coarser level lacks: convolutions and ReLU.

    Args:
        features: Channels between the convolutions.
        kernel_size: Side of the window.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: tuple[int, ...], kernel_size: int, *, rngs: nnx.Rngs):
        channels = (8, *features, 2)
        self.convs = nnx.data(
            [
                conv.Conv(channels[i], channels[i + 1], kernel_size, rngs=rngs)
                for i in range(len(channels) - 1)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps frame 1, warped frame 2 and flow, (B, H, W, 8), to (B, H, W, 2)."""
        for layer in self.convs[:-1]:
            x = nnx.relu(layer(x))
        return self.convs[-1](x.astype(jnp.float32))


class Model(nnx.Module):
    """SpyNet.

    It predicts flow at every level of the pyramid, up to full size.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=32)
        self.levels = nnx.data(
            [
                LevelNet(config.features, config.kernel_size, rngs=rngs)
                for _ in range(config.networks)
            ]
        )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        pyramid = list(zip(self._pyramid(image1), self._pyramid(image2), strict=True))
        flows: list[jax.Array] = []
        for level, (x1, x2) in enumerate(reversed(pyramid)):
            zero = jnp.zeros((*x1.shape[:-1], 2), jnp.float32)
            coarse = upsample(flows[-1]) if flows else zero
            flows.append(coarse + self.residual(level, x1, x2, coarse))
        return spec.Flow(flows[-1], tuple(flows))

    def residual(
        self, level: int, x1: jax.Array, x2: jax.Array, coarse: jax.Array
    ) -> jax.Array:
        """Predicts the correction of one level (Eq. 2).

        Args:
            level: Level, from the coarsest, which is 0.
            x1: Normalised frame 1 at the level, (B, H, W, 3).
            x2: Normalised frame 2, alike.
            coarse: Up-sampled flow of the level before, (B, H, W, 2) in pixels.

        Returns:
            The correction, (B, H, W, 2) in pixels, float32.
        """
        network = self.levels[min(level, len(self.levels) - 1)]
        warped = ops.backward_warp(x2, coarse, padding="border")
        x = jnp.concatenate([x1, warped, coarse], axis=-1)
        return network(x.astype(self.dtype))

    def _pyramid(self, image: jax.Array) -> list[jax.Array]:
        """Normalises and halves a frame until it is small enough; finest first."""
        mean, std = jnp.array([MEAN, STD], image.dtype)[:, None, None, None]
        pyramid = [(image - mean) / std]
        for _ in range(self.config.max_levels - 1):
            if max(pyramid[-1].shape[-3:-1]) <= self.config.coarsest:
                break
            pyramid.append(ops.avg_pool(pyramid[-1], 2, strides=2))
        return pyramid


def upsample(flow: jax.Array) -> jax.Array:
    """Doubles a flow field in size and in value, corners on corners."""
    height, width = flow.shape[-3:-1]
    return 2.0 * ops.resize(flow, (2 * height, 2 * width), align_corners=True)


TINY = Config(networks=2, features=(8, 8, 8, 4), kernel_size=3)

VARIANTS = {"spynet": Config(), "spynet_chairs": Config(networks=5)}

_LICENCE = "non-commercial, no redistribution (Ranjan and Black)"
_CITATION = "Ranjan and Black, Optical Flow Estimation using a Spatial Pyramid Network"


def _published(tag: str, num_params: int, **metrics: float) -> spec.Weights:
    return spec.Weights(
        file=f"network-{tag}.pytorch",
        source="https://github.com/sniklaus/pytorch-spynet",
        licence=_LICENCE,
        dialect="sniklaus",
        num_params=num_params,
        metrics=metrics,
        citation=_CITATION,
    )


WEIGHTS = {
    "spynet/sintel-final": _published("sintel-final", 1_440_300),
    "spynet/sintel-clean": _published("sintel-clean", 1_440_300),
    "spynet/kitti-final": _published("kitti-final", 1_440_300),
    "spynet_chairs/chairs-final": _published("chairs-final", 1_200_250),
    "spynet_chairs/chairs-clean": _published("chairs-clean", 1_200_250),
}

_MAX_NETWORKS = 6
KEYS = {
    "sniklaus": tuple(
        (
            rf"moduleBasic\.(\d)\.moduleBasic\.{2 * index}\.(weight|bias)",
            rf"levels.\1.convs.{index}.\2",
        )
        for index in range(5)
    ),
    # One file a level, modelL1_F.t7 and so on: read all of them together.
    "torch7": (
        *(
            (
                rf"modelL{level + 1}_\w+\.modules\.{2 * index + 1}\.(weight|bias)",
                rf"levels.{level}.convs.{index}.\1",
            )
            for level in range(_MAX_NETWORKS)
            for index in range(5)
        ),
        # What a layer works with beside its weights.
        (r".*\.(?!weight$|bias$)\w+", None),
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
