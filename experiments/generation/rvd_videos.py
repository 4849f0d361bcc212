"""RVD, Yang et al. (2022; Entropy 2023): each frame's residual to its prediction.

    python experiments/generation/rvd_videos.py --data city/train --test city/test \\
        --workdir runs/rvd
    python experiments/generation/rvd_videos.py --stage size128 --data city/train \\
        --workdir runs/rvd

    stage     size   frames   batch   rate    steps       average
    size64    64     8        2       5e-5    1 000 000   0.99 every 5 steps
    size128   128    8        1       5e-5    1 000 000   0.99 every 5 steps

Settings of the authors' code (RVD, config.py): Adam, the rate times 0.8 after each
100 000 steps down to a fifth, the absolute error of the noise, 1600 steps of a cosine
schedule; the first two frames of a clip are only looked at.

    Cityscapes, see the paper's tables   published   we got
    needs the published features         see paper   not run yet

Deviations: the average is taken at every step from the first on, with a decay of 0.998.
`rvd.py` compares the two targets on shapes.
"""

import functools

import jax.numpy as jnp
import recipe
from recipe import core

from jaxflow.diffusion import masks, training
from jaxflow.diffusion import process as processes

LOOKED_AT = 2
_stage = functools.partial(
    recipe.Stage,
    steps=1_000_000,
    rate=5e-5,
    drops=tuple(100_000 * i for i in range(1, 8)),
    factor=0.8,
    average=0.998,
    overrides=(("num_frames", 8),),
    tasks=(("future", 4),),
)
STAGES = {
    "size64": _stage(model="rvd_64", batch_size=2),
    "size128": _stage(model="rvd_128", batch_size=1),
}


def batch_of(key, videos, model) -> training.Batch:
    """Adds noise; all frames but the first two count."""
    noised = processes.add_noise(key, model.process, videos)
    shape = videos.shape[:2]
    indices = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    looked_at = (indices < LOOKED_AT).astype(jnp.float32)
    selection = masks.Selection(indices, looked_at, 1 - looked_at)
    return training.Batch(noised, videos, selection)


def main(args: recipe.Args) -> None:
    """Trains the stage."""
    loss = functools.partial(training.loss, power=1)
    recipe.run(args, STAGES, width="dim", batch_of=batch_of, loss=loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
