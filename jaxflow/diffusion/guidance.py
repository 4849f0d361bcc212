"""Guidance: making a sampler follow a class, or frames it was not trained to follow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxflow.diffusion import parameterisations, schedules

Array = jax.Array
Predict = Callable[[Array, Array], Array]


def classifier_free(conditional: Predict, free: Predict, scale: float) -> Predict:
    """Moves a prediction away from what it would be without its condition.

        free + scale (conditional - free)

    Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022); their w is
    `scale` - 1. With a scale of 1 it is the conditional prediction, exactly.

    Args:
        conditional: (noisy, time) -> prediction, of the network with its condition.
        free: The same of the network with the condition dropped.
        scale: 0 ignores the condition, 1 obeys it, more exaggerates it.

    Examples:
        >>> from jaxflow.diffusion import guidance
        >>> own, free = lambda x, t: x + 1, lambda x, t: x
        >>> predict = guidance.classifier_free(own, free, 3.0)
        >>> predict(jnp.zeros(2), jnp.zeros(2)).tolist()
        [3.0, 3.0]
    """
    if scale == 1:
        return conditional

    def predict(noisy: Array, time: Array) -> Array:
        without = free(noisy, time)
        return without + scale * (conditional(noisy, time) - without)

    return predict


def replacement(known: Array, observed: Array):
    """Replaces observed frames, before each step, by their own noisy versions.

    Song et al., "Score-Based Generative Modeling" (2021), App. I.2. It needs no
    training, but the other frames follow the observed ones only loosely ("Video
    Diffusion Models", Ho et al., 2022, Sec. 3.1); see `reconstruction`.

    Args:
        known: Clean video, (B, T, ...); what it is at other frames has no effect.
        observed: (B, T), 1 at observed frames.

    Returns:
        The `before` of `samplers.sample`.
    """
    mask = frame_mask(observed, known)

    def before(key: Array, noisy: Array, step: schedules.Steps) -> Array:
        noise = jax.random.normal(key, known.shape, noisy.dtype)
        own = parameterisations.diffuse(known, noise, step.alpha, step.sigma)
        return jnp.where(mask, own, noisy)

    return before


def paste(known: Array, observed: Array):
    """Replaces observed frames, before each step, by themselves, without noise.

    For networks that were trained to see observed frames clean and in place (Höppe et
    al., "Diffusion Models for Video Prediction and Infilling", 2022).

    Args:
        known: Clean video, (B, T, ...); what it is at other frames has no effect.
        observed: (B, T), 1 at observed frames.

    Returns:
        The `before` of `samplers.sample`.
    """
    mask = frame_mask(observed, known)

    def before(key: Array, noisy: Array, step: schedules.Steps) -> Array:
        del key, step
        return jnp.where(mask, known.astype(noisy.dtype), noisy)

    return before


def reconstruction(
    denoise: parameterisations.Denoiser,
    known: Array,
    observed: Array,
    *,
    weight: float = 1.0,
) -> parameterisations.Denoiser:
    """Pulls a denoiser towards videos whose observed frames are the given ones.

    Ho et al., "Video Diffusion Models" (2022), Eq. 7, for the frames b that are not
    observed, with a those that are:

        x^b = x^b(z) - weight alpha / 2 grad_{z^b} ||x^a - x^a(z)||^2

    Together with `replacement` it is the paper's sampler. The step costs a gradient
    through the network.

    Args:
        denoise: The denoiser; without a threshold, or the gradient is lost where it
            acts.
        known: Clean video, (B, T, ...); what it is at other frames has no effect.
        observed: (B, T), 1 at observed frames.
        weight: Strength; the paper's w_r.
    """
    mask = frame_mask(observed, known)

    def guided(noisy: Array, step: schedules.Steps) -> parameterisations.Estimate:
        def distance(noisy):
            found = denoise(noisy, step)
            error = jnp.where(mask, known.astype(noisy.dtype) - found.data, 0)
            return jnp.sum(error.astype(jnp.float32) ** 2), found

        slope, found = jax.grad(distance, has_aux=True)(noisy)
        pull = parameterisations.expand(weight * step.alpha / 2, noisy) * slope
        data = jnp.where(mask, found.data, found.data - pull)
        again = parameterisations.estimate("data", data, noisy, step.alpha, step.sigma)
        return parameterisations.Estimate(data, again.noise, found.variance)

    return guided


def thresholded(
    denoise: parameterisations.Denoiser, threshold: Callable[[Array], Array]
) -> parameterisations.Denoiser:
    """Applies a threshold to a denoiser's data, and lets the noise follow.

    Args:
        denoise: A denoiser without one, such as a guided one.
        threshold: Such as `parameterisations.clip`.
    """

    def cut(noisy: Array, step: schedules.Steps) -> parameterisations.Estimate:
        found = denoise(noisy, step)
        data = threshold(found.data)
        again = parameterisations.estimate("data", data, noisy, step.alpha, step.sigma)
        return parameterisations.Estimate(data, again.noise, found.variance)

    return cut


def frame_mask(mask: Array, video: Array) -> Array:
    """Gives a mask of frames, (B, T), the axes of a video, (B, T, ...), as bool."""
    return jnp.asarray(mask, bool).reshape(mask.shape + (1,) * (video.ndim - 2))
