"""VCN: Yang and Ramanan (NeurIPS 2019).

    python experiments/flow/vcn.py --workdir runs/vcn
    python experiments/flow/vcn.py --stage sintel --variant vcn_sintel \
        --data sintel_clean=Sintel sintel_final=Sintel kitti2015=KITTI hd1k=HD1K \
        chairs=FlyingChairs_release things_clean=FlyingThings3D --workdir runs/vcn

Runs chairs and things, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Without --data, scenes are drawn on the
device. A shorter --steps shrinks the published schedule.

    stage    data                      batch, crop   rate, halved after
    chairs   FlyingChairs              16, 320x448   1e-3; 70k, 130k of 140k steps
    things   FlyingThings3D            16, 320x448   2.5e-4; 50k of 80k steps
    sintel   Sintel, KITTI15, HD1K,    16, 320x576   1.25e-4; 20k of 70k steps
             chairs and things
    kitti    KITTI 2015                16, 256x768   1.25e-4; 20k of 70k steps

    after things                       paper          we got
    EPE on Sintel train, clean/final   2.21 / 3.68    not run yet
    KITTI 2015 train, EPE / Fl-all     8.4 / 25.1     not run yet

Adam without decay; the end-point error of each level at full size, the finer the more.

Deviations: the authors' loss of matches out of range is left out, as are its heads;
gradients are clipped to norm 1; augmentation is FlowNet's; without --data the scenes
are ours; frames of a mixture are cropped before they are augmented.
"""

import recipe
from recipe import core

from jaxflow import losses, train
from jaxflow.models.flow import vcn

STAGES = {
    "chairs": recipe.Stage(
        steps=140_000,
        rate=1e-3,
        batch_size=16,
        size=(320, 448),
        drops=(70_000, 130_000),
        decay=0.0,
        layouts=recipe.CHAIRS,
    ),
    "things": recipe.Stage(
        steps=80_000,
        rate=2.5e-4,
        batch_size=16,
        size=(320, 448),
        drops=(50_000,),
        decay=0.0,
        after=("chairs",),
        presets=("things",),
        layouts=recipe.THINGS,
    ),
    "sintel": recipe.Stage(
        steps=70_000,
        rate=1.25e-4,
        batch_size=16,
        size=(320, 576),
        drops=(20_000,),
        decay=0.0,
        after=("things",),
        presets=("things",),
        layouts=(
            *("sintel_clean", "sintel_final", "kitti2015", "hd1k"),
            *recipe.CHAIRS,
            *recipe.THINGS,
        ),
        repeats={
            "kitti2015": 200,
            "hd1k": 40,
            "sintel_clean": 150,
            "sintel_final": 150,
            "chairs": 2,
        },
    ),
    "kitti": recipe.Stage(
        steps=70_000,
        rate=1.25e-4,
        batch_size=16,
        size=(256, 768),
        drops=(20_000,),
        decay=0.0,
        after=("things",),
        presets=("things",),
        layouts=("kitti2015",),
    ),
}
# Coarse to fine: levels 6 to 2.
WEIGHTS = (0.25, 0.25, 0.25, 0.5, 1.0)


def loss(model, batch):
    """Returns the error of all levels at full size."""
    flows = model(batch["image1"], batch["image2"]).predictions
    # "vcn_small" lacks the finest level; its own finest then weighs 1.
    weights = WEIGHTS[-len(flows) :]
    return losses.upsampled(flows, batch["flow"], batch.get("valid"), weights=weights)


def main(options: recipe.Options, config: vcn.Config | None = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        return recipe.build(vcn, options, config), loss, core.adam(stage)

    return recipe.run(options, STAGES, learn, own=("chairs", "things"))


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
