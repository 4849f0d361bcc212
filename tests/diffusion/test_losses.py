import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import losses, parameterisations, schedules


def golden(test_data, name):
    folder = test_data / "golden" / "generation"
    info = json.loads((folder / f"{name}.json").read_text())
    return info, dict(np.load(folder / f"{name}.npz"))


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, -3, -1))


def test_loss_is_that_of_the_flexible_model(test_data):
    _, arrays = golden(test_data, "fdm_gaussian_diffusion")
    for mask, key in (("latent_mask", "loss"), ("eval_mask", "eval_mse")):
        found = losses.prediction_error(
            channels_last(arrays["model_output"]),
            channels_last(arrays["noise"]),
            frames=jnp.asarray(arrays[mask].reshape(4, 4)),
        )
        np.testing.assert_allclose(found, arrays[key], rtol=1e-5)


def test_losses_are_those_of_lucidrains(test_data):
    _, arrays = golden(test_data, "lucid_gaussian_diffusion")
    for power in (1, 2):
        found = losses.prediction_error(
            jnp.asarray(arrays["eps"]), jnp.asarray(arrays["noise"]), power=power
        )
        np.testing.assert_allclose(found.mean(), arrays[f"loss_l{power}"], rtol=1e-5)


def test_losses_are_those_of_ramvid(test_data):
    info, arrays = golden(test_data, "ramvid_diffusion")
    video, noise, output = (
        jnp.asarray(np.moveaxis(arrays[name], 1, -1))
        for name in ("x_start", "noise", "model_output")
    )
    unknown = np.ones(video.shape[:2], np.float32)
    for row, frames in zip(unknown, info["training_conditional_frames"], strict=True):
        row[frames] = 0
    bars = schedules.alpha_bars(schedules.linear_betas(1000))[arrays["t"]]
    noisy = parameterisations.diffuse(
        video, noise, jnp.float32(np.sqrt(bars)), jnp.float32(np.sqrt(1 - bars))
    )
    mask = jnp.asarray(unknown)[..., None, None, None]
    given = jnp.where(mask == 1, noisy, video)
    expected = np.moveaxis(arrays["x_given_to_the_network"], 1, -1)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    found = losses.prediction_error(
        output, noise, frames=jnp.asarray(unknown), average="counted"
    )
    np.testing.assert_allclose(found, arrays["loss"], rtol=1e-5)
    found = losses.prediction_error(output, mask * noise)
    np.testing.assert_allclose(found, arrays["loss_with_conditional_frames"], rtol=1e-5)


def test_the_sum_is_what_mcvd_takes(rng):
    prediction, target = rng.normal(size=(2, 2, 3, 4, 4, 1)).astype(np.float32)
    found = losses.prediction_error(
        jnp.asarray(prediction), jnp.asarray(target), average="sum"
    )
    expected = ((prediction - target) ** 2).sum((1, 2, 3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_stands_at_other_frames_has_no_effect():
    video = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 1))
    frames = jnp.array([[1.0, 0, 1], [0, 0, 1]])
    for average in losses.AVERAGES:
        found = losses.prediction_error(
            video.at[:, 1].set(jnp.nan), 0 * video, frames=frames, average=average
        )
        expected = losses.prediction_error(
            video, 0 * video, frames=frames, average=average
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("weighting", ["snr", "truncated_snr", "min_snr"])
def test_a_weighted_error_is_the_same_whatever_is_predicted(weighting):
    keys = jax.random.split(jax.random.key(0), 3)
    data, noise, guess = (jax.random.normal(key, (3, 2, 4, 4, 1)) for key in keys)
    alpha = jnp.array([0.99, 0.7, 0.2])
    sigma = jnp.sqrt(1 - alpha**2)
    noisy = parameterisations.diffuse(data, noise, alpha, sigma)
    found = {}
    for kind in parameterisations.KINDS:
        truth = parameterisations.target(kind, data, noise, alpha, sigma)
        # What a network of this kind would say that takes the data for `guess`.
        wrong = parameterisations.estimate("data", guess, noisy, alpha, sigma).noise
        said = parameterisations.target(kind, guess, wrong, alpha, sigma)
        weight = losses.weights(kind, alpha, sigma, weighting=weighting)
        found[kind] = weight * losses.prediction_error(said, truth)
    np.testing.assert_allclose(found["noise"], found["data"], rtol=1e-3)
    np.testing.assert_allclose(found["velocity"], found["data"], rtol=1e-3)
    snr = (alpha / sigma) ** 2
    expected = {
        "snr": snr,
        "truncated_snr": jnp.maximum(snr, 1),
        "min_snr": jnp.minimum(snr, 5),
    }[weighting] * losses.prediction_error(guess, data)
    np.testing.assert_allclose(found["data"], expected, rtol=1e-5)


def test_simple_weights_are_one():
    alpha = jnp.array([0.9, 0.1])
    for kind in parameterisations.KINDS:
        found = losses.weights(kind, alpha, jnp.sqrt(1 - alpha**2))
        np.testing.assert_array_equal(found, [1, 1])


def test_unknown_settings_raise():
    video = jnp.zeros((1, 1, 2, 2, 1))
    for options in ({"average": "some"}, {"power": 3}):
        with pytest.raises(ValueError, match=next(iter(options))):
            losses.prediction_error(video, video, **options)
    with pytest.raises(ValueError, match="weighting"):
        losses.weights("data", video, video, weighting="p2")
