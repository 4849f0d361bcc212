"""Tests for jaxflow.linear."""

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn import svm

from jaxflow import linear


@pytest.mark.parametrize(("count", "features"), [(60, 5), (20, 40)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_fits_as_liblinear_does(count, features, penalty, rng):
    labels = np.arange(count) % 3
    rows = rng.normal(size=(count, features)) + 0.7 * np.eye(3, features)[labels]
    ours = linear.fit_svm(rows, labels, penalty=penalty)
    theirs = svm.LinearSVC(C=penalty, tol=1e-10, max_iter=1_000_000).fit(rows, labels)
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(ours.bias, theirs.intercept_, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows))


def test_features_of_clips_are_averaged_to_norm_1():
    found = linear.video_feature([[[3.0, 1.0]], [[3.0, 7.0]]])
    np.testing.assert_allclose(found, [0.6, 0.8])
    np.testing.assert_array_equal(linear.video_feature(np.zeros((2, 3))), 0)


def test_pairs_are_compared_as_scipy_does(rng):
    a, b = rng.uniform(size=(2, 6, 9))
    found = linear.pair_similarities(a, b)
    assert found.shape == (6, 8)
    np.testing.assert_allclose(found, linear.pair_similarities(b, a), rtol=1e-12)
    for x, y, row in zip(a, b, found, strict=True):
        expected = [
            np.dot(x, y),
            1 - distance.cosine(x, y),
            np.dot(x, y) / (x @ x + y @ y - np.dot(x, y)),
            np.sqrt(np.sqrt(x * y).sum()),
            np.minimum(x, y).sum() / np.maximum(x, y).sum(),
            distance.cityblock(x, y),
            distance.euclidean(x, y),
            distance.euclidean(np.sqrt(x), np.sqrt(y)),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-9)
    assert np.isfinite(linear.pair_similarities(np.zeros(3), np.zeros(3))).all()


def test_pairs_of_one_kind_are_told_from_others(rng):
    kinds = rng.normal(size=(5, 30))
    which = rng.integers(0, 5, (2, 200))
    a, b = kinds[which] + rng.normal(size=(2, 200, 30)) * 0.7
    rows, same = linear.pair_similarities(a, b), (which[0] == which[1]).astype(int)
    rows = (rows - rows.mean(0)) / rows.std(0)
    model = linear.fit_svm(rows[:100], same[:100])
    assert np.mean(model.predict(rows[100:]) == same[100:]) > 0.9


def test_what_cannot_be_fitted_is_refused():
    rows = np.ones((4, 2))
    with pytest.raises(ValueError, match="at least two classes"):
        linear.fit_svm(rows, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="at least two classes"):
        linear.fit_svm(rows, [0, 2, 0, 2])
    with pytest.raises(ValueError, match="`labels` must be integers"):
        linear.fit_svm(rows, [0.0, 1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="`features` must be finite"):
        linear.fit_svm(rows * np.nan, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="`penalty` must be positive"):
        linear.fit_svm(rows, [0, 1, 0, 1], penalty=0)
    with pytest.raises(ValueError, match="must be alike"):
        linear.pair_similarities(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="at least one"):
        linear.video_feature(np.ones((0, 3)))
