"""Trains every flow network for a moment and tells how far its loss falls.

    python experiments/bench/convergence.py [--only PATTERN] [--steps 200] [--fresh]

Each network has the numbers of `TINY` in its file, or those below, and its own loss, as
its recipe has it; FlowNet2 is trained part by part, all before it frozen. It sees one
batch of the "translation" preset over and over; with --fresh, a new one in each step,
which takes longer than a moment to learn from. One JSON line a network:

    loss_start, loss_end   mean over the first and over the last ten steps
    ratio, …_ratio         their quotient; at most a half is expected; also of the terms
                           that a loss names
    epe_zero, epe_start,   mean end-point error in pixels of no motion at all, of the
    epe_end                network before and after; with --fresh, on other scenes
    unmoved                weights that are bit for bit what they were, but for those
                           that are listed as without effect and those that are frozen
"""

import argparse
import dataclasses
import fnmatch
import functools
import importlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import checkpoint, convert, losses, ops, train
from jaxflow.data import synthetic
from jaxflow.models.flow import (
    flownet2,
    flownetc,
    flownetfusion,
    flownets,
    flownetsd,
    hd3,
    irr_pwc,
    liteflownet,
    pwcnet,
    raft,
    spynet,
    tvnet,
    vcn,
)

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "flow"))


def final_flow(model: nnx.Module, batch: dict) -> jax.Array:
    """Returns the flow of a network at full size."""
    return model(batch["image1"], batch["image2"]).flow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and how.

    Attributes:
        model: The network.
        loss: (model, batch) -> loss.
        rate: Learning rate of Adam.
        batch_size: Pairs in a batch.
        size: Height and width of the scenes.
        trained: Dotted paths of the parts that learn; None for all.
        draw: (key) -> batch; None for scenes of the preset.
        estimate: (model, batch) -> flow, for the end-point error.
    """

    model: nnx.Module
    loss: Callable
    rate: float = 1e-3
    batch_size: int = 4
    size: tuple[int, int] = (64, 64)
    trained: tuple[str, ...] | None = None
    draw: Callable | None = None
    estimate: Callable = final_flow


def recipe(name: str) -> Any:
    """Imports a recipe of experiments/flow."""
    return importlib.import_module(name)


def rngs() -> nnx.Rngs:
    """Returns the source of initial weights, the same for every network."""
    return nnx.Rngs(jax.random.key(0, impl="rbg"))


def one(module, name, **options):
    """Returns a function that gives the case of a network with a recipe's loss."""
    config = options.pop("config", module.TINY)

    def cases() -> Iterator[tuple[str, Case]]:
        model = module.Model(config, rngs=rngs())
        yield "", Case(model=model, loss=recipe(name).loss, **options)

    return cases


def spynet_levels() -> Iterator[tuple[str, Case]]:
    """SpyNet, level by level; each begins as a copy of the one before."""
    module = recipe("spynet")
    model = spynet.Model(SPYNET, rngs=rngs())
    for level in range(2):
        if level:
            module.copy_level(model, level - 1, level)
        loss = functools.partial(module.loss, level=level)
        parts = (f"levels.{level}",)
        yield f"level{level}", Case(model=model, loss=loss, trained=parts)


SPYNET = spynet.Config(features=(16, 32, 16, 8), networks=2, max_levels=2)


def flownet2_parts() -> Iterator[tuple[str, Case]]:
    """FlowNet2, along its curriculum; every part is frozen before the next begins."""
    module = recipe("flownet2")
    models: dict[str, nnx.Module] = {}
    chain = {
        "c_chairs": (),
        "cs_chairs": ("c_chairs",),
        "css_chairs": ("cs_chairs",),
        "sd": (),
        "fusion": ("css_chairs", "sd"),
    }
    for name, before in chain.items():
        models[name] = module.build(name, flownet2.TINY.width, rngs=rngs())
        for earlier in before:
            module.adopt(models[name], models[earlier])
        trained = module.CURRICULUM[name].trained or None
        yield name, Case(model=models[name], loss=module.loss, trained=trained)


def fusion() -> Iterator[tuple[str, Case]]:
    """The fusion network, given the truth with two kinds of noise to choose from."""

    def draw(key):
        batch = scenes(key, 4, (64, 64))
        for index, (name, scale) in enumerate((("small", 1.0), ("large", 4.0))):
            noise = jax.random.normal(
                jax.random.fold_in(key, index), batch["flow"].shape
            )
            batch[name] = batch["flow"] + scale * noise
        return batch

    def fuse(model, batch):
        names = ("image1", "image2", "small", "large")
        return model.fuse(*(batch[name] for name in names))

    def loss(model, batch):
        weights = recipe("flownet2").FUSION_WEIGHTS
        return losses.multi_scale(fuse(model, batch), batch["flow"], weights=weights)

    model = flownetfusion.Model(flownetfusion.TINY, rngs=rngs())
    yield (
        "",
        Case(model=model, loss=loss, draw=draw, estimate=lambda m, b: fuse(m, b)[-1]),
    )


