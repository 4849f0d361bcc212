"""Tests for jaxflow.demo.methods."""

import numpy as np

from jaxflow.demo import methods


def test_all_methods_are_compared_ours_last():
    names = list(methods.estimators(lambda a, b: None))
    assert names[0] == methods.ZERO
    assert names[-1] == methods.OURS
    assert {"DIS medium (OpenCV)", "TV-L1 (OpenCV)", *methods.SHIPPED} < set(names)


def test_measures_everywhere_and_where_nothing_hides(rng):
    frame = rng.integers(0, 256, (6, 8, 3), np.uint8)
    flow = np.zeros((6, 8, 2), np.float32)
    flow[:3] = (3, 4)
    visible = np.zeros((6, 8), bool)
    visible[3:] = True
    zero = methods.estimators(lambda a, b: None)[methods.ZERO]
    row = methods.measure(zero, [(frame, frame, flow, visible)])
    np.testing.assert_allclose((row["epe"], row["visible"]), (2.5, 0))
