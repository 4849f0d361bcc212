"""Tests for jaxflow.classical.dynamic_image."""

import numpy as np
import pytest

from jaxflow.classical import dynamic_image


@pytest.mark.parametrize("length", [1, 2, 7])
def test_coefficients_are_the_sum_over_ordered_pairs(length):
    frames = np.eye(length)
    averages = np.cumsum(frames, axis=0) / np.arange(1, length + 1)[:, None]
    # One step of RankSVM from 0: the sum of later less earlier, over all pairs.
    for rows, averaged in ((averages, True), (frames, False)):
        expected = sum(
            (rows[j] - rows[i] for j in range(length) for i in range(j)),
            start=np.zeros(length),
        )
        actual = dynamic_image.rank_pooling_coefficients(length, averaged=averaged)
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_what_stands_still_vanishes_and_order_matters(rng):
    still = np.broadcast_to(rng.uniform(size=(4, 5, 3)), (6, 4, 5, 3)).astype("f")
    np.testing.assert_allclose(dynamic_image.dynamic_image(still), 0, atol=1e-5)
    clip = rng.uniform(size=(2, 6, 4, 5, 3)).astype(np.float32)
    image = dynamic_image.dynamic_image(clip, averaged=False)
    assert image.shape == (2, 4, 5, 3)
    back = dynamic_image.dynamic_image(clip[:, ::-1], averaged=False)
    np.testing.assert_allclose(back, -image, atol=1e-4)


def test_rejects_an_empty_clip():
    with pytest.raises(ValueError, match="length"):
        dynamic_image.rank_pooling_coefficients(0)
