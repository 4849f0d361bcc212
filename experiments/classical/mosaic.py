"""Stitches the frames of a camera that pans over a plane, by chained homographies.

    python experiments/classical/mosaic.py

Measures how far the chained motions send the corners from where they belong (bar: 0.5
pixel) and how well the mosaic agrees with the scene.
"""

import json

import jax
import numpy as np
import scenes

from jaxflow import classical


def camera(length):
    """A pan with a growing tilt: (T, 3, 3)."""
    path = np.stack([np.eye(3)] * length)
    t = np.arange(length)
    path[:, 0, 2], path[:, 1, 2] = -7.0 * t, 1.5 * t
    path[:, 0, 1], path[:, 1, 0] = 0.004 * t, -0.004 * t
    path[:, 2, 0], path[:, 2, 1] = 2e-5 * t, -1e-5 * t
    return path


def main(length=8, size=(96, 128)):
    """Returns the largest corner error in pixels, and the mosaic's PSNR in decibels."""
    truth = camera(length)
    clip = scenes.camera_clip(truth, size)
    canvas, origin = (size[0] + 40, size[1] + 90), (10, 20)
    mean, count, path = jax.jit(
        lambda clip: classical.applications.mosaic(
            clip, size=canvas, origin=origin, levels=3
        )
    )(clip)
    x, y = np.meshgrid([0.0, size[1] - 1.0], [0.0, size[0] - 1.0])
    errors = [
        np.hypot(*np.subtract(scenes.send(found, x, y), scenes.send(true, x, y))).max()
        for found, true in zip(np.asarray(path), truth, strict=True)
    ]
    y, x = np.mgrid[: canvas[0], : canvas[1]].astype(float)
    scene = scenes.texture(0)(x - origin[0], y - origin[1])
    seen = np.asarray(count) > 0
    return {
        "corner_error_px": float(max(errors)),
        "psnr_db": scenes.psnr(np.asarray(mean)[seen], scene[seen]),
        "covered": float(seen.mean()),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
