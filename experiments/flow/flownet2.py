"""FlowNet 2.0: Ilg et al. (CVPR 2017), one network after the other.

    python experiments/flow/flownet2.py --workdir runs/flownet2
    python experiments/flow/flownet2.py --stage cs_chairs --workdir runs/flownet2
    python experiments/flow/flownet2.py --variant flownet2css_small --workdir runs/small

Runs the curriculum, each stage in a folder of its own; run again, it goes on where it
was stopped. --stage runs one of them, which begins with the runs before it in --workdir
or in --start. --steps shrinks every schedule. Without --data, scenes are drawn on the
device; with it, each stage takes its own:

    --data chairs=FlyingChairs_release things_clean=FlyingThings3D \
        chairs_sdhom=ChairsSDHom_extended

    stage        trains       begins with       data                     schedule
    c_chairs     FlowNetC     -                 FlyingChairs             long
    c_things     FlowNetC     c_chairs          FlyingThings3D           fine
    cs_chairs    second       c_things          FlyingChairs             long
    cs_things    second       cs_chairs         FlyingThings3D           fine
    css_chairs   third        cs_things         FlyingChairs             long
    css_things   third        css_chairs        FlyingThings3D           fine
    css_ft_sd    C, S and S   css_things        things and ChairsSDHom   fine
    sd           FlowNetSD    -                 ChairsSDHom              long
    fusion       fusion       css_ft_sd and sd  things and ChairsSDHom   fine

    long: 1.2M steps from 1e-4, halved after 400k, 600k, 800k, 1M; 8 of 320x448
    fine: 600k steps from 1e-5, halved after 200k, 300k, 400k, 500k; 4 of 384x768

    EPE on Sintel train, clean / final   paper          we got
    FlowNet2-CSS                         2.10 / 3.23    not run yet
    FlowNet2                             2.02 / 3.14    not run yet

What a stage does not train has no gradient (`Config.frozen`) and no decay: it stays bit
for bit. Adam, L2 of 4e-4 on kernels, multi-scale error; in css_ft_sd its 0.4th power,
which makes small displacements count.

Deviations. FlowNetSD speaks of 20 pixels while it trains alone, and of 1/20 pixel in
FlowNet2; its last layer is multiplied by 400 when it joins. Which networks learn in
css_ft_sd, its exponent and the weights of the fusion's levels are our choice: the paper
does not say. Gradients are clipped to norm 1; without --data the scenes are ours.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import recipe
from flax import nnx
from recipe import core

from jaxflow import checkpoint, losses, train
from jaxflow.models.flow import flownet2, flownetsd

C, S1, S2, SD, FUSION = (
    *("flownetc", "flownets_1", "flownets_2"),
    *("flownets_d", "flownetfusion"),
)
# The 1/4-size level as in the other networks; the finer ones have more pixels to sum.
FUSION_WEIGHTS = (0.005, 0.00125, 0.0003125)


# The networks that are stacked in each stage; of "sd" there is only FlowNetSD.
STACKS = {
    "c_chairs": (C,),
    "c_things": (C,),
    "cs_chairs": (C, S1),
    "cs_things": (C, S1),
    "css_chairs": (C, S1, S2),
    "css_things": (C, S1, S2),
    "css_ft_sd": (C, S1, S2),
    "sd": (),
    "fusion": (C, S1, S2),
}
_SDHOM = dataclasses.replace(recipe.LONG, presets=("sdhom",), layouts=("chairs_sdhom",))
_MIXED = dataclasses.replace(
    recipe.FINE, presets=("things", "sdhom"), layouts=(*recipe.THINGS, "chairs_sdhom")
)


def stage(
    schedule: recipe.Stage, trained: tuple[str, ...], *after: str
) -> recipe.Stage:
    """Returns a schedule for some networks, after earlier stages."""
    return dataclasses.replace(schedule, trained=trained, after=after)


CURRICULUM = {
    "c_chairs": stage(recipe.LONG, (C,)),
    "c_things": stage(recipe.FINE, (C,), "c_chairs"),
    "cs_chairs": stage(recipe.LONG, (S1,), "c_things"),
    "cs_things": stage(recipe.FINE, (S1,), "cs_chairs"),
    "css_chairs": stage(recipe.LONG, (S2,), "cs_things"),
    "css_things": stage(recipe.FINE, (S2,), "css_chairs"),
    "css_ft_sd": stage(_MIXED, (C, S1, S2), "css_things"),
    "sd": stage(_SDHOM, ()),
    "fusion": stage(_MIXED, (FUSION,), "css_ft_sd", "sd"),
}


def build(name: str, width: float, *, rngs: nnx.Rngs) -> nnx.Module:
    """Makes the network of a stage, with all frozen that it does not train."""
    stack = STACKS[name]
    if not stack:
        return flownetsd.Model(flownetsd.Config(width=width), rngs=rngs)
    fusion = name == "fusion"
    names = (*stack, SD, FUSION) if fusion else stack
    trained = CURRICULUM[name].trained
    config = flownet2.Config(
        stages=stack,
        width=width,
        fusion=fusion,
        frozen=tuple(name for name in names if name not in trained),
    )
    return flownet2.Model(config, rngs=rngs)


def adopt(model: flownet2.Model, earlier: nnx.Module) -> None:
    """Gives a network the parts of an earlier stage's."""
    if isinstance(earlier, flownetsd.Model):
        checkpoint.fill(model.flownets_d, checkpoint.weights_of(earlier))
        last = model.flownets_d.decoder.predict_flow2
        for weight in (last.kernel, last.bias):
            weight[...] = 400 * weight[...]
        return
    for name in earlier.config.stages:
        weights = checkpoint.weights_of(getattr(earlier, name))
        checkpoint.fill(getattr(model, name), weights)


def loss(model, batch, *, small=False):
    """Returns the multi-scale loss; with `small`, of the 0.4th power of the error."""
    flows = model(batch["image1"], batch["image2"]).predictions
    return losses.multi_scale(
        flows,
        batch["flow"],
        batch.get("valid"),
        weights=FUSION_WEIGHTS if len(flows) == 3 else losses.PWC_WEIGHTS,
        penalty=(lambda e: (losses.norm(e) + 0.01) ** 0.4) if small else losses.norm,
    )


def find_run(name: str, options: recipe.Options) -> pathlib.Path:
    """Returns the last checkpoint of an earlier stage, in --workdir or in --start.

    Raises:
        FileNotFoundError: If neither has it.
    """
    for folder in (options.workdir, options.start):
        if folder is not None and (found := core.last_step(folder / name)):
            return found
    raise FileNotFoundError(
        f"stage {options.stage!r} begins with {name!r}, which is neither in "
        f"{options.workdir} nor in --start {options.start}"
    )


def main(
    options: recipe.Options, config: flownet2.Config | None = None
) -> train.TrainState:
    """Runs the curriculum, or one stage, and returns the last state."""
    width = (config or flownet2.VARIANTS[options.variant or "flownet2"]).width

    def learn(name: str, stage: recipe.Stage):
        model = build(name, width, rngs=core.seeded(options))
        objective = functools.partial(loss, small=name == "css_ft_sd")
        return model, objective, core.adam(stage)

    def begin(model: Any, name: str, stage: recipe.Stage, *_: Any, **__: Any) -> None:
        for before in stage.after:
            earlier = build(before, width, rngs=core.seeded(options))
            checkpoint.restore(find_run(before, options), earlier)
            adopt(model, earlier)

    return recipe.run(options, CURRICULUM, learn, begin=begin)


if __name__ == "__main__":
    core.command(main, recipe.Options, __doc__)
