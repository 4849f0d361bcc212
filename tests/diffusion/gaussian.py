"""Videos of Gaussian numbers, whose best denoiser is known in closed form."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow.diffusion import parameterisations, samplers, schedules

SAMPLES = 20_000
FRAMES = 4


def _covariance():
    """Frames that resemble their neighbours, with different contrasts."""
    frames = np.arange(FRAMES)
    scale = np.array([0.5, 0.8, 1.0, 0.6])
    return np.outer(scale, scale) * 0.8 ** np.abs(frames[:, None] - frames)


@dataclasses.dataclass(frozen=True)
class Toy:
    """Videos of `FRAMES` pixels: mean and covariance."""

    mean: np.ndarray = dataclasses.field(
        default_factory=lambda: np.array([0.5, -1.0, 2.0, 1.0])
    )
    covariance: np.ndarray = dataclasses.field(default_factory=_covariance)

    def data(self, noisy, alpha, sigma):
        """Returns E[x | z] = m + alpha S (alpha^2 S + sigma^2)^-1 (z - alpha m)."""
        spread = jnp.asarray(self.covariance, jnp.float32)
        mean = jnp.asarray(self.mean, jnp.float32)[None]
        gain = alpha * jnp.linalg.solve(
            alpha**2 * spread + sigma**2 * jnp.eye(FRAMES), spread
        )
        return mean + (noisy - alpha * mean) @ gain

    def denoiser(self, kind="data", **options):
        """Returns the best denoiser, as one that predicts data, noise or velocity."""

        def denoise(noisy, step):
            flat = noisy[..., 0]
            data = self.data(flat, step.alpha, step.sigma)
            noise = (flat - step.alpha * data) / step.sigma
            prediction = parameterisations.target(
                kind, data, noise, step.alpha, step.sigma
            )[..., None]
            inner = parameterisations.denoiser(
                lambda noisy, time: prediction, kind, threshold=None, **options
            )
            return inner(noisy, step)

        return denoise

    def given(self, observed, values):
        """Returns mean and covariance of all frames once some are known."""
        a, b = np.flatnonzero(observed), np.flatnonzero(~observed)
        s = self.covariance
        gain = s[np.ix_(b, a)] @ np.linalg.inv(s[np.ix_(a, a)])
        mean, covariance = np.zeros(FRAMES), np.zeros((FRAMES, FRAMES))
        mean[a] = values[a]
        mean[b] = self.mean[b] + gain @ (values[a] - self.mean[a])
        covariance[np.ix_(b, b)] = s[np.ix_(b, b)] - gain @ s[np.ix_(a, b)]
        return mean, covariance


def fine_steps(count):
    """Returns steps of the cosine schedule in continuous time."""
    curve = schedules.cosine_log_snr(np.linspace(1, 0, count + 1), low=-12, high=12)
    curve = np.asarray(curve, np.float64)
    curve[-1] = np.inf
    return schedules.log_snr_steps(curve)


def draw(denoise, steps, *, update=samplers.ddpm, before=None, seed=0):
    """Returns samples, (SAMPLES, FRAMES)."""
    first, rest = jax.random.split(jax.random.key(seed))
    start = jax.random.normal(first, (SAMPLES, FRAMES, 1))
    run = jax.jit(
        functools.partial(
            samplers.sample,
            denoise=denoise,
            steps=steps,
            update=update,
            before=before,
        )
    )
    return np.asarray(run(rest, start=start))[..., 0].astype(np.float64)


def assert_close(found, mean, covariance, *, share=0.02):
    """Within 2 per cent, by the largest mean and the largest variance."""
    np.testing.assert_allclose(
        found.mean(0), mean, atol=share * np.abs(mean).max(), rtol=0
    )
    np.testing.assert_allclose(
        np.cov(found.T), covariance, atol=share * covariance.max(), rtol=0
    )
