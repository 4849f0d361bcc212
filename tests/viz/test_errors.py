"""Tests for jaxflow.viz.errors."""

import numpy as np
import pytest

from jaxflow import viz


def test_the_error_map_is_brighter_where_the_error_is_larger():
    target = np.zeros((1, 4, 2))
    flow = target + np.array([[[0.0, 0], [1, 0], [2, 0], [9, 0]]])
    target[0, 3] = np.nan
    picture = viz.error_map(flow, target)
    np.testing.assert_array_equal(picture[0, :3, 0], [0, 128, 255])
    assert picture[0, 3].tolist() == [0, 0, 64]
    picture = viz.error_map(flow, target, max_error=1.0)
    np.testing.assert_array_equal(picture[0, :3, 1], [0, 255, 255])
    np.testing.assert_array_equal(viz.error_map(target, target)[0, :3], 0)


def test_kitti_colours_part_outliers_from_inliers():
    target = np.zeros((1, 5, 2))
    target[0, :, 0] = [10, 10, 100, 100, 1]
    flow = target + np.array([[[0.1, 0], [3.1, 0], [4.9, 0], [5.1, 0], [200, 0]]])
    picture = viz.kitti_error_map(flow, target, valid=np.array([[1, 1, 1, 1, 1]]))
    expected = [
        (49, 54, 149), (254, 224, 144), (224, 243, 248), (254, 224, 144), (165, 0, 38)
    ]  # fmt: skip
    np.testing.assert_array_equal(picture[0], expected)
    assert not viz.kitti_error_map(flow, target, valid=np.zeros((1, 5))).any()


@pytest.mark.parametrize("show", [viz.error_map, viz.kitti_error_map])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 2e9])
def test_a_missing_estimate_is_marked_and_is_not_unknown(show, bad):
    target, flow = np.zeros((2, 1, 5, 2)), np.ones((2, 1, 5, 2))
    flow[0, 0, 1, 0] = flow[0, 0, 2, 1] = flow[1, 0, 3, 0] = bad
    target[1, 0, 3] = target[1, 0, 4] = np.nan
    picture = show(flow, target)
    magenta = (picture == [255, 0, 255]).all(-1)
    np.testing.assert_array_equal(magenta[0, 0], [False, True, True, False, False])
    assert not magenta[1].any()
    # The others look as they do without it, the scale included.
    clean = show(np.where(np.isfinite(flow) & (flow < 1e9), flow, 1), target)
    np.testing.assert_array_equal(picture[~magenta], clean[~magenta])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.error_map(np.ones((2, 2, 2)), np.ones((2, 3, 2))), "`flow` must"),
        (
            lambda: viz.error_map(np.ones((2, 2, 2)), np.ones((2, 2, 2)), max_error=-1),
            "`max_error`",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
