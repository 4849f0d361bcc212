import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import parameterisations, schedules


def some(shape=(3, 2, 4, 4, 1), seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    return tuple(jax.random.normal(key, shape) for key in keys)


@pytest.mark.parametrize("kind", parameterisations.KINDS)
def test_each_kind_gives_data_and_noise_back(kind):
    data, noise = some()
    alpha = jnp.array([0.9, 0.6, 0.3])
    sigma = jnp.sqrt(1 - alpha**2)
    noisy = parameterisations.diffuse(data, noise, alpha, sigma)
    prediction = parameterisations.target(kind, data, noise, alpha, sigma)
    found = parameterisations.estimate(kind, prediction, noisy, alpha, sigma)
    np.testing.assert_allclose(found.data, data, atol=1e-5)
    np.testing.assert_allclose(found.noise, noise, atol=1e-5)


def test_noise_and_velocity_are_those_of_diffusers(test_data):
    folder = test_data / "golden" / "generation"
    arrays = np.load(folder / "diffusers_schedulers.npz")
    bars = schedules.alpha_bars(schedules.linear_betas(1000))[arrays["t_add_noise"]]
    alpha, sigma = np.sqrt(bars), np.sqrt(1 - bars)
    data, noise = jnp.asarray(arrays["x0"]), jnp.asarray(arrays["noise"])
    found = parameterisations.diffuse(data, noise, alpha, sigma)
    np.testing.assert_allclose(found, arrays["add_noise"], atol=1e-5)
    found = parameterisations.target("velocity", data, noise, alpha, sigma)
    np.testing.assert_allclose(found, arrays["get_velocity"], atol=1e-5)


def test_dynamic_threshold_scales_by_a_quantile(rng):
    data = rng.normal(size=(2, 3, 4, 4, 1)).astype(np.float32) * [
        [[[[0.1]]]],
        [[[[3]]]],
    ]
    data = data.astype(np.float32)
    found = parameterisations.dynamic_threshold(jnp.asarray(data), quantile=0.8)
    np.testing.assert_array_equal(found[0], data[0])
    limit = np.quantile(np.abs(data[1]), 0.8)
    expected = np.clip(data[1], -limit, limit) / limit
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


def test_the_threshold_decides_what_the_noise_is():
    noisy, prediction = some()
    step = schedules.between(0.5, 0.8, 3.0)

    def denoise(**options):
        predict = functools.partial(lambda noisy, time: prediction)
        return parameterisations.denoiser(predict, "noise", **options)(noisy, step)

    plain = denoise(threshold=None)
    np.testing.assert_array_equal(plain.noise, prediction)
    assert np.abs(plain.data).max() > 1.5
    kept, followed = denoise(keep_noise=True), denoise()
    np.testing.assert_array_equal(kept.data, np.clip(plain.data, -1, 1))
    np.testing.assert_array_equal(kept.noise, prediction)
    # Data and noise that follow from each other make the noisy video again.
    again = parameterisations.diffuse(*followed[:2], step.alpha, step.sigma)
    np.testing.assert_allclose(again, noisy, atol=1e-5)


def test_a_learned_variance_is_the_second_half_of_the_channels():
    noisy, prediction = some()
    both = jnp.concatenate([prediction, jnp.full_like(prediction, 0.5)], axis=-1)
    denoise = parameterisations.denoiser(
        lambda noisy, time: both, "velocity", learns_variance=True, threshold=None
    )
    step = schedules.between(0.5, 0.8, 3.0)
    found = denoise(noisy, step)
    np.testing.assert_array_equal(found.variance, jnp.full_like(prediction, 0.75))
    plain = parameterisations.estimate(
        "velocity", prediction, noisy, step.alpha, step.sigma
    )
    np.testing.assert_array_equal(found.data, plain.data)


def test_an_unknown_kind_raises():
    data, noise = some()
    for call in (
        lambda: parameterisations.target("score", data, noise, 0.6, 0.8),
        lambda: parameterisations.estimate("score", data, noise, 0.6, 0.8),
        lambda: parameterisations.denoiser(lambda noisy, time: noisy, "score"),
    ):
        with pytest.raises(ValueError, match="kind"):
            call()


def test_thresholds_are_those_of_lucidrains(test_data):
    folder = test_data / "golden" / "generation"
    json.loads((folder / "lucid_gaussian_diffusion.json").read_text())
    arrays = np.load(folder / "lucid_gaussian_diffusion.npz")
    betas = schedules.cosine_betas(1000, limit=0.9999)
    bars = schedules.alpha_bars(betas)[arrays["t"]]
    alpha, sigma = jnp.sqrt(jnp.float32(bars)), np.sqrt(1 - bars)
    noisy, noise = jnp.asarray(arrays["x_t_in"]), jnp.asarray(arrays["eps"])
    found = parameterisations.estimate("noise", noise, noisy, alpha, sigma)
    # At t = 999 data are 1 / alpha = 2e4 times as large as what they come from.
    np.testing.assert_allclose(
        found.data, arrays["pred_x0_unclipped"], rtol=1e-4, atol=1e-4
    )
    expected = arrays["x_start"], arrays["noise"]
    noisy = parameterisations.diffuse(*map(jnp.asarray, expected), alpha, sigma)
    np.testing.assert_allclose(noisy, arrays["x_t"], atol=1e-5)
