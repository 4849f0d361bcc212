"""SpyNet: Ranjan and Black (CVPR 2017), one level at a time, from coarse to fine.

    python experiments/flow/spynet.py --workdir runs/spynet
    python experiments/flow/spynet.py --preset translation --steps 2000 \
        --workdir runs/spynet_small

Each level is a stage in its folder of --workdir, which begins with the weights of the
one before; run again, it goes on where it was stopped. --steps is for each level. The
whole network is saved as WORKDIR/model.

    stage               frames                      rate, by epochs of 1000 steps
    level0 to level4    24x32, doubling to 384x512  5e-3 for 10, 1e-4 for 150, then 5e-5

    EPE                  paper   we got
    FlyingChairs, test   2.63    not run yet
    Sintel train, clean  4.12    not run yet

Adam without decay, batches of 32, error of the level's own flow. Level k sees frames
halved 4 - k times; the levels below it are fixed and it begins as a copy of the one
before. Deviations: the last rate is kept for 40 epochs; gradients are clipped to norm
1; without --data the scenes are ours, and not augmented; smaller scenes have fewer
levels.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
import recipe
from recipe import core

from jaxflow import checkpoint, losses, train
from jaxflow.models.flow import spynet

STAGE = recipe.Stage(
    steps=200_000, rate=5e-3, batch_size=32, size=(384, 512), decay=0.0
)


def loss(model, batch, *, level):
    """Returns the mean error of one level, in its own pixels."""
    flow = model(batch["image1"], batch["image2"]).predictions[level]
    known = batch.get("valid", jnp.ones(batch["flow"].shape[:3], bool))
    truth, known = losses.area_average(batch["flow"], known, flow.shape[1:3])
    factor = batch["flow"].shape[2] / flow.shape[2]
    return losses.end_point(flow, truth / factor, known)


def schedule(steps: int) -> optax.Schedule:
    """Returns the rate of a level."""
    drops = {steps * 10 // 200: 0.02, steps * 160 // 200: 0.5}
    return optax.piecewise_constant_schedule(STAGE.rate, drops)


def make_optimiser(steps: int) -> optax.GradientTransformation:
    """Returns Adam for one level."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule(steps)))


def stages_of(count: int) -> dict[str, recipe.Stage]:
    """Returns a stage for each of so many levels."""
    return {
        f"level{level}": dataclasses.replace(
            STAGE,
            after=(f"level{level - 1}",) if level else (),
            trained=(f"levels.{level}",),
            tested=level == count - 1,
        )
        for level in range(count)
    }


def main(
    options: recipe.Options, config: spynet.Config | None = None
) -> train.TrainState:
    """Trains every level, or goes on, and returns the last state."""
    model = recipe.build(spynet, options, config, networks=5, max_levels=5)
    size = options.size or STAGE.size
    stages = stages_of(count_levels(model.config, size))

    def learn(name: str, stage: recipe.Stage):
        objective = functools.partial(loss, level=level_of(name))
        return model, objective, make_optimiser(stage.steps)

    def begin(model: spynet.Model, name: str, stage: recipe.Stage, *args, **options):
        core.begin(model, name, stage, *args, **options)
        if level_of(name):
            copy_level(model, level_of(name) - 1, level_of(name))

    state = recipe.run(options, stages, learn, begin=begin)
    checkpoint.save(options.workdir / "model", model)
    return state


def level_of(name: str) -> int:
    """Returns the number of the level that a stage trains."""
    return int(name.removeprefix("level"))


def count_levels(config: spynet.Config, size: tuple[int, int]) -> int:
    """Returns the number of levels of a frame, as the network has it."""
    longest, count = max(size), 1
    while longest > config.coarsest and count < config.max_levels:
        longest, count = longest // 2, count + 1
    return count


def copy_level(model: spynet.Model, source: int, target: int) -> None:
    """Begins a level as a copy of another."""
    weights = checkpoint.weights_of(model)
    levels = weights["params"]["levels"]
    levels[target] = jax.tree.map(jnp.copy, levels[source])
    checkpoint.fill(model, weights)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
