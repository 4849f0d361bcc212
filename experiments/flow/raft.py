"""RAFT: Teed and Deng (ECCV 2020), trained as its authors train it.

    python experiments/flow/raft.py --workdir runs/raft
    python experiments/flow/raft.py --stage sintel --workdir runs/raft \
        --data sintel_clean=Sintel sintel_final=Sintel kitti2015=KITTI hd1k=HD1K \
        things_clean=FlyingThings3D
    python experiments/flow/raft.py --stage kitti --start raft_large/chairs_things \
        --data kitti2015=KITTI --workdir runs/kitti
    python experiments/flow/raft.py --variant raft_small --workdir runs/small

Runs chairs and things, each in its folder of --workdir, or the --stage that is named;
run again, it goes on where it was stopped. Without --data, scenes are drawn on the
device. A shorter --steps shrinks the published schedule.

    stage    data                      batch, crop   rate      decay   gamma   steps
    chairs   FlyingChairs              10, 368x496   4e-4      1e-4    0.8     100k
    things   FlyingThings3D            6, 400x720    1.25e-4   1e-4    0.8     100k
    sintel   Sintel, KITTI, HD1K and   6, 368x768    1.25e-4   1e-5    0.85    100k
             FlyingThings3D
    kitti    KITTI 2015                6, 288x960    1e-4      1e-5    0.85    50k

    after things                       paper          we got
    EPE on Sintel train, clean/final   1.43 / 2.71    not run yet
    KITTI 2015 train, EPE / Fl-all     5.0 / 17.4     not run yet

AdamW, gradients clipped to norm 1, a rate that rises for a twentieth of the steps and
then falls to almost 0, 12 iterations, loss of Eq. 7. After chairs, batch normalisation
keeps its statistics.

Deviations: the authors' cycle is 100 steps longer than the run; without --data the
scenes are ours, and not augmented; frames of a mixture are cropped before they are
augmented.
"""

import functools

import optax
import recipe
from recipe import core

from jaxflow import losses, train
from jaxflow.models.flow import raft

STAGES = {
    "chairs": recipe.Stage(
        steps=100_000,
        rate=4e-4,
        batch_size=10,
        size=(368, 496),
        decay=1e-4,
        layouts=recipe.CHAIRS,
        augmentation="raft_chairs",
    ),
    "things": recipe.Stage(
        steps=100_000,
        rate=1.25e-4,
        batch_size=6,
        size=(400, 720),
        decay=1e-4,
        after=("chairs",),
        presets=("things",),
        layouts=recipe.THINGS,
        augmentation="raft_things",
    ),
    "sintel": recipe.Stage(
        steps=100_000,
        rate=1.25e-4,
        batch_size=6,
        size=(368, 768),
        decay=1e-5,
        after=("things",),
        presets=("things",),
        layouts=(
            *("sintel_clean", "sintel_final", "kitti2015", "hd1k"),
            *recipe.THINGS,
        ),
        augmentation="raft_sintel",
        repeats={
            "sintel_clean": 100,
            "sintel_final": 100,
            "kitti2015": 200,
            "hd1k": 5,
        },
    ),
    "kitti": recipe.Stage(
        steps=50_000,
        rate=1e-4,
        batch_size=6,
        size=(288, 960),
        decay=1e-5,
        after=("sintel",),
        presets=("things",),
        layouts=("kitti2015",),
        augmentation="raft_kitti",
    ),
}
GAMMA = {"chairs": 0.8, "things": 0.8, "sintel": 0.85, "kitti": 0.85}
ITERATIONS = 12


def loss(model, batch, *, gamma=0.8, freeze=False):
    """Returns the loss of all iterations (Eq. 7)."""
    if freeze:
        recipe.freeze_batch_norm(model)
    flows = model(batch["image1"], batch["image2"]).predictions
    return losses.sequence(flows, batch["flow"], batch.get("valid"), gamma=gamma)


def one_cycle(stage: recipe.Stage) -> optax.Schedule:
    """Returns a rate that rises from a 25th for 5 % of the steps, and falls to 0."""
    rise = max(round(0.05 * stage.steps), 1)
    parts = [
        optax.linear_schedule(stage.rate / 25, stage.rate, rise),
        optax.linear_schedule(
            stage.rate, stage.rate / 25e4, max(stage.steps - rise, 1)
        ),
    ]
    return optax.join_schedules(parts, [rise])


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns AdamW on one cycle."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(one_cycle(stage), weight_decay=stage.decay),
    )


def main(
    options: recipe.Options, config: raft.Config | None = None
) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""

    def learn(name: str, stage: recipe.Stage):
        model = recipe.build(raft, options, config, iterations=ITERATIONS)
        objective = functools.partial(loss, gamma=GAMMA[name], freeze=name != "chairs")
        return model, objective, make_optimiser(stage)

    return recipe.run(options, STAGES, learn, own=("chairs", "things"))


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
