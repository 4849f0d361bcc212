"""How near a generated video is to the true one, and what guessing simply would give.

Everything is computed on the host in float64, as scikit-image and SciPy do. A video is
(*B, H, W, C); a NaN pixel makes the measures of its frame NaN.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxflow import ops

_K1, _K2 = 0.01, 0.03
Numbers = npt.NDArray[np.float64]


def psnr(video: npt.ArrayLike, target: npt.ArrayLike, *, peak: float = 1.0) -> Numbers:
    """Returns the peak signal-to-noise ratio of every frame, in decibels.

        10 log10(peak^2 / mean squared error)

    Args:
        video: (*B, H, W, C).
        target: Of the same shape.
        peak: Range of the values: 1 for [0, 1], 2 for [-1, 1], 255 for 8 bits.

    Returns:
        (*B,); infinite where the frames are equal.

    Raises:
        ValueError: If the shapes differ, or `peak` is not positive.

    Examples:
        >>> video = jnp.full((2, 8, 8, 3), 0.5)
        >>> print(jaxflow.quality.psnr(video, video + 0.1).round(2))
        [20. 20.]
    """
    video, target = _pair(video, target, peak)
    error = ((video - target) ** 2).mean((-3, -2, -1))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(
    video: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    peak: float = 1.0,
    window: int = 7,
    sigma: float | None = None,
    sample_covariance: bool = True,
) -> Numbers:
    """Returns the structural similarity of every frame (Wang et al., 2004).

    The mean of `ssim_map` over channels and over the pixels whose window is inside.

    Args:
        video: (*B, H, W, C).
        target: Of the same shape.
        peak: Range of the values.
        window: Side of a box window, odd.
        sigma: Standard deviation of a Gaussian window instead, cut off at 3.5 of them;
            the paper's is 1.5.
        sample_covariance: Whether variances are divided by n - 1 instead of n.

    Returns:
        (*B,).

    Raises:
        ValueError: If shapes differ, or the frame is smaller than the window.

    Examples:
        >>> clip = np.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
        >>> jaxflow.quality.ssim(clip, clip).tolist()
        [1.0, 1.0]
        >>> bool((jaxflow.quality.ssim(clip, 1 - clip) < 0.5).all())
        True
    """
    full = ssim_map(
        video,
        target,
        peak=peak,
        window=window,
        sigma=sigma,
        sample_covariance=sample_covariance,
    )
    margin = (len(_window(window, sigma)) - 1) // 2
    height, width = full.shape[-3:-1]
    inner = full[..., margin : height - margin, margin : width - margin, :]
    return inner.mean((-3, -2, -1))


def ssim_map(
    video: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    peak: float = 1.0,
    window: int = 7,
    sigma: float | None = None,
    sample_covariance: bool = True,
) -> Numbers:
    """Returns the structural similarity around every pixel of every channel.

        (2 m n + c1)(2 s_xy + c2) / ((m^2 + n^2 + c1)(s_xx + s_yy + c2))

    with means m, n and variances s in a window, c1 = (0.01 peak)^2, c2 = (0.03 peak)^2.
    The border reflects. Arguments are those of `ssim`.

    Returns:
        (*B, H, W, C).

    Examples:
        >>> clip = np.linspace(0, 1, 8 * 8 * 3).reshape(1, 8, 8, 3)
        >>> jaxflow.quality.ssim_map(clip, clip).shape
        (1, 8, 8, 3)
    """
    video, target = _pair(video, target, peak)
    weights = _window(window, sigma)
    count = len(weights) ** 2
    if min(video.shape[-3:-1]) < len(weights):
        raise ValueError(
            f"`video` must have frames of at least the window, {len(weights)} pixels; "
            f"got {video.shape[-3:-1]}"
        )
    factor = count / (count - 1) if sample_covariance else 1.0

    def mean(x: Numbers) -> Numbers:
        return _filter(_filter(x, weights, -3), weights, -2)

    m, n = mean(video), mean(target)
    xx = factor * (mean(video * video) - m * m)
    yy = factor * (mean(target * target) - n * n)
    xy = factor * (mean(video * target) - m * n)
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    upper = (2 * m * n + c1) * (2 * xy + c2)
    return upper / ((m * m + n * n + c1) * (xx + yy + c2))


class Statistics(NamedTuple):
    """Mean and spread of features, gathered batch by batch.

    Attributes:
        examples: Their number.
        mean: (D,).
        scatter: Sum of the products of deviations from the mean, (D, D).
    """

    examples: int
    mean: Numbers
    scatter: Numbers

    @property
    def covariance(self) -> Numbers:
        """Sample covariance, divided by examples - 1; NaN for fewer than 2 examples."""
        if self.examples < 2:
            return np.full_like(self.scatter, np.nan)
        return self.scatter / (self.examples - 1)


def gather(batches: Iterable[npt.ArrayLike]) -> Statistics:
    """Gathers statistics of features without keeping them.

    Args:
        batches: Arrays (N, D).

    Raises:
        ValueError: If there is no batch, or the numbers of features differ.

    Examples:
        >>> found = jaxflow.quality.gather([[[0.0, 1.0]], [[2.0, 1.0], [4.0, 1.0]]])
        >>> found.mean.tolist(), found.covariance.tolist()
        ([2.0, 1.0], [[4.0, 0.0], [0.0, 0.0]])
    """
    total: Statistics | None = None
    for batch in batches:
        features = np.asarray(batch, np.float64)
        if features.ndim != 2 or (
            total is not None and features.shape[1] != len(total.mean)
        ):
            raise ValueError(f"`batches` must all be (N, D); got {features.shape}")
        if not len(features):
            continue
        mean = features.mean(0)
        deviation = features - mean
        own = Statistics(len(features), mean, deviation.T @ deviation)
        total = own if total is None else merge(total, own)
    if total is None:
        raise ValueError("`batches` holds no features")
    return total


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Returns the statistics of two sets of examples together.

    Examples:
        >>> one, two = (jaxflow.quality.gather([[[x]]]) for x in (0.0, 2.0))
        >>> jaxflow.quality.merge(one, two).covariance.tolist()
        [[2.0]]
    """
    examples = first.examples + second.examples
    gap = second.mean - first.mean
    share = second.examples / examples
    scatter = first.scatter + second.scatter
    scatter = scatter + np.outer(gap, gap) * (first.examples * share)
    return Statistics(examples, first.mean + share * gap, scatter)


