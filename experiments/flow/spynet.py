"""SpyNet: Ranjan and Black (CVPR 2017), one level at a time, from coarse to fine.

    python experiments/flow/spynet.py --workdir runs/spynet
    python experiments/flow/spynet.py --preset translation --steps 2000 \
        --workdir runs/spynet_small

The same command run again goes on where it was stopped: each level is a run of its own
in the folder, and begins with the weights of the one before. --steps is for each level.

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
import tyro

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


def make_optimiser(level: int, steps: int) -> optax.GradientTransformation:
    """Returns Adam for one level; the others keep their weights."""
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule(steps)))
    return recipe.only(adam, (f"levels.{level}",))


def main(
    options: recipe.Options, config: spynet.Config | None = None
) -> train.TrainState:
    """Trains every level, or goes on, and returns the last state."""
    stage = recipe.adapt(STAGE, options)
    model = recipe.build(spynet, options, config, networks=5, max_levels=5)
    levels = {f"level{i}": i for i in range(count_levels(model.config, stage.size))}
    for name in recipe.names(levels, options):
        level = levels[name]
        if level and options.stage is None:
            copy_level(model, level - 1, level)
        state = recipe.run(
            dataclasses.replace(options, seed=options.seed + level),
            stage,
            model,
            functools.partial(loss, level=level),
            make_optimiser(level, stage.steps),
            folder=name,
        )
        train.finish(model, state)
    checkpoint.save(options.workdir / "model", model)
    return state


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
    main(tyro.cli(recipe.Options, description=__doc__))
