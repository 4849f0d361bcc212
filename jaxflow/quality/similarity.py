"""How near the frames of a video are to the true ones: PSNR and SSIM."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

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

    Examples:
        >>> target = np.zeros((1, 2, 4, 4, 1))
        >>> samples = np.stack([target + 0.1, target - 0.1])
        >>> nearness = lambda video, target: -abs(video - target).mean((-3, -2, -1))
        >>> found = jaxflow.quality.of_samples(samples, target, score=nearness)
        >>> found["best"], found["of_mean"]
        (array([[-0.1, -0.1]]), array([[-0., -0.]]))
    """
    samples, target = np.asarray(samples, np.float64), np.asarray(target, np.float64)
    each = np.stack([score(sample, target) for sample in samples])
    best = each.mean(-1).argmax(0)
    return {
        "single": each.mean(0),
        "best": each[best, np.arange(each.shape[1])],
        "of_mean": score(samples.mean(0), target),
    }


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
