"""MCVD, Voleti et al. (NeurIPS 2022): the frames between past and future ones.

    python experiments/generation/mcvd.py --data smmnist --workdir runs/mcvd
    python experiments/generation/mcvd.py --stage kth --data kth/train --test \\
        kth/test --accumulate 4 --dtype bfloat16 --workdir runs/mcvd

    stage            frames: past, new, future   rate    warm-up   batch   masked
    smmnist          5, 5, 0                     2e-4    1000      64      never
    smmnist_general  5, 5, 5                     2e-4    1000      64      half of each
    kth              10, 5, 0                    2e-4    5000      64      never
    bair             1, 5, 1                     1e-4    5000      64      half of each
    cityscapes       2, 5, 0                     1e-4    5000      64      never
    ucf101           4, 4, 0                     1e-4    5000      32      never

Settings of the authors' code (mcvd-pytorch, configs and example_scripts/final; 1 to 4
V100 of 32 GB): Adam, gradients clipped to 1, average of decay 0.999, clips mirrored at
random, 3 000 000 steps, the sum of half the squared error of the noise. On one GPU of
less memory give --accumulate.

    FVD, see the paper's tables          published   we got
    needs the published features         see paper   not run yet

Deviations: none known. Stochastic Moving MNIST itself needs MNIST; `moving_shapes.py
--kind glyphs` draws digits that move by its rule.
"""

import functools

import jax
import jax.numpy as jnp
import recipe
from recipe import core

from jaxflow.diffusion import masks, training
from jaxflow.diffusion import process as processes

_stage = functools.partial(
    recipe.Stage,
    steps=3_000_000,
    batch_size=64,
    rate=2e-4,
    warm_up=5000,
    clip=1.0,
    average=0.999,
    flip=True,
)
STAGES = {
    "smmnist": _stage(model="mcvd_smmnist", warm_up=1000, tasks=(("future", 5),)),
    "smmnist_general": _stage(
        model="mcvd_smmnist_future", warm_up=1000, tasks=(("interpolate", 10),)
    ),
    "kth": _stage(model="mcvd_kth", tasks=(("future", 10),)),
    "bair": _stage(model="mcvd_bair", rate=1e-4, tasks=(("interpolate", 2),)),
    "cityscapes": _stage(model="mcvd_cityscapes", rate=1e-4, tasks=(("future", 2),)),
    "ucf101": _stage(
        model="mcvd_ucf101", rate=1e-4, batch_size=32, tasks=(("future", 4),)
    ),
}
# Where past and future are masked, each with this probability.
MASKED = {"smmnist_general": 0.5, "bair": 0.5}


def batch_of(key, videos, model, *, masked: float) -> training.Batch:
    """Masks the past, and the future, of each clip at random, and adds noise."""
    config = model.config
    of_past, of_future, noise = jax.random.split(key, 3)
    slots = jnp.arange(config.num_frames)[None]
    past = slots < config.num_past
    future = slots >= config.num_past + config.num_current
    number = videos.shape[:1]
    seen = past & jax.random.bernoulli(of_past, 1 - masked, number)[:, None]
    seen |= future & jax.random.bernoulli(of_future, 1 - masked, number)[:, None]
    indices, latent = jnp.broadcast_arrays(slots, ~(past | future), seen)[:2]
    selection = masks.Selection(
        indices, seen.astype(jnp.float32), latent.astype(jnp.float32)
    )
    noised = processes.add_noise(noise, model.process, videos)
    return training.Batch(noised, videos, selection)


def loss(model, batch):
    """Returns half the sum of the squared error of a clip."""
    return training.loss(model, batch, average="sum") / 2


def main(args: recipe.Args) -> None:
    """Trains the stage."""
    stage = args.stage or next(iter(STAGES))
    masking = functools.partial(batch_of, masked=MASKED.get(stage, 0.0))
    recipe.run(args, STAGES, width="ngf", batch_of=masking, loss=loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
