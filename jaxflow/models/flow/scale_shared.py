"""One small network at every scale of an image pyramid: jaxflow's own flow estimator.

A coarse-to-fine network in the manner of Sun et al., "PWC-Net" (CVPR 2018), with three
changes that let a network of half a million weights, taught on small frames, work on
large ones:

    - The pyramid is of images, not of features, and all its levels share one encoder
      and one decoder (as the levels of Hur and Roth's IRR, CVPR 2019, share a decoder).
      A level cannot tell how large the frame is, and each pair teaches at five scales.
    - Features are compared by their cosine. PWC-Net's products depend on how strong
      the features are, and standardised ones on what else is in the frame.
    - The finest flow, at a quarter of the size, is brought to the frame by convex
      combinations (Teed and Deng, "RAFT", ECCV 2020).

    image pyramid                   Model.__call__, means of 2x2 pixels
    shared encoder                  Encoder
    cosine cost volume              cosine_cost
    shared decoder                  Decoder

"jaxflow_accurate" is the same network with a variational method behind it, as FlowNet's
"+v" (Dosovitskiy et al., ICCV 2015, Sec. 4): TV-L1 starts from the network's flow and
finds the last half pixel, which a small network lacks; the network finds the long
motions, which a variational method misses. Both are one differentiable program, and
the two weights of TV-L1 are parameters of it.

    variational refinement          Refinement

Deviations: it follows no published code; the three papers differ as said above.

Weights: trained by this project on scenes that `jaxflow.data.synthetic` draws, by
experiments/flow/scale_shared.py (Apache-2.0). They come with the package.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.classical import tvl1
from jaxflow.layers import conv

STRIDE = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of the network.

    Attributes:
        levels: Levels of the image pyramid. The motion at the coarsest can reach
            `radius` x 4 x 2^(levels - 1) pixels.
        encoder: Channels of the encoder's convolutions, at 1/2, 1/2, 1/4, 1/4, 1/4 of
            the level's size.
        radius: Largest displacement that the cost volume compares, in pixels of the
            features.
        cost_features: Channels that the cost volume is mixed into.
        decoder: Channels of the decoder's convolutions.
        dilations: Their dilations.
        hidden: Channels that a level hands to the next finer one.
        refinement_levels: Pyramid levels of the TV-L1 that starts from the network's
            flow; 0 for none.
        refinement_warps: Its linearisations a level.
        least_side: Frames whose shorter side is below this are enlarged to it, but at
            most to twice their size, and the flow is brought back; 0 for never. The
            finest flow of the network is at a quarter of the frame's size, which small
            frames have too few pixels for.
    """

    levels: int = 5
    encoder: tuple[int, ...] = (16, 24, 32, 40, 40)
    radius: int = 4
    cost_features: int = 48
    decoder: tuple[int, ...] = (80, 80, 64, 64, 48)
    dilations: tuple[int, ...] = (1, 1, 2, 4, 1)
    hidden: int = 16
    refinement_levels: spec.Count = 0
    refinement_warps: int = 3
    least_side: spec.Count = 0

    def __post_init__(self):
        spec.check_config(self)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Returns x where it is positive and 0.1 x elsewhere."""
    return nnx.leaky_relu(x, 0.1)


def cosine_cost(x1: jax.Array, x2: jax.Array, *, radius: int) -> jax.Array:
    """Compares the features of each pixel with those around it in the other frame.

    Args:
        x1: Features of frame 1, (B, H, W, C).
        x2: Features of frame 2, warped.
        radius: Largest displacement r, in pixels.

    Returns:
        Cosines of the angles between features, (B, H, W, (2 r + 1)^2), in [-1, 1];
        0 beyond the border and where a feature is 0.
    """
    return ops.local_correlation(_unit(x1), _unit(x2), radius=radius, normalise=False)


def _unit(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * lax.rsqrt(square + 1e-6)).astype(x.dtype)


def enlarged_size(
    size: tuple[int, int], *, least_side: int, multiple: int
) -> tuple[int, int]:
    """Returns the size that the network sees frames at.

    Args:
        size: Height and width of the frames, multiples of `multiple`.
        least_side: What the shorter side shall have; 0 leaves all frames as they are.
        multiple: What both sides of the result are rounded to.

    Returns:
        `size` times least_side / min(size), which is taken as 1 at least and 2 at most.
    """
    factor = min(max(least_side / min(size), 1.0), 2.0)
    height, width = (multiple * round(factor * side / multiple) for side in size)
    return height, width


class Encoder(nnx.Module):
    """Describes the pixels of one level by features at a quarter of its size.

    Args:
        features: Channels of the five convolutions; the first and third have stride 2.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: tuple[int, ...], *, rngs: nnx.Rngs):
        convs, in_features = [], 3
        for out_features, strides in zip(features, (2, 1, 2, 1, 1), strict=True):
            layer = conv.Conv(in_features, out_features, strides=strides, rngs=rngs)
            convs.append(layer)
            in_features = out_features
        self.convs = nnx.data(convs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images, (B, H, W, 3), to features, (B, H / 4, W / 4, C)."""
        for layer in self.convs[:-1]:
            x = leaky_relu(layer(x))
        return self.convs[-1](x)


class Decoder(nnx.Module):
    """Corrects the flow that comes from the level above.

    Args:
        config: The numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        displacements = (2 * config.radius + 1) ** 2
        self.mix = conv.Conv(displacements, config.cost_features, 1, rngs=rngs)
        in_features = config.cost_features + config.encoder[-1] + 2 + config.hidden
        convs = []
        for out_features, dilation in zip(
            config.decoder, config.dilations, strict=True
        ):
            convs.append(
                conv.Conv(in_features, out_features, dilation=dilation, rngs=rngs)
            )
            in_features = out_features
        self.convs = nnx.data(convs)
        self.predict_flow = conv.Conv(in_features, 2, rngs=rngs)
        self.predict_hidden = conv.Conv(in_features, config.hidden, rngs=rngs)
        self.predict_mask = conv.Conv(in_features, 9 * STRIDE**2, 1, rngs=rngs)

    def __call__(
        self, cost: jax.Array, x1: jax.Array, flow: jax.Array, hidden: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the correction of `flow`, the new hidden state, and the features.

        Args:
            cost: (B, H, W, (2 r + 1)^2).
            x1: Features of frame 1, (B, H, W, C).
            flow: From the level above, in pixels of this level's features.
            hidden: From the level above.
        """
        x = leaky_relu(self.mix(cost))
        x = jnp.concatenate([x, leaky_relu(x1), flow.astype(x.dtype), hidden], axis=-1)
        for layer in self.convs:
            x = leaky_relu(layer(x))
        change = self.predict_flow(x.astype(jnp.float32))
        return change, jnp.tanh(self.predict_hidden(x)), x


class Refinement(nnx.Module):
    """TV-L1 that starts from a flow; see `jaxflow.classical.tvl1`.

    Args:
        levels: Pyramid levels.
        warps: Linearisations a level.
    """

    def __init__(self, levels: int, warps: int):
        self.levels, self.warps = levels, warps
        self.log_weight = nnx.Param(jnp.log(jnp.float32(0.15)))
        self.log_theta = nnx.Param(jnp.log(jnp.float32(0.3)))

    def __call__(self, image1: jax.Array, image2: jax.Array, flow: jax.Array):
        """Refines `flow`, (B, H, W, 2), between images in [0, 1]; in float32."""
        refine = functools.partial(
            tvl1.tvl1,
            levels=self.levels,
            warps=self.warps,
            outer_iterations=2,
            weight=jnp.exp(self.log_weight[...]),
            theta=jnp.exp(self.log_theta[...]),
        )
        frames = (image.astype(jnp.float32) for image in (image1, image2))
        return refine(*frames, initial_flow=flow)


class Model(nnx.Module):
    """The network.

    Its predictions are the flows of all levels, at 1/4 of the level's size, and the
    flow at the size of the frames.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=STRIDE * 2 ** (config.levels - 1))
        self.encoder = Encoder(config.encoder, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        if config.refinement_levels:
            self.refinement = Refinement(
                config.refinement_levels, config.refinement_warps
            )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        size = (image1.shape[1], image1.shape[2])
        seen = enlarged_size(
            size, least_side=self.config.least_side, multiple=self.frames.multiple
        )
        if seen == size:
            return self.estimate(image1, image2)
        image1, image2 = (
            jnp.clip(ops.resize(image, seen, method="bicubic"), 0, 1)
            for image in (image1, image2)
        )
        found = self.estimate(image1, image2).predictions
        ratio = [new / old for new, old in zip(size, seen, strict=True)]
        flows = tuple(
            ops.resize_flow(
                flow,
                (round(flow.shape[1] * ratio[0]), round(flow.shape[2] * ratio[1])),
                antialias=True,
            )
            for flow in found
        )
        return spec.Flow(flows[-1], flows)

    def estimate(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow at the size that the frames, (B, H, W, 3), have."""
        images = [jnp.concatenate([image1, image2]) - 0.5]
        for _ in range(self.config.levels - 1):
            images.append(ops.avg_pool(images[-1], 2, strides=2))
        flows: list[jax.Array] = []
        flow = hidden = x = jnp.zeros(())
        for level in reversed(images):
            x1, x2 = jnp.split(self.encoder(level.astype(self.dtype)), 2)
            if not flows:
                flow = jnp.zeros((*x1.shape[:-1], 2), jnp.float32)
                hidden = jnp.zeros((*x1.shape[:-1], self.config.hidden), x1.dtype)
            else:
                size = (x1.shape[-3], x1.shape[-2])
                flow = ops.resize_flow(flow, size)
                hidden = ops.resize(hidden, size)
            warped = ops.backward_warp(x2, flow)
            cost = cosine_cost(x1, warped, radius=self.config.radius)
            change, hidden, x = self.decoder(cost, x1, flow, hidden)
            flow = flow + change
            flows.append(flow)
        mask = self.decoder.predict_mask(x.astype(jnp.float32))
        flow = ops.convex_upsample(flow, mask, factor=STRIDE)
        if self.config.refinement_levels:
            flow = self.refinement(image1, image2, flow)
        return spec.Flow(flow, (*flows, flow))


TINY = Config(
    levels=2,
    encoder=(4, 4, 8, 8, 8),
    radius=2,
    cost_features=8,
    decoder=(8, 8),
    dilations=(1, 2),
    hidden=4,
    refinement_levels=1,
    refinement_warps=1,
)

VARIANTS = {
    "jaxflow_fast": Config(),
    # 512 is twice the shorter side of the largest scenes that it learned from.
    "jaxflow_accurate": Config(refinement_levels=2, least_side=512),
}

_shipped = functools.partial(
    spec.Weights,
    source="this package; experiments/flow/scale_shared.py trains it",
    licence="Apache-2.0",
    dialect="jaxflow",
)
WEIGHTS = {
    "jaxflow_fast/scenes": _shipped(
        file="jaxflow_fast.safetensors",
        sha256="c1f84994bc4ce24fe577a721e57006d48e17d38bc457e5b9a5e3385178c04be1",
        num_params=300_506,
    ),
    "jaxflow_accurate/scenes": _shipped(
        file="jaxflow_accurate.safetensors",
        sha256="9cb491b54d54d1f913456741d7d51e0a0296c80ea4cdadb238699017aa376433",
        num_params=300_508,
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
)
