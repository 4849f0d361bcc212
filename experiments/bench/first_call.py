"""Measures what a network costs the first time: compilation, memory, a forward pass.

    python experiments/bench/first_call.py pwcnet 448 1024
    python experiments/bench/first_call.py pwcnet 256 256 --batch 4 --train
    python experiments/bench/first_call.py flownet2 384 512

Prints one JSON line. `first_call_s` is tracing, compilation and one run; nothing is
cached. With --train the call is a loss and its gradient in all weights.
"""

import argparse
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxflow


def main():
    """Builds a network, calls it twice, and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()

    began = time.perf_counter()
    model = jaxflow.create_model(arguments.model)
    if arguments.train:
        model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    constructed = time.perf_counter() - began

    def loss(params, *frames):
        found = nnx.merge(graph, params, rest, copy=True)(*frames)
        return jaxflow.losses.multi_scale(
            found.predictions, jnp.zeros_like(frames[0][..., :2])
        )

    def forward(params, *frames):
        return nnx.merge(graph, params, rest, copy=True)(*frames).flow

    call = jax.jit(jax.value_and_grad(loss) if arguments.train else forward)
    shape = (2, arguments.batch, arguments.height, arguments.width, 3)
    frames = np.random.default_rng(0).random(shape, dtype=np.float32)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(call(params, *frames))
        seconds.append(round(time.perf_counter() - began, 3))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = {
        "bench": "first_call",
        "model": arguments.model,
        "shape": list(shape[1:]),
        "train": arguments.train,
        "construct_s": round(constructed, 3),
        "first_call_s": seconds[0],
        "next_call_s": min(seconds[1:]),
        "peak_gib": round(kilobytes / 2**20, 2),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
