import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import schedules

BETAS = {
    "linear": schedules.linear_betas,
    "scaled_linear": schedules.scaled_linear_betas,
    "squaredcos_cap_v2": schedules.cosine_betas,
}


def golden(test_data, name):
    folder = test_data / "golden" / "generation"
    info = json.loads((folder / f"{name}.json").read_text())
    return info, np.load(folder / f"{name}.npz")


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("count", [50, 1000])
def test_tables_are_those_of_diffusers(test_data, name, count):
    _, arrays = golden(test_data, "diffusers_schedulers")
    betas = BETAS[name](count)
    flat = schedules.zero_terminal_snr(betas)
    # diffusers computes its tables in float32.
    for table, key in (
        (betas, "betas"),
        (schedules.alpha_bars(betas), "alphas_cumprod"),
        (flat, "betas_zero_snr"),
        (schedules.alpha_bars(flat), "alphas_cumprod_zero_snr"),
    ):
        np.testing.assert_allclose(
            table, arrays[f"{key}/{name}_{count}"], atol=1e-5, err_msg=key
        )
    assert schedules.alpha_bars(flat)[-1] == 0


def test_spacings_are_those_of_diffusers(test_data):
    _, arrays = golden(test_data, "diffusers_schedulers")
    keys = [key for key in arrays if key.startswith("timesteps/")]
    assert len(keys) > 40
    for key in keys:
        _, total, count, spacing, offset = key.split("/")[1].split("_")
        found = schedules.spaced(
            int(total), int(count), spacing=spacing, offset=int(offset[6:])
        )
        # The offset is one of "leading" alone.
        if spacing != "leading":
            same = schedules.spaced(int(total), int(count), spacing=spacing)
            np.testing.assert_array_equal(found, same)
        np.testing.assert_array_equal(found, arrays[key], err_msg=key)


def test_strides_are_those_of_the_flexible_model(test_data):
    info, arrays = golden(test_data, "fdm_gaussian_diffusion")
    examples = info["space_timesteps_examples"]
    found = schedules.strided(300, [10, 15, 20])[::-1]
    np.testing.assert_array_equal(found, examples["300/10,15,20"])
    found = schedules.strided(1000, 250)[::-1]
    expected = examples["1000/250"]
    gap = expected.index(-1)
    np.testing.assert_array_equal(found[:gap], expected[:gap])
    np.testing.assert_array_equal(found[gap - len(expected) + 1 :], expected[gap + 1 :])
    found = schedules.spaced(1000, 50)[::-1]
    np.testing.assert_array_equal(found[:4], examples["1000/ddim50"])
    found = schedules.strided(1000, 50)[::-1]
    np.testing.assert_array_equal(found, arrays["timestep_map"])


def test_respaced_betas_are_those_of_the_flexible_model(test_data):
    _, arrays = golden(test_data, "fdm_gaussian_diffusion")
    bars = schedules.alpha_bars(schedules.linear_betas(1000))
    steps = schedules.steps(bars, schedules.strided(1000, 50), time_scale=1.0)
    for column, key in (
        (steps.beta, "betas"),
        (steps.alpha**2, "alphas_cumprod"),
        (steps.next_alpha**2, "alphas_cumprod_prev"),
        (1 / steps.alpha, "sqrt_recip_alphas_cumprod"),
        (steps.sigma / steps.alpha, "sqrt_recipm1_alphas_cumprod"),
        (steps.beta * (steps.next_sigma / steps.sigma) ** 2, "posterior_variance"),
        (steps.time, "timestep_map"),
    ):
        np.testing.assert_allclose(column[::-1], arrays[key], rtol=1e-5, err_msg=key)


def test_cosine_tables_are_those_of_lucidrains(test_data):
    _, arrays = golden(test_data, "lucid_gaussian_diffusion")
    betas = schedules.cosine_betas(1000, limit=0.9999)
    np.testing.assert_allclose(betas, arrays["buffer_betas"], rtol=1e-6)
    steps = schedules.steps(schedules.alpha_bars(betas))
    for column, key in (
        (steps.alpha, "sqrt_alphas_cumprod"),
        (steps.sigma, "sqrt_one_minus_alphas_cumprod"),
        (2 * jnp.log(steps.sigma), "log_one_minus_alphas_cumprod"),
        (1 / steps.alpha, "sqrt_recip_alphas_cumprod"),
        (steps.sigma / steps.alpha, "sqrt_recipm1_alphas_cumprod"),
        (steps.next_alpha * steps.beta / steps.sigma**2, "posterior_mean_coef1"),
    ):
        np.testing.assert_allclose(
            column[::-1], arrays[f"buffer_{key}"], rtol=1e-5, atol=1e-7, err_msg=key
        )


def test_log_snr_goes_between_its_ends():
    time = jnp.array([0.0, 0.5, 1.0])
    for curve in (schedules.cosine_log_snr, schedules.linear_log_snr):
        # tan near its ends is good to 1e-3 of a value of 20 in float32.
        np.testing.assert_allclose(curve(time), [20, 0, -20], atol=0.02)
    # The cosine schedule is alpha = cos(t pi / 2) where its ends are far away.
    alpha, sigma = schedules.factors_of_log_snr(schedules.cosine_log_snr(time * 0.8))
    np.testing.assert_allclose(alpha, np.cos(time * 0.4 * np.pi), atol=1e-3)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)


def test_log_snr_steps_end_at_the_data():
    steps = schedules.log_snr_steps([-4.0, 0.0, np.inf])
    np.testing.assert_allclose(steps.alpha**2, 1 / (1 + np.exp([4.0, 0.0])), rtol=1e-6)
    np.testing.assert_array_equal(steps.next_alpha[-1], 1)
    np.testing.assert_array_equal(steps.next_sigma[-1], 0)
    np.testing.assert_array_equal(steps.time, [-4, 0])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: schedules.linear_betas(0), "count"),
        (lambda: schedules.spaced(10, 11), "count"),
        (lambda: schedules.spaced(10, 5, spacing="even"), "spacing"),
        (lambda: schedules.strided(10, [6, 5]), "sections"),
        (lambda: schedules.steps([0.9, 0.5], [0, 1]), "descending"),
        (lambda: schedules.steps([0.9, 0.5], [2, 1]), "0 ... 1"),
        (lambda: schedules.log_snr_steps([1.0, 0.0]), "log_snr"),
    ],
)
def test_bad_numbers_raise(call, match):
    with pytest.raises(ValueError, match=match):
        call()
