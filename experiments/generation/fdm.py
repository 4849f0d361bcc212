"""FDM, Harvey et al. (NeurIPS 2022): any frames of a long video from any others.

    python experiments/generation/fdm.py --data carla/train --test carla/test \\
        --workdir runs/fdm
    python experiments/generation/fdm.py --stage minerl --data minerl --workdir runs/fdm

    stage    size   frames   of a video of   blocks   batch   rate    average
    carla    128    20       1000            1        2       1e-4    0.9999
    minerl   64     20       500             2        2       1e-4    0.9999
    mazes    64     20       300             2        2       1e-4    0.9999

Settings of the authors' code (flexible-video-diffusion-modeling, scripts/
video_train.py and its README; one A100): AdamW without decay, no schedule of the rate,
noise predicted, 1000 steps of a linear schedule, masks of the paper's distribution. The
batch of minerl and mazes, and the 550 000 steps, are those of CARLA's released weights.

    CARLA Town01, FVD of 100 videos      published   we got
    needs the published features         see paper   not run yet

Deviations: places that are left over are padding, where the code fills them with
frames of other videos; and clips are cut out at a random time.
"""

import functools

import recipe
from recipe import core

from jaxflow.diffusion import training

TASKS = (("future", 10), ("past", 10), ("interpolate", 10))
_stage = functools.partial(
    recipe.Stage, steps=550_000, batch_size=2, rate=1e-4, tasks=TASKS
)
STAGES = {
    "carla": _stage(model="fdm_carla", frames=1000),
    "minerl": _stage(model="fdm_64", frames=500),
    "mazes": _stage(model="fdm_64", frames=300),
}


def batch_of(key, videos, model) -> training.Batch:
    """Draws masks of the paper's distribution, and noise."""
    most = model.config.num_frames
    return training.batch(key, videos, model.process, most=most)


def main(args: recipe.Args) -> None:
    """Trains the stage."""
    # The code divides by the number of all elements, observed ones too.
    loss = functools.partial(training.loss, average="all")
    recipe.run(args, STAGES, width="model_channels", batch_of=batch_of, loss=loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
