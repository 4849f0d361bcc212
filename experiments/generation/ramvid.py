"""RaMViD, Hoeppe et al. (TMLR 2022): 3-D convolutions, any frames given in place.

    python experiments/generation/ramvid.py --data bair/train --test bair/test \\
        --workdir runs/ramvid
    python experiments/generation/ramvid.py --stage ucf101 --data ucf101/train.txt \\
        --accumulate 4 --workdir runs/ramvid

    stage         frames   blocks   given      none given   batch   rate
    bair          20       2        1 to 4     0.25         4       2e-5
    kinetics600   16       3        1 to 4     0.25         8       2e-5
    ucf101        16       3        1 to 4     0.75         8       2e-5

Settings of the authors' code (RaMViD, README and scripts/video_train.py), at 64x64, a
batch in parts of 2: Adam, gradients clipped to 1, average of decay 0.9999, noise
predicted, 1000 steps of a linear schedule. The number of steps is not stated there;
500 000 is ours.

    FVD, see the paper's tables          published   we got
    needs the published features         see paper   not run yet

Deviations: none known but the number of steps.
"""

import functools

import jax
import jax.numpy as jnp
import recipe
from recipe import core

from jaxflow.diffusion import masks, training
from jaxflow.diffusion import process as processes

MOST_GIVEN = 4
TASKS = (("future", 4), ("past", 4), ("interpolate", 4))
_stage = functools.partial(
    recipe.Stage, steps=500_000, batch_size=8, rate=2e-5, clip=1.0, tasks=TASKS
)
STAGES = {
    "bair": _stage(model="ramvid_bair", overrides=(("num_frames", 20),), batch_size=4),
    "kinetics600": _stage(model="ramvid_kinetics600"),
    "ucf101": _stage(model="ramvid_ucf101"),
}
# Share of clips of which no frame is given.
UNCONDITIONAL = {"bair": 0.25, "kinetics600": 0.25, "ucf101": 0.75}


def batch_of(key, videos, model, *, unconditional: float) -> training.Batch:
    """Gives 1 to 4 frames of each clip, or none, and adds noise."""
    counts, places, coins, noise = jax.random.split(key, 4)
    shape = videos.shape[:2]
    most = min(MOST_GIVEN, shape[1] - 1)
    number = jax.random.randint(counts, shape[:1], 1, most + 1)
    none = jax.random.bernoulli(coins, unconditional, shape[:1])
    number = jnp.where(none, 0, number)
    order = jnp.argsort(jnp.argsort(jax.random.uniform(places, shape), axis=1), axis=1)
    given = order < number[:, None]
    indices = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    selection = masks.Selection(
        indices, given.astype(jnp.float32), (~given).astype(jnp.float32)
    )
    noised = processes.add_noise(noise, model.process, videos)
    return training.Batch(noised, videos, selection)


def main(args: recipe.Args) -> None:
    """Trains the stage."""
    share = UNCONDITIONAL[args.stage or next(iter(STAGES))]
    giving = functools.partial(batch_of, unconditional=share)
    width = "model_channels"
    recipe.run(args, STAGES, width=width, batch_of=giving, loss=training.loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
