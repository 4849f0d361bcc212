"""What the demo compares, and how it measures it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx

from jaxflow import estimate, evaluate

OURS, ZERO = "PWC-Net, trained here", "zero flow"
SHIPPED = ("jaxflow_fast", "jaxflow_accurate")

Estimator = Callable[[np.ndarray, np.ndarray], Any]


def estimators(ours: Estimator) -> dict[str, Estimator]:
    """Returns the methods to compare.

    They are no motion at all, OpenCV's if it is there, the networks that come with the
    package, and last the one that was trained here.

    Args:
        ours: The network that was trained here.
    """
    methods: dict[str, Estimator] = {
        ZERO: lambda a, b: np.zeros((*a.shape[:2], 2), np.float32)
    }
    try:
        import cv2
    except ImportError:
        cv2 = None
    if cv2 is not None:
        preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        dis = cv2.DISOpticalFlow_create(preset)  # type: ignore[attr-defined]
        methods["DIS medium (OpenCV)"] = lambda a, b: dis.calc(_gray(a), _gray(b), None)
    if hasattr(cv2, "optflow"):
        tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[union-attr]
        methods["TV-L1 (OpenCV)"] = lambda a, b: tvl1.calc(_gray(a), _gray(b), None)
    for name in SHIPPED:
        methods[name] = functools.partial(estimate.estimate_flow, name)
    methods[OURS] = ours
    return methods


def estimate_by_tiles(
    model: nnx.Module, first: np.ndarray, second: np.ndarray, *, size: tuple[int, int]
) -> np.ndarray:
    """Estimates flow by tiles of `size`, (height, width), that the net was trained at.

    On larger frames as a whole, which it never saw, its errors are larger.
    """
    return estimate.estimate_flow(model, first, second, tile=size, overlap=size[0] // 3)


def measure(method: Estimator, pairs: list[evaluate.Pair]) -> dict[str, float]:
    """Returns the metrics of a method; "visible" is the error where nothing hides."""
    flows: list[np.ndarray] = []

    def noted(first, second):
        flows.append(np.asarray(method(first, second)))
        return flows[-1]

    everywhere = [(a, b, flow, np.ones_like(known)) for a, b, flow, known in pairs]
    row = evaluate.evaluate_flow(noted, everywhere)
    again = iter(flows)
    visible = evaluate.evaluate_flow(lambda *_: next(again), pairs)
    return {**row, "visible": visible["epe"]}


def _gray(frame: np.ndarray) -> np.ndarray:
    """Returns the luminance of an RGB frame, as OpenCV's methods want it."""
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
