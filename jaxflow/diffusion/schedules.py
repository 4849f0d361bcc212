"""Noise schedules: how much of the data is left at each step of a diffusion.

    z_t = alpha_t x + sigma_t e,    alpha_t^2 + sigma_t^2 = 1

A schedule is a table of betas, or of alpha-bars: the products of 1 - beta, which are
alpha^2. Step 0 is the cleanest. Tables are NumPy arrays in float64, made once outside
of any compiled function; `steps` turns one into what a sampler reads, in float32.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxflow import _checks

Spacing = Literal["leading", "trailing", "linspace"]
SPACINGS = ("leading", "trailing", "linspace")


class Steps(NamedTuple):
    """The steps of a sampler, the noisiest first; or one of them, or one a clip.

    Attributes:
        time: What the network is told, on its own scale.
        alpha: Factor of the data before the step.
        sigma: Factor of the noise before the step.
        next_alpha: Factor of the data after it.
        next_sigma: Factor of the noise after it.
        beta: 1 - (alpha / next_alpha)^2: variance that the step takes back.
    """

    time: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    next_alpha: jax.Array
    next_sigma: jax.Array
    beta: jax.Array


def linear_betas(
    count: int, *, start: float = 1e-4, end: float = 0.02
) -> npt.NDArray[np.float64]:
    """Returns betas that grow linearly (Ho et al., "Denoising Diffusion", 2020).

    OpenAI's code scales both ends by 1000 / `count`; pass them so to have the same.

    Args:
        count: Number of steps.
        start: First beta.
        end: Last beta.

    Raises:
        ValueError: If `count` is less than 1.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.linear_betas(3, start=0.1, end=0.3)
        array([0.1, 0.2, 0.3])
    """
    grid = np.linspace(start, end, _positive("count", count))
    return np.asarray(grid, np.float64)


def scaled_linear_betas(
    count: int, *, start: float = 1e-4, end: float = 0.02
) -> npt.NDArray[np.float64]:
    """Returns betas whose square roots grow linearly (latent diffusion, 2022).

    Args:
        count: Number of steps.
        start: First beta.
        end: Last beta.

    Raises:
        ValueError: If `count` is less than 1.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.scaled_linear_betas(3, start=0.01, end=0.09)
        array([0.01, 0.04, 0.09])
    """
    return linear_betas(count, start=math.sqrt(start), end=math.sqrt(end)) ** 2


def cosine_betas(
    count: int, *, offset: float = 0.008, limit: float = 0.999
) -> npt.NDArray[np.float64]:
    """Returns betas of the cosine schedule (Nichol and Dhariwal, 2021, Eq. 17).

        alpha-bar(t) = cos((t / count + offset) / (1 + offset) pi / 2)^2

    Args:
        count: Number of steps.
        offset: Keeps the first betas from being too small.
        limit: Largest beta: 0.999 in the paper, 0.9999 in some video models.

    Raises:
        ValueError: If `count` is less than 1.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.cosine_betas(4).round(3)
        array([0.153, 0.417, 0.708, 0.999])
    """
    time = np.arange(_positive("count", count) + 1) / count
    curve = np.cos((time + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.clip(1 - curve[1:] / curve[:-1], 0, limit)


def zero_terminal_snr(betas: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Rescales betas so that nothing of the data is left at the last step.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2024),
    Algorithm 1: alpha is shifted to 0 at the end and scaled back at the start. With
    such a schedule a network must not predict noise, which says nothing there.

    Args:
        betas: Of the schedule, cleanest first.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> betas = schedules.zero_terminal_snr(schedules.linear_betas(4, end=0.2))
        >>> schedules.alpha_bars(betas)[-1].round(6).item()
        0.0
    """
    alphas = np.sqrt(alpha_bars(betas))
    shifted = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
    bars = shifted**2
    before = np.concatenate([np.ones(1), bars[:-1]])
    return np.asarray(1 - bars / before, np.float64)


