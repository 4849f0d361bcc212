"""IRR-PWC: Hur and Roth (CVPR 2019): flow and occlusion, in both directions.

    python experiments/flow/irr_pwc.py --workdir runs/irr
    python experiments/flow/irr_pwc.py --stage things --start runs/other/chairs \
        --workdir runs/irr_things

Runs chairs and things, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Scenes are drawn on the device, with exact
flow and occlusion both ways; of --data, which has neither backward flow nor occlusion,
the forward flow is learned. A shorter --steps shrinks the schedule.

    stage    data                    batch, crop   rate, halved after
    chairs   FlyingChairsOcc         4, 320x448    1e-4; 54, 72, 90 of 108 epochs
    things   FlyingThings3D subset   4, 384x768    1e-5; 19, 30, 40 of 51 epochs

    an epoch has 5,558 steps on chairs; 10,000 are taken for things

    EPE on Sintel train, clean / final   paper          we got
    after things                         2.34 / 3.95    not run yet

Adam, L2 of 4e-4 on kernels. Each level has an error of flow and one of occlusion
(Eq. 8), both ways, before and after refinement; the smaller sum is scaled up to the
larger.

Deviations: gradients are clipped to norm 1; no augmentation of drawn scenes; the stages
on Sintel and KITTI are left out.
"""

import jax
import jax.numpy as jnp
import recipe
from recipe import core

from jaxflow import losses, train
from jaxflow.models.flow import irr_pwc

CHAIRS_EPOCH, THINGS_EPOCH = 22_232 // 4, 10_000
STAGES = {
    "chairs": recipe.Stage(
        steps=108 * CHAIRS_EPOCH,
        rate=1e-4,
        batch_size=4,
        size=(320, 448),
        drops=tuple(epoch * CHAIRS_EPOCH for epoch in (54, 72, 90)),
        layouts=recipe.CHAIRS,
    ),
    "things": recipe.Stage(
        steps=51 * THINGS_EPOCH,
        rate=1e-5,
        batch_size=4,
        size=(384, 768),
        drops=tuple(epoch * THINGS_EPOCH for epoch in (19, 30, 40)),
        after=("chairs",),
        presets=("things",),
        layouts=recipe.THINGS,
    ),
}
# Coarse to fine: levels 6 to 0.
WEIGHTS = (*losses.PWC_WEIGHTS, 0.00125, 0.0003125)


def loss(model, batch):
    """Returns the balanced loss of flow and occlusion, and both by themselves."""
    both = model.both_directions(batch["image1"], batch["image2"])
    if "occlusion" not in batch:
        flow = flow_loss(both[0], batch["flow"], batch.get("valid"))
        return flow, {"flow_loss": flow}
    truths = (
        (batch["flow"], batch["occlusion"]),
        (batch["flow_backward"], batch["occlusion_backward"]),
    )
    flow = occlusion = jnp.zeros((), jnp.float32)
    for estimates, (true_flow, hidden) in zip(both, truths, strict=True):
        flow += 0.5 * flow_loss(estimates, true_flow, None)
        occlusion += 0.5 * occlusion_loss(estimates, hidden)
    parts = {"flow_loss": flow, "occlusion_loss": occlusion}
    return losses.balanced(flow, occlusion), parts


def flow_loss(estimates: irr_pwc.Estimates, target, mask) -> jax.Array:
    """Returns the multi-scale error before and after refinement, halved where both."""
    height, width = target.shape[1:3]

    def own_pixels(flow):
        rows, columns = flow.shape[1:3]
        scale = jnp.array([20 * columns / width, 20 * rows / height], flow.dtype)
        return flow * scale[None, None, None]

    refined = [own_pixels(flow) for flow in estimates.flows]
    before = [own_pixels(flow) for flow in estimates.contexts]
    return losses.multi_scale(
        refined, target, mask, weights=shared(len(before))
    ) + losses.multi_scale(
        before, target, mask, weights=shared(len(before))[: len(before)]
    )


def occlusion_loss(estimates: irr_pwc.Estimates, hidden: jax.Array) -> jax.Array:
    """Returns the cross-entropy of all levels, before and after refinement."""
    hidden = hidden[..., None].astype(jnp.float32)
    known = jnp.ones(hidden.shape[:3], jnp.float32)
    before = estimates.occlusion_contexts
    weights = shared(len(before))
    weights = (*weights, *weights[: len(before)])
    total = jnp.zeros((), jnp.float32)
    for weight, logits in zip(weights, [*estimates.occlusions, *before], strict=True):
        share, _ = losses.area_average(hidden, known, logits.shape[1:3])
        total += weight * losses.occlusion(logits, share)
    return total


def shared(count: int) -> tuple[float, ...]:
    """Returns the levels' weights; the first `count` have two estimates to share it."""
    return tuple(w / 2 if i < count else w for i, w in enumerate(WEIGHTS))


def main(
    options: recipe.Options, config: irr_pwc.Config | None = None
) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        return recipe.build(irr_pwc, options, config), loss, core.adam(stage)

    return recipe.run(options, STAGES, learn)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
