"""SlowFast, Slow, Fast, C2D and I3D, trained from scratch as FAIR trains them.

    python experiments/video/slowfast.py --data kinetics/train.csv \
        --test kinetics/val.csv --workdir runs/slowfast
    python experiments/video/slowfast.py --task fastslow --width 16 --workdir runs/small
    python experiments/video/slowfast.py --model i3d_r50 --stage imagenet \
        --inflate resnet50-0676ba61.pth --data kinetics/train.csv --workdir runs/i3d

Runs scratch, or the --stage that is named, in its folder of --workdir; run again, it
goes on where it was stopped. Without --data, clips are drawn on the device. A shorter
--steps shrinks the published schedule.

    stage      epochs   rate for 64 clips                     after a warm-up of
    scratch    196      0.1, half a period of the cosine      34 epochs from 0.01
    steps      239      0.1, tenth after 94, 154, 196         34 epochs from 0.01
    imagenet   118      0.01, tenth after 44, 88              -

    Kinetics-400, 30 views, top-1   paper   we got
    slowfast_4x16_r50               75.6    not run yet
    slowfast_8x8_r50                77.0    not run yet
    slow_r50                        74.8    not run yet
    i3d_r50                         73.5    not run yet
    c2d_nopool_r50                  67.2    not run yet

SGD with Nesterov momentum 0.9, decay 1e-4 on all but normalisations, dropout 0.5, clips
of a shorter side of 256 to 320 cropped to 224 and mirrored. At the end the statistics
of the normalisations are measured anew on 200 batches ("precise BN"). Deviation: a
batch is normalised as a whole; there it is each 8 clips, those of one GPU.
"""

import dataclasses
import pathlib
from typing import Any

import optax
import precise_norm
import recipe
from recipe import core

from jaxflow import convert, train
from jaxflow.models.video import resnet3d, slowfast

STAGES = {
    "scratch": recipe.Stage(
        sets=("kinetics",),
        epochs=196,
        rate=0.1,
        batch_size=64,
        cosine=True,
        warm_up=34,
        warm_up_rate=0.01,
    ),
    "steps": recipe.Stage(
        sets=("kinetics",),
        epochs=239,
        rate=0.1,
        batch_size=64,
        drops=(94, 154, 196),
        warm_up=34,
        warm_up_rate=0.01,
    ),
    "imagenet": recipe.Stage(
        sets=("kinetics",),
        epochs=118,
        rate=0.01,
        batch_size=64,
        drops=(44, 88),
    ),
}
_NORM = "weight|bias|running_mean|running_var"
# torchvision's ResNet-50 and ResNet-101.
RESNET = (
    (r"conv1\.weight", "slow.stem.conv.weight"),
    (rf"bn1\.({_NORM})", r"slow.stem.norm.\1"),
    *(
        row
        for stage in (1, 2, 3, 4)
        for number, name in ((1, "a"), (2, "b"), (3, "c"))
        for row in (
            (
                rf"layer{stage}\.(\d+)\.conv{number}\.weight",
                rf"slow.res{stage + 1}.blocks.\1.{name}.conv.weight",
            ),
            (
                rf"layer{stage}\.(\d+)\.bn{number}\.({_NORM})",
                rf"slow.res{stage + 1}.blocks.\1.{name}.norm.\2",
            ),
        )
    ),
    *(
        row
        for stage in (1, 2, 3, 4)
        for row in (
            (
                rf"layer{stage}\.(\d+)\.downsample\.0\.weight",
                rf"slow.res{stage + 1}.blocks.\1.shortcut.conv.weight",
            ),
            (
                rf"layer{stage}\.(\d+)\.downsample\.1\.({_NORM})",
                rf"slow.res{stage + 1}.blocks.\1.shortcut.norm.\2",
            ),
        )
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/slowfast.py or resnet3d.py.
        inflate: Weights of a 2-D ResNet of torchvision's to begin with.
        precise_batches: Batches that the statistics are measured on at the end; 0, or
            `frozen`, keeps the running ones.
    """

    model: str = "slowfast_4x16_r50"
    inflate: pathlib.Path | None = None
    precise_batches: int = 200


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns SGD with Nesterov's momentum; normalisations do not decay."""
    return core.sgd(stage, nesterov=True, mask=core.all_but_norms)


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d
    config = config or file.VARIANTS[args.model]

    def begin(model: Any, *told: Any, first: bool) -> None:
        core.begin(model, *told, first=first)
        if args.inflate is not None and first:
            recipe.inflate(model, convert.read_checkpoint(args.inflate), RESNET)

    def end(model: Any, data: core.Data, stage: recipe.Stage) -> None:
        if args.precise_batches and not stage.trained:
            precise_norm.measure_statistics(model, data, args.precise_batches)

    return recipe.run(
        args,
        STAGES,
        file.Model,
        config,
        own=("scratch",),
        optimiser=make_optimiser,
        begin=begin,
        end=end,
    )


if __name__ == "__main__":
    core.command(main, Args, __doc__)
