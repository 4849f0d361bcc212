"""A training run that is killed at random moments; tests/test_crashes.py starts it.

    python -m tests.crash_process FOLDER KILLS SEED

It prints a line of JSON: how many of the kills came during a save, the number of the
last step, and the differences between the run's last state and that of a run of as many
steps that was left alone. What is killed is a child, so that importing counts once; the
parent computes nothing before all children are gone.
"""

import json
import os
import pathlib
import random
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import train
from tests import training_process

ENDLESS = 1_000_000


def run(folder, steps):
    """Trains on; saves all the time."""
    model = training_process.Net(rngs=nnx.Rngs(0))
    optimiser = optax.adamw(1e-2)
    mesh = train.data_mesh(jax.devices()[:1])
    step = train.make_step(model, training_process.loss, optimiser, mesh=mesh)
    return train.fit(
        step, train.init(model, optimiser, seed=1), training_process.Batches(folder),
        steps=steps, workdir=folder, log_every=1, save_every=3, progress=False,
    )  # fmt: skip


def last_step(folder):
    steps = [0]
    for path in (folder / "checkpoints").glob("*"):
        steps += [int(path.name)] if path.name.isdecimal() else []
    return max(steps)


def is_saving(folder):
    return any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(happens, seconds=120.0):
    ends = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > ends:
            raise TimeoutError("the child does nothing")
        time.sleep(0.001)


def kill_once(folder, moment):
    """Starts a child, kills it at a moment, and tells whether it was saving then."""
    before = last_step(folder)
    child = os.fork()
    if child == 0:
        try:
            run(folder, ENDLESS)
        finally:
            os._exit(1)
    try:
        if moment != "beginning":
            wait_for(lambda: last_step(folder) > before)
        if moment == "saving":
            wait_for(lambda: is_saving(folder))
        else:
            time.sleep(random.uniform(0, 1.5))
        saving = is_saving(folder)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the child gave up"
    return saving


def main(folder, kills, seed):
    folder = pathlib.Path(folder)
    random.seed(int(seed))
    moments = ["saving", "any", "beginning"] * int(kills)
    saving = [kill_once(folder / "killed", moment) for moment in moments[: int(kills)]]
    steps = last_step(folder / "killed") + 4
    states = [run(folder / name, steps) for name in ("killed", "whole")]
    killed, whole = (
        [np.asarray(x) for x in jax.tree.leaves((state[:-1], key_data(state)))]
        for state in states
    )
    different = sum(
        not np.array_equal(a, b) for a, b in zip(killed, whole, strict=True)
    )
    rows = [
        [{**json.loads(row), "steps_per_second": 0} for row in path.open()]
        for path in (folder / "killed/metrics.jsonl", folder / "whole/metrics.jsonl")
    ]
    print(
        json.dumps(
            {
                "kills": len(saving), "saving": sum(saving), "steps": steps,
                "arrays": len(whole), "different": different,
                "logs_equal": rows[0] == rows[1],
                "starts": len(json.loads((folder / "killed/run.json").read_text())
                              ["starts"]),
            }
        )
    )  # fmt: skip


def key_data(state):
    return jnp.asarray(jax.random.key_data(state.key))


if __name__ == "__main__":
    main(*sys.argv[1:])
