"""PWC-Net: Sun, Yang, Liu, Kautz (CVPR 2018), trained as its authors train it.

    python experiments/flow/pwcnet.py --workdir runs/pwcnet
    python experiments/flow/pwcnet.py --workdir runs/pwcnet \
        --data chairs=FlyingChairs_release things_clean=FlyingThings3D
    python experiments/flow/pwcnet.py --stage sintel1 --workdir runs/pwcnet \
        --data sintel_clean=Sintel sintel_final=Sintel kitti2015=KITTI hd1k=HD1K

Runs chairs and things, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Without --data, scenes are drawn on the
device. A shorter --steps shrinks the published schedule.

    stage            data              batch, crop  rate, halved after
    chairs           FlyingChairs      8, 320x448   1e-4; 400k, 600k, 800k, 1M of 1.2M
    things           FlyingThings3D    4, 384x768   1e-5; 200k, 300k, 400k, 500k of 600k
    sintel1 to 5     Sintel, KITTI15,  4, 320x768   5e-5, 3e-5, 2e-5, 1e-5, 5e-6; ten
                     HD1K as 2:1:1                  times from 45k to 140k of 150k
    kitti1 to 4      KITTI12, KITTI15  4, 320x896   4e-5, 4e-5, 2e-5, 1e-5; alike

    EPE on Sintel, clean / final         paper          we got
    after chairs, on train               3.33 / 4.59    not run yet
    after things, on train               2.55 / 3.93    not run yet
    after sintel5 (PWC-Net+), on test    3.45 / 4.60    not run yet

Adam, L2 of 4e-4 on kernels and none on biases. Losses: Eq. 3 with the paper's weights
on chairs and things; Eq. 4 and a full-size term in the fine-tuning of "Models Matter,
So Does Training" (TPAMI 2020).

Deviations: gradients are clipped to norm 1; without --data the scenes are ours; the
epochs of a mixture approximate its shares, and its frames are cropped before they are
augmented; the augmentation of fine-tuning is that of the other stages.
"""

import dataclasses

import recipe
from recipe import core

from jaxflow import losses, ops, train
from jaxflow.models.flow import pwcnet

_FINE_TUNE = recipe.Stage(
    steps=150_000,
    rate=5e-5,
    batch_size=4,
    size=(320, 768),
    drops=(
        *(45_000, 65_000, 85_000, 95_000, 97_500),
        *(100_000, 110_000, 120_000, 130_000, 140_000),
    ),
    presets=("things",),
    layouts=("sintel_clean", "sintel_final", "kitti2015", "hd1k"),
    # 1041 pairs of Sintel in each pass, 200 of KITTI15, 1047 of HD1K.
    repeats={"sintel_clean": 1, "sintel_final": 1, "kitti2015": 5, "hd1k": 1},
)
STAGES = {
    "chairs": recipe.LONG,
    "things": dataclasses.replace(recipe.FINE, after=("chairs",)),
    **{
        f"sintel{number}": dataclasses.replace(
            _FINE_TUNE,
            rate=rate,
            after=(f"sintel{number - 1}" if number > 1 else "things",),
        )
        for number, rate in enumerate((5e-5, 3e-5, 2e-5, 1e-5, 5e-6), start=1)
    },
    **{
        f"kitti{number}": dataclasses.replace(
            _FINE_TUNE,
            rate=rate,
            size=(320, 896),
            after=(f"kitti{number - 1}" if number > 1 else "things",),
            layouts=("kitti2012", "kitti2015"),
            repeats={},
        )
        for number, rate in enumerate((4e-5, 4e-5, 2e-5, 1e-5), start=1)
    },
}
# Exponent of the error; weights of levels 6 to 2, and of full size.
_ROBUST = {
    "sintel": (0.4, losses.PWC_WEIGHTS, 0.0005),
    "kitti": (0.2, (0.0, 0.08, 0.02, 0.005, 0.0025), 0.001),
}


def loss(model, batch):
    """Returns the multi-scale loss (Eq. 3)."""
    flows = model(batch["image1"], batch["image2"]).predictions
    weights = losses.PWC_WEIGHTS[-len(flows) :]
    return losses.multi_scale(flows, batch["flow"], batch.get("valid"), weights=weights)


def robust_loss(model, batch, *, kind):
    """Returns the loss of fine-tuning (Eq. 4), with a term at full size."""
    exponent, weights, full = _ROBUST[kind]
    flows = model(batch["image1"], batch["image2"]).predictions
    weights = (*weights[-len(flows) :], full)
    flows = [*flows, ops.resize_flow(flows[-1], batch["flow"].shape[1:3])]
    return losses.multi_scale(
        flows,
        batch["flow"],
        batch.get("valid"),
        weights=weights,
        penalty=lambda error: losses.robust(error, exponent=exponent),
    )


def loss_of(name):
    """Returns the loss of a stage."""
    kind = name.rstrip("0123456789")
    if kind not in _ROBUST:
        return loss
    return lambda model, batch: robust_loss(model, batch, kind=kind)


def main(
    options: recipe.Options, config: pwcnet.Config | None = None
) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        return recipe.build(pwcnet, options, config), loss_of(name), core.adam(stage)

    return recipe.run(options, STAGES, learn, own=("chairs", "things"))


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
