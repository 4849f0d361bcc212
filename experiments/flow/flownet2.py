"""FlowNet 2.0: Ilg et al. (CVPR 2017), one network after the other.

    python experiments/flow/flownet2.py --workdir runs/flownet2
    python experiments/flow/flownet2.py --stage cs_chairs --workdir runs/flownet2
    python experiments/flow/flownet2.py --variant flownet2css_small --workdir runs/small

Runs the curriculum, each stage in a folder of its own; run again, it goes on where it
was stopped. --stage runs one of them, which begins with the runs before it in --workdir
or in --start. --steps shrinks every schedule. Without --data, scenes are drawn on the
device; with it, name the stage that it is for.

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

import optax
import recipe
import tyro
from flax import nnx

from jaxflow import checkpoint, losses, train
from jaxflow.io import orbax_files
from jaxflow.models.flow import flownet2, flownetsd

C, S1, S2, SD, FUSION = (
    *("flownetc", "flownets_1", "flownets_2"),
    *("flownets_d", "flownetfusion"),
)
# The 1/4-size level as in the other networks; the finer ones have more pixels to sum.
FUSION_WEIGHTS = (0.005, 0.00125, 0.0003125)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A stage of the curriculum.

    Attributes:
        schedule: Its schedule and data.
        trained: Names of the networks that learn.
        stack: Networks that are stacked; none for FlowNetSD alone.
        after: Earlier stages that it begins with.
        fusion: Whether FlowNetSD and the fusion follow the stack.
        small: Whether small displacements count more.
    """

    schedule: recipe.Stage
    trained: tuple[str, ...]
    stack: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    fusion: bool = False
    small: bool = False


_SMALL = dataclasses.replace(recipe.LONG, presets=("sdhom",))
_MIXED = dataclasses.replace(recipe.FINE, presets=("things", "sdhom"))
LONG, FINE = (
    functools.partial(Part, schedule=schedule)
    for schedule in (recipe.LONG, recipe.FINE)
)
CURRICULUM = {
    "c_chairs": LONG(trained=(C,), stack=(C,)),
    "c_things": FINE(trained=(C,), stack=(C,), after=("c_chairs",)),
    "cs_chairs": LONG(trained=(S1,), stack=(C, S1), after=("c_things",)),
    "cs_things": FINE(trained=(S1,), stack=(C, S1), after=("cs_chairs",)),
    "css_chairs": LONG(trained=(S2,), stack=(C, S1, S2), after=("cs_things",)),
    "css_things": FINE(trained=(S2,), stack=(C, S1, S2), after=("css_chairs",)),
    "css_ft_sd": Part(
        schedule=_MIXED,
        trained=(C, S1, S2),
        stack=(C, S1, S2),
        after=("css_things",),
        small=True,
    ),
    "sd": Part(schedule=_SMALL, trained=(SD,)),
    "fusion": Part(
        schedule=_MIXED,
        trained=(FUSION,),
        stack=(C, S1, S2),
        after=("css_ft_sd", "sd"),
        fusion=True,
    ),
}


def build(part: Part, width: float, *, rngs: nnx.Rngs) -> nnx.Module:
    """Makes the network of a stage, with all frozen that it does not train."""
    if not part.stack:
        return flownetsd.Model(flownetsd.Config(width=width), rngs=rngs)
    names = (*part.stack, SD, FUSION) if part.fusion else part.stack
    config = flownet2.Config(
        stages=part.stack,
        width=width,
        fusion=part.fusion,
        frozen=tuple(name for name in names if name not in part.trained),
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


def make_optimiser(part: Part, stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns Adam for what a stage trains; the rest keeps its weights."""
    adam = recipe.adam(stage)
    return recipe.only(adam, part.trained) if part.stack else adam


def run_part(name: str, options: recipe.Options, width: float) -> train.TrainState:
    """Trains one stage, or goes on training it."""
    part = CURRICULUM[name]
    stage = recipe.adapt(part.schedule, options)
    model = build(part, width, rngs=recipe.seeded(options))
    for before in part.after:
        earlier = build(CURRICULUM[before], width, rngs=recipe.seeded(options))
        checkpoint.restore(last_step(find_run(before, options)), earlier)
        adopt(model, earlier)
    return recipe.run(
        options,
        stage,
        model,
        functools.partial(loss, small=part.small),
        make_optimiser(part, stage),
        folder=name,
    )


def find_run(name: str, options: recipe.Options) -> pathlib.Path:
    """Returns the folder of an earlier stage, in --workdir or in --start.

    Raises:
        FileNotFoundError: If neither has it.
    """
    for folder in (options.workdir, options.start):
        if folder is not None and (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(
        f"stage {options.stage!r} begins with {name!r}, which is neither in "
        f"{options.workdir} nor in --start {options.start}"
    )


def last_step(run: pathlib.Path) -> pathlib.Path:
    """Returns the last checkpoint of a stage, with which the next one begins.

    It is where the learning rate has come down, and not the one of the lowest training
    loss, which is that of few batches. A folder without steps is a saved model itself.
    """
    steps = orbax_files.steps_folder(run)
    if steps is None:
        return run
    return steps / str(orbax_files.steps_in(steps)[-1])


def main(
    options: recipe.Options, config: flownet2.Config | None = None
) -> train.TrainState:
    """Runs the curriculum, or one stage, and returns the last state."""
    config = config or flownet2.VARIANTS[options.variant or "flownet2"]
    for name in recipe.names(CURRICULUM, options):
        state = run_part(name, options, config.width)
    return state


if __name__ == "__main__":
    main(tyro.cli(recipe.Options, description=__doc__))
