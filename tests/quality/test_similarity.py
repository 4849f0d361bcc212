"""Tests for jaxflow.quality.similarity."""

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


def test_psnr_is_that_of_scikit_image(golden):
    arrays, one, two = golden
    np.testing.assert_allclose(
        quality.psnr(one, two), arrays["psnr_per_frame"], atol=1e-4
    )
    whole = [clip.reshape(1, -1, 1) for clip in (one, two)]
    np.testing.assert_allclose(quality.psnr(*whole), arrays["psnr_clip"], atol=1e-4)
    # The same in another range.
    np.testing.assert_allclose(
        quality.psnr(2 * one - 1, 2 * two - 1, peak=2), arrays["psnr_per_frame"]
    )
    assert np.isinf(quality.psnr(one, one)).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform7", {}),
        ("uniform11", {"window": 11}),
        ("gaussian11_sample_cov_false", {"sigma": 1.5, "sample_covariance": False}),
        ("gaussian11_sample_cov_true", {"sigma": 1.5}),
    ],
)
def test_ssim_is_that_of_scikit_image(golden, name, options):
    arrays, one, two = golden
    found = quality.ssim(one, two, **options)
    np.testing.assert_allclose(found, arrays[f"ssim_{name}"], atol=1e-5)
    bytes_ = quality.ssim(255 * one, 255 * two, peak=255, **options)
    np.testing.assert_allclose(bytes_, found, atol=1e-9)


def test_ssim_map_is_that_of_scikit_image(golden):
    arrays, one, two = golden
    grey = [clip[0].mean(-1, keepdims=True) for clip in (one, two)]
    expected = arrays["ssim_gray_gaussian11_map"]
    found = [
        quality.ssim_map(*grey, sigma=1.5, sample_covariance=sample)[..., 0]
        for sample in (True, False)
    ]
    nearest = min(np.abs(value - expected).max() for value in found)
    assert nearest < 1e-5


def test_samples_are_scored_one_by_one_at_their_best_and_by_their_mean(rng):
    target = rng.uniform(size=(3, 2, 8, 8, 1))
    samples = target + rng.normal(size=(4, 3, 2, 8, 8, 1)) * 0.1
    samples[2, 1] = target[1] + 0.01
    found = quality.of_samples(samples, target, score=quality.psnr)
    each = np.stack([quality.psnr(sample, target) for sample in samples])
    np.testing.assert_allclose(found["single"], each.mean(0))
    np.testing.assert_allclose(found["best"][1], [40, 40])
    np.testing.assert_allclose(found["of_mean"], quality.psnr(samples.mean(0), target))
    # The mean of four has a quarter of the squared noise: 6 dB more.
    np.testing.assert_allclose(found["of_mean"][0] - found["single"][0], 6, atol=1)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: quality.psnr(x, x[:1]), "alike"),
        (lambda x: quality.psnr(x, x, peak=0), "peak"),
        (lambda x: quality.ssim(x, x, window=6), "window"),
        (lambda x: quality.ssim(x, x, window=9), "at least the window"),
    ],
)
def test_what_does_not_fit_raises(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.zeros((2, 8, 8, 1)))
