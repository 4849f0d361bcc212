"""LiteFlowNet: Hui, Tang, Loy (CVPR 2018), a level more in each stage.

    python experiments/flow/liteflownet.py --workdir runs/liteflownet
    python experiments/flow/liteflownet.py --stage things --start runs/lite/joint \
        --workdir runs/lite

Runs all stages, each in a folder of its own, which begins with the weights of the one
before; run again, it goes on where it was stopped. --stage runs one of them, beginning
with --start. --steps shrinks every schedule. Without --data, scenes are drawn on the
device; with it, name the stage that it is for.

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

import optax
import recipe
import tyro

from jaxflow import losses, train
from jaxflow.models.flow import liteflownet

_TEMPLATE = recipe.Stage(
    steps=300_000,
    rate=4e-5,
    batch_size=8,
    size=(320, 448),
    halve_at=(120_000, 160_000, 200_000, 240_000),
)
STAGES = {
    **{f"level{level}": _TEMPLATE for level in liteflownet.LEVELS},
    "joint": _TEMPLATE,
    "things": dataclasses.replace(
        _TEMPLATE, batch_size=4, size=(384, 768), presets=("things",)
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


def make_optimiser(
    levels: tuple[int, ...], stage: recipe.Stage
) -> optax.GradientTransformation:
    """Returns Adam for NetC and some levels."""
    units = ("matching", "subpixel", "regularization")
    parts = [f"{unit}{level}" for unit in units for level in levels]
    return recipe.only(recipe.adam(stage), ("features", *parts))


def main(
    options: recipe.Options, config: liteflownet.Config | None = None
) -> train.TrainState:
    """Runs every stage, or one, and returns the last state."""
    model = recipe.build(liteflownet, options, config)
    for name in recipe.names(STAGES, options):
        stage, levels = recipe.adapt(STAGES[name], options), levels_of(name)
        objective = functools.partial(loss, levels=levels)
        optimiser = make_optimiser(levels, stage)
        state = recipe.run(options, stage, model, objective, optimiser, folder=name)
        train.finish(model, state)
    return state


if __name__ == "__main__":
    main(tyro.cli(recipe.Options, description=__doc__))
