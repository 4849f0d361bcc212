"""Tells a clip that only moves from one that flickers, by the warping error.

    python experiments/classical/temporal_consistency.py

Measures the error of a true clip, of one whose frames differ in brightness, and of the
true one under the plain difference of frames, which cannot tell.
"""

import functools
import json

import jax
import numpy as np
import scenes

from jaxflow import classical, ops

TVL1 = functools.partial(
    classical.tvl1.tvl1, levels=3, step=0.5, sigma=1.0, outer_iterations=3
)


def main(length=4, size=(96, 128)):
    """Returns the warping error (mean square) of each clip."""
    clip, _ = scenes.disc_clip(np.arange(length), size)
    gains = 1 + 0.1 * np.random.default_rng(0).normal(size=(length, 1, 1, 1))
    flickering = np.clip(clip * gains, 0, 1).astype(np.float32)

    @jax.jit
    def motion(clip):
        forward, backward = TVL1(clip[:-1], clip[1:]), TVL1(clip[1:], clip[:-1])
        return forward, ops.forward_backward_occlusion(forward, backward)

    # One flow for both: that of the true clip.
    flows, hidden = motion(clip)
    error = classical.applications.warping_error
    return {
        "steady": float(error(clip, flows, hidden)),
        "flickering": float(error(flickering, flows, hidden)),
        "plain_difference": float(error(clip, 0 * flows, hidden)),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
