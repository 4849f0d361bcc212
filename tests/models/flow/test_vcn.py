"""Tests for jaxflow.models.flow.vcn."""

import jax
import numpy as np
import pytest

from jaxflow import estimate
from jaxflow.models.flow import vcn
from tests import golden


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # 20 times what float32 and float64 of the official code differ by.
    [
        pytest.param("vcn", 1.8e-3, marks=pytest.mark.slow),
        ("vcn_small", 1e-3),
        pytest.param("vcn_kitti", 9.4e-3, marks=pytest.mark.slow),
        pytest.param("vcn_sintel", 8.8e-3, marks=pytest.mark.slow),
    ],
)
def test_equals_the_official_network(test_data, name, tolerance):
    model, arrays = golden.filled(test_data / "golden" / "flow", name)
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    y, x = arrays["flow_crop_offset"]
    crop = flow[y : y + 96, x : x + 128]
    np.testing.assert_allclose(crop, arrays["flow_crop"], atol=tolerance)


@pytest.mark.slow
def test_confidence_is_one_minus_the_official_entropy(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "vcn_small")
    frames = (arrays[name][None] / np.float32(255) for name in ("image1", "image2"))
    found = golden.run(model, *frames)
    rows, columns = arrays["entropy_crop"].shape
    entropy = 1 - found.confidence[0, :rows, :columns]
    np.testing.assert_allclose(entropy, arrays["entropy_crop"], atol=1e-5)


@pytest.mark.parametrize("case", ["", "_fac2"])
def test_regression_equals_the_official(test_data, case):
    with np.load(test_data / "golden" / "flow" / "ops.npz") as arrays:
        cost = np.moveaxis(arrays[f"vcn_flow_reg{case}_cost"], (1, 2), (-2, -1))
        flow = golden.nhwc(arrays[f"vcn_flow_reg{case}_flow"])
        entropy = golden.nhwc(arrays[f"vcn_flow_reg{case}_entropy"])
    actual, local, whole = jax.jit(vcn.regress)(cost)
    np.testing.assert_allclose(actual, flow, atol=1e-5)
    np.testing.assert_allclose(np.stack([local, whole], -1), entropy, atol=1e-5)
