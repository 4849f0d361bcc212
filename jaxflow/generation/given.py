"""The frames of a video that are given: where they are, and whether they fit."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jaxflow import _checks
from jaxflow.diffusion import masks


def places(task: masks.Task, length: int, given: int) -> np.ndarray:
    """Returns where a task has given frames in a video, (length,) bool.

    Args:
        task: A name in `masks.TASKS`.
        length: Frames of the video.
        given: Number of given frames; with none all are to be generated.

    Raises:
        ValueError: As for `masks.task`.

    Examples:
        >>> jaxflow.generation.places("future", 5, 2).tolist()
        [True, True, False, False, False]
    """
    if not given:
        return np.zeros(length, bool)
    return masks.task(task, length, given=given)


def place(
    model: Any,
    frames: npt.ArrayLike | None,
    observed: npt.ArrayLike | str | None,
    length: int | None,
    size: tuple[int, int] | None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns the video with what is given in place, the mask, and the task.

    Args:
        model: A network of task "generation".
        frames: As for `jaxflow.generate`, as are the rest.
        observed: The mask, (T,), or a task.
        length: Frames of the video.
        size: Height and width.

    Returns:
        The video, (T, H, W, C), uint8 or float32; which frames are given, (T,) bool;
        and the task, which is "any" for a mask.

    Raises:
        ValueError: If they do not fit each other or the network.
    """
    if frames is None:
        frames, length = _no_frames(model, observed, length, size)
        observed = "future"
    frames = _check_frames(model, np.asarray(frames))
    task = "future" if observed is None else observed
    if isinstance(task, str):
        video, mask = _placed(task, frames, length)
    else:
        video, mask, task = frames, _check_mask(observed, len(frames), length), "any"
    if mask.all():
        raise ValueError(
            f"all {len(mask)} frames are given: give a larger `length`, or `observed`"
        )
    if video.dtype == np.uint8:
        return video, mask, task
    seen = video[mask]
    if not np.isfinite(seen).all() or (
        seen.size and not 0 <= seen.min() <= seen.max() <= 1
    ):
        raise ValueError(
            "observed `frames` must be finite, in [0, 1]; divide 8-bit values by 255"
        )
    return video.astype(np.float32), mask, task


def to_network(video: np.ndarray) -> np.ndarray:
    """Brings a video, uint8 or in [0, 1], to [-1, 1], float32."""
    unit = video / np.float32(255) if video.dtype == np.uint8 else video
    return 2 * np.asarray(unit, np.float32) - 1


def _no_frames(
    model: Any,
    observed: Any,
    length: int | None,
    size: tuple[int, int] | None,
) -> tuple[np.ndarray, int]:
    """Returns no frames of the size that is asked for, and the length of the video."""
    if observed is not None and not isinstance(observed, str):
        raise ValueError("`observed` needs `frames`: there is nothing to observe")
    side = getattr(model.config, "image_size", None)
    size = size or (side and (side, side))
    length = length or getattr(model.config, "num_frames", None)
    if not size or not length:
        raise ValueError("give `length` and `size`: the model has none of its own")
    return np.zeros((0, *size, model.config.channels), np.float32), length


def _check_frames(model: Any, frames: np.ndarray) -> np.ndarray:
    """Returns frames that a network can continue; raises at others."""
    channels, multiple = model.config.channels, model.multiple
    if frames.ndim != 4 or frames.shape[-1] != channels:
        raise ValueError(
            f"`frames` must be (T, H, W, {channels}) for this model; got {frames.shape}"
        )
    if frames.dtype != np.uint8 and frames.dtype.kind != "f":
        raise ValueError(f"`frames` must be uint8 or floating; got {frames.dtype}")
    if any(side % multiple or not side for side in frames.shape[1:3]):
        raise ValueError(
            f"`frames` must have height and width that are multiples of {multiple}; "
            f"got {frames.shape[1:3]}: resize or crop them"
        )
    return frames


def _check_mask(observed: Any, count: int, length: int | None) -> np.ndarray:
    """Returns which of `count` frames are given, (count,) bool."""
    mask = np.asarray(observed)
    if mask.shape != (count,) or length not in (None, count):
        raise ValueError(
            f"`observed` must be ({count},), and `length` {count}, for that many "
            f"frames; got {mask.shape} and {length}"
        )
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"`observed` must be of 0 and 1; got {np.unique(mask)}")
    return mask.astype(bool)


def _placed(task: str, frames: np.ndarray, length: int | None):
    """Puts given frames where a task has them."""
    _checks.one_of("observed", task, masks.TASKS)
    length = len(frames) if length is None else length
    if task == "unconditional":
        frames = frames[:0]
    elif length <= len(frames):
        raise ValueError(
            f"`length` must be more than the {len(frames)} given frames; got {length}"
        )
    mask = places(cast(masks.Task, task), length, len(frames))
    video = np.zeros((length, *frames.shape[1:]), frames.dtype)
    video[mask] = frames
    return video, mask
