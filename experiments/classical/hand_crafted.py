"""Classifies motion8 from hand-crafted features and one linear map.

    python experiments/classical/hand_crafted.py

Three descriptors of a clip: dense trajectories with HOF and MBH on Lucas-Kanade flow;
a dynamic image against the gradient of the mean frame; the mean frame alone, which
cannot know their order. Bars: 90 % for the first, 90 % within pairs (a class
or its time reversal?) for the second, chance within pairs for the third.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import classical, ops
from jaxflow.data import motion_classes

FLOW = functools.partial(
    classical.lucas_kanade.lucas_kanade, window=9, levels=2, iterations=3, sigma=1.0
)


def on_a_grid(maps, cells=4):
    """Averages (H, W, C) over cells x cells blocks, into one vector."""
    height, width, channels = maps.shape
    blocks = maps.reshape(cells, height // cells, cells, width // cells, channels)
    return blocks.mean((1, 3)).ravel()


def trajectory_features(clip):
    """Describes a clip by its dense trajectories."""
    return classical.trajectories.clip_descriptor(
        clip, FLOW, patch=8, segments=1, threshold=0.2
    )


def dynamic_features(clip):
    """Correlates what changes in order with the gradient of what stays."""
    gray = classical.coarse_to_fine.luminance(clip)
    order = classical.dynamic_image.dynamic_image(gray, averaged=False)
    ix, iy = ops.spatial_gradient(gray.mean(0))
    maps = jnp.concatenate([order * ix, order * iy, ix**2 + iy**2], axis=-1)
    return on_a_grid(maps) / (ix**2 + iy**2).mean()


def mean_features(clip):
    """Describes the blur of the mean frame by its second moments."""
    gray = classical.coarse_to_fine.luminance(clip).mean(0)
    ix, iy = ops.spatial_gradient(gray)
    maps = jnp.concatenate([ix * ix, ix * iy, iy * iy, gray], axis=-1)
    return on_a_grid(maps) / (ix**2 + iy**2).mean()


def linear_scores(features, labels, test_features, *, classes, ridge=1.0):
    """Fits one-against-all ridge regression on standardised features."""
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    rows, tests = (
        np.c_[(x - mean) / deviation, np.ones(len(x))].astype(float)
        for x in (features, test_features)
    )
    targets = 2 * np.eye(classes)[labels] - 1
    gram = rows.T @ rows + ridge * np.eye(rows.shape[1])
    return tests @ np.linalg.solve(gram, rows.T @ targets)


def main(train=800, test=400):
    """Returns accuracy and within-pair accuracy of each descriptor."""
    sets = motion_classes.load("train", train), motion_classes.load("test", test)
    labels = [np.asarray(part["label"]) for part in sets]
    numbers = {}
    for name, function in {
        "trajectories": trajectory_features,
        "dynamic_image": dynamic_features,
        "mean_frame": mean_features,
    }.items():
        describe = jax.jit(functools.partial(jax.lax.map, function, batch_size=20))
        features = [np.asarray(describe(part["clip"])) for part in sets]
        scores = linear_scores(features[0], labels[0], features[1], classes=8)
        truth, rival = labels[1], labels[1] ^ 1
        index = np.arange(len(truth))
        numbers[name] = float((scores.argmax(1) == truth).mean())
        within = scores[index, truth] > scores[index, rival]
        numbers[f"{name}_within_pairs"] = float(within.mean())
    return numbers


if __name__ == "__main__":
    print(json.dumps(main()))
