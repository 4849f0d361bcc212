"""Tests for jaxflow.quality.consistency."""

import numpy as np
import pytest

from jaxflow import quality


def test_a_video_that_only_moves_is_consistent(rng):
    wide = rng.uniform(size=(20, 40, 3)).astype(np.float32)
    video = np.stack([wide[:, t : t + 30] for t in range(4)])
    flow = np.zeros((3, 20, 30, 2), np.float32)
    flow[..., 0] = -1
    np.testing.assert_allclose(
        quality.temporal_consistency(video, flow, -flow), 0, atol=1e-6
    )
    noisy = video + 0.1 * rng.normal(size=video.shape)
    found = quality.temporal_consistency(noisy, flow, -flow)
    np.testing.assert_allclose(found, 0.1 * np.sqrt(2), rtol=0.05)
    with pytest.raises(ValueError, match="forward"):
        quality.temporal_consistency(video, flow[:2], -flow)
