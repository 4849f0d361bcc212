"""Renders the frames between two, from TV-L1 flow in both directions.

    python experiments/classical/slow_motion.py

Measures the PSNR against the true frames of a disc over a moving background; the bar is
3 dB above the blend of the two frames, for twice and for four times as slow.
"""

import functools
import json

import jax
import numpy as np
import scenes

from jaxflow import classical

FLOW = functools.partial(
    classical.tvl1.tvl1, levels=3, step=0.5, sigma=1.0, outer_iterations=3
)


def main(size=(96, 128), factors=(2, 4)):
    """Returns PSNR in decibels, of ours and of the blend, for each factor."""
    numbers = {}
    for factor in factors:
        times = np.linspace(0, 1, factor + 1)
        truth, _ = scenes.disc_clip(times, size)
        ends = truth[[0, -1]]
        slow = jax.jit(
            functools.partial(
                classical.applications.slow_motion, flow=FLOW, factor=factor
            )
        )(ends)
        blend = np.stack([(1 - t) * ends[0] + t * ends[1] for t in times])
        numbers[f"x{factor}_psnr_db"] = scenes.psnr(slow[1:-1], truth[1:-1])
        numbers[f"x{factor}_blend_psnr_db"] = scenes.psnr(blend[1:-1], truth[1:-1])
    return numbers


if __name__ == "__main__":
    print(json.dumps(main()))
