"""Follows corners through a clip, and measures how far they drift.

    python experiments/classical/track.py

Tracks on a disc and on the background that it hides; the truth is known for both.
"""

import json

import jax
import numpy as np
import scenes

from jaxflow import classical


def main(length=10, size=(96, 128)):
    """Returns the mean error in pixels of visible tracks, and how many are kept."""
    times = np.arange(length)
    clip, motion = scenes.disc_clip(times, size, speed=(-2.0, 1.5), pan=(1.0, -0.5))

    @jax.jit
    def run(clip):
        points, found = classical.features.detect_corners(clip[0], count=60)
        return found, classical.features.track(clip, points, window=13, levels=3)

    found, tracks = run(clip)
    points = np.asarray(tracks.points)
    truth = points[0] + np.stack([motion(points[0], 0, t) for t in times])
    error = np.linalg.norm(points - truth, axis=-1)
    seen = np.asarray(tracks.visible & found[None])
    return {
        "error_px": float(np.median(error[-1][seen[-1]])),
        "mean_error_px": float(error[-1][seen[-1]].mean()),
        "kept": float(seen[-1].sum() / np.asarray(found).sum()),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
