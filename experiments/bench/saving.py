"""Compares how long a step waits for a checkpoint with what writing one takes.

    python experiments/bench/saving.py            # FlowNet2 and Adam's moments, 2 GB
    python experiments/bench/saving.py --width 0.25 --every 5       # a try, in seconds

Trains by `jaxflow.train.fit` into a folder of its own, and saves as the recipes do. The
state is that of FlowNet2 with Adam, and all of it changes at every step; the loss is
the sum of the squared weights, since a step of the network takes a CPU half a minute.
Then the last state is written again and waited for, as often: a blocking save.

Prints one JSON line of seconds, medians over the saves but the first:

    step      between the beginnings of two steps, while nothing is saved
    stall     of the step after which is saved and of the next, what is beyond that
    first     the same of the first save, which may find no memory for its copies
    slowed    of all steps up to the next save, what is beyond that: here the device is
              the host, so that steps and writing share its cores
    blocking  saving, and waiting until it is on disk
    stalled   stall / blocking
"""

import argparse
import itertools
import json
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import optax

import jaxflow
from jaxflow import checkpoint, train


def main(argv=None) -> dict:
    """Measures, prints what came of it, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=50, help="steps between saves")
    parser.add_argument("--saves", type=int, default=5)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        began, state = run(pathlib.Path(folder) / "run", args)
        blocking = save_and_wait(pathlib.Path(folder) / "blocking", state, args.saves)
    sizes = (leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    line = {
        "bench": "saving",
        "gigabytes": round(sum(sizes) / 1e9, 3),
        **summary(began, blocking, args.every),
    }
    print(json.dumps(line), flush=True)
    return line


def run(folder: pathlib.Path, args) -> tuple[list[float], train.TrainState]:
    """Trains; returns when each step began, and the last state."""
    model = jaxflow.create_model("flownet2", width=args.width)
    optimiser = optax.adam(1e-5)
    step = train.make_step(
        model,
        squares,
        optimiser,
        draw=lambda key: jnp.zeros(1),
        mesh=train.data_mesh(jax.devices()[:1]),
    )
    began: list[float] = []

    def timed(state: train.TrainState):
        began.append(time.perf_counter())
        return jax.block_until_ready(step.run(state))

    state = train.fit(
        step._replace(run=timed),
        train.init(model, optimiser),
        steps=args.every * (args.saves + 1),
        workdir=folder,
        save_every=args.every,
        evaluate=lambda state: {},
        config={"bench": "saving"},
    )
    return began, state


def squares(model, batch) -> jax.Array:
    """A loss that costs little and changes every weight."""
    weights = jax.tree.leaves(checkpoint.weights_of(model)["params"])
    return sum((jnp.sum(array**2) for array in weights), jnp.float32(0))


def save_and_wait(
    folder: pathlib.Path, state: train.TrainState, times: int
) -> list[float]:
    """Returns the seconds that each save takes until it is on disk."""
    spent = []
    with checkpoint.Checkpoints(folder) as saved:
        for number in range(1, times + 1):
            start = time.perf_counter()
            saved.save(number, state)
            saved.wait()
            spent.append(time.perf_counter() - start)
    return spent


def summary(began: list[float], blocking: list[float], every: int) -> dict[str, float]:
    """Returns what `main` prints, of the beginnings of the steps."""
    took = [end - start for start, end in itertools.pairwise(began)]
    # Step N is took[N - 1], and what is saved after it counts with it.
    saves = range(every - 1, len(took) - 1, every)
    quiet = [
        t for n, t in enumerate(took) if n and n not in saves and n - 1 not in saves
    ]
    step = statistics.median(quiet)
    first, *later = [sum(took[n : n + 2]) - 2 * step for n in saves]
    stall = statistics.median(later or [first])
    slowed = statistics.median(
        sum(took[n : n + every]) - len(took[n : n + every]) * step for n in saves
    )
    whole = statistics.median(blocking)
    found = {"step": step, "stall": stall, "first": first}
    found |= {"slowed": slowed, "blocking": whole}
    found["stalled"] = stall / whole
    return {name: round(seconds, 4) for name, seconds in found.items()}


if __name__ == "__main__":
    main()
