"""Fine-tunes a network of Kinetics on UCF101 or HMDB51, as mmaction2 does with Slow.

    python experiments/video/finetune.py --stage ucf101 --start slow_8x8_r50.pkl \
        --data ucf101/train.txt --test ucf101/test.txt --workdir runs/ucf
    python experiments/video/finetune.py --stage hmdb51 --start runs/slowfast \
        --model slowfast_8x8_r50 --frozen --data hmdb51/train.txt --workdir runs/hmdb
    python experiments/video/finetune.py --start runs/small --task order2 --width 16 \
        --workdir runs/order

Runs ucf101, or the --stage that is named, in its folder of --workdir; run again, it
goes on where it was stopped. It begins with --start, or a run "scratch" in --workdir,
and with a fresh classifier if the classes are others. --frozen trains the classifier
alone. Without --data, clips are drawn on the device. A shorter --steps shrinks the
schedule.

    stage     epochs   batch   rate                         decay   gradients clipped to
    ucf101    40       64      0.001, tenth after 15, 30    1e-4    20
    hmdb51    40       64      0.001, tenth after 15, 30    1e-4    20

    slow_r50 from Kinetics-400, split 1, 30 views, top-1   mmaction2   we got
    UCF101                                                 92.78       not run yet
    HMDB51                                                 65.95       not run yet

Source: mmaction2, configs/recognition/slowonly/slowonly_k400_pretrained_r50_8x4x1_40e_
{ucf101,hmdb51}_rgb.py. SGD with momentum 0.9, dropout 0.5, 8 frames of every fourth,
cropped to 224 and mirrored. Deviations: its crops are of a random area and shape, ours
squares of a random size; it counts frames of the video, we count 30 a second. Another
--model has its own frames.
"""

import dataclasses
from typing import Any

import recipe
from recipe import core

from jaxflow import train
from jaxflow.models.video import resnet3d, slowfast

_TUNING = recipe.Stage(
    epochs=40,
    rate=0.001,
    batch_size=64,
    drops=(15, 30),
    clip=20.0,
    after=("scratch",),
)
STAGES = {
    name: dataclasses.replace(_TUNING, sets=(name,)) for name in ("ucf101", "hmdb51")
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/slowfast.py or resnet3d.py.
    """

    model: str = "slow_r50"


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    known = resnet3d.VARIANTS | slowfast.VARIANTS
    if args.model not in known:
        raise ValueError(f"`model` must be one of {sorted(known)}; got {args.model!r}")
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d
    if config is None:
        config = known[args.model]
        if args.model == "slow_r50":
            config = dataclasses.replace(config, frame_stride=4)
    return recipe.run(args, STAGES, file.Model, config, own=("ucf101",))


if __name__ == "__main__":
    core.command(main, Args, __doc__)
