"""What guessing the missing frames of a video simply would give."""

import numpy as np
import numpy.typing as npt


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
