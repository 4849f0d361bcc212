"""R3D, MC3 and R(2+1)D: Tran et al. (CVPR 2018), trained as torchvision trains them.

    python experiments/video/r3d.py --data kinetics/train.csv --test kinetics/val.csv \
        --workdir runs/r2plus1d
    python experiments/video/r3d.py --model r3d_18 --task motion8 --width 16 \
        --workdir runs/small

Runs kinetics in its folder of --workdir; run again, it goes on where it was stopped.
Without --data, clips are drawn on the device. A shorter --steps shrinks the schedule.

    epochs   rate for 24 clips              after a warm-up of       decay
    45       0.01, tenth after 20, 30, 40   10 epochs from 1e-5      1e-4

    Kinetics-400, 5 clips, top-1   torchvision   we got
    r3d_18                         63.2          not run yet
    mc3_18                         64.0          not run yet
    r2plus1d_18                    67.5          not run yet

SGD with momentum 0.9, 16 frames at 15 a second, 128 x 171 cropped to 112 and mirrored;
batches of 24 clips on each of 64 GPUs, the rate growing with the GPUs.
"""

import dataclasses
from typing import Any, Literal

import recipe
from recipe import core

from jaxflow import train
from jaxflow.models.video import r3d

KINETICS = recipe.Stage(
    sets=("kinetics",),
    epochs=45,
    rate=0.01,
    batch_size=24,
    drops=(20, 30, 40),
    warm_up=10,
    warm_up_rate=1e-5,
    short_side=(128 / 112, 128 / 112),
    views=(5, 1),
)
STAGES = {"kinetics": KINETICS}
Variant = Literal[tuple(r3d.VARIANTS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/r3d.py.
    """

    model: Variant = "r2plus1d_18"


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    config = config or r3d.VARIANTS[args.model]
    return recipe.run(args, STAGES, r3d.Model, config)


if __name__ == "__main__":
    core.command(main, Args, __doc__)
