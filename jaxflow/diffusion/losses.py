"""Losses of a diffusion network, one number a clip."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxflow import _checks
from jaxflow.diffusion import parameterisations

Weighting = Literal["simple", "snr", "truncated_snr", "min_snr"]
WEIGHTINGS = ("simple", "snr", "truncated_snr", "min_snr")
Average = Literal["all", "counted", "sum"]
AVERAGES = ("all", "counted", "sum")
Array = jax.Array


def weights(
    kind: parameterisations.Kind,
    alpha: Array,
    sigma: Array,
    *,
    weighting: Weighting = "simple",
    limit: float = 5.0,
) -> Array:
    """Returns the factor of the squared error of a prediction.

    A squared error of the data counts, in terms of snr = alpha^2 / sigma^2,

        snr             snr: equal to errors of the noise
        truncated_snr   max(snr, 1)         Salimans and Ho (2022)
        min_snr         min(snr, limit)     Hang et al. (2023)

    and one of the noise or of the velocity is that of the data times snr or 1 + snr.
    "simple" takes the error of whatever is predicted.

    Args:
        kind: What is predicted.
        alpha: Factor of the data, any shape.
        sigma: Factor of the noise, of the same shape.
        weighting: See above.
        limit: Largest weight of "min_snr".

    Raises:
        ValueError: If there is no such kind or weighting.
    """
    _checks.one_of("kind", kind, parameterisations.KINDS)
    _checks.one_of("weighting", weighting, WEIGHTINGS)
    if weighting == "simple":
        return jnp.ones_like(alpha)
    snr = (alpha / sigma) ** 2
    of_data = {
        "snr": snr,
        "truncated_snr": jnp.maximum(snr, 1),
        "min_snr": jnp.minimum(snr, limit),
    }[weighting]
    return of_data / {"data": 1.0, "noise": snr, "velocity": 1 + snr}[kind]


def prediction_error(
    prediction: Array,
    target: Array,
    *,
    frames: Array | None = None,
    power: Literal[1, 2] = 2,
    average: Average = "all",
) -> Array:
    """Averages |prediction - target|^power over the counted frames of each clip.

    What stands at other frames has no effect, not even if it is not finite.

    Args:
        prediction: (B, T, ...).
        target: Of the same shape.
        frames: Which frames count, (B, T); None counts all.
        power: 2, or 1 for the absolute error.
        average: What the sum is divided by: "all" elements of the clip, counted or not
            (the flexible diffusion model), those "counted" (RaMViD), or nothing, which
            is the "sum" (MCVD, times one half).

    Returns:
        (B,) float32. A clip without a counted frame has 0, under "counted" NaN.

    Raises:
        ValueError: If `average` or `power` is none of the above.
    """
    _checks.one_of("average", average, AVERAGES)
    _checks.one_of("power", power, (1, 2))
    error = jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    error = error**2 if power == 2 else error
    counted = jnp.ones(error.shape[:2], bool) if frames is None else frames.astype(bool)
    mask = counted.reshape(counted.shape + (1,) * (error.ndim - 2))
    axes = tuple(range(1, error.ndim))
    total = jnp.where(mask, error, 0).sum(axes)
    if average == "sum":
        return total
    size = error[0, 0].size
    if average == "all":
        return total / (error.shape[1] * size)
    return total / (counted.sum(1).astype(jnp.float32) * size)
