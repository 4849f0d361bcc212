"""Tests for jaxflow.detections: cases by hand, under the rules of AVA's program."""

import math

import numpy as np
import pytest

from jaxflow import detections
from jaxflow.data.ava import Box

LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)
NOWHERE = (0.45, 0.45, 0.5, 0.5)


def there(second=902, corners=LEFT, action=1, video="film"):
    return Box(video, second, corners, action)


def found(score, second=902, corners=LEFT, action=1, video="film"):
    return Box(video, second, corners, action, score)


def mean(truth, rows, **options):
    return detections.frame_map(truth, rows, **options).mean


def test_the_area_is_that_under_the_monotone_precision():
    truth = [there(902), there(903)]
    rows = [found(0.7, 903), found(0.9, 902), found(0.8, 903, NOWHERE)]
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    assert mean(truth, rows) == pytest.approx(5 / 6, abs=1e-12)
    # Precision 1/2, 2/3 at recall 1/2, 1, of which the second counts for both.
    rows = [found(0.9, 902, NOWHERE), found(0.8, 902), found(0.7, 903)]
    assert mean(truth, rows) == pytest.approx(2 / 3, abs=1e-12)


def test_a_box_is_found_once_and_by_the_surest():
    truth = [there(), there(corners=RIGHT)]
    near = (0.0, 0.0, 0.4, 0.9)
    rows = [found(0.8, corners=near), found(0.9), found(0.7, corners=RIGHT)]
    assert mean(truth, rows) == pytest.approx(5 / 6, abs=1e-12)


def test_a_detection_stands_for_the_box_that_it_overlaps_most_alone():
    first, second = (0.0, 0.0, 1.0, 0.8), (0.0, 0.0, 1.0, 1.0)
    truth = [there(corners=first), there(corners=second)]
    # The second overlaps both by more than a half, but the one that is taken more.
    rows = [found(0.9, corners=first), found(0.8, corners=(0.0, 0.0, 1.0, 0.82))]
    assert mean(truth, rows) == pytest.approx(0.5, abs=1e-12)


def test_half_is_enough():
    truth = [there(corners=(0.0, 0.0, 1.0, 1.0))]
    assert mean(truth, [found(0.9, corners=(0.0, 0.0, 0.5, 1.0))]) == 1
    assert mean(truth, [found(0.9, corners=(0.0, 0.0, 0.499, 1.0))]) == 0
    half = [found(0.9, corners=(0.0, 0.0, 0.5, 1.0))]
    assert mean(truth, half, threshold=0.6) == 0


def test_of_equal_scores_the_later_frame_comes_first():
    truth = [there(903)]
    rows = [found(0.5, 902), found(0.5, 903)]
    assert mean(truth, rows) == 1
    assert mean(truth, rows[::-1]) == 0.5


def test_of_equal_scores_in_a_frame_the_heap_decides():
    # Both match; the one of the smaller row does, and then comes last in the area.
    twins = [found(0.5), found(0.5, corners=(0.0, 0.1, 0.4, 1.0))]
    for rows in (twins, twins[::-1]):
        assert mean([there()], rows) == pytest.approx(0.5, abs=1e-12)


def test_classes_without_truth_do_not_count_and_those_without_detection_are_0():
    truth = [there(action=1), there(action=2)]
    rows = [found(0.9, action=1), found(0.9, action=3)]
    result = detections.frame_map(truth, rows, classes=[1, 2, 3, 4])
    assert result.mean == 0.5
    assert result.by_class[1] == 1 and result.by_class[2] == 0
    assert math.isnan(result.by_class[3]) and math.isnan(result.by_class[4])


def test_a_label_is_that_of_its_class_alone():
    rows = [found(0.9, action=2), found(0.8, action=1)]
    result = detections.frame_map([there(action=1)], rows)
    assert result.by_class[1] == 1 and math.isnan(result.by_class[2])


def test_rows_of_other_classes_and_excluded_frames_are_left_out():
    truth = [there(), there(903), there(904, action=5)]
    rows = [found(0.9, 903, NOWHERE), found(0.8), found(0.99, 904, NOWHERE)]
    excluded = {("film", 903), ("other", 902)}
    assert mean(truth, rows, excluded={("film", 903)}, classes=[1]) == 0.5
    excluded = {("film", 903), ("film", 904), ("other", 902)}
    assert mean(truth, rows, excluded=excluded, classes=[1]) == 1


def test_frames_without_truth_count():
    rows = [found(0.9, 950), found(0.8), found(0.95, 902, video="another")]
    assert mean([there()], rows) == pytest.approx(1 / 3, abs=1e-12)


def test_a_detection_without_area_counts_nowhere():
    empty = found(0.9, corners=(0.2, 0.2, 0.2, 0.8))
    assert mean([there()], [empty, found(0.8)]) == 1


def test_only_the_fifty_surest_of_a_frame_count():
    crowd = [found(0.9 - i / 1000, corners=NOWHERE, action=2) for i in range(50)]
    truth = [there(), there(903)]
    rows = [*crowd, found(0.1), found(0.1, 903)]
    assert mean(truth, rows, classes=[1, 2]) == 0.5
    assert mean(truth, rows, classes=[1, 2], most=None) == 1
    # Classes that do not count take no place.
    assert mean(truth, rows, classes=[1]) == 1


def test_nothing_to_find_is_nan_and_nothing_found_is_0():
    assert math.isnan(mean([], [found(0.9)]))
    assert math.isnan(mean([], []))
    assert mean([there()], []) == 0


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 1, 1.0]])
    others = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [1, 1, 1, 1.0]])
    expected = [[1 / 7, 1, 0, 0], [0, 0, 0, 0]]
    overlap = detections.intersection_over_union(boxes, others)
    np.testing.assert_allclose(overlap, expected, atol=1e-15)


@pytest.mark.parametrize(
    ("truth", "rows", "options", "message"),
    [
        ([there()], [found(math.nan)], {}, "row 0 of `detections`"),
        ([there(action=None)], [], {}, "row 0 of `truth` must have a class"),
        ([], [], {"threshold": 0.0}, "`threshold` must be"),
        ([], [], {"most": 0}, "`most` must be"),
    ],
)
def test_bad_rows_are_one_clear_error(truth, rows, options, message):
    with pytest.raises(ValueError, match=message):
        detections.frame_map(truth, rows, **options)
