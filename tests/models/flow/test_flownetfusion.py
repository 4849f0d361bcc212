"""Tests for jaxflow.models.flow.flownetfusion."""

import numpy as np

from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "flownetfusion")
    x = golden.nhwc(arrays["fusion_input"])
    flows = golden.run(model, x, method="flows")
    # Float32 against float64 of the official code differs by 6e-6.
    np.testing.assert_allclose(flows[-1][0], arrays["flow"], atol=1e-3)
    for flow, name in zip(flows, ("flow2", "flow1"), strict=False):
        np.testing.assert_allclose(flow, golden.nhwc(arrays[name]), atol=1e-4)


def test_fuse_builds_the_official_input(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "flownetfusion")
    x = golden.nhwc(arrays["fusion_input"])
    seen = []
    model.flows = lambda inputs: seen.append(inputs) or [inputs[..., :2]] * 3
    # Frame 2 is not stored; the last two channels, its errors, are left out.
    model.fuse(x[..., :3], x[..., :3], x[..., 3:5], x[..., 5:7])
    np.testing.assert_allclose(seen[0][..., :9], x[..., :9], atol=1e-5)