def alpha_bars(betas: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns alpha^2 of every step: the running product of 1 - beta.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.alpha_bars([0.5, 0.5])
        array([0.5 , 0.25])
    """
    return np.cumprod(1 - np.asarray(betas, np.float64)).astype(np.float64)


def cosine_log_snr(
    time: jax.typing.ArrayLike, *, low: float = -20.0, high: float = 20.0
) -> jax.Array:
    """Returns log(alpha^2 / sigma^2) of the cosine schedule in continuous time.

    Ho et al., "Video Diffusion Models" (2022): lambda(t) = -2 log tan(a t + b), where
    a and b are such that lambda falls from `high` at t = 0 to `low` at t = 1.

    Args:
        time: In [0, 1]; any shape.
        low: Value at 1.
        high: Value at 0.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.cosine_log_snr(jnp.array([0.0, 1.0])).round(2).tolist()
        [20.0, -20.0]
    """
    start = math.atan(math.exp(-high / 2))
    slope = math.atan(math.exp(-low / 2)) - start
    return -2 * jnp.log(jnp.tan(slope * jnp.asarray(time, jnp.float32) + start))


def linear_log_snr(
    time: jax.typing.ArrayLike, *, low: float = -20.0, high: float = 20.0
) -> jax.Array:
    """Returns a log(alpha^2 / sigma^2) that falls linearly from `high` to `low`.

    Args:
        time: In [0, 1]; any shape.
        low: Value at 1.
        high: Value at 0.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.linear_log_snr(jnp.array([0.0, 0.5, 1.0])).tolist()
        [20.0, 0.0, -20.0]
    """
    return high + (low - high) * jnp.asarray(time, jnp.float32)


def factors_of_log_snr(log_snr: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns alpha and sigma where log(alpha^2 / sigma^2) is `log_snr`.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> alpha, sigma = schedules.factors_of_log_snr(jnp.array(0.0))
        >>> round(float(alpha), 3), round(float(sigma), 3)
        (0.707, 0.707)
    """
    log_snr = jnp.asarray(log_snr, jnp.float32)
    return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))


