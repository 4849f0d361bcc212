"""Tests for jaxflow.quality.guesses."""

import numpy as np
import pytest

from jaxflow import quality


def test_simple_guesses():
    video = np.arange(7.0).reshape(1, 7, 1, 1, 1) ** 2
    observed = np.array([0, 1, 0, 0, 1, 0, 0], bool)
    copied = quality.copy_nearest(video, observed)[0, :, 0, 0, 0]
    np.testing.assert_array_equal(copied, [1, 1, 1, 1, 16, 16, 16])
    blended = quality.linear_blend(video, observed)[0, :, 0, 0, 0]
    np.testing.assert_allclose(blended, [1, 1, 6, 11, 16, 16, 16])
    hidden = np.where(observed.reshape(1, 7, 1, 1, 1), video, np.nan)
    for guess in (quality.copy_nearest, quality.linear_blend):
        np.testing.assert_array_equal(guess(hidden, observed), guess(video, observed))
    for wrong in (np.zeros(7, bool), observed[:-1]):
        with pytest.raises(ValueError, match="observed"):
            quality.copy_nearest(video, wrong)
