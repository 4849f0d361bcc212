"""Tests for jaxflow.models.flow.flownetsd."""

import numpy as np

from jaxflow import estimate
from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "flownetsd")
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 2e-5.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)
