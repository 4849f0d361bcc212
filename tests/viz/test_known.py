"""Tests for jaxflow.viz.known."""

import numpy as np
import pytest

from jaxflow import viz


def colour_of(u, v):
    return viz.flow_to_image(np.array([[[u, v]]]))[0, 0].tolist()


def test_the_unknown_is_black_and_out_of_the_scale():
    flow = np.zeros((1, 5, 2))
    flow[0, 0], flow[0, 1, 0], flow[0, 2, 1], flow[0, 3] = 2, np.nan, 1e10, 500
    picture = viz.flow_to_image(flow, valid=np.array([[1, 1, 1, 0, 1]]))
    np.testing.assert_array_equal(picture[0, 1:4], 0)
    assert picture[0, 0].tolist() == colour_of(2, 2)
    assert picture[0, 4].tolist() == [255, 255, 255]
    assert viz.max_speed(np.full((1, 1, 2), np.nan)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.flow_to_image(np.zeros((2, 3, 3))), "`flow` must have the shape"),
        (
            lambda: viz.flow_to_image(np.ones((1, 1, 2)), valid=np.ones((2, 2))),
            "`valid` must have the shape",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
