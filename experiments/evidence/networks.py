"""Networks of the package with a part taken out or added, for the bench of claims."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import spec
from jaxflow.layers import flownet
from jaxflow.models.flow import flownets, pwcnet


class Unwarped(pwcnet.Model):
    """PWC-Net that compares frame 1 with frame 2 as it is, at every level."""

    def warp(self, x2: jax.Array, pixels: jax.Array) -> jax.Array:
        """Returns `x2`."""
        return x2


class Uncompared(pwcnet.Model):
    """PWC-Net that hands the features of both frames on, and no costs.

    They take the channels of the costs, the rest of which is 0: it has as many weights.
    """

    def cost(self, x1: jax.Array, x2: jax.Array) -> jax.Array:
        """Returns both features, (B, H, W, (2 radius + 1)^2)."""
        both = jnp.concatenate(pwcnet.standardise(x1, x2), axis=-1)
        rest = (2 * self.config.radius + 1) ** 2 - both.shape[-1]
        return jnp.pad(both, ((0, 0),) * 3 + ((0, rest),))


class FullSize(flownets.Model):
    """FlowNetS with two more levels: it predicts flow at full size."""

    def __init__(self, config: flownets.Config, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        widths = {
            level: flownet.scaled(flownets.ENCODER[name][2], config.width)
            for level, name in (flownets.SKIPS | {1: "conv1"}).items()
        }
        ups = flownet.DECONV_FEATURES | {1: 32, 0: 16}
        self.decoder = flownet.Decoder(
            flownet.scaled(flownets.ENCODER["conv6_1"][2], config.width),
            widths | {0: config.in_features},
            {level: flownet.scaled(full, config.width) for level, full in ups.items()},
            inter_features={},
            upsample_bias=False,
            rngs=rngs,
        )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        frames = flownet.centre(image1, image2, self.config.mean)
        flows = self.flows(jnp.concatenate(frames, axis=-1))
        return spec.Flow(
            flownet.DIV_FLOW * flows[-1],
            flownet.in_own_pixels(flows, *image1.shape[1:3]),
        )

    def flows(self, x: jax.Array) -> list[jax.Array]:
        """Predicts flow from 1/64 of the size to the full size, in units of 20 px."""
        features = {"input": x}
        for name in flownets.ENCODER:
            x = features[name] = getattr(self, name)(x)
        names = flownets.SKIPS | {1: "conv1", 0: "input"}
        return self.decoder(x, {level: features[name] for level, name in names.items()})


def calm(model: nnx.Module) -> None:
    """Makes the first flow of a network small, and its first layer blind to mid-grey.

    Training takes off sooner so: little is warped at first, and features differ.
    """
    for _, part in nnx.iter_graph(model):
        for name, layer in vars(part).items() if isinstance(part, nnx.Module) else ():
            if name.startswith("predict_flow"):
                layer.kernel[...] = 0.1 * layer.kernel[...]
    stage: Any = getattr(model, "stage1", None)
    if stage is not None:
        first = stage.convs[0]
        first.bias[...] = -0.5 * jnp.sum(first.kernel[...], axis=(0, 1, 2))
