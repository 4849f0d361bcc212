"""HD3: Yin, Darrell, Yu (CVPR 2019): densities of displacement, level by level.

    python experiments/flow/hd3.py --workdir runs/hd3
    python experiments/flow/hd3.py --stage things --start runs/other/chairs \
        --data things_clean=FlyingThings3D --workdir runs/hd3_things
    python experiments/flow/hd3.py --variant hd3c_dlaup_hda --workdir runs/hd3c

Runs chairs and things, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Without --data, scenes are drawn on the
device. A shorter --steps shrinks the published schedule.

    stage    data             batch, crop   rate, halved after epochs
    chairs   FlyingChairs     32, 384x512   1e-4; 70, 100, 130, 160 of 200
    things   FlyingThings3D   32, 384x832   1e-4; 70, 100, 130, 160 of 200

    an epoch has 694 steps on chairs; 1,250 are taken for things

    EPE on Sintel train, clean / final   paper          we got
    hd3_dlaup_hda, after things          3.84 / 8.77    not run yet

Adam, L2 of 4e-4 on kernels; the Kullback-Leibler divergence of each level's density
from the truth, shared out bilinearly.

Deviations: the rates are those of the authors' code, the paper has its own; gradients
are clipped to norm 1; augmentation is FlowNet's; without --data the scenes are ours.
"""

import recipe
from recipe import core

from jaxflow import losses, train
from jaxflow.models.flow import hd3

CHAIRS_EPOCH, THINGS_EPOCH = 22_232 // 32, 1_250
STAGES = {
    "chairs": recipe.Stage(
        steps=200 * CHAIRS_EPOCH,
        rate=1e-4,
        batch_size=32,
        size=(384, 512),
        drops=tuple(epoch * CHAIRS_EPOCH for epoch in (70, 100, 130, 160)),
        layouts=recipe.CHAIRS,
    ),
    "things": recipe.Stage(
        steps=200 * THINGS_EPOCH,
        rate=1e-4,
        batch_size=32,
        size=(384, 832),
        drops=tuple(epoch * THINGS_EPOCH for epoch in (70, 100, 130, 160)),
        after=("chairs",),
        presets=("things",),
        layouts=recipe.THINGS,
    ),
}


def loss(model, batch):
    """Returns the divergence of all levels (Sec. 3.2)."""
    said = model.predict(batch["image1"], batch["image2"])
    return losses.density(said.logits, said.starts, batch["flow"], batch.get("valid"))


def main(options: recipe.Options, config: hd3.Config | None = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        return recipe.build(hd3, options, config), loss, core.adam(stage)

    return recipe.run(options, STAGES, learn)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
