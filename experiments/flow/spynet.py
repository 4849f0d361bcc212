"""SpyNet: Ranjan and Black (CVPR 2017), one level at a time, from coarse to fine.

    python experiments/flow/spynet.py --workdir runs/spynet
    python experiments/flow/spynet.py --preset translation --steps-per-level 2000 \
        --workdir runs/spynet_small

The same command run again goes on where it was stopped: each level is a run of its own
in the folder, and begins with the weights of the one before.

    levels   frames                      rate                        steps a level
    0 to 4   24x32, doubling to 384x512  5e-3, then 1e-4, then 5e-5  160 epochs of 1000

    EPE                  paper   we got
    FlyingChairs, test   2.63    not run yet
    Sintel train, clean  4.12    not run yet

Adam without decay, batches of 32, error of the level's own flow. Level k is trained on
frames halved 4 - k times; the levels below it are fixed and it begins as a copy of the
one before. Deviations: 1000 steps at the first rate, no augmentation, and scenes of
our own, drawn on the device.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import jax
import optax
import tyro
from flax import nnx

from jaxflow import checkpoint, losses, ops, train
from jaxflow.data import synthetic
from jaxflow.models.flow import spynet


@dataclasses.dataclass(frozen=True)
class Args:
    """Options of the recipe.

    Attributes:
        workdir: Folder for the runs, one a level.
        preset: Synthetic scenes to train on.
        levels: Number of levels.
        steps_per_level: Steps that each is trained for.
        batch_size: Pairs in a batch.
        size: Height and width of the scenes.
        seed: Of weights and data.
        save_every: Steps between checkpoints.
    """

    workdir: pathlib.Path
    preset: Literal["chairs", "things", "sdhom", "translation"] = "chairs"
    levels: int = 5
    steps_per_level: int = 160_000
    batch_size: int = 32
    size: tuple[int, int] = (384, 512)
    seed: int = 0
    save_every: int = 5000


def loss(model, batch):
    """Returns the mean error of the level that is trained, the finest there is."""
    flow = model(batch["image1"], batch["image2"])[-1]
    return losses.end_point(flow, batch["flow"])


def make_optimiser(level: int, steps: int) -> optax.GradientTransformation:
    """Returns Adam for one level; the others keep their weights."""
    rate = optax.piecewise_constant_schedule(
        5e-3, {steps // 160: 0.02, steps * 120 // 160: 0.5}
    )

    def labels(params):
        return {
            "levels": {
                index: jax.tree.map(
                    lambda _, index=index: "trained" if index == level else "fixed",
                    part,
                )
                for index, part in params["levels"].items()
            }
        }

    trained = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    return optax.partition({"trained": trained, "fixed": optax.set_to_zero()}, labels)


def draw(key, *, args: Args, level: int):
    """Draws scenes and brings them to the size of a level."""
    batch = synthetic.flow_batch(
        key, preset=args.preset, batch_size=args.batch_size, size=args.size
    )
    factor = 2 ** (args.levels - 1 - level)
    size = (args.size[0] // factor, args.size[1] // factor)
    frames = {
        name: ops.avg_pool(batch[name], factor, strides=factor)
        for name in ("image1", "image2")
    }
    known = ~batch["occlusion"] | True
    flow, _ = losses.area_average(batch["flow"], known, size)
    return {**frames, "flow": flow / factor}


def main(args: Args, config: spynet.Config | None = None) -> spynet.Model:
    """Trains every level, or goes on, and returns the model."""
    config = config or spynet.Config(networks=args.levels, max_levels=args.levels)
    rngs = nnx.Rngs(jax.random.key(args.seed, impl="rbg"))
    model = spynet.Model(config, rngs=rngs)
    for level in range(args.levels):
        if level:
            weights = checkpoint.weights_of(model)
            levels = weights["params"]["levels"]
            levels[level] = jax.tree.map(lambda array: array, levels[level - 1])
            checkpoint.fill(model, weights)
        optimiser = make_optimiser(level, args.steps_per_level)
        step = train.make_step(
            model, loss, optimiser, draw=functools.partial(draw, args=args, level=level)
        )
        state = train.fit(
            step,
            train.init(model, optimiser, seed=args.seed + level),
            steps=args.steps_per_level,
            workdir=args.workdir / f"level{level}",
            save_every=args.save_every,
        )
        train.finish(model, state)
    checkpoint.save(args.workdir / "model", model)
    return model


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