def spaced(
    total: int, count: int, *, spacing: Spacing = "leading", offset: int = 0
) -> npt.NDArray[np.int64]:
    """Chooses steps of a schedule as the diffusers library does, noisiest first.

    "leading" takes every (total // count)-th step from 0 on, "trailing" ends at the
    last step, and "linspace" takes both ends.

    Args:
        total: Number of steps of the schedule.
        count: Number of steps to choose.
        spacing: How; see above.
        offset: Added to the steps of "leading".

    Raises:
        ValueError: If there is no such spacing, or `count` is not in 1 ... `total`.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.spaced(10, 5).tolist()
        [8, 6, 4, 2, 0]
        >>> schedules.spaced(10, 5, spacing="trailing").tolist()
        [9, 7, 5, 3, 1]
    """
    _checks.one_of("spacing", spacing, SPACINGS)
    if not 1 <= count <= total:
        raise ValueError(f"`count` must be in 1 ... {total} steps; got {count}")
    if spacing == "linspace":
        return np.linspace(0, total - 1, count).round()[::-1].astype(np.int64)
    if spacing == "trailing":
        return np.round(np.arange(total, 0, -total / count)).astype(np.int64) - 1
    return np.arange(count - 1, -1, -1, dtype=np.int64) * (total // count) + offset


def strided(total: int, sections: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """Chooses steps of a schedule as OpenAI's code does, noisiest first.

    The schedule is cut into equal sections, and each gives as many steps as its number
    says, evenly from its first step to its last.

    Args:
        total: Number of steps of the schedule.
        sections: Steps of each section, cleanest section first; a number is one.

    Raises:
        ValueError: If a section has fewer steps than are asked of it.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> schedules.strided(10, [2, 3]).tolist()
        [9, 7, 5, 4, 0]
    """
    sections = [sections] if isinstance(sections, int) else list(sections)
    chosen, start = [], 0
    for index, count in enumerate(sections):
        size = total // len(sections) + (index < total % len(sections))
        if not 1 <= count <= size:
            raise ValueError(
                f"`sections` asks for {count} steps of a section of {size}; "
                f"{total} steps in {len(sections)} sections give no more"
            )
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        # Summed up step by step, as there: halves fall to either side of rounding.
        offsets = np.cumsum([0.0, *[stride] * (count - 1)])
        chosen += [start + round(offset) for offset in offsets.tolist()]
        start += size
    return np.array(chosen[::-1], np.int64)


def steps(
    bars: npt.ArrayLike,
    chosen: npt.ArrayLike | None = None,
    *,
    time_scale: float = 1.0,
    last_alpha_bar: float = 1.0,
) -> Steps:
    """Lists what a sampler needs to know of each step that it takes.

    A step leads to the one after it in the list, and the last one to the data.

    Args:
        bars: Alpha-bars of the schedule, cleanest first, as from `alpha_bars`.
        chosen: Numbers of the steps to take, noisiest first, as from `spaced` or
            `strided`; None takes all.
        time_scale: Factor from a step's number to what the network is told, such as
            1000 / len(bars).
        last_alpha_bar: Alpha-bar after the last step: 1, or `bars[0]`.

    Returns:
        Columns of length len(chosen), float32.

    Raises:
        ValueError: If a step is not in the schedule, or the steps do not descend.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> steps = schedules.steps([0.81, 0.36, 0.09], [2, 0])
        >>> print(steps.alpha, steps.next_alpha)
        [0.3 0.9] [0.9 1. ]
    """
    bars = np.asarray(bars, np.float64)
    if chosen is None:
        chosen = np.arange(len(bars))[::-1]
    chosen = np.asarray(chosen)
    if chosen.min() < 0 or chosen.max() >= len(bars) or np.any(np.diff(chosen) >= 0):
        raise ValueError(
            f"`chosen` must be descending steps in 0 ... {len(bars) - 1}; got {chosen}"
        )
    return between(
        bars[chosen],
        np.append(bars[chosen[1:]], last_alpha_bar),
        chosen * time_scale,
    )


def between(before: npt.ArrayLike, after: npt.ArrayLike, time: npt.ArrayLike) -> Steps:
    """Returns the steps from some alpha-bars to others.

    Args:
        before: Alpha-bar before each step.
        after: Alpha-bar after it, larger.
        time: What the network is told.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> steps = schedules.between([0.25], [1.0], [7])
        >>> steps.alpha.tolist(), steps.next_sigma.tolist(), steps.beta.tolist()
        ([0.5], [0.0], [0.75])
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    columns = (
        np.asarray(time),
        np.sqrt(before),
        np.sqrt(1 - before),
        np.sqrt(after),
        np.sqrt(1 - after),
        1 - before / after,
    )
    return Steps(*(jnp.asarray(column, jnp.float32) for column in columns))


def log_snr_steps(
    log_snr: npt.ArrayLike, *, time: npt.ArrayLike | None = None
) -> Steps:
    """Returns the steps between points of a schedule in continuous time.

    Args:
        log_snr: log(alpha^2 / sigma^2) at the points, noisiest first; one more than
            there are steps. A last value of infinity is the data.
        time: What the network is told at each step; None tells it `log_snr`.

    Raises:
        ValueError: If the values do not grow.

    Examples:
        >>> from jaxflow.diffusion import schedules
        >>> steps = schedules.log_snr_steps([-2.0, 0.0, 2.0])
        >>> steps.time.tolist(), bool((steps.alpha < steps.next_alpha).all())
        ([-2.0, 0.0], True)
    """
    log_snr = np.asarray(log_snr, np.float64)
    if np.any(np.diff(log_snr) <= 0):
        raise ValueError("`log_snr` must grow from the noisiest step to the cleanest")
    bars = 1 / (1 + np.exp(-log_snr))
    return between(bars[:-1], bars[1:], log_snr[:-1] if time is None else time)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1; got {value}")
    return value
