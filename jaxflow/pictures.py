"""Checks of the frames that people give: type, shape, range, finite numbers."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxflow import inference, spec


def check_frames(frame1: Any, frame2: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns two frames, or two batches of them, in one type: uint8 or float32.

    Raises:
        ValueError: As `check_frame`, or if they differ in size.
    """
    one, two = check_frame("frame1", frame1), check_frame("frame2", frame2)
    if one.shape != two.shape:
        raise ValueError(
            f"`frame1` and `frame2` must have one size; got {one.shape} and {two.shape}"
        )
    if one.dtype != two.dtype:
        one, two = (np.asarray(inference.as_float(frame)) for frame in (one, two))
    return one, two


def check_frame(name: str, frame: Any) -> np.ndarray:
    """Returns a frame, or a batch of them, as uint8 or float32.

    Args:
        name: Of the argument, for the message.
        frame: What was given; (…, H, W, 3) is wanted.

    Raises:
        ValueError: If it is of another type or shape, is empty, or holds values that
            are not finite or not in [0, 1].
    """
    array = np.asarray(frame)
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(np.float32)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"`{name}` must be uint8, or float in [0, 1]; got {array.dtype}: divide it "
            "by its largest possible value"
        )
    if array.ndim < 3 or array.shape[-1] != 3:
        raise ValueError(
            f"`{name}` must be (…, H, W, 3); got {array.shape}{_shape_advice(array)}"
        )
    if 0 in array.shape:
        raise ValueError(f"`{name}` must not be empty; got {array.shape}")
    spec.check_pixels(name, array)
    return array


def _shape_advice(array: np.ndarray) -> str:
    if array.ndim == 2 or array.shape[-1:] == (1,):
        return ": a gray picture, repeat it in three channels"
    if array.shape[-1:] == (4,):
        return ": drop the alpha channel, frame[..., :3]"
    if array.ndim >= 3 and array.shape[-3] == 3:
        return ": move the channels to the end, np.moveaxis(frame, -3, -1)"
    return ""
