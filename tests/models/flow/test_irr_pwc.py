"""Tests for jaxflow.models.flow.irr_pwc."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from jaxflow import estimate
from jaxflow.models.flow import irr_pwc
from tests import golden


def test_equals_the_official_network(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "irr_pwc")
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # With the same threshold of the warp mask; float32 against float64: 2e-5.
    np.testing.assert_allclose(flow, arrays["flow_mask09999"], atol=1e-3)
    # With the official threshold isolated pixels are masked by rounding.
    difference = np.abs(flow - arrays["flow"])
    assert difference.mean() < 0.3
    assert difference.max() < 1.5


@pytest.mark.slow
def test_occlusion_is_the_probability_of_the_official_logits(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "irr_pwc")
    frames = (arrays[name][None] / np.float32(255) for name in ("image1", "image2"))
    found = golden.run(model, *frames)
    expected = 1 / (1 + np.exp(-golden.nhwc(arrays["occ_logit_crop"])[..., 0]))
    rows, columns = expected.shape[1:]
    # Pixels that the official threshold masks by rounding move what is around them.
    difference = np.abs(found.occlusion[:, :rows, :columns] - expected)
    assert np.median(difference) < 1e-3 and difference.max() < 0.01


@pytest.mark.slow
def test_exchanging_the_frames_exchanges_the_directions():
    model = irr_pwc.Model(irr_pwc.TINY, rngs=nnx.Rngs(0))
    image1, image2 = jax.random.uniform(jax.random.key(0), (2, 1, 64, 72, 3))
    both = functools.partial(golden.run, model, method="both_directions")
    forward, backward = both(image1, image2)
    backward_too, forward_too = both(image2, image1)
    for ours, theirs in ((forward, forward_too), (backward, backward_too)):
        assert len(ours.flows) == len(ours.occlusions) == 7
        np.testing.assert_allclose(ours.flows[-1], theirs.flows[-1], atol=1e-5)
        np.testing.assert_allclose(
            ours.occlusions[-1], theirs.occlusions[-1], atol=1e-5
        )
    assert forward.occlusions[-1].shape == (1, 64, 72, 1)
