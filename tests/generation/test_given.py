"""Tests for jaxflow.generation.given."""

import numpy as np
import pytest

from jaxflow.generation import given


def test_a_mask_leaves_frames_where_they_are(model, clip):
    observed = [0, 1, 0, 1, 1, 0]
    video, mask, task = given.place(model, clip, observed, None, None)
    np.testing.assert_array_equal(video, clip)
    assert mask.tolist() == [bool(each) for each in observed] and task == "any"


@pytest.mark.parametrize(
    ("task", "places"), [("future", [0, 1]), ("past", [9, 10]), (None, [0, 1])]
)
def test_a_task_puts_frames_in_their_places(model, clip, task, places):
    clip = np.round(255 * clip[:2]).astype(np.uint8)
    video, mask, named = given.place(model, clip, task, 11, None)
    assert video.dtype == np.uint8 and named == (task or "future")
    np.testing.assert_array_equal(np.flatnonzero(mask), places)
    np.testing.assert_array_equal(video[places], clip)


def test_without_frames_the_size_is_the_models_or_the_one_that_is_asked_for(model):
    video, mask, task = given.place(model, None, None, None, None)
    assert video.shape == (4, 8, 8, 1) and not mask.any() and task == "future"
    video, mask, _ = given.place(model, None, None, 9, (8, 4))
    assert video.shape == (9, 8, 4, 1) and mask.shape == (9,)


def test_both_kinds_of_pixels_come_to_the_range_of_a_network():
    pixels = np.array([0, 51, 255], np.uint8)
    expected = np.array([-1, -0.6, 1])
    np.testing.assert_allclose(given.to_network(pixels), expected, atol=1e-6)
    np.testing.assert_allclose(given.to_network(pixels / 255), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "options", "match"),
    [
        (np.zeros((2, 8, 8)), {}, "`frames` must be"),
        (np.zeros((2, 8, 8, 3)), {}, "`frames` must be"),
        (np.zeros((2, 8, 7, 1)), {"length": 4}, "multiples of 2"),
        (np.zeros((2, 8, 8, 1), int), {"length": 4}, "uint8 or floating"),
        (np.full((2, 8, 8, 1), np.nan), {"length": 4}, "finite"),
        (np.full((2, 8, 8, 1), 255.0), {"length": 4}, "255"),
        (np.zeros((2, 8, 8, 1)), {}, "length"),
        (np.zeros((2, 8, 8, 1)), {"length": 2}, "length"),
        (np.zeros((2, 8, 8, 1)), {"observed": [1, 1]}, "all 2 frames"),
        (np.zeros((2, 8, 8, 1)), {"observed": [1, 0, 0]}, "observed"),
        (np.zeros((2, 8, 8, 1)), {"observed": [2, 0]}, "0 and 1"),
        (np.zeros((2, 8, 8, 1)), {"observed": "later", "length": 4}, "observed"),
        (np.zeros((1, 8, 8, 1)), {"observed": "interpolate", "length": 4}, "given"),
        (None, {"observed": [1, 0]}, "needs `frames`"),
    ],
)
def test_frames_that_do_not_fit_are_refused(model, frames, options, match):
    options = {"observed": None, "length": None, **options}
    with pytest.raises(ValueError, match=match):
        given.place(model, frames, size=None, **options)
