"""The process that a network was trained to undo: what it needs to be sampled from."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxflow import _checks
from jaxflow.diffusion import parameterisations, schedules

SCHEDULES = ("linear", "cosine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """How noise was added, and what the network says of it.

    Attributes:
        schedule: "linear" or "cosine" betas.
        count: Number of steps of the schedule.
        limit: Largest beta of the cosine schedule.
        zero_terminal_snr: Whether nothing of the data is left at the last step.
        predicts: "noise", "data" or "velocity".
        noisiest_first: Whether the network counts steps from the noisiest on.
        time_range: The network is told step * time_range / count.

    Raises:
        ValueError: If there is no such schedule or prediction, or if noise is predicted
            where nothing but noise is left.
    """

    schedule: Literal["linear", "cosine"] = "linear"
    count: int = 1000
    limit: float = 0.999
    zero_terminal_snr: bool = False
    predicts: parameterisations.Kind = "noise"
    noisiest_first: bool = False
    time_range: float = 1000.0

    def __post_init__(self):
        _checks.one_of("schedule", self.schedule, SCHEDULES)
        _checks.one_of("predicts", self.predicts, parameterisations.KINDS)
        _checks.positive("count", self.count)
        if self.zero_terminal_snr and self.predicts == "noise":
            raise ValueError(
                "`predicts` must be 'data' or 'velocity' with `zero_terminal_snr`: a "
                "prediction of noise says nothing of the data at the last step"
            )


class Noised(NamedTuple):
    """A clip with noise, and what a network should say of it.

    Attributes:
        noisy: (B, T, ...).
        time: What the network is told, (B,).
        target: What it should predict, (B, T, ...).
        alpha: Factor of the data, (B,).
        sigma: Factor of the noise, (B,).
    """

    noisy: jax.Array
    time: jax.Array
    target: jax.Array
    alpha: jax.Array
    sigma: jax.Array


def alpha_bars(process: Process) -> npt.NDArray[np.float64]:
    """Returns alpha^2 of every step of a process, the cleanest first."""
    if process.schedule == "linear":
        scale = 1000 / process.count
        betas = schedules.linear_betas(
            process.count, start=min(1e-4 * scale, 0.999), end=min(0.02 * scale, 0.999)
        )
    else:
        betas = schedules.cosine_betas(process.count, limit=process.limit)
    if process.zero_terminal_snr:
        betas = schedules.zero_terminal_snr(betas)
    return schedules.alpha_bars(betas)


def told(process: Process, step: npt.ArrayLike) -> np.ndarray:
    """Returns what the network is told of a step."""
    step = np.asarray(step)
    step = process.count - 1 - step if process.noisiest_first else step
    return step * (process.time_range / process.count)


def sampling_steps(
    process: Process, count: int, *, spacing: schedules.Spacing = "trailing"
) -> schedules.Steps:
    """Returns the steps that a sampler takes, the noisiest first.

    Args:
        process: That the network was trained with.
        count: Number of steps, at most the process's.
        spacing: As for `schedules.spaced`; the default begins at the noisiest step.

    Raises:
        ValueError: If `count` is not in 1 ... `process.count`.
    """
    chosen = schedules.spaced(process.count, count, spacing=spacing)
    steps = schedules.steps(alpha_bars(process), chosen)
    return steps._replace(time=jnp.asarray(told(process, chosen), jnp.float32))


def add_noise(key: jax.Array, process: Process, data: jax.Array) -> Noised:
    """Adds noise to clips, each at a random step.

    Args:
        key: Random key.
        process: That the network is trained with.
        data: (B, T, ...) in [-1, 1].
    """
    first, second = jax.random.split(key)
    step = jax.random.randint(first, data.shape[:1], 0, process.count)
    noise = jax.random.normal(second, data.shape, data.dtype)
    bars = alpha_bars(process)
    alpha, sigma, time = (
        jnp.asarray(table, jnp.float32)[step]
        for table in (
            np.sqrt(bars),
            np.sqrt(1 - bars),
            told(process, np.arange(process.count)),
        )
    )
    noisy = parameterisations.diffuse(data, noise, alpha, sigma)
    target = parameterisations.target(process.predicts, data, noise, alpha, sigma)
    return Noised(noisy, time, target, alpha, sigma)
