"""Samplers: from noise to a video, step by step, under one `lax.scan`.

    steps = schedules.steps(bars, schedules.spaced(1000, 50))
    video = samplers.sample(key, denoise, noise, steps, update=samplers.ddim)

An update is a pure function of one step; give it other settings by
`functools.partial(samplers.ddim, eta=0.5)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _mesh
from jaxflow.diffusion import parameterisations, schedules

Array = jax.Array
Estimate = parameterisations.Estimate
Steps = schedules.Steps
Update = Callable[[Array, Estimate, Steps, Array], Array]
Before = Callable[[Array, Array, Steps], Array]


def ddpm(
    noisy: Array,
    estimate: Estimate,
    step: Steps,
    noise: Array,
    *,
    gamma: float = 0.0,
) -> Array:
    """Takes one ancestral step (Ho et al., "Denoising Diffusion", 2020).

    The mean of q(z_s | z_t, x) at the estimated data, and the variance between the two
    extremes as in "Video Diffusion Models" (Ho et al., 2022):

        (sigma_s^2 / sigma_t^2 beta)^(1 - gamma) beta^gamma

    With gamma 0 it is the variance of the posterior ("fixed small"), with 1 it is beta
    ("fixed large"). A network that learns its variance replaces gamma, pixel by pixel.
    The step that ends at the data draws nothing.

    Args:
        noisy: z_t, (B, ...).
        estimate: Of the denoiser.
        step: Of the sampler; numbers, or one a clip.
        noise: Standard normal numbers of the same shape.
        gamma: Share of the larger variance, in [0, 1].
    """
    mean = posterior_mean(noisy, estimate.data, step)
    share = jnp.asarray(gamma, noisy.dtype)
    if estimate.variance is not None:
        share = estimate.variance
    else:
        share = jnp.broadcast_to(share, (1,) * noisy.ndim)
    log_variance = posterior_log_variance(step, share)
    ends = parameterisations.expand(step.next_sigma, noisy) == 0
    return mean + jnp.where(ends, 0, jnp.exp(log_variance / 2)) * noise


def ddim(
    noisy: Array,
    estimate: Estimate,
    step: Steps,
    noise: Array,
    *,
    eta: float = 0.0,
) -> Array:
    """Takes one step of the implicit sampler (Song, Meng and Ermon, 2021, Eq. 12).

        z_s = alpha_s x + sqrt(sigma_s^2 - c^2) e + c noise
        c = eta sigma_s / sigma_t sqrt(beta)

    Args:
        noisy: z_t, (B, ...).
        estimate: Of the denoiser.
        step: Of the sampler; numbers, or one a clip.
        noise: Standard normal numbers of the same shape; without effect if `eta` is 0.
        eta: 0 is deterministic, 1 has the noise of `ddpm`.
    """
    fresh = eta * step.next_sigma / step.sigma * jnp.sqrt(step.beta)
    kept = jnp.sqrt(jnp.maximum(step.next_sigma**2 - fresh**2, 0))
    clean = parameterisations.diffuse(
        estimate.data, estimate.noise, step.next_alpha, kept
    )
    if eta == 0:
        return clean
    return clean + parameterisations.expand(fresh, noisy) * noise


def posterior_mean(noisy: Array, data: Array, step: Steps) -> Array:
    """Returns the mean of q(z_s | z_t, x).

        alpha_s beta / sigma_t^2 x + alpha_t / alpha_s sigma_s^2 / sigma_t^2 z_t

    Args:
        noisy: z_t, (B, ...).
        data: x, of the same shape.
        step: From t to s.
    """
    variance = step.sigma**2
    of_data = step.next_alpha * step.beta / variance
    of_noisy = step.alpha / step.next_alpha * step.next_sigma**2 / variance
    return parameterisations.diffuse(data, noisy, of_data, of_noisy)


def posterior_log_variance(step: Steps, share: Array) -> Array:
    """Returns the logarithm of an ancestral step's variance; see `ddpm`.

    Args:
        step: From t to s. The variance of a step to the data counts as 1e-20 or more.
        share: Weight of log beta beside that of the posterior's variance, (B, ...).
    """
    small = jnp.maximum(step.beta * (step.next_sigma / step.sigma) ** 2, 1e-20)
    small, large = (
        parameterisations.expand(jnp.log(jnp.maximum(value, 1e-20)), share)
        for value in (small, step.beta)
    )
    return small + share * (large - small)


def sample(
    key: Array,
    denoise: parameterisations.Denoiser,
    start: Array,
    steps: Steps,
    *,
    update: Update = ddpm,
    before: Before | None = None,
    draws: Array | None = None,
    trajectory: bool = False,
) -> Array:
    """Runs a sampler over all of its steps.

    Args:
        key: Random key of the noise of the steps.
        denoise: From `parameterisations.denoiser`.
        start: Noise to begin with, (B, ...).
        steps: From `schedules.steps`, the noisiest first.
        update: `ddpm`, `ddim` or another function (noisy, estimate, step, noise) ->
            less noisy.
        before: (key, noisy, step) -> noisy, called before each step, such as
            `guidance.replacement`.
        draws: Noise of the steps, (len(steps), B, ...), in place of the key's.
        trajectory: Whether to return what every step gives, (len(steps), B, ...).

    Returns:
        The sample, (B, ...), in the dtype of `start`.

    Examples:
        A network that knows the data, here 2, ends there.

        >>> from jaxflow.diffusion import parameterisations, samplers, schedules
        >>> steps = schedules.steps([0.99, 0.5, 0.01])
        >>> denoise = parameterisations.denoiser(
        ...     lambda noisy, time: jnp.full_like(noisy, 2.0), "data", threshold=None
        ... )
        >>> start = jnp.zeros((1, 2, 3, 3, 1))
        >>> made = samplers.sample(
        ...     jax.random.key(0), denoise, start, steps, update=samplers.ddim
        ... )
        >>> made[0, 0, 0, 0].round(3).tolist()
        [2.0]
    """

    def advance(noisy, inputs):
        step, index, noise = inputs
        own, others = jax.random.split(jax.random.fold_in(key, index))
        if before is not None:
            noisy = before(others, noisy, step)
        if noise is None:
            noise = jax.random.normal(own, start.shape, start.dtype)
        noisy = update(noisy, denoise(noisy, step), step, noise).astype(start.dtype)
        return noisy, noisy if trajectory else None

    numbers = jnp.arange(len(steps.time))
    start = _mesh.alike(start, key, steps, draws)
    last, all_steps = lax.scan(advance, start, (steps, numbers, draws))
    return last if all_steps is None else all_steps
