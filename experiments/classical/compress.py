"""Predicts a frame from the one before, as a video codec does.

    python experiments/classical/compress.py

Measures energy and entropy of what is left to send: for the plain difference, for block
matching (one vector for each 8 x 8 pixels) and for dense TV-L1 flow.
"""

import functools
import json

import jax
import numpy as np
import scenes

from jaxflow import classical

TVL1 = functools.partial(
    classical.tvl1.tvl1, levels=3, step=0.5, sigma=1.0, outer_iterations=3
)


def blocks(one, two, side=8):
    """Keeps one vector of block matching a block."""
    flow = classical.template.block_matching(one, two, radius=7, window=side | 1)
    middles = flow[side // 2 :: side, side // 2 :: side]
    return middles.repeat(side, axis=0).repeat(side, axis=1)


def main(size=(96, 128)):
    """Returns residual energy (mean square) and entropy (bits a value) of each."""
    (first, second), _ = scenes.disc_clip((0, 1), size)
    flows = {
        "difference": lambda one, two: np.zeros((*size, 2), np.float32),
        "blocks": blocks,
        "tvl1": TVL1,
    }
    numbers = {}
    for name, flow in flows.items():
        sent = jax.jit(
            lambda one, two, flow=flow: classical.applications.compensate(
                one, two, flow(two, one)
            )
        )(first, second)
        numbers[f"{name}_energy"] = float((sent.residual**2).mean())
        numbers[f"{name}_entropy_bits"] = float(sent.entropy)
    vectors = size[0] * size[1] // 64
    return numbers | {"blocks_vectors_per_pixel": vectors / (size[0] * size[1])}


if __name__ == "__main__":
    print(json.dumps(main()))
