"""Tests for jaxflow.models.flow.flownetc."""

import numpy as np

from jaxflow import estimate
from jaxflow.layers import flownet
from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "flownetc")
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 2e-5.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)

    images = (arrays[name][None] / np.float32(255) for name in ("image1", "image2"))
    flows = golden.run(model, *flownet.centre(*images), method="flows")
    for index, name in ((0, "flow6"), (-1, "flow2")):
        expected = golden.nhwc(arrays[name])
        np.testing.assert_allclose(flows[index], expected, atol=1e-4)