def frechet_distance(
    mean1: npt.ArrayLike,
    covariance1: npt.ArrayLike,
    mean2: npt.ArrayLike,
    covariance2: npt.ArrayLike,
) -> float:
    """Returns the squared Fréchet distance of two Gaussians (Dowson and Landau, 1982).

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)

    The root is taken of a symmetric matrix, so it is real for singular covariances too.
    It is called after its features: only with those of the published I3D is it "FVD".

    Args:
        mean1: (D,).
        covariance1: (D, D), symmetric.
        mean2: (D,).
        covariance2: (D, D).

    Raises:
        ValueError: If the shapes do not fit, or a number is not finite.

    Examples:
        Two normal distributions of the same spread, 3 apart:

        >>> jaxflow.quality.frechet_distance([0.0], [[1.0]], [3.0], [[1.0]])
        9.0
    """
    m1, s1, m2, s2 = (
        np.asarray(x, np.float64) for x in (mean1, covariance1, mean2, covariance2)
    )
    if s1.shape != (*m1.shape, *m1.shape) or s2.shape != s1.shape:
        raise ValueError(
            "means must be (D,) and covariances (D, D); got "
            f"{m1.shape}, {s1.shape}, {m2.shape}, {s2.shape}"
        )
    if not all(np.isfinite(x).all() for x in (m1, s1, m2, s2)):
        raise ValueError(
            "means and covariances must be finite: gather at least 2 examples of each"
        )
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ s2 @ root)
    cross = np.sqrt(np.maximum(inner, 0)).sum()
    gap = m1 - m2
    return float(gap @ gap + np.trace(s1) + np.trace(s2) - 2 * cross)


def frechet_of(first: Statistics, second: Statistics) -> float:
    """Returns the squared Fréchet distance of two gathered sets of features.

    Examples:
        >>> real = jaxflow.quality.gather([[[0.0], [2.0]]])
        >>> made = jaxflow.quality.gather([[[3.0], [5.0]]])
        >>> jaxflow.quality.frechet_of(real, made)
        9.0
    """
    return frechet_distance(
        first.mean, first.covariance, second.mean, second.covariance
    )


def of_samples(
    samples: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    score: Callable[[Numbers, Numbers], Numbers],
) -> dict[str, Numbers]:
    """Scores several samples of the same clips.

    Args:
        samples: N videos of each clip, (N, B, T, H, W, C).
        target: (B, T, H, W, C).
        score: (video, target) -> (B, T), more is better, such as `psnr`.

    Returns:
        "single", the mean over the samples; "best", the best of a clip by its mean over
        frames; and "of_mean", the score of the samples' mean: each (B, T).
    """
    samples, target = np.asarray(samples, np.float64), np.asarray(target, np.float64)
    each = np.stack([score(sample, target) for sample in samples])
    best = each.mean(-1).argmax(0)
    return {
        "single": each.mean(0),
        "best": each[best, np.arange(each.shape[1])],
        "of_mean": score(samples.mean(0), target),
    }


