"""I3D, Carreira and Zisserman (CVPR 2017), and S3D, from an image network's weights.

    python experiments/video/i3d.py --inflate googlenet-1378be20.pth \
        --data kinetics/train.csv --test kinetics/val.csv --workdir runs/i3d
    python experiments/video/i3d.py --task motion8 --size 64 --frames 16 --width 0.25 \
        --workdir runs/small

Runs kinetics in its folder of --workdir; run again, it goes on where it was stopped.
Without --data, clips are drawn on the device. A shorter --steps shrinks the schedule.

    steps      batch   rate                                    decay
    115 000    384     0.1, tenth after 97 000 and 108 000     1e-7

    Kinetics-400, top-1                  published   we got
    i3d_inception_rgb, inflated          71.1        not run yet
    s3d                                  72.2        not run yet

SGD with momentum 0.9, dropout 0.5, 64 frames, a shorter side of 256 cropped to 224 and
mirrored; 64 replicas of 6 clips. --inflate takes torchvision's GoogLeNet, which is
Inception-v1 with batch normalisation. Deviations: the batch is normalised as a whole,
and S3D's schedule is I3D's.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import recipe
from recipe import core

from jaxflow import convert, train
from jaxflow.models.video import i3d_inception, s3d

# Kinetics-400 had 239 913 clips to train on.
STEPS, CLIPS, BATCH = 115_000, 239_913, 384
EPOCHS = STEPS * BATCH / CLIPS
KINETICS = recipe.Stage(
    sets=("kinetics",),
    epochs=EPOCHS,
    rate=0.1,
    batch_size=BATCH,
    drops=(EPOCHS * 97_000 / STEPS, EPOCHS * 108_000 / STEPS),
    decay=1e-7,
    short_side=(256 / 224, 256 / 224),
)
STAGES = {"kinetics": KINETICS}
_NORM = "weight|bias|running_mean|running_var"
_BLOCKS = {
    "3a": "3b", "3b": "3c", "4a": "4b", "4b": "4c", "4c": "4d", "4d": "4e", "4e": "4f",
    "5a": "5b", "5b": "5c",
}  # fmt: skip
_BRANCHES = {
    "branch1": "b0",
    r"branch2\.0": "b1a",
    r"branch2\.1": "b1b",
    r"branch3\.0": "b2a",
    r"branch3\.1": "b2b",
    r"branch4\.1": "b3",
}
_UNITS = {
    **{"conv1": "conv_1a", "conv2": "conv_2b", "conv3": "conv_2c"},
    **{
        rf"inception{theirs}\.{branch}": f"mixed_{ours}.{name}"
        for theirs, ours in _BLOCKS.items()
        for branch, name in _BRANCHES.items()
    },
}
GOOGLENET = tuple(
    row
    for theirs, ours in _UNITS.items()
    for row in (
        (rf"{theirs}\.conv\.weight", f"body.{ours}.conv.weight"),
        (rf"{theirs}\.bn\.({_NORM})", rf"body.{ours}.norm.\1"),
    )
)
Variant = Literal[tuple(i3d_inception.VARIANTS | s3d.VARIANTS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/i3d_inception.py or s3d.py.
        inflate: Weights of torchvision's GoogLeNet for I3D to begin with.
    """

    model: Variant = "i3d_inception_rgb"
    inflate: pathlib.Path | None = None


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    file = s3d if args.model in s3d.VARIANTS else i3d_inception
    config = config or file.VARIANTS[args.model]

    def begin(model: Any, *told: Any, first: bool) -> None:
        core.begin(model, *told, first=first)
        if args.inflate is not None and first:
            recipe.inflate(model, convert.read_checkpoint(args.inflate), GOOGLENET)

    return recipe.run(args, STAGES, file.Model, config, begin=begin)


if __name__ == "__main__":
    core.command(main, Args, __doc__)
