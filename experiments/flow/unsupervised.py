"""Any flow network without ground truth: brightness, smoothness, occlusion.

    python experiments/flow/unsupervised.py --variant pwcnet --workdir runs/free

Runs plain and masked, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Without --data, scenes are drawn on the
device, and only tests look at their flow. A shorter --steps shrinks the schedule. TVNet
has a loss of its own and trains by that.

    stage    batch, crop   rate    steps   pixels that count
    plain    1, 384x512    1e-4    500k    those whose match lies inside frame 2
    masked   1, 384x512    1e-4    500k    and is not occluded

    EPE on FlyingChairs, test   we got
    pwcnet                      not run yet

The loss follows Jonschkowski et al., "What Matters in Unsupervised Optical Flow"
(ECCV 2020), whose schedule is the sum of both stages, and Meister et al., "UnFlow"
(AAAI 2018): the census of both frames is compared, forward-backward consistency tells
what is occluded, edges release the smoothness. Every flow that a network returns in
training counts, the later the more.

Deviations: no self-supervision, no final decay of the rate, weights of our own choice;
gradients are clipped to norm 1.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import recipe
from jax import lax
from recipe import core

from jaxflow import losses, models, ops, train

_PLAIN = recipe.Stage(
    steps=500_000, rate=1e-4, batch_size=1, size=(384, 512), decay=0.0
)
STAGES = {
    "plain": _PLAIN,
    "masked": dataclasses.replace(_PLAIN, after=("plain",)),
}
SMOOTHNESS = 2.0
# Weight of a flow relative to the one after it.
GAMMA = 0.8


def loss(model, batch, *, masked=False):
    """Returns how badly the flows of both directions explain the frames."""
    if hasattr(model, "loss"):
        return model.loss(batch["image1"], batch["image2"])
    first = jnp.concatenate([batch["image1"], batch["image2"]])
    second = jnp.concatenate([batch["image2"], batch["image1"]])
    flows = model(first, second).predictions
    flows = [ops.resize_flow(flow, first.shape[1:3]) for flow in flows]
    # What counts is told by the best flow there is.
    counts = lax.stop_gradient(visible(flows[-1], masked=masked))
    total = jnp.zeros((), jnp.float32)
    for index, flow in enumerate(reversed(flows)):
        total += GAMMA**index * explain(first, second, flow, counts)
    return total


def explain(first, second, flow, counts) -> jax.Array:
    """Returns census plus smoothness of one flow."""
    warped = ops.backward_warp(second, flow, padding="border")
    data = losses.census(first, warped, counts)
    return data + SMOOTHNESS * losses.smoothness(flow, first)


def visible(flow: jax.Array, *, masked: bool) -> jax.Array:
    """Returns where a flow, (2B, H, W, 2), forth then back, has a match: (2B, H, W)."""
    if masked:
        forth, back = jnp.split(flow, 2)
        other = jnp.concatenate([back, forth])
        return ~ops.forward_backward_occlusion(flow, other)
    size = flow.shape[1:3]
    points = flow + ops.pixel_grid(*size)[None]
    return ops.sampling_mask(points, size, mask="inside")


def main(options: recipe.Options, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        model = recipe.build(models.find(options.variant or "pwcnet"), options, config)
        objective = functools.partial(loss, masked=name == "masked")
        return model, objective, core.adam(stage)

    return recipe.run(options, STAGES, learn)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
