"""What a diffusion network predicts: the noise, the data or the velocity.

With z = alpha x + sigma e and v = alpha e - sigma x (Salimans and Ho, "Progressive
Distillation", 2022) each of the three gives the other two:

    x = (z - sigma e) / alpha = alpha z - sigma v
    e = (z - alpha x) / sigma = sigma z + alpha v

`alpha` and `sigma` are numbers, or one a clip: (B,) for arrays (B, ...).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxflow import _checks
from jaxflow.diffusion import schedules

Kind = Literal["noise", "data", "velocity"]
KINDS = ("noise", "data", "velocity")
Array = jax.Array


class Estimate(NamedTuple):
    """What a denoiser makes of a noisy video.

    Attributes:
        data: Estimate of the clean video.
        noise: Estimate of the noise in the noisy one.
        variance: Share of the larger variance in the logarithm, in [0, 1], of a network
            that predicts it too; None of one that does not. See `samplers.ddpm`.
    """

    data: Array
    noise: Array
    variance: Array | None = None


Denoiser = Callable[[Array, schedules.Steps], Estimate]


def expand(factor: jax.typing.ArrayLike, like: Array) -> Array:
    """Gives a factor, (B,) or (), the axes of `like`, (B, ...)."""
    factor = jnp.asarray(factor, like.dtype)
    return factor.reshape(factor.shape + (1,) * (like.ndim - factor.ndim))


def diffuse(data: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
    """Returns z = alpha x + sigma e.

    Args:
        data: x, (B, ...).
        noise: e, of the same shape.
        alpha: () or (B,).
        sigma: () or (B,).

    Examples:
        >>> from jaxflow.diffusion import parameterisations
        >>> alpha, sigma = jnp.float32(0.6), jnp.float32(0.8)
        >>> data, noise = jnp.ones(2), jnp.full(2, 3.0)
        >>> noisy = parameterisations.diffuse(data, noise, alpha, sigma)
        >>> noisy.round(1).tolist()
        [3.0, 3.0]
    """
    return expand(alpha, data) * data + expand(sigma, data) * noise


def target(kind: Kind, data: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
    """Returns what a network of this kind should predict.

    Args:
        kind: "noise", "data" or "velocity".
        data: x, (B, ...).
        noise: e, of the same shape.
        alpha: () or (B,).
        sigma: () or (B,).

    Raises:
        ValueError: If there is no such kind.

    Examples:
        >>> from jaxflow.diffusion import parameterisations
        >>> data, noise = jnp.ones(2), jnp.full(2, 3.0)
        >>> alpha, sigma = jnp.float32(0.6), jnp.float32(0.8)
        >>> for kind in ("noise", "data", "velocity"):
        ...     asked = parameterisations.target(kind, data, noise, alpha, sigma)
        ...     print(kind, asked.round(2))
        noise [3. 3.]
        data [1. 1.]
        velocity [1. 1.]
    """
    _checks.one_of("kind", kind, KINDS)
    if kind == "velocity":
        return expand(alpha, data) * noise - expand(sigma, data) * data
    return noise if kind == "noise" else data


def estimate(
    kind: Kind, prediction: Array, noisy: Array, alpha: Array, sigma: Array
) -> Estimate:
    """Returns data and noise from a prediction.

    A prediction of noise says nothing of the data where alpha is 0, nor one of data
    anything of the noise where sigma is 0; the result is not finite there.

    Args:
        kind: What is predicted: "noise", "data" or "velocity".
        prediction: (B, ...).
        noisy: z, of the same shape.
        alpha: () or (B,).
        sigma: () or (B,).

    Raises:
        ValueError: If there is no such kind.

    Examples:
        >>> from jaxflow.diffusion import parameterisations
        >>> alpha, sigma = jnp.float32(0.6), jnp.float32(0.8)
        >>> data, noise = jnp.ones(2), jnp.full(2, 3.0)
        >>> noisy = parameterisations.diffuse(data, noise, alpha, sigma)
        >>> found = parameterisations.estimate("noise", noise, noisy, alpha, sigma)
        >>> found.data.round(3).tolist()
        [1.0, 1.0]
    """
    _checks.one_of("kind", kind, KINDS)
    alpha, sigma = expand(alpha, noisy), expand(sigma, noisy)
    if kind == "velocity":
        return Estimate(
            alpha * noisy - sigma * prediction, sigma * noisy + alpha * prediction
        )
    if kind == "noise":
        return Estimate((noisy - sigma * prediction) / alpha, prediction)
    return Estimate(prediction, (noisy - alpha * prediction) / sigma)


def clip(data: Array) -> Array:
    """Clips the estimated data to [-1, 1], the range of videos."""
    return jnp.clip(data, -1, 1)


def dynamic_threshold(data: Array, *, quantile: float = 0.9) -> Array:
    """Clips each clip to a quantile of its magnitudes, and scales it to [-1, 1].

    Saharia et al., "Imagen" (2022), Sec. 2.3: a quantile below 1 counts as 1.

    Args:
        data: (B, ...).
        quantile: Of the absolute values of a clip.
    """
    flat = jnp.abs(data.reshape(data.shape[0], -1)).astype(jnp.float32)
    limit = jnp.maximum(jnp.quantile(flat, quantile, axis=1), 1)
    limit = expand(limit, data)
    return jnp.clip(data, -limit, limit) / limit


def denoiser(
    predict: Callable[[Array, Array], Array],
    kind: Kind,
    *,
    threshold: Callable[[Array], Array] | None = clip,
    keep_noise: bool = False,
    learns_variance: bool = False,
) -> Denoiser:
    """Makes of a network what a sampler asks: (noisy, step) -> `Estimate`.

    Args:
        predict: (noisy, time) -> prediction; time is () as the step says it.
        kind: What it predicts.
        threshold: Applied to the estimated data; None leaves it.
        keep_noise: Whether the noise stays as predicted where the threshold changed the
            data (the DDIM of diffusers), or follows from the data (OpenAI's).
        learns_variance: Whether the second half of the predicted channels is the
            variance, in [-1, 1] from the smaller one to the larger (Nichol and
            Dhariwal, 2021, Eq. 15).

    Raises:
        ValueError: If there is no such kind.
    """
    _checks.one_of("kind", kind, KINDS)

    def denoise(noisy: Array, step: schedules.Steps) -> Estimate:
        prediction, share = predict(noisy, step.time), None
        if learns_variance:
            prediction, share = jnp.split(prediction, 2, axis=-1)
            share = (share + 1) / 2
        found = estimate(kind, prediction, noisy, step.alpha, step.sigma)
        if threshold is None:
            return Estimate(found.data, found.noise, share)
        data = threshold(found.data)
        if keep_noise:
            return Estimate(data, found.noise, share)
        again = estimate("data", data, noisy, step.alpha, step.sigma)
        return Estimate(data, again.noise, share)

    return denoise
