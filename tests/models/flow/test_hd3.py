"""Tests for jaxflow.models.flow.hd3."""

import numpy as np
import pytest

from jaxflow import estimate
from jaxflow.models.flow import hd3
from tests import golden


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("hd3_dlaup_hda", marks=pytest.mark.slow),
        "hd3c_dlaup_hda",
        pytest.param("hd3_vgg_resnet", marks=pytest.mark.slow),
    ],
)
def test_equals_the_official_network(test_data, name):
    model, arrays = golden.filled(test_data / "golden" / "flow", name)
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 8e-6.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)


def test_density_to_vector_equals_the_official(test_data):
    with np.load(test_data / "golden" / "flow" / "ops.npz") as arrays:
        logits = golden.nhwc(arrays["hd3_prob_logits"])
        expected = golden.nhwc(arrays["hd3_density2vector"])
    actual = hd3.density_to_vector(logits, radius=4)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_density_between_four_displacements_gives_their_mean():
    density = np.full((9, 9), 1e-30)
    # dy = 1 or 2, dx = -3 or -2.
    density[5, 1], density[5, 2], density[6, 1], density[6, 2] = 0.1, 0.3, 0.2, 0.4
    # As much again lies elsewhere, but not as dense.
    density[0, 8] = density[8, 0] = 0.5
    logits = np.log(density).reshape(81)
    actual = hd3.density_to_vector(logits, radius=4)
    np.testing.assert_allclose(actual, [-2.3, 1.6], atol=1e-5)
    sure = hd3.density_to_confidence(logits, radius=4)
    np.testing.assert_allclose(sure, 0.5, atol=1e-6)
