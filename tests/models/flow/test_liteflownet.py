"""Tests for jaxflow.models.flow.liteflownet."""

import numpy as np
import pytest

from jaxflow import estimate
from jaxflow.models.flow import liteflownet
from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "liteflownet")
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 8e-6.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)


@pytest.mark.slow
def test_levels_equal_the_official_ones(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "liteflownet")
    images = (arrays[name][None] / np.float32(255) for name in ("image1", "image2"))
    flows = golden.run(model, *images).predictions
    for index, level in ((0, 6), (3, 3)):
        actual = flows[index] / liteflownet.SCALE[level]
        np.testing.assert_allclose(actual, golden.nhwc(arrays[f"R{level}"]), atol=1e-4)
