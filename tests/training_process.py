"""One of the processes that train together; tests/test_mesh.py starts them.

    python -m tests.training_process RANK COUNT PORT FOLDER STEPS [dies=N] [shards]

With a COUNT of 1 it trains alone, on one device.
"""

import os
import pathlib
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import mesh, train
from jaxflow.layers import conv, norm

BATCH = 8


class Net(nnx.Module):
    """Convolutions, statistics of the whole batch, and dropout."""

    def __init__(self, *, rngs):
        self.first = conv.Conv(3, 4, use_bias=False, rngs=rngs)
        self.norm = norm.BatchNorm(4)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.last = conv.Conv(4, 2, rngs=rngs)
        self.deterministic = True

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.first(x)))
        return self.last(self.dropout(x))


class Batches:
    """This process's share of batches that all draw alike."""

    def __init__(self, folder, dies=None):
        self.count, self.dies = 0, dies
        self.saved = pathlib.Path(folder) / "checkpoints" / f"{(dies or 0) // 5 * 5}"

    def __next__(self):
        if self.count == self.dies:
            # Saving is asynchronous: what was saved last shall be there.
            ends = time.monotonic() + 120
            while not self.saved.is_dir() and time.monotonic() < ends:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        rng = np.random.default_rng(self.count)
        self.count += 1
        x = rng.normal(size=(BATCH, 6, 7, 3)).astype(np.float32)
        share = BATCH // jax.process_count()
        x = x[share * jax.process_index() :][:share]
        return {"x": x, "y": x[..., :2] * 2}

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


def loss(model, batch):
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2)


def run(folder, steps, *, dies=None, shards=False, devices=None):
    """Trains, and returns the model and its state."""
    model = Net(rngs=nnx.Rngs(jax.random.key(0, impl="threefry2x32")))
    optimiser = optax.adamw(1e-2)
    step = train.make_step(
        model, loss, optimiser, mesh=train.data_mesh(devices), shard_params=shards
    )
    state = train.init(model, optimiser, seed=1)
    state = train.fit(
        step, state, Batches(folder, dies), steps=steps, workdir=folder, log_every=1,
        save_every=5, evaluate=lambda state: {"step": int(state.step)},
        progress=False,
    )  # fmt: skip
    return train.finish(model, state), state


def main(rank, count, port, folder, steps, *options):
    jax.config.update("jax_default_prng_impl", "rbg")
    address = f"localhost:{port}"
    mesh.start_processes(address, num_processes=int(count), process_id=int(rank))
    assert jax.process_count() == int(count)
    dies = [int(option.removeprefix("dies=")) for option in options if "=" in option]
    model, _ = run(
        folder, int(steps), dies=min(dies, default=None), shards="shards" in options
    )
    x = jnp.ones((1, 4, 4, 3))  # a trained model is this process's own
    assert np.isfinite(model(x)).all()


if __name__ == "__main__":
    main(*sys.argv[1:])
