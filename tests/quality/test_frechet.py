"""Tests for jaxflow.quality.frechet."""

import numpy as np
import pytest

from jaxflow import quality


@pytest.fixture
def golden(test_data):
    arrays = dict(
        np.load(test_data / "golden" / "generation" / "generation_metrics.npz")
    )
    clips = [arrays[name].astype(np.float64) / 255 for name in ("clip1", "clip2")]
    return arrays, *clips


def test_frechet_distance_is_that_of_scipy(golden):
    arrays, *_ = golden
    one = quality.gather([arrays["features1"][:70], arrays["features1"][70:]])
    two = quality.gather([arrays["features2"]])
    np.testing.assert_allclose(one.mean, arrays["mean1"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.covariance, arrays["cov1"], rtol=1e-9, atol=1e-12)
    found = quality.frechet_of(one, two)
    np.testing.assert_allclose(found, arrays["frechet_distance"], rtol=1e-5)
    assert abs(quality.frechet_of(one, one)) < 1e-8
    few = arrays["features1"][: arrays["features1"].shape[1] // 2]
    found = quality.frechet_of(quality.gather([few]), two)
    np.testing.assert_allclose(found, arrays["frechet_rank_deficient"], rtol=1e-5)
    found = quality.frechet_distance(
        one.mean, np.diag(arrays["diag1"]), two.mean, np.diag(arrays["diag2"])
    )
    np.testing.assert_allclose(found, arrays["frechet_diagonal"], rtol=1e-5)


def test_statistics_of_parts_are_those_of_the_whole(rng):
    features = rng.normal(size=(50, 4)) + 1e4
    whole, parts = quality.gather([features]), quality.gather(np.split(features, 5))
    assert parts.examples == whole.examples == 50
    np.testing.assert_allclose(parts.mean, whole.mean)
    np.testing.assert_allclose(parts.covariance, np.cov(features.T), rtol=1e-8)
    assert np.isnan(quality.gather([features[:1]]).covariance).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: quality.gather([]), "no features"),
        (lambda x: quality.gather([x]), "N, D"),
        (lambda x: quality.frechet_distance([0], [[1]], [0, 1], np.eye(2)), "means"),
        (lambda x: quality.frechet_distance([0], [[1]], [0], [[np.nan]]), "finite"),
    ],
)
def test_what_does_not_fit_raises(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.zeros((2, 8, 8, 1)))
