"""FlowNetS and FlowNetC: Fischer, Dosovitskiy, Ilg et al. (ICCV 2015).

    python experiments/flow/flownet.py --workdir runs/flownets
    python experiments/flow/flownet.py --variant flownetc --stage long \
        --workdir runs/flownetc
    python experiments/flow/flownet.py --variant flownetc --stage fine \
        --workdir runs/flownetc

Runs short, or the --stage that is named, in its folder of --workdir; run again, it goes
on where it was stopped. Without --data, scenes are drawn on the device. A shorter
--steps shrinks the published schedule. Variants: flownets, flownetc, flownetsd, and
those with fewer channels or batch normalisation.

    stage   data             batch, crop   rate, halved after
    short   FlyingChairs     8, 320x448    1e-4; 300k, 400k, 500k of 600k steps
    long    FlyingChairs     8, 320x448    1e-4; 400k, 600k, 800k, 1M of 1.2M steps
    fine    FlyingThings3D   4, 384x768    1e-5; 200k, 300k, 400k, 500k of 600k steps

    EPE on Sintel train, clean / final      paper          we got
    FlowNetS, short                         4.50 / 5.45    not run yet
    FlowNetC, short                         4.31 / 5.87    not run yet

"short" is the schedule of 2015, in which FlowNetC's rate rises from 1e-6 during the
first 10k steps; "long" and "fine" are those of Ilg et al., "FlowNet 2.0" (2017). Adam,
L2 of 4e-4 on kernels, multi-scale error with the authors' weights.

Deviations: gradients are clipped to norm 1; augmentation has its full strength from the
first step; without --data the scenes are ours.
"""

import dataclasses
from typing import Any

import recipe
from recipe import core

from jaxflow import losses, models, train

STAGES = {
    "short": recipe.SHORT,
    "long": recipe.LONG,
    "fine": dataclasses.replace(recipe.FINE, after=("long",)),
}


def loss(model, batch):
    """Returns the multi-scale loss."""
    flows = model(batch["image1"], batch["image2"]).predictions
    return losses.multi_scale(flows, batch["flow"], batch.get("valid"))


def stages_of(variant: str) -> dict[str, recipe.Stage]:
    """Returns the stages, with the warm-up of FlowNetC."""
    if not variant.startswith("flownetc"):
        return STAGES
    warm = dataclasses.replace(recipe.SHORT, warm_up=10_000, warm_up_rate=1e-6)
    return STAGES | {"short": warm}


def main(options: recipe.Options, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    variant = options.variant or "flownets"

    def learn(name: str, stage: recipe.Stage):
        model = recipe.build(models.find(variant), options, config)
        return model, loss, core.adam(stage)

    return recipe.run(options, stages_of(variant), learn, own=("short",))


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