def copy_nearest(video: npt.ArrayLike, observed: npt.ArrayLike) -> npt.NDArray:
    """Guesses every frame to be the last one observed before it, or else the next.

    Args:
        video: (B, T, H, W, C); frames not observed have no effect.
        observed: (T,) bool.

    Raises:
        ValueError: If no frame is observed.

    Examples:
        >>> video = np.arange(4.0).reshape(1, 4, 1, 1, 1)
        >>> found = jaxflow.quality.copy_nearest(video, [0, 1, 0, 0])
        >>> found.ravel().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    video, before, after, _ = _neighbours(video, observed)
    return video[:, np.where(before < 0, after, before)]


def linear_blend(video: npt.ArrayLike, observed: npt.ArrayLike) -> npt.NDArray:
    """Guesses every frame between two observed ones as their weighted mean.

    Outside of them it is the nearest, as in `copy_nearest`.

    Args:
        video: (B, T, H, W, C); frames not observed have no effect.
        observed: (T,) bool.

    Raises:
        ValueError: If no frame is observed.

    Examples:
        >>> video = np.array([0.0, 9.0, 9.0, 3.0]).reshape(1, 4, 1, 1, 1)
        >>> jaxflow.quality.linear_blend(video, [1, 0, 0, 1]).ravel().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    video, before, after, frames = _neighbours(video, observed)
    length = video.shape[1]
    left = np.where(before < 0, after, before)
    right = np.where(after >= length, before, after)
    gap = np.maximum(right - left, 1)
    share = np.where(right > left, (frames - left) / gap, 0.0)
    share = share.reshape(-1, 1, 1, 1).astype(np.result_type(video, np.float32))
    return (1 - share) * video[:, left] + share * video[:, right]


def temporal_consistency(
    video: npt.ArrayLike, forward: npt.ArrayLike, backward: npt.ArrayLike
) -> Numbers:
    """Returns how far each frame is from the next, brought back along the flow.

    The root mean squared difference over the pixels that the next frame shows (Lai et
    al., "Learning Blind Video Temporal Consistency", 2018, Sec. 5.1).

    Args:
        video: (T, H, W, C).
        forward: Flow from each frame to the next, (T - 1, H, W, 2), in pixels.
        backward: Flow from the next frame back, of the same shape.

    Returns:
        (T - 1,); NaN where no pixel counts. 0 is a video that only moves.

    Raises:
        ValueError: If the shapes do not fit.

    Examples:
        >>> still = np.full((3, 8, 8, 3), 0.5)
        >>> none = np.zeros((2, 8, 8, 2))
        >>> jaxflow.quality.temporal_consistency(still, none, none)
        array([0., 0.])
    """
    video = np.asarray(video, np.float32)
    forward, backward = (
        np.asarray(forward, np.float32),
        np.asarray(backward, np.float32),
    )
    shape = (len(video) - 1, *video.shape[1:3], 2)
    if forward.shape != shape or backward.shape != shape:
        raise ValueError(
            f"`forward` and `backward` must be {shape} for a video {video.shape}; got "
            f"{forward.shape} and {backward.shape}"
        )
    flow = jnp.asarray(forward)
    warped = ops.backward_warp(jnp.asarray(video[1:]), flow, padding="border")
    hidden = ops.forward_backward_occlusion(flow, jnp.asarray(backward))
    shown = ~np.asarray(hidden)
    error = (np.asarray(warped, np.float64) - video[:-1]) ** 2
    total = (error.mean(-1) * shown).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(total / shown.sum((1, 2)))


def _pair(video, target, peak: float) -> tuple[Numbers, Numbers]:
    video, target = np.asarray(video, np.float64), np.asarray(target, np.float64)
    if video.shape != target.shape or video.ndim < 3:
        raise ValueError(
            "`video` and `target` must be alike, (*B, H, W, C); got "
            f"{video.shape} and {target.shape}"
        )
    if not peak > 0:
        raise ValueError(f"`peak` must be positive; got {peak}")
    return video, target


def _window(size: int, sigma: float | None) -> Numbers:
    if sigma is not None:
        radius = int(3.5 * sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        return weights / weights.sum()
    if size < 3 or size % 2 == 0:
        raise ValueError(f"`window` must be odd and at least 3; got {size}")
    return np.full(size, 1 / size)


def _filter(x: Numbers, weights: Numbers, axis: int) -> Numbers:
    """Correlates along an axis; the border reflects, edge pixel included."""
    margin = len(weights) // 2
    pads = [(0, 0)] * x.ndim
    pads[axis] = (margin, margin)
    padded = np.pad(x, pads, mode="symmetric")
    views = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis)
    return views @ weights


def _neighbours(video, observed):
    """Returns the observed frames before and after each; -1 and T where none is."""
    video, observed = np.asarray(video), np.asarray(observed, bool)
    if observed.shape != video.shape[1:2] or not observed.any():
        raise ValueError(
            f"`observed` must be ({video.shape[1]},) with at least one frame; got "
            f"{observed.shape} with {int(observed.sum())}"
        )
    frames = np.arange(len(observed))
    before = np.maximum.accumulate(np.where(observed, frames, -1))
    after = np.minimum.accumulate(np.where(observed, frames, len(observed))[::-1])[::-1]
    return video, before, after, frames
