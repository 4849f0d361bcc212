"""Colour changes, noise and erasing: augmentation that leaves every point in place.

Images are (H, W, 3), RGB in [0, 1]; `jaxflow.data.augment` applies these to a sample.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import ops
from jaxflow.data import draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chroma:
    """Ranges of the colour changes of FlowNet, in this order.

    Frame 2 changes by the same, and a little more: normal numbers of standard deviation
    `relative`, in the logarithm except for the brightness.

    Attributes:
        colour: Smallest and largest factor of each channel; the mean stays.
        gamma: Smallest and largest exponent.
        brightness: Standard deviation of what is added.
        contrast: Smallest and largest factor of the distance from one half, less 1.
        relative: See above.
    """

    colour: tuple[float, float] = (0.5, 2.0)
    gamma: tuple[float, float] = (0.7, 1.5)
    brightness: float = 0.2
    contrast: tuple[float, float] = (-0.8, 0.4)
    relative: float = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jitter:
    """Ranges of RAFT's colour changes.

    Attributes:
        brightness: Largest deviation of the factor from 1.
        contrast: Likewise, of the distance from the mean grey.
        saturation: Likewise, of the distance from the pixel's grey.
        hue: Largest shift of the hue, in turns.
        asymmetric: Probability that the frames change independently.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.5 / math.pi
    asymmetric: float = 0.2


def as_float(image: jax.Array) -> jax.Array:
    """Returns frames in [0, 1]: uint8 by 255 in float32, and floats as they are.

    Raises:
        ValueError: If they are of another type.
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"frames must be uint8 or float; got {image.dtype}")
    return image


def change_chroma(
    key: jax.Array,
    image1: jax.Array,
    image2: jax.Array,
    *,
    ranges: Chroma = Chroma(),
    strength: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Changes colour, gamma, brightness and contrast as FlowNet does.

    The ranges are the paper's, on RGB; the released code of FlowNet2 also rotates and
    stretches colours in the frame of their principal components, which is left out.

    Args:
        key: Random key.
        image1: Frame 1, (H, W, 3) in [0, 1].
        image2: Frame 2.
        ranges: What to draw from.
        strength: Scales the ranges.

    Returns:
        Both frames, in [0, 1].
    """
    u = draws.uniform(key, colour=(3,), scalar=(3,), more_colour=(3,), more=(3,))
    low, high = (math.log(limit) for limit in ranges.colour)
    colour = strength * draws.between(u["colour"], low, high)
    low, high = (math.log(limit) for limit in ranges.gamma)
    gamma = strength * draws.between(u["scalar"][0], low, high)
    brightness = strength * ranges.brightness * draws.normal(u["scalar"][1])
    contrast = 1 + strength * draws.between(u["scalar"][2], *ranges.contrast)
    first = _apply_chroma(image1, jnp.exp(colour), jnp.exp(gamma), brightness, contrast)
    step = strength * ranges.relative
    colour = colour + step * draws.normal(u["more_colour"])
    more = step * draws.normal(u["more"])
    gamma, brightness = gamma + more[0], brightness + more[1]
    contrast = contrast * jnp.exp(more[2])
    second = _apply_chroma(
        image2, jnp.exp(colour), jnp.exp(gamma), brightness, contrast
    )
    return first, second


def jitter_colours(
    key: jax.Array,
    image1: jax.Array,
    image2: jax.Array,
    *,
    ranges: Jitter = Jitter(),
) -> tuple[jax.Array, jax.Array]:
    """Changes brightness, contrast, saturation and hue, in this order, as RAFT does.

    The official code draws the order too; here it is fixed, which compiles once.

    Args:
        key: Random key.
        image1: Frame 1, (H, W, 3) in [0, 1].
        image2: Frame 2.
        ranges: What to draw from.

    Returns:
        Both frames, in [0, 1].
    """
    u = draws.uniform(key, factors=(2, 4), asymmetric=())
    spread = jnp.array(
        [ranges.brightness, ranges.contrast, ranges.saturation, ranges.hue], float
    )
    still = jnp.array([[1.0, 1.0, 1.0, 0.0]])
    factors = (2 * u["factors"] - 1) * spread[None] + still
    apart = u["asymmetric"] < ranges.asymmetric
    second = jnp.where(apart, factors[1], factors[0])
    mean1, mean2 = (jnp.mean(_grey(image)) for image in (image1, image2))
    both = (mean1 + mean2) / 2
    mean1, mean2 = jnp.where(apart, mean1, both), jnp.where(apart, mean2, both)
    first = apply_jitter(image1, factors[0], mean=mean1)
    return first, apply_jitter(image2, second, mean=mean2)


