"""C3D: Tran, Bourdev, Fergus, Torresani, Paluri (ICCV 2015), fine-tuned on UCF101.

    python experiments/video/c3d.py --start c3d_sports1m.pth \
        --data ucf101/train.txt --test ucf101/test.txt --workdir runs/c3d
    python experiments/video/c3d.py --task motion8 --width 16 --workdir runs/small

Runs ucf101 in its folder of --workdir; run again, it goes on where it was stopped.
Without --data, clips are drawn on the device. A shorter --steps shrinks the schedule.

    epochs   batch   rate                        decay   gradients clipped to
    45       30      1e-3, tenth after 20, 40    5e-4    40

    UCF101, split 1, 10 clips, top-1   mmaction2   we got
    c3d, from Sports-1M                82.9        not run yet

SGD with momentum 0.9, dropout 0.5, 16 consecutive frames of 128 x 171 cropped to 112:
mmaction2's recipe, which has the batch on each of 8 GPUs. The fully connected layers
fix the size of a clip; 32 pixels and 16 frames are the least.
"""

import dataclasses
from typing import Any

import recipe
from recipe import core

from jaxflow import train
from jaxflow.models.video import c3d

UCF101 = recipe.Stage(
    sets=("ucf101",),
    epochs=45,
    rate=1e-3,
    batch_size=30,
    drops=(20, 40),
    decay=5e-4,
    clip=40.0,
    short_side=(128 / 112, 128 / 112),
    views=(10, 1),
)
STAGES = {"ucf101": UCF101}


def main(args: recipe.Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    # Motion of the tasks is of 8 frames; the network needs 16 of 32 pixels.
    if not args.data and args.frames is None:
        args = dataclasses.replace(args, frames=16)
    config = config or c3d.VARIANTS["c3d"]
    return recipe.run(args, STAGES, c3d.Model, config)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
