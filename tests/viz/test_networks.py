"""Tests for jaxflow.viz.networks."""

import numpy as np
import pytest
from sklearn import metrics

from jaxflow import viz


def test_filters_lie_in_rows_over_time():
    kernel = np.zeros((3, 2, 2, 3, 2))
    kernel[1, 0, 1, :, 0] = (4, -4, 2)
    kernel[2, 1, 1, 0, 1] = -0.5
    picture = viz.filter_strips(kernel, scale=2, gap=1)
    assert picture.shape == (2 * 4 + 1, 3 * 4 + 2, 3)
    np.testing.assert_array_equal(picture[0:2, 7:9], [[[255, 0, 191]] * 2] * 2)
    np.testing.assert_array_equal(picture[7:9, 12:14], [[[0, 128, 128]] * 2] * 2)
    assert (picture[:4, :4] == 128).all() and (picture[4] == 255).all()
    flat = viz.filter_strips(kernel[1], scale=2, gap=1)
    np.testing.assert_array_equal(flat[:4], picture[:4, 5:9])


def test_shares_of_the_confusion_are_those_of_scikit_learn(rng):
    labels, found = rng.integers(0, 3, (2, 50))
    picture = viz.confusion_picture(labels, found, ("a", "b", "c", "d"), cell=8)
    table = metrics.confusion_matrix(labels, found, normalize="true")
    for row in range(3):
        for column in range(3):
            red = 255 + table[row, column] * (31 - 255)
            found_red = picture[8 * row + 4, 70 + 8 * column + 4, 0]
            assert found_red == pytest.approx(red, abs=1)
    assert (picture[24:, 70:] == 200).all()


def test_large_cells_have_their_percentage_in_them():
    picture = viz.confusion_picture([0, 0, 1], [0, 0, 0], ("run", "jump"), cell=24)
    full, empty = picture[:24, 70:94], picture[:24, 94:]
    assert len(np.unique(full)) > 3 and (empty == 255).all()
    assert (picture[:24, :70] < 128).any()


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="`kernel` must be \\(T, H, W, C_in, C_out\\)"):
        viz.filter_strips(np.ones((3, 7, 7, 2, 4)))
    with pytest.raises(ValueError, match="`kernel` must be finite"):
        viz.filter_strips(np.full((3, 7, 7, 3, 4), np.nan))
    with pytest.raises(ValueError, match="`found` must be integers from 0 to 1"):
        viz.confusion_picture([0, 1], [0, 2], ("a", "b"))
    with pytest.raises(ValueError, match="must be \\(N,\\) alike"):
        viz.confusion_picture([0, 1], [0], ("a", "b"))
