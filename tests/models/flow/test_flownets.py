"""Tests for jaxflow.models.flow.flownets."""

import jax
import numpy as np
import pytest

from jaxflow import estimate, models, ops
from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "flownets")
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 2e-5.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)


def test_predictions_end_in_the_flow():
    model = models.create_model("flownets", width=1 / 16)
    image1, image2 = jax.random.uniform(jax.random.key(0), (2, 1, 64, 128, 3))
    full, flows, *_ = golden.run(model, image1, image2)
    assert [flow.shape[1:3] for flow in flows] == [
        (1, 2),
        (2, 4),
        (4, 8),
        (8, 16),
        (16, 32),
    ]
    up = 4 * ops.resize(flows[-1], (64, 128))
    np.testing.assert_allclose(full, up, atol=1e-5)


@pytest.mark.slow
def test_reduced_network_has_three_eighths_of_the_channels():
    model = models.create_model("flownet2s_small")
    assert model.conv1.conv.kernel.shape == (7, 7, 6, 24)
    assert model.conv6_1.conv.kernel.shape == (3, 3, 384, 384)
    assert model.decoder.upsampled_flow6_to_5.kernel.shape == (4, 4, 2, 2)
