import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow.diffusion import guidance, parameterisations, samplers, schedules
from tests.diffusion import gaussian

OBSERVED = np.array([True, False, False, True])
VALUES = np.array([1.2, 0.0, 0.0, 0.2])


def known(batch=gaussian.SAMPLES):
    return jnp.broadcast_to(jnp.float32(VALUES)[:, None], (batch, 4, 1))


def rows(batch=gaussian.SAMPLES):
    return jnp.broadcast_to(jnp.asarray(OBSERVED), (batch, 4))


def test_a_scale_of_1_is_the_conditional_prediction_itself():
    noisy = jax.random.normal(jax.random.key(0), (2, 3))
    conditional, free = (lambda z, t: jnp.sin(z) + t), (lambda z, t: jnp.cos(z))
    one = guidance.classifier_free(conditional, free, 1.0)
    np.testing.assert_array_equal(one(noisy, 0.3), conditional(noisy, 0.3))
    zero = guidance.classifier_free(conditional, free, 0.0)
    np.testing.assert_array_equal(zero(noisy, 0.3), free(noisy, 0.3))
    three = guidance.classifier_free(conditional, free, 3.0)
    expected = 3 * conditional(noisy, 0.3) - 2 * free(noisy, 0.3)
    np.testing.assert_allclose(three(noisy, 0.3), expected, atol=1e-5)


def test_classifier_free_guidance_of_gaussians_is_the_product_of_powers():
    """Guided scores are those of p(x|c)^w p(x)^(1 - w), where sigma is small."""
    toy = gaussian.Toy()
    other = gaussian.Toy(mean=toy.mean + 0.5, covariance=0.5 * toy.covariance)
    step = schedules.between(1 - 1e-4, 1.0, 0.0)

    def predict(toy):
        return lambda noisy, time: toy.denoiser("noise")(noisy, step).noise

    guided = guidance.classifier_free(predict(other), predict(toy), 2.0)
    noisy = jax.random.normal(jax.random.key(0), (50, 4, 1))
    found = guided(noisy, 0.0)[..., 0]
    # noise = -sigma * score of the noisy density
    spread = [
        float(step.alpha) ** 2 * t.covariance + float(step.sigma) ** 2 * np.eye(4)
        for t in (other, toy)
    ]
    flat = np.asarray(noisy[..., 0], np.float64)
    scores = [
        np.linalg.solve(s, (flat - float(step.alpha) * t.mean).T).T
        for s, t in zip(spread, (other, toy), strict=True)
    ]
    expected = float(step.sigma) * (2 * scores[0] - scores[1])
    np.testing.assert_allclose(found, expected, atol=2e-3)


def chain(toy, steps, *, guided, clean=None):
    """Returns mean and covariance of what a guided sampler gives, in closed form.

    All its steps are linear in the noisy video: the recursion is of matrices alone.
    """
    count = gaussian.FRAMES
    mean, spread = np.zeros(count), np.eye(count)
    seen = np.diag(OBSERVED.astype(float))
    for row in zip(*(np.asarray(c, np.float64) for c in steps), strict=True):
        _, alpha, sigma, next_alpha, next_sigma, beta = row
        # Replacement of the observed frames by noisy ones.
        hide = np.eye(count) - seen
        mean = hide @ mean + alpha * seen @ VALUES
        spread = hide @ spread @ hide + sigma**2 * seen
        gain = alpha * np.linalg.solve(
            alpha**2 * toy.covariance + sigma**2 * np.eye(count), toy.covariance
        )
        matrix, offset = gain.T, toy.mean - alpha * gain.T @ toy.mean
        if guided:
            # d/dz of |a - x_a(z)|^2 is -2 G_a^T (a - x_a(z)), for frames not observed.
            pull = alpha * hide @ gain @ seen
            offset = offset + pull @ (VALUES - offset)
            matrix = matrix - pull @ gain.T
        of_data = next_alpha * beta / sigma**2
        of_noisy = alpha / next_alpha * next_sigma**2 / sigma**2
        step = of_data * matrix + of_noisy * np.eye(count)
        mean = step @ mean + of_data * offset
        variance = beta * next_sigma**2 / sigma**2
        spread = step @ spread @ step.T + variance * np.eye(count)
    return mean, spread


def sampled(toy, steps, *, guided):
    denoise = toy.denoiser()
    if guided:
        denoise = guidance.reconstruction(denoise, known(), rows())
    before = guidance.replacement(known(), rows())
    return gaussian.draw(denoise, steps, before=before)


