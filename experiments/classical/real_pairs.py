"""Measures classical methods, and OpenCV's, on pairs of frames with known flow.

    python experiments/classical/real_pairs.py frame1.png frame2.png flow.flo ...

Takes any number of triples; prints one JSON line for each, with the end-point error in
pixels over known pixels.
"""

import json
import sys

import cv2
import jax
import numpy as np

from jaxflow import classical, io

METHODS = (
    "tvl1",
    *(f"tvl1_{name}" for name in classical.tvl1.PRESETS if name != "opencv"),
)


def opencv(one, two):
    """Runs OpenCV's TV-L1 and DIS on 8-bit frames."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (one, two)]
    return {
        "opencv_tvl1": cv2.optflow.DualTVL1OpticalFlow_create().calc(*gray, None),
        "opencv_dis_medium": cv2.DISOpticalFlow_create(2).calc(*gray, None),
    }


def main(path1, path2, truth_path, methods=METHODS):
    """Returns the end-point error of each method on one pair, in pixels."""
    one, two = io.read_image(path1), io.read_image(path2)
    truth, known = io.read_flow(truth_path)
    flows = opencv(one, two)
    frames = [frame.astype(np.float32) / 255 for frame in (one, two)]
    for name in methods:
        flows[name] = jax.jit(classical.METHODS[name])(*frames)
    return {
        name: round(float(np.linalg.norm(flow - truth, axis=-1)[known].mean()), 4)
        for name, flow in flows.items()
    }


if __name__ == "__main__":
    paths = iter(sys.argv[1:])
    for triple in zip(paths, paths, paths, strict=True):
        print(json.dumps({"pair": triple[0]} | main(*triple)), flush=True)
