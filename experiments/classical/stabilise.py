"""Steadies a shaky clip whose camera path is known.

    python experiments/classical/stabilise.py

Measures how far consecutive frames move against each other, less the pan, before and
after: the bar is a fifth.
"""

import json

import jax
import numpy as np
import scenes

from jaxflow import classical


def jitter(path, size):
    """Root mean square second difference of where the corners go, in pixels."""
    corners = np.array([(0, 0), (size[1], 0), (0, size[0]), (size[1], size[0])], float)
    where = np.stack([np.stack(scenes.send(m, *corners.T), -1) for m in path])
    return float(np.sqrt((np.diff(where, n=2, axis=0) ** 2).sum(-1).mean()))


def main(length=24, size=(120, 160)):
    """Returns the jitter before and after, and their ratio."""
    truth = scenes.shaky_path(length, size)
    clip = scenes.camera_clip(truth, size)
    result = jax.jit(
        lambda clip: classical.applications.stabilise(clip, smoothing=8.0, levels=3)
    )(clip)
    # Where the steady camera truly is: what is left of the true shake.
    correction = np.linalg.inv(result.path) @ truth
    after = np.asarray(result.smooth_path) @ correction
    numbers = {"before_px": jitter(truth, size), "after_px": jitter(after, size)}
    return numbers | {"ratio": numbers["before_px"] / numbers["after_px"]}


if __name__ == "__main__":
    print(json.dumps(main()))
