"""RepFlow: Piergiovanni and Ryoo (CVPR 2019), a ResNet with representation flow.

    python experiments/video/repflow.py --data minikinetics/train.csv \
        --test minikinetics/val.csv --workdir runs/repflow
    python experiments/video/repflow.py --task order2 --flow flow_conv_flow \
        --width 16 --workdir runs/small
    python experiments/video/repflow.py --stage hmdb --data hmdb51/split1_train.txt \
        --workdir runs/repflow

Runs kinetics, or the --stage that is named, in its folder of --workdir; run again, it
goes on where it was stopped. hmdb begins with the run of kinetics, and a fresh
classifier. Without --data, clips are drawn on the device. A shorter --steps shrinks the
schedule.

    stage      epochs   batch   rate                     dropout
    kinetics   200      32      0.1, tenth each 50       0.5
    hmdb       50       32      0.005, tenth each 20     0.8

    Mini-Kinetics, 16 frames of 112, after block 3, top-1   paper   we got
    repflow_resnet34, single                                59.4    not run yet
    repflow_flow_conv_flow_resnet34                         62.3    not run yet
    repflow_r3d_18                                          59.7    not run yet
    repflow_r2plus1d_18                                     60.7    not run yet

SGD with momentum 0.9; what the flow layers learn (filters, theta, lambda, tau) at a
hundredth of the rate. The paper has batches of 24 for networks of 3-D convolutions, and
states no weight decay: 1e-6 is its code's. Deviation: a video is tested by 10 clips of
3 crops; there, by 25 random ones.
"""

import dataclasses
from typing import Any, Literal

import optax
import recipe
from recipe import core

from jaxflow import train
from jaxflow.layers import representation_flow
from jaxflow.models.video import repflow

STAGES = {
    "kinetics": recipe.Stage(
        epochs=200,
        rate=0.1,
        batch_size=32,
        drops=(50, 100, 150),
        decay=1e-6,
        sets=("kinetics",),
    ),
    "hmdb": recipe.Stage(
        epochs=50,
        rate=0.005,
        batch_size=32,
        drops=(20, 40),
        decay=1e-6,
        after=("kinetics",),
        sets=("hmdb51",),
    ),
}
CHANGES = {"kinetics": {"dropout_rate": 0.5}, "hmdb": {"dropout_rate": 0.8}}
FLOW_SHARE = 0.01
Variant = Literal[tuple(repflow.VARIANTS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/repflow.py.
        flow: Number and kind of flow layers, if not the variant's.
        location: What they follow, if not the variant's.
        fusion: How flow joins features, if not the variant's.
        iterations: Of each flow layer, if not the variant's.
    """

    model: Variant = "repflow_resnet34"
    flow: Literal["none", "single", "flow_of_flow", "flow_conv_flow"] | None = None
    location: Literal[repflow.LOCATIONS] | None = None
    fusion: Literal[repflow.FUSIONS] | None = None
    iterations: int | None = None


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns SGD whose rate for what flow layers learn is a hundredth."""
    parts = {"other": core.sgd(stage), "flow": core.sgd(stage, share=FLOW_SHARE)}
    return optax.partition(parts, representation_flow.parameter_labels)


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    options = {
        name: getattr(args, name)
        for name in ("flow", "location", "fusion", "iterations")
        if getattr(args, name) is not None
    }
    config = dataclasses.replace(config or repflow.VARIANTS[args.model], **options)
    return recipe.run(
        args,
        STAGES,
        repflow.Model,
        config,
        own=("kinetics",),
        optimiser=make_optimiser,
        changes=CHANGES,
    )


if __name__ == "__main__":
    core.command(main, Args, __doc__)