# TINY itself, with half the channels and the window of 3 x 3, comes to 0.71 only.
IRR_PWC = dataclasses.replace(
    irr_pwc.TINY,
    pyramid=(8,) * 6,
    reduced=8,
    estimator=(16, 16, 8),
    context=((8, 1), (8, 2)),
    refinement=(8,),
    radius=2,
)
CASES = {
    "flownets": one(flownets, "flownet"),
    "flownetc": one(flownetc, "flownet"),
    "flownetsd": one(flownetsd, "flownet"),
    "flownetfusion": fusion,
    "flownet2": flownet2_parts,
    "spynet": spynet_levels,
    "pwcnet": one(pwcnet, "pwcnet"),
    "liteflownet": one(liteflownet, "liteflownet"),
    "irr_pwc": one(irr_pwc, "irr_pwc", config=IRR_PWC, rate=4e-3),
    "hd3": one(hd3, "hd3", size=hd3.TINY_SIZE, rate=4e-3),
    "vcn": one(vcn, "vcn", size=(64, 128)),
    "raft": one(raft, "raft", size=(128, 128)),
    "tvnet": one(tvnet, "unsupervised"),
}


def scenes(key: jax.Array, batch_size: int, size: tuple[int, int]) -> dict:
    """Draws a batch of the preset."""
    return synthetic.flow_batch(
        key, preset="translation", batch_size=batch_size, size=size
    )


def measure(case: Case, steps: int, *, fresh: bool) -> dict:
    """Trains a network, leaves it trained, and returns what there is to say."""
    model = case.model
    draw = case.draw or functools.partial(
        scenes, batch_size=case.batch_size, size=case.size
    )
    batch = jax.jit(draw)(jax.random.key(10_000))
    before = checkpoint.weights_of(model)["params"]
    before = jax.tree.map(np.array, before)
    start_error, zero_error = errors(case, batch)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(case.rate))
    if case.trained is not None:
        optimiser = recipe("core").only(optimiser, case.trained)
    mesh = train.data_mesh(jax.devices()[:1])
    step = train.make_step(
        model, case.loss, optimiser, draw=draw if fresh else None, mesh=mesh
    )
    given = () if fresh else (train.shard(jax.device_get(batch), mesh),)
    state, seen = train.init(model, optimiser, seed=1), []
    began = time.perf_counter()
    for _ in range(steps):
        state, metrics = step.run(state, *given)
        seen.append({name: float(value) for name, value in metrics.items()})
    seconds = time.perf_counter() - began
    train.finish(model, state)
    end_error, _ = errors(case, batch)
    return {
        **progress(seen),
        "epe_zero": round(zero_error, 3),
        "epe_start": round(start_error, 3),
        "epe_end": round(end_error, 3),
        "unmoved": unmoved(model, before, case.trained),
        "steps": steps,
        "rate": case.rate,
        "batch": [case.batch_size, *case.size],
        "fresh": fresh,
        "seconds": round(seconds, 1),
    }


def progress(seen: list[dict[str, float]]) -> dict[str, float]:
    """Returns how far the metrics of the steps came, from the first ten to the last."""
    start, end = (
        {name: np.mean([row[name] for row in rows]) for name in rows[0]}
        for rows in (seen[:10], seen[-10:])
    )
    parts = {
        f"{name}_ratio": round(float(end[name] / start[name]), 3)
        for name in start
        if name not in ("loss", "grad_norm")
    }
    return {
        "loss_start": round(float(start["loss"]), 4),
        "loss_end": round(float(end["loss"]), 4),
        "ratio": round(float(end["loss"] / start["loss"]), 3),
        **parts,
    }


def errors(case: Case, batch: dict) -> tuple[float, float]:
    """Returns the mean error of a network, and of zero flow, in pixels."""
    case.model.eval()
    graph, state = nnx.split(case.model)

    @jax.jit
    def both(state, batch):
        flow = case.estimate(nnx.merge(graph, state, copy=True), batch)
        flow = ops.resize_flow(flow, batch["flow"].shape[1:3])
        return tuple(
            losses.end_point(guess, batch["flow"])
            for guess in (flow, jnp.zeros_like(flow))
        )

    error, zero = both(state, batch)
    return float(error), float(zero)


def unmoved(model: nnx.Module, before: dict, trained) -> list[str]:
    """Returns the paths of weights that training left as they were."""
    after = checkpoint.weights_of(model)["params"]
    pairs, _ = jax.tree_util.tree_flatten_with_path(
        jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before, after)
    )
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="."): same
        for path, same in pairs
    }
    return [
        path
        for path, same in paths.items()
        if same
        and not convert.is_optional(model, path)
        and (trained is None or path.startswith(tuple(f"{t}." for t in trained)))
    ]


def main():
    """Runs the cases whose names match."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="*", help="networks whose names match")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--fresh", action="store_true", help="new scenes in each step")
    arguments = parser.parse_args()
    for name in fnmatch.filter(CASES, arguments.only):
        for part, case in CASES[name]():
            line = {"model": f"{name}/{part}" if part else name}
            line |= measure(case, arguments.steps, fresh=arguments.fresh)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
