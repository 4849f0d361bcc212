"""The factorised 3-D U-Net of video diffusion models, Ho et al. (NeurIPS 2022).

    python experiments/generation/unet3d.py --data videos --workdir runs/unet3d
    python experiments/generation/unet3d.py --data videos --accumulate 2 --dtype \\
        bfloat16 --workdir runs/unet3d

    stage     size   frames   batch             rate    steps     average
    library   64     16       32, in 2 parts    1e-4    100 000   0.995 every 10 steps

Settings of the library video-diffusion-pytorch, on which most users rely: Adam, the
absolute error of the noise, 1000 steps of a cosine schedule. It was not trained on
given frames: they are followed by reconstruction guidance. The paper's own networks are
larger (256 channels, multiples 1, 2, 4, 8) and were trained on many devices.

    UCF-101, 16 frames of 64x64          published   we got
    needs the published features         see paper   not run yet

Deviations: the average is taken at every step, with a decay of 0.9995.
"""

import functools

import jax.numpy as jnp
import recipe
from recipe import core

from jaxflow.diffusion import masks, training
from jaxflow.diffusion import process as processes

STAGES = {
    "library": recipe.Stage(
        model="lucid_unet3d_base",
        steps=100_000,
        batch_size=32,
        rate=1e-4,
        average=0.9995,
        tasks=(("unconditional", 0), ("future", 4)),
    ),
}


def batch_of(key, videos, model) -> training.Batch:
    """Adds noise to all frames."""
    noised = processes.add_noise(key, model.process, videos)
    shape = videos.shape[:2]
    indices = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    selection = masks.Selection(indices, jnp.zeros(shape), jnp.ones(shape))
    return training.Batch(noised, videos, selection)


def main(args: recipe.Args) -> None:
    """Trains the stage."""
    loss = functools.partial(training.loss, power=1)
    recipe.run(args, STAGES, width="dim", batch_of=batch_of, loss=loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
