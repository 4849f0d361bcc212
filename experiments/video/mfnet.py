"""MFNet: Lee, Lee, Son, Park, Kwak (ECCV 2018), fixed motion filters in a 2-D ResNet.

    python experiments/video/mfnet.py --data something/train.txt \
        --test something/val.txt --workdir runs/mfnet
    python experiments/video/mfnet.py --task motion8 --width 16 --workdir runs/small

Runs something in its folder of --workdir; run again, it goes on where it was stopped.
Without --data, clips are drawn on the device. A shorter --steps shrinks the schedule.

    epochs   batch   rate                       decay   gradients clipped to   dropout
    47       128     1e-3, tenth at 20, 40      5e-4    40                     0.5

    top-1                               paper   we got
    Jester                              96.68   not run yet
    Something-Something v1              43.9    not run yet

SGD with momentum 0.9. The authors publish no code: the schedule is that of the temporal
segment networks which theirs builds on. Clips are never mirrored, as left and right
matter there. Deviation: frames are evenly spaced, not at random in each segment.
"""

import dataclasses
from typing import Any, Literal

import recipe
from recipe import core

from jaxflow import train
from jaxflow.models.video import mfnet

SOMETHING = recipe.Stage(
    sets=("something", "jester"),
    epochs=47,
    rate=1e-3,
    batch_size=128,
    drops=(20, 40),
    decay=5e-4,
    clip=40.0,
    short_side=(256 / 224, 256 / 224),
    flip=False,
)
STAGES = {"something": SOMETHING}
Variant = Literal[tuple(mfnet.VARIANTS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/mfnet.py.
    """

    model: Variant = "mfnet_r50"


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    config = config or mfnet.VARIANTS[args.model]
    return recipe.run(args, STAGES, mfnet.Model, config)


if __name__ == "__main__":
    core.command(main, Args, __doc__)