def add_noise(
    key: jax.Array,
    image1: jax.Array,
    image2: jax.Array,
    *,
    largest: float | jax.Array = 0.06,
) -> tuple[jax.Array, jax.Array]:
    """Adds white noise of one standard deviation, U(0, `largest`), to both frames.

    Returns:
        Both frames, clipped to [0, 1].
    """
    level, noise1, noise2 = jax.random.split(key, 3)
    sigma = jnp.asarray(largest, image1.dtype) * jax.random.uniform(
        level, dtype=image1.dtype
    )
    first = image1 + sigma * jax.random.normal(noise1, image1.shape, image1.dtype)
    second = image2 + sigma * jax.random.normal(noise2, image2.shape, image2.dtype)
    return jnp.clip(first, 0.0, 1.0), jnp.clip(second, 0.0, 1.0)


def erase_boxes(
    key: jax.Array,
    image: jax.Array,
    *,
    probability: float = 0.5,
    sides: tuple[int, int] = (50, 100),
) -> jax.Array:
    """Paints one or two boxes of a frame in its mean colour, as if occluded.

    Args:
        key: Random key.
        image: (H, W, 3).
        probability: That there are any.
        sides: Smallest and largest side of a box, in pixels. A box begins anywhere in
            the frame and is cut off at its border.

    Returns:
        The frame.
    """
    height, width = image.shape[:2]
    u = draws.uniform(key, any=(), two=(), corner=(2, 2), side=(2, 2))
    corner = jnp.floor(u["corner"] * jnp.array([[width, height]], float))
    side = jnp.floor(draws.between(u["side"], sides[0], sides[1]))
    present = jnp.stack([u["any"] < probability] * 2)
    present &= jnp.stack([jnp.array(True), u["two"] < 0.5])
    grid = ops.pixel_grid(height, width)[..., None, :]
    first, last = corner[None, None], (corner + side)[None, None]
    covered = jnp.all((grid >= first) & (grid < last), axis=-1)
    covered = jnp.any(covered & present[None, None], axis=-1, keepdims=True)
    return jnp.where(covered, jnp.mean(image, axis=(0, 1), keepdims=True), image)


def apply_jitter(
    image: jax.Array, factors: jax.Array, *, mean: jax.Array | float | None = None
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue by given amounts, in this order.

    Args:
        image: (..., H, W, 3) RGB in [0, 1].
        factors: Of brightness, of the distance from the mean grey, and of the distance
            from the pixel's grey; and a shift of the hue, in turns.
        mean: The mean grey of `image`; None computes that of each frame.

    Returns:
        The frames, in [0, 1].
    """
    brightness, contrast, saturation, hue = factors
    if mean is None:
        mean = jnp.mean(_grey(image), (-3, -2, -1), keepdims=True)
    middle = brightness * jnp.asarray(mean)
    image = jnp.clip(image * brightness, 0.0, 1.0)
    image = jnp.clip(middle + contrast * (image - middle), 0.0, 1.0)
    grey = _grey(image)
    image = jnp.clip(grey + saturation * (image - grey), 0.0, 1.0)
    return shift_hue(image, hue)


def shift_hue(image: jax.Array, turns: float | jax.Array) -> jax.Array:
    """Turns the hue of an image, keeping its value and saturation in HSV.

    Args:
        image: (..., 3) RGB in [0, 1].
        turns: Shift, in turns of the colour circle: 1/3 takes red to green.
    """
    red, green, blue = jnp.moveaxis(image, -1, 0)
    value = jnp.max(image, axis=-1)
    chroma = value - jnp.min(image, axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1.0)
    # The three agree where they meet, so that rounding decides nothing. Whether a
    # channel equals the maximum it would: a compiler may compute the two apart.
    hue = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / safe,
        jnp.where(green >= blue, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turns

    def channel(n):
        k = (n + hue) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0.0, 1.0)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def _apply_chroma(image, colour, gamma, brightness, contrast):
    """Colour, gamma, brightness, contrast: FlowNet's order."""
    eps = 1e-6
    coloured = image * lax.broadcast_to_rank(colour, image.ndim)
    keep = jnp.mean(image, axis=-1, keepdims=True)
    keep = keep / (jnp.mean(coloured, axis=-1, keepdims=True) + eps)
    image = jnp.clip(coloured * keep, eps, 1.0) ** gamma + brightness
    return jnp.clip(0.5 + (image - 0.5) * contrast, 0.0, 1.0)


def _grey(image):
    """Returns the luma of ITU-R 601, (H, W, 1)."""
    weights = jnp.array([0.299, 0.587, 0.114], image.dtype)
    weights = lax.broadcast_to_rank(weights, image.ndim)
    return jnp.sum(image * weights, axis=-1, keepdims=True)
