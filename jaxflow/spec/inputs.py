"""The checks of what a network is given, at trace time but for those of values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxflow.spec.records import Frames

# How far beyond [0, 1] a float frame may stray: what filters and rounding leave.
_SLACK = 1e-2


def check_pair(
    image1: jax.Array, image2: jax.Array, frames: Frames
) -> tuple[jax.Array, jax.Array]:
    """Verifies what a flow network is given, at trace time, and makes it float32.

    Args:
        image1: Frame 1; must be (B, H, W, 3) and floating.
        image2: Frame 2; must be alike.
        frames: Whose `multiple` and `minimum` the size must obey.

    Returns:
        Both frames in float32: their type does not decide how a network computes.

    Raises:
        ValueError: If a shape, a size or a type is not what the network takes.
    """
    if image1.shape != image2.shape or image1.dtype != image2.dtype:
        raise ValueError(
            "`image1` and `image2` must be alike; got "
            f"{image1.dtype}{image1.shape} and {image2.dtype}{image2.shape}"
        )
    if image1.ndim != 4 or image1.shape[-1] != 3:
        raise ValueError(f"`image1` must be (B, H, W, 3); got {image1.shape}")
    if not jnp.issubdtype(image1.dtype, jnp.floating):
        raise ValueError(f"`image1` must be floating, in [0, 1]; got {image1.dtype}")
    size = image1.shape[-3:-1]
    if any(
        n % frames.multiple or n < least
        for n, least in zip(size, frames.minimum, strict=True)
    ):
        raise ValueError(
            f"`image1` must have height and width of at least {frames.minimum} that "
            f"are multiples of {frames.multiple}; got {size}: resize or pad it, or "
            "call jaxflow.estimate_flow, which does"
        )
    return jnp.asarray(image1, jnp.float32), jnp.asarray(image2, jnp.float32)


def check_clip(
    clip: jax.Array,
    *,
    channels: int = 3,
    minimum: tuple[int, int, int] = (1, 1, 1),
) -> jax.Array:
    """Verifies what a recognition network is given, at trace time, as float32.

    Args:
        clip: The clip; must be (B, T, H, W, channels) and floating.
        channels: 3 for RGB, 2 for flow.
        minimum: Least T, H and W that the network's strides leave something of.

    Returns:
        The clip in float32: its type does not decide how a network computes.

    Raises:
        ValueError: If the shape, a size or the type is not what the network takes.
    """
    shape, dtype = jnp.shape(clip), jnp.result_type(clip)
    if len(shape) != 5 or shape[-1] != channels:
        advice = ": add a batch axis, clip[None]" if len(shape) == 4 else ""
        raise ValueError(
            f"`clip` must be (B, T, H, W, {channels}); got {shape}{advice}"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"`clip` must be floating, in [0, 1]; got {dtype}: divide 8-bit frames by "
            "255, or call jaxflow.classify_video, which does"
        )
    if any(n < least for n, least in zip(shape[1:4], minimum, strict=True)):
        frames, height, width = minimum
        raise ValueError(
            f"`clip` must have at least {frames} frames of {height} x {width} pixels "
            f"for this network; got {shape[1]} of {shape[2]} x {shape[3]}"
        )
    return jnp.asarray(clip, jnp.float32)


def check_fixed_clip(clip: jax.Array, *, frames: int, side: int) -> jax.Array:
    """Verifies a clip for a network whose dense layers fix its length and its size.

    Args:
        clip: The clip; must be (B, frames, side, side, 3) and floating.
        frames: `num_frames` of the config.
        side: `crop_size` of the config.

    Returns:
        The clip in float32.

    Raises:
        ValueError: If the shape or the type is not what the network takes.
    """
    clip = check_clip(clip)
    if clip.shape[1:] != (frames, side, side, 3):
        raise ValueError(
            f"`clip` must be (B, {frames}, {side}, {side}, 3), which the dense layers "
            f"fix; got {clip.shape}: crop it, or set crop_size and num_frames"
        )
    return clip


def check_pixels(name: str, pixels: jax.Array | np.ndarray) -> None:
    """Verifies the values of frames outside of `jax.jit`, which cannot.

    Args:
        name: Of the argument, for the message.
        pixels: Floating frames of any shape, concrete.

    Raises:
        ValueError: If a value is NaN or infinite, or not in [0, 1] but for what
            filters and rounding leave.
    """
    if isinstance(pixels, core.Tracer) or not pixels.size:
        return
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        return
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"`{name}` must be finite; it contains NaN or infinity")
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(
            f"`{name}` must be in [0, 1] if it is float; got {low:g} to {high:g}: "
            "divide 8-bit pictures by 255"
        )
