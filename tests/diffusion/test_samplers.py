import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import parameterisations, samplers, schedules
from tests.diffusion import gaussian

KINDS = {"epsilon": "noise", "sample": "data", "v_prediction": "velocity"}


def golden(test_data, name):
    folder = test_data / "golden" / "generation"
    info = json.loads((folder / f"{name}.json").read_text())
    return info, dict(np.load(folder / f"{name}.npz"))


def diffusers_steps(config, count):
    """Returns the step numbers and the steps of a diffusers scheduler."""
    betas = {
        "linear": schedules.linear_betas,
        "squaredcos_cap_v2": schedules.cosine_betas,
    }[config["beta_schedule"]](config["num_train_timesteps"])
    if config.get("rescale_betas_zero_snr"):
        betas = schedules.zero_terminal_snr(betas)
    bars = schedules.alpha_bars(betas)
    chosen = schedules.spaced(
        len(bars),
        count,
        spacing=config.get("timestep_spacing", "leading"),
        offset=config.get("steps_offset", 0),
    )
    last = 1.0 if config.get("set_alpha_to_one", True) else bars[0]
    return chosen, schedules.steps(bars, chosen, last_alpha_bar=last)


def test_single_steps_are_those_of_diffusers(test_data):
    info, arrays = golden(test_data, "diffusers_schedulers")
    noisy, output, noise = (
        jnp.asarray(arrays[name]) for name in ("sample", "model_output", "noise")
    )
    checked = 0
    for row in info["steps"]:
        config = row["config"]
        chosen, steps = diffusers_steps(config, row["num_inference_steps"])
        place = int(np.flatnonzero(chosen == row["timestep"])[0])
        step = jax.tree.map(lambda column, i=place: column[i], steps)
        denoise = parameterisations.denoiser(
            lambda noisy, time: output,
            KINDS[config.get("prediction_type", "epsilon")],
            threshold=parameterisations.clip if config["clip_sample"] else None,
            keep_noise=not row.get("use_clipped_model_output", False),
        )
        update = {
            "DDPMScheduler": functools.partial(
                samplers.ddpm, gamma=float(config.get("variance_type") == "fixed_large")
            ),
            "DDIMScheduler": functools.partial(samplers.ddim, eta=row.get("eta", 0)),
        }[row["scheduler"]]
        estimate = denoise(noisy, step)
        found = update(noisy, estimate, step, noise)
        for name, value in (("prev", found), ("x0", estimate.data)):
            expected = arrays[f"{row['id']}_{name}"]
            # Products around 1, rounded to float32, are divided by alpha.
            atol = max(1e-5, 2**-22 / max(float(step.alpha), 0.005))
            np.testing.assert_allclose(value, expected, atol=atol, err_msg=str(row))
        checked += 1
    assert checked > 150


def rows_at(steps, numbers):
    """Returns one step a clip: steps are listed from the noisiest."""
    places = len(steps.time) - 1 - np.asarray(numbers)
    return jax.tree.map(lambda column: column[places], steps)


def test_steps_are_those_of_the_flexible_model(test_data):
    _, arrays = golden(test_data, "fdm_gaussian_diffusion")
    bars = schedules.alpha_bars(schedules.linear_betas(1000))
    steps = schedules.steps(bars, schedules.strided(1000, 50))
    step = rows_at(steps, arrays["t"])
    noisy, output, z = (
        jnp.asarray(arrays[name]) for name in ("x_t_in", "model_output", "z")
    )
    np.testing.assert_allclose(step.time, arrays["timesteps_given_to_the_network"])
    predict = lambda noisy, time: output  # noqa: E731
    clipped = parameterisations.denoiser(predict, "noise")(noisy, step)
    free = parameterisations.denoiser(predict, "noise", threshold=None)(noisy, step)
    np.testing.assert_allclose(clipped.data, arrays["pred_xstart"], atol=1e-5)
    # Where t is large, data are up to 1e2 times as large as what they come from.
    np.testing.assert_allclose(
        free.data, arrays["pred_xstart_unclipped"], atol=1e-5, rtol=1e-5
    )
    ddpm = functools.partial(samplers.ddpm, gamma=1.0)
    for name, found in (
        ("p_sample", ddpm(noisy, clipped, step, z)),
        ("p_sample_unclipped", ddpm(noisy, free, step, z)),
        ("ddim_sample_eta0.0", samplers.ddim(noisy, clipped, step, z)),
        ("ddim_sample_eta0.5", samplers.ddim(noisy, clipped, step, z, eta=0.5)),
    ):
        np.testing.assert_allclose(
            found, arrays[name], atol=1e-5, rtol=1e-4, err_msg=name
        )
    # The official table of the larger variances has another first entry, unused.
    for share, expected in (
        (1.0, np.log(arrays["betas"])),
        (0.0, arrays["posterior_log_variance_clipped"]),
    ):
        found = samplers.posterior_log_variance(steps, jnp.full(50, share))[::-1]
        np.testing.assert_allclose(found[1:], expected[1:], atol=1e-4)


