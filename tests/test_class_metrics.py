"""Tests for jaxflow.class_metrics."""

import math
import warnings

import numpy as np
import pytest

from jaxflow import class_metrics

sklearn = pytest.importorskip("sklearn.metrics")


@pytest.fixture
def case(rng):
    """Scores of 7 classes, of which the last is never true."""
    return rng.normal(size=(60, 7)), rng.integers(0, 6, 60)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_is_that_of_scikit_learn(case, k):
    scores, labels = case
    expected = 1.0
    if k < 7:
        expected = sklearn.top_k_accuracy_score(labels, scores, k=k, labels=range(7))
    assert class_metrics.top_k_accuracy(scores, labels, k=k) == pytest.approx(expected)


def test_mean_class_accuracy_is_the_balanced_one_of_scikit_learn(case):
    scores, labels = case
    with warnings.catch_warnings():  # One class is named that is never true.
        warnings.simplefilter("ignore")
        expected = sklearn.balanced_accuracy_score(labels, scores.argmax(1))
    found = class_metrics.mean_class_accuracy(scores, labels)
    assert abs(found - expected) < 1e-9


@pytest.mark.parametrize("levels", [None, 4], ids=["different", "many ties"])
def test_mean_average_precision_is_that_of_scikit_learn(rng, levels):
    scores = rng.normal(size=(80, 9))
    if levels:
        scores = rng.integers(0, levels, (80, 9)) / levels
    labels = rng.uniform(size=(80, 9)) < rng.uniform(0, 0.4, 9)
    labels[:, 3] = False
    labels[:, 5] = True
    kept = [c for c in range(9) if labels[:, c].any()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = [
            sklearn.average_precision_score(labels[:, c], scores[:, c]) for c in kept
        ]
    found = class_metrics.average_precision(scores, labels)
    np.testing.assert_allclose(found[kept], expected, atol=1e-9, rtol=0)
    assert math.isnan(found[3]) and found[5] == 1
    mean = class_metrics.mean_average_precision(scores, labels)
    assert abs(mean - np.mean(expected)) < 1e-9
    macro = sklearn.average_precision_score(labels[:, kept], scores[:, kept])
    assert abs(mean - macro) < 1e-9
    assert math.isnan(class_metrics.mean_average_precision(scores, 0 * labels))


def test_of_equal_scores_the_first_class_is_the_best():
    scores, labels = np.zeros((3, 4)), np.array([0, 1, 3])
    assert class_metrics.top_k_accuracy(scores, labels) == pytest.approx(1 / 3)
    assert class_metrics.top_k_accuracy(scores, labels, k=2) == pytest.approx(2 / 3)


def test_a_score_that_is_nan_is_wrong_everywhere():
    nan, labels = np.nan, np.array([0, 0, 1])
    assert class_metrics.top_k_accuracy(np.full((3, 2), nan), labels, k=2) == 0
    assert class_metrics.mean_class_accuracy(np.full((3, 2), nan), labels) == 0
    # A NaN of another class is taken to be above all.
    scores = np.array([[3.0, nan, 1.0], [3.0, 1.0, 2.0]])
    assert class_metrics.top_k_accuracy(scores, [0, 0]) == 0.5
    assert class_metrics.top_k_accuracy(scores, [0, 0], k=2) == 1
    # True examples last, others first: 1 of 3, then 2 of 4.
    shown = np.array([[1], [1], [0], [0]])
    found = class_metrics.average_precision([[0.5], [nan], [nan], [0.1]], shown)
    assert found == pytest.approx([0.5 * 1 / 2 + 0.5 * 2 / 4])
    found = class_metrics.average_precision(np.full((4, 1), nan), shown)
    assert found == pytest.approx([2 / 4])


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        (np.zeros(3), [0, 0, 0], "`scores` must be"),
        (np.zeros((0, 3)), np.zeros(0, int), "`scores` must be"),
        (np.zeros((2, 3)), [0, 3], "0 to 3"),
        (np.zeros((2, 3)), [-1, 0], "-1 to 0"),
        (np.zeros((2, 3)), [0.0, 1.0], "whole numbers"),
        (np.zeros((2, 3)), [0, 1, 1], r"`labels` must be \(2,\)"),
    ],
)
def test_what_is_no_score_or_label_is_refused(scores, labels, said):
    for function in (class_metrics.top_k_accuracy, class_metrics.mean_class_accuracy):
        with pytest.raises(ValueError, match=said):
            function(scores, labels)


def test_labels_of_several_classes_are_checked():
    with pytest.raises(ValueError, match="0 or 1"):
        class_metrics.mean_average_precision(np.zeros((2, 3)), np.full((2, 3), 2))
    with pytest.raises(ValueError, match=r"`labels` must be \(2, 3\)"):
        class_metrics.mean_average_precision(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="`k`"):
        class_metrics.top_k_accuracy(np.zeros((2, 3)), [0, 1], k=0)
