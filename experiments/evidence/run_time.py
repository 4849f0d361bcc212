"""Run time and parameters: flow that is learned against flow that is computed first.

    python -m experiments.evidence.run_time                 # a JSON line a case
    python -m experiments.evidence.run_time --only 'clip/*' --rounds 5

Processor time on one core, the least of some calls after the first, of networks with
random weights: a clip of 21 frames of 112x112 to its class, or a pair of 384x512 to its
flow. Two streams see the 20 flows between the frames, in two stacks of 10, and the time
of their TV-L1 counts.
"""

import dataclasses
import fnmatch
import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

import jaxflow
from jaxflow import cost, two_stream
from jaxflow.cli import common

# Milliseconds that the papers state, on a GPU: Piergiovanni and Ryoo, "Representation
# Flow" (CVPR 2019); Ilg et al., "FlowNet 2.0" (CVPR 2017), on a GTX 1080.
STATED = {
    "clip/two_stream_r34": 8546,
    "clip/repflow_resnet34": 622,
    "clip/repflow_flow_conv_flow_resnet34": 654,
    "pair/flownets": 18,
    "pair/flownetc": 32,
    "pair/flownet2s_small": 7,
    "pair/flownet2ss_small": 14,
    "pair/flownet2css_small": 31,
    "pair/flownet2css": 69,
    "pair/flownet2": 123,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        only: Pattern of the names of cases.
        rounds: Calls that are timed.
    """

    only: str = "*"
    rounds: int = 3


def make_model(name: str) -> tuple[Any, int]:
    """Returns the network of a case in evaluation mode, and its parameters."""
    model = jaxflow.create_model(name)
    model.eval()
    return model, cost.count_parameters(model)


def prepare(case: str) -> tuple[Callable[[], Any], int]:
    """Returns a call of a case without arguments, and its network's parameters."""
    kind, _, name = case.partition("/")
    model, parameters = make_model(name)
    rng = np.random.default_rng(0)
    graph, weights = nnx.split(model)
    shapes = [(1, 384, 512, 3)] * 2 if kind == "pair" else [(1, 21, 112, 112, 3)]
    frames = [jnp.asarray(rng.random(shape), jnp.float32) for shape in shapes]

    def run(weights, *frames):
        if name.startswith("two_stream"):
            frames = (two_stream.with_flow("tvl1", *frames),)
        return nnx.merge(graph, weights)(*frames)

    compiled = jax.jit(run).lower(weights, *frames).compile()
    return functools.partial(compiled, weights, *frames), parameters


def main(args: Args) -> list[dict[str, Any]]:
    """Times the cases in turn, a line each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rows = []
    for case in fnmatch.filter(STATED, args.only):
        call, parameters = prepare(case)
        jax.block_until_ready(call())
        seconds = []
        for _ in range(args.rounds):
            began = time.process_time()
            jax.block_until_ready(call())
            seconds.append(time.process_time() - began)
        row = {
            "case": case,
            "ms": round(1000 * min(seconds), 1),
            "stated_ms": STATED[case],
            "parameters": parameters,
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    with common.quiet_if_unread():
        main(tyro.cli(Args, description=__doc__))