def test_both_ways_of_following_frames_match_their_closed_forms():
    toy, steps = gaussian.Toy(), gaussian.fine_steps(300)
    posterior, spread = toy.given(OBSERVED, VALUES)
    hidden = np.ix_(~OBSERVED, ~OBSERVED)
    distance = {}
    for guided in (False, True):
        found = sampled(toy, steps, guided=guided)[:, ~OBSERVED]
        mean, covariance = chain(toy, steps, guided=guided)
        gaussian.assert_close(found, mean[~OBSERVED], covariance[hidden])
        distance[guided] = max(
            np.abs(found.mean(0) - posterior[~OBSERVED]).max(),
            np.abs(np.cov(found.T) - spread[hidden]).max(),
        )
    # Ho et al.'s claim: guidance comes nearer to the posterior than replacement.
    assert distance[True] < 0.7 * distance[False], distance


def test_replacement_and_pasting_change_observed_frames_alone():
    noisy = jax.random.normal(jax.random.key(0), (3, 4, 1))
    step = schedules.between(0.36, 0.5, 0.0)
    own = guidance.replacement(known(3), rows(3))(jax.random.key(1), noisy, step)
    np.testing.assert_array_equal(own[:, ~OBSERVED], noisy[:, ~OBSERVED])
    many = jax.vmap(
        lambda key: guidance.replacement(known(3), rows(3))(key, noisy, step)
    )(jax.random.split(jax.random.key(2), 2000))
    many = many[..., OBSERVED, 0].reshape(-1, 2)
    np.testing.assert_allclose(many.mean(0), 0.6 * VALUES[OBSERVED], atol=0.05)
    np.testing.assert_allclose(many.std(0), 0.8, atol=0.05)
    pasted = guidance.paste(known(3), rows(3))(jax.random.key(1), noisy, step)
    np.testing.assert_array_equal(pasted[:, OBSERVED], known(3)[:, OBSERVED])
    np.testing.assert_array_equal(pasted[:, ~OBSERVED], noisy[:, ~OBSERVED])


def test_reconstruction_is_the_papers_formula():
    toy, step = gaussian.Toy(), schedules.between(0.36, 0.5, 0.0)
    noisy = jax.random.normal(jax.random.key(0), (3, 4, 1))
    denoise = toy.denoiser()
    guided = guidance.reconstruction(denoise, known(3), rows(3), weight=1.5)
    found, plain = guided(noisy, step), denoise(noisy, step)
    np.testing.assert_allclose(
        found.data[:, OBSERVED], plain.data[:, OBSERVED], atol=1e-6
    )

    def distance(values):
        gap = VALUES - np.asarray(denoise(values, step).data)[..., 0]
        return (gap[:, OBSERVED] ** 2).sum(1)

    for frame in np.flatnonzero(~OBSERVED):
        shift = jnp.zeros((3, 4, 1)).at[:, frame].set(0.01)
        slope = (distance(noisy + shift) - distance(noisy - shift)) / 0.02
        expected = plain.data[:, frame, 0] - 1.5 * 0.6 / 2 * slope
        # The distance is a square: its central difference is exact but for rounding.
        np.testing.assert_allclose(found.data[:, frame, 0], expected, atol=1e-3)


def test_a_threshold_behind_guidance_lets_the_noise_follow():
    step = schedules.between(0.36, 0.5, 0.0)
    noisy = 3 * jax.random.normal(jax.random.key(0), (3, 4, 1))
    cut = guidance.thresholded(gaussian.Toy().denoiser(), parameterisations.clip)
    found = cut(noisy, step)
    assert np.abs(found.data).max() == 1
    again = parameterisations.diffuse(*found[:2], step.alpha, step.sigma)
    np.testing.assert_allclose(again, noisy, atol=1e-5)


def test_guided_samples_keep_their_type():
    steps = schedules.steps(schedules.alpha_bars(schedules.linear_betas(4)))
    start = jax.random.normal(jax.random.key(0), (2, 4, 1), jnp.bfloat16)
    denoise = parameterisations.denoiser(lambda z, t: 0.5 * z, "noise", threshold=None)
    denoise = guidance.reconstruction(denoise, known(2), rows(2))
    found = samplers.sample(
        jax.random.key(1),
        guidance.thresholded(denoise, parameterisations.clip),
        start,
        steps,
        update=functools.partial(samplers.ddim, eta=0.5),
        before=guidance.replacement(known(2).astype(jnp.bfloat16), rows(2)),
    )
    assert found.dtype == jnp.bfloat16
    assert np.isfinite(found.astype(jnp.float32)).all()
