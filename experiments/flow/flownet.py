"""FlowNetS and FlowNetC: Fischer, Dosovitskiy, Ilg et al. (ICCV 2015).

    python experiments/flow/flownet.py --workdir runs/flownets
    python experiments/flow/flownet.py --variant flownetc --stage long \
        --workdir runs/flownetc
    python experiments/flow/flownet.py --variant flownetc --stage fine \
        --start runs/flownetc --workdir runs/flownetc_fine

The same command run again goes on where it was stopped. Without --data, scenes are
drawn on the device. A shorter --steps shrinks the published schedule. Variants:
flownets, flownetc, flownetsd, and those with fewer channels or batch normalisation.

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
import tyro

from jaxflow import losses, models, train

STAGES = {"short": recipe.SHORT, "long": recipe.LONG, "fine": recipe.FINE}


def loss(model, batch):
    """Returns the multi-scale loss."""
    flows = model(batch["image1"], batch["image2"]).predictions
    return losses.multi_scale(flows, batch["flow"], batch.get("valid"))


def stage_of(options: recipe.Options, variant: str) -> recipe.Stage:
    """Returns the schedule of a stage, with the warm-up of FlowNetC."""
    stages = dict(STAGES)
    if variant.startswith("flownetc"):
        stages["short"] = dataclasses.replace(recipe.SHORT, warm_up=10_000)
    return recipe.choose(stages, options)


def main(options: recipe.Options, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    variant = options.variant or "flownets"
    stage = stage_of(options, variant)
    model = recipe.build(models.find(variant), options, config)
    return recipe.run(options, stage, model, loss, recipe.adam(stage))


if __name__ == "__main__":
    main(tyro.cli(recipe.Options, description=__doc__))
