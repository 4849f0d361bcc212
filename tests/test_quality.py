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


def test_simple_guesses():
    video = np.arange(7.0).reshape(1, 7, 1, 1, 1) ** 2
    observed = np.array([0, 1, 0, 0, 1, 0, 0], bool)
    copied = quality.copy_nearest(video, observed)[0, :, 0, 0, 0]
    np.testing.assert_array_equal(copied, [1, 1, 1, 1, 16, 16, 16])
    blended = quality.linear_blend(video, observed)[0, :, 0, 0, 0]
    np.testing.assert_allclose(blended, [1, 1, 6, 11, 16, 16, 16])
    hidden = np.where(observed.reshape(1, 7, 1, 1, 1), video, np.nan)
    for guess in (quality.copy_nearest, quality.linear_blend):
        np.testing.assert_array_equal(guess(hidden, observed), guess(video, observed))
    for wrong in (np.zeros(7, bool), observed[:-1]):
        with pytest.raises(ValueError, match="observed"):
            quality.copy_nearest(video, wrong)


def test_a_video_that_only_moves_is_consistent(rng):
    wide = rng.uniform(size=(20, 40, 3)).astype(np.float32)
    video = np.stack([wide[:, t : t + 30] for t in range(4)])
    flow = np.zeros((3, 20, 30, 2), np.float32)
    flow[..., 0] = -1
    np.testing.assert_allclose(
        quality.temporal_consistency(video, flow, -flow), 0, atol=1e-6
    )
    noisy = video + 0.1 * rng.normal(size=video.shape)
    found = quality.temporal_consistency(noisy, flow, -flow)
    np.testing.assert_allclose(found, 0.1 * np.sqrt(2), rtol=0.05)
    with pytest.raises(ValueError, match="forward"):
        quality.temporal_consistency(video, flow[:2], -flow)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: quality.psnr(x, x[:1]), "alike"),
        (lambda x: quality.psnr(x, x, peak=0), "peak"),
        (lambda x: quality.ssim(x, x, window=6), "window"),
        (lambda x: quality.ssim(x, x, window=9), "at least the window"),
        (lambda x: quality.gather([]), "no features"),
        (lambda x: quality.gather([x]), "N, D"),
        (lambda x: quality.frechet_distance([0], [[1]], [0, 1], np.eye(2)), "means"),
        (lambda x: quality.frechet_distance([0], [[1]], [0], [[np.nan]]), "finite"),
    ],
)
def test_what_does_not_fit_raises(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.zeros((2, 8, 8, 1)))
