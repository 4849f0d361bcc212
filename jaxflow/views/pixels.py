"""Frames as pictures: checked, as float, and resized."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import ops, spec


def as_frames(video: Any, channels: int, *, name: str = "video") -> np.ndarray:
    """Checks frames; returns them as they are, (T, H, W, channels).

    Args:
        video: (T, H, W, channels); of 3 channels also grey frames, with 1 or none.
        channels: How many they have.
        name: What the caller calls them, for messages.

    Raises:
        ValueError: If shape or type is another, or values are not in [0, 1].
    """
    frames = np.asarray(video)
    if frames.ndim == 3 and frames.shape[-1] in (2, 3, 4):
        raise ValueError(
            f"`{name}` of shape {frames.shape} is one picture; give frames, (T, H, W, "
            f"{channels}), or picture[None] for a video of one frame"
        )
    # Grey frames are frames; one channel of flow is none.
    grey = ", (T, H, W, 1) or (T, H, W)" if channels == 3 else ""
    if frames.ndim == 3 and grey:
        frames = frames[..., None]
    counts = (1, channels) if grey else (channels,)
    if frames.ndim != 4 or frames.shape[-1] not in counts or 0 in frames.shape:
        raise ValueError(
            f"`{name}` must be (T, H, W, {channels}){grey}; got {np.shape(video)}"
        )
    if frames.dtype not in (np.uint8, np.uint16):
        if not jnp.issubdtype(frames.dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be uint8, uint16 or float; got {frames.dtype}"
            )
        spec.check_pixels(name, frames)
    return np.broadcast_to(frames, (*frames.shape[:-1], channels))


def as_float(frame: np.ndarray) -> np.ndarray:
    """Returns a frame as float32 in [0, 1].

    Args:
        frame: uint8, uint16, or floating in [0, 1].
    """
    wide = frame.astype(np.float32)
    if frame.dtype in (np.uint8, np.uint16):
        wide /= np.float32(np.iinfo(frame.dtype).max)
    return wide


def resized(
    frame: np.ndarray, short_side: int, *, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Resizes a frame as `sample_views` does before it crops, bilinearly.

    Args:
        frame: (H, W, C), uint8, uint16 or float in [0, 1].
        short_side: Length of the shorter side, in pixels.
        size: Height and width instead.

    Returns:
        (H', W', C) float32 in [0, 1].
    """
    frame = as_float(frame)
    height, width = frame.shape[:2]
    if size is None and min(height, width) == short_side:
        size = (height, width)
    elif size is None and height < width:
        size = (short_side, max(short_side, int(width / height * short_side)))
    elif size is None:
        size = (max(short_side, int(height / width * short_side)), short_side)
    if (height, width) == size:
        return frame
    return np.asarray(_resize(jnp.asarray(frame), size))


@functools.partial(jax.jit, static_argnums=1)
def _resize(frame: jax.Array, size: tuple[int, int]) -> jax.Array:
    return ops.resize(frame, size)