def test_steps_are_those_of_lucidrains(test_data):
    _, arrays = golden(test_data, "lucid_gaussian_diffusion")
    bars = schedules.alpha_bars(schedules.cosine_betas(1000, limit=0.9999))
    step = rows_at(schedules.steps(bars), arrays["t"])
    noisy, output, z = (jnp.asarray(arrays[name]) for name in ("x_t_in", "eps", "z"))
    for suffix, threshold in (
        ("", parameterisations.clip),
        ("_dynamic", parameterisations.dynamic_threshold),
        ("_unclipped", None),
    ):
        denoise = parameterisations.denoiser(
            lambda noisy, time: output, "noise", threshold=threshold
        )
        estimate = denoise(noisy, step)
        mean = samplers.posterior_mean(noisy, estimate.data, step)
        np.testing.assert_allclose(
            mean, arrays[f"p_mean{suffix}"], atol=1e-5, rtol=1e-4
        )
        if suffix != "_unclipped":
            found = samplers.ddpm(noisy, estimate, step, z)
            np.testing.assert_allclose(found, arrays[f"p_sample{suffix}"], atol=1e-5)
            found = samplers.posterior_log_variance(step, jnp.zeros((4, 1, 1, 1, 1)))
            expected = arrays[f"p_log_variance{suffix}"]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_learned_variance_is_gamma_pixel_by_pixel():
    noisy, data, noise = jax.random.normal(jax.random.key(0), (3, 2, 3, 4, 4, 1))
    step = schedules.between(0.3, 0.5, 1.0)
    for share in (0.0, 0.4, 1.0):
        learned = samplers.Estimate(data, data, jnp.full_like(data, share))
        found = samplers.ddpm(noisy, learned, step, noise)
        plain = samplers.ddpm(
            noisy, samplers.Estimate(data, data), step, noise, gamma=share
        )
        np.testing.assert_allclose(found, plain, atol=1e-6)


def test_ddim_with_eta_1_is_ddpm():
    noisy, data, noise = jax.random.normal(jax.random.key(0), (3, 2, 3, 4, 4, 1))
    step = schedules.between(0.3, 0.5, 1.0)
    estimate = parameterisations.estimate("data", data, noisy, step.alpha, step.sigma)
    np.testing.assert_allclose(
        samplers.ddim(noisy, estimate, step, noise, eta=1.0),
        samplers.ddpm(noisy, estimate, step, noise),
        atol=1e-5,
    )


def test_draws_and_keys_and_trajectories():
    shape = (2, 3, 4, 4, 1)
    steps = schedules.steps(schedules.alpha_bars(schedules.linear_betas(8)))
    start = jax.random.normal(jax.random.key(1), shape)
    draws = jax.random.normal(jax.random.key(2), (8, *shape))
    denoise = parameterisations.denoiser(lambda noisy, time: 0.1 * noisy, "noise")

    @functools.partial(jax.jit, static_argnames="trajectory")
    def run(key, draws=None, trajectory=False):
        return samplers.sample(
            key, denoise, start, steps, draws=draws, trajectory=trajectory
        )

    one, two = jax.random.key(3), jax.random.key(4)
    np.testing.assert_array_equal(run(one), run(one))
    assert np.any(run(one) != run(two))
    np.testing.assert_array_equal(run(one, draws), run(two, draws))
    path = run(one, draws, trajectory=True)
    assert path.shape == draws.shape
    np.testing.assert_array_equal(path[-1], run(one, draws))
    # One step by hand.
    first = jax.tree.map(lambda column: column[0], steps)
    expected = samplers.ddpm(start, denoise(start, first), first, draws[0])
    np.testing.assert_allclose(path[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "update",
    [
        samplers.ddpm,
        functools.partial(samplers.ddpm, gamma=1.0),
        samplers.ddim,
        functools.partial(samplers.ddim, eta=0.7),
    ],
    ids=["ddpm", "ddpm_large", "ddim", "ddim_eta"],
)
@pytest.mark.parametrize("kind", parameterisations.KINDS)
def test_gaussian_data_come_out_with_their_mean_and_covariance(update, kind):
    if kind != "velocity" and update is not samplers.ddpm:
        pytest.skip("the kinds differ before the update alone")
    toy = gaussian.Toy()
    steps = gaussian.fine_steps(1000)
    found = gaussian.draw(toy.denoiser(kind), steps, update=update)
    gaussian.assert_close(found, toy.mean, toy.covariance)
