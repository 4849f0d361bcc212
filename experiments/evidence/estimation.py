"""Runs of the bench that estimate flow: small networks on scenes drawn as they train.

A run is trained in phases, each on scenes that are drawn inside the step, and tested on
scenes that no training and no other seed draws. All its seeds share compiled programs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from optax import contrib

from experiments import core
from experiments.evidence import networks
from jaxflow import checkpoint, cost, losses, metrics, train
from jaxflow.data import synthetic
from jaxflow.models.flow import flownet2, flownetc, flownets, flownetsd, pwcnet, spynet
from jaxflow.train import step as training

SIZE = (64, 64)
# Steps of training that one call of the compiled program takes.
STRIDE = 25
# Scenes that each seed is tested on; their keys are of seeds from here on.
TESTED = 64
HELD_OUT = 1_000_000
# Weight of each level of the loss from 1/64 to the full size: the published five, and
# less for each that has four times the pixels.
WEIGHTS = (*losses.PWC_WEIGHTS, 0.00125, 0.0003125)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a training, with a rise and a fall of the rate of its own.

    Attributes:
        steps: Steps, a multiple of 25.
        scenes: Presets that a batch is drawn from, in equal parts.
        rate: Highest learning rate.
        level: For a network that is trained level by level, the one that learns, from
            the coarsest; it begins as a copy of the one before. None trains all.
    """

    steps: int = 600
    scenes: tuple[str, ...] = ("translation",)
    rate: float = 2e-3
    level: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One network and its training.

    Attributes:
        make: (rngs) -> network.
        phases: What it is trained by, in turn.
        tested: Preset of the scenes of the test.
        batch_size: Pairs a step; half as many scenes, each seen in both directions.
    """

    make: Callable[..., nnx.Module]
    phases: tuple[Phase, ...] = (Phase(),)
    tested: str = "translation"
    batch_size: int = 8


_WIDTH = 1 / 8
_FLOWNETS = flownets.Config(width=_WIDTH)
_FLOWNETC = flownetc.Config(width=_WIDTH, radius=3, step=1)
_PWCNET = pwcnet.Config(
    pyramid=(8, 12, 16, 24),
    convs_per_level=2,
    radius=3,
    decoder=(32, 24, 16),
    dense=False,
    context=(24, 24, 16),
    context_dilations=(1, 2, 4),
    standardise_features=True,
    spare_upsampling=False,
)
_SPYNET = spynet.Config(
    networks=3, max_levels=3, coarsest=16, features=(16, 24, 16), kernel_size=5
)


def _net(network: Any, config: Any) -> Callable[..., nnx.Module]:
    """Returns (rngs) -> network."""
    return functools.partial(network, config)


def _pwcnet(network: Any = pwcnet.Model, **changes: Any) -> Run:
    """Returns the run of a PWC-Net."""
    return Run(make=_net(network, dataclasses.replace(_PWCNET, **changes)))


def _scenes(*phases: tuple[str, ...]) -> tuple[Phase, ...]:
    """Returns phases of equal length on those scenes, each a third as fast."""
    return tuple(
        Phase(scenes=scenes, steps=600 // len(phases), rate=2e-3 / 3**index)
        for index, scenes in enumerate(phases)
    )


_S = _net(flownets.Model, _FLOWNETS)
RUNS: Mapping[str, Run] = {
    "flow/FlowNetS": Run(make=_S),
    "flow/FlowNetC": Run(make=_net(flownetc.Model, _FLOWNETC)),
    "flow/FlowNetS, 1.4 times as wide": Run(
        make=_net(flownets.Model, dataclasses.replace(_FLOWNETS, width=1.42 * _WIDTH))
    ),
    "flow/two FlowNetS": Run(
        make=_net(
            flownet2.Model,
            flownet2.Config(
                stages=("flownets", "flownets_1"),
                width=_WIDTH,
                last_upsampling="bilinear",
            ),
        )
    ),
    "flow/FlowNetS to full size": Run(make=_net(networks.FullSize, _FLOWNETS)),
    "flow/chairs, then things": Run(
        make=_S, phases=_scenes(("chairs",), ("things",)), tested="world"
    ),
    "flow/things, then chairs": Run(
        make=_S, phases=_scenes(("things",), ("chairs",)), tested="world"
    ),
    "flow/chairs and things mixed": Run(
        make=_S, phases=_scenes(("chairs", "things")), tested="world"
    ),
    "flow/FlowNetS, small motions": Run(
        make=_S, phases=_scenes(("sdhom",)), tested="sdhom"
    ),
    "flow/FlowNetSD, small motions": Run(
        make=_net(flownetsd.Model, flownetsd.Config(width=_WIDTH)),
        phases=_scenes(("sdhom",)),
        tested="sdhom",
    ),
    "flow/PWC-Net": _pwcnet(),
    "flow/PWC-Net, no warping": _pwcnet(networks.Unwarped),
    "flow/PWC-Net, no cost volume": _pwcnet(networks.Uncompared),
    "flow/PWC-Net, no context": _pwcnet(context=(), context_dilations=()),
    "flow/SpyNet, level by level": Run(
        make=_net(spynet.Model, _SPYNET),
        phases=tuple(Phase(steps=200, level=level) for level in range(3)),
    ),
    "flow/SpyNet, all levels at once": Run(make=_net(spynet.Model, _SPYNET)),
}


def batch(scenes: tuple[str, ...], count: int, key: jax.Array) -> dict[str, jax.Array]:
    """Draws pairs of frames; each scene is seen in both directions."""
    parts = []
    for preset, own in zip(scenes, jax.random.split(key, len(scenes)), strict=True):
        drawn = synthetic.flow_batch(
            own, preset=preset, batch_size=count // (2 * len(scenes)), size=SIZE
        )
        ahead = ("image1", "image2", "flow")
        back = ("image2", "image1", "flow_backward")
        parts += [[drawn[name] for name in names] for names in (ahead, back)]
    joined = (jnp.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return dict(zip(("image1", "image2", "flow"), joined, strict=True))


def loss(
    model: Any, batch: Mapping[str, jax.Array], *, level: int | None = None
) -> jax.Array:
    """Returns the multi-scale loss, of all levels or of one."""
    flows = model(batch["image1"], batch["image2"]).predictions
    first = round(math.log2(64 * flows[0].shape[2] / batch["flow"].shape[2]))
    weights = WEIGHTS[first : first + len(flows)]
    if level is not None:
        flows, weights = flows[level : level + 1], weights[level : level + 1]
    return losses.multi_scale(flows, batch["flow"], weights=weights)


def make_optimiser(phase: Phase) -> optax.GradientTransformation:
    """Returns Muon, whose rate rises and falls, for what the phase trains."""
    pace = optax.warmup_cosine_decay_schedule(
        0.0, phase.rate, max(phase.steps // 10, 1), phase.steps
    )

    def matrices(params):
        axes = contrib.MuonDimensionNumbers((0, 1, 2), (3,))
        # Two rows of a prediction are no matrix worth the name; they get AdamW.
        return jax.tree.map(
            lambda x: axes if x.ndim == 4 and x.shape[-1] > 2 else None, params
        )

    optimiser = contrib.muon(
        pace,
        consistent_rms=0.2,
        weight_decay=0.01,
        muon_weight_dimension_numbers=matrices,
    )
    if phase.level is None:
        return optimiser
    return core.only(optimiser, (f"levels.{phase.level}",))


def make_model(run: Run, seed: int) -> Any:
    """Returns the untrained network of a seed, whose first flow is near zero."""
    model = run.make(rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")))
    networks.calm(model)
    return model


@functools.cache
def advance(name: str, number: int) -> Callable:
    """Compiles a phase of a run: (state) -> state, 25 steps on."""
    run = RUNS[name]
    phase = run.phases[number]
    rebuild = training.separate(make_model(run, 0))

    def step(state, _):
        data, _ = training.step_keys(state)
        state, _ = training.train_step(
            state,
            batch(phase.scenes, run.batch_size, data),
            rebuild=rebuild,
            loss=functools.partial(loss, level=phase.level),
            optimiser=make_optimiser(phase),
        )
        return state, None

    return jax.jit(lambda state: lax.scan(step, state, None, length=STRIDE)[0])


@functools.cache
def errors(name: str) -> Callable:
    """Compiles a run's test: (weights, keys) -> mean errors of it and of no motion."""
    run = RUNS[name]
    model = make_model(run, 0)
    graph = nnx.graphdef(model.eval() or model)

    def one(weights, key):
        drawn = synthetic.flow_batch(key, preset=run.tested, batch_size=8, size=SIZE)
        flow = nnx.merge(graph, weights)(drawn["image1"], drawn["image2"]).flow
        guesses = (flow, jnp.zeros_like(flow))
        return [jnp.mean(metrics.epe(guess, drawn["flow"])) for guess in guesses]

    return jax.jit(lambda weights, keys: lax.map(lambda key: one(weights, key), keys))


def measure(name: str, seed: int) -> dict[str, float]:
    """Trains and tests a network.

    Args:
        name: In `RUNS`.
        seed: Of weights, of training and of the test's scenes.

    Returns:
        "error", the mean end-point error in percent of that of no motion; "weights",
        the number of them, in thousands.
    """
    run = RUNS[name]
    model = make_model(run, seed)
    for number, phase in enumerate(run.phases):
        if phase.level:
            copy_level(model, phase.level)
        state = train.init(model, make_optimiser(phase), seed=seed + 1000 * number)
        for _ in range(phase.steps // STRIDE):
            state = advance(name, number)(state)
        train.finish(model, state)
    keys = jax.random.split(jax.random.key(HELD_OUT + seed), TESTED // 8)
    error, still = errors(name)(nnx.state(model), keys)
    return {
        "error": 100 * float(jnp.mean(error) / jnp.mean(still)),
        "weights": cost.count_parameters(model) / 1000,
    }


def copy_level(model: nnx.Module, level: int) -> None:
    """Begins a level as a copy of the one before it."""
    weights = checkpoint.weights_of(model)
    levels = weights["params"]["levels"]
    levels[level] = jax.tree.map(jnp.copy, levels[level - 1])
    checkpoint.fill(model, weights)
