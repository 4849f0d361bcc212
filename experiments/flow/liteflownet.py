"""LiteFlowNet: Hui, Tang, Loy (CVPR 2018), a level more in each stage.

    python experiments/flow/liteflownet.py --workdir runs/liteflownet
    python experiments/flow/liteflownet.py --stage things --start runs/other/joint \
        --data things_clean=FlyingThings3D --workdir runs/things

Runs all stages, each in its folder of --workdir, beginning with the weights of the one
before, or the --stage that is named; run again, it goes on where it was stopped.
--steps shrinks every schedule. Without --data, scenes are drawn on the device.

    stage             trains                   data            batch, crop
    level6            NetC and level 6         FlyingChairs    8, 320x448
    level5 to level2  as before and one more   FlyingChairs    8, 320x448
    joint             everything               FlyingChairs    8, 320x448
    things            everything               FlyingThings3D  4, 384x768

    each: 300k steps from 4e-5, halved after 120k, 160k, 200k, 240k

    EPE on Sintel train, clean / final   paper          we got
    after things                         2.48 / 4.04    not run yet

Adam, L2 of 4e-4 on kernels, multi-scale error of the levels that are there; levels to
come keep their weights.

Deviations: the schedule is that of the authors' template for every stage; matching,
sub-pixel refinement and regularisation of a level are added together; gradients are
clipped to norm 1; without --data the scenes are ours.
"""

import dataclasses
import functools
from collections.abc import Sequence

import recipe
from recipe import core

from jaxflow import losses, train
from jaxflow.models.flow import liteflownet

_TEMPLATE = recipe.Stage(
    steps=300_000,
    rate=4e-5,
    batch_size=8,
    size=(320, 448),
    drops=(120_000, 160_000, 200_000, 240_000),
    layouts=recipe.CHAIRS,
)


def parts_of(levels: Sequence[int]) -> tuple[str, ...]:
    """Returns the parts of the network that some levels need, NetC among them."""
    units = ("matching", "subpixel", "regularization")
    return ("features", *(f"{unit}{level}" for unit in units for level in levels))


STAGES = {
    **{
        f"level{level}": dataclasses.replace(
            _TEMPLATE,
            after=(f"level{level + 1}",) if level < 6 else (),
            trained=parts_of(range(6, level - 1, -1)),
            tested=False,
        )
        for level in liteflownet.LEVELS
    },
    "joint": dataclasses.replace(_TEMPLATE, after=("level2",)),
    "things": dataclasses.replace(
        _TEMPLATE,
        batch_size=4,
        size=(384, 768),
        after=("joint",),
        presets=("things",),
        layouts=recipe.THINGS,
    ),
}


def levels_of(name: str) -> tuple[int, ...]:
    """Returns the levels that a stage trains."""
    if not name.startswith("level"):
        return liteflownet.LEVELS
    return tuple(x for x in liteflownet.LEVELS if x >= int(name.removeprefix("level")))


def loss(model, batch, *, levels=liteflownet.LEVELS):
    """Returns the multi-scale loss of some levels."""
    flows = model(batch["image1"], batch["image2"]).predictions[: len(levels)]
    weights = losses.PWC_WEIGHTS[: len(levels)]
    return losses.multi_scale(flows, batch["flow"], batch.get("valid"), weights=weights)


def main(
    options: recipe.Options, config: liteflownet.Config | None = None
) -> train.TrainState:
    """Runs every stage, or one, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        model = recipe.build(liteflownet, options, config)
        return model, functools.partial(loss, levels=levels_of(name)), core.adam(stage)

    return recipe.run(options, STAGES, learn)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
