"""The median filter, as a network of minima and maxima."""

import functools

import jax
import jax.numpy as jnp

from jaxflow import _shapes


def median_filter(image: jax.Array, *, size: int = 5) -> jax.Array:
    """Replaces every value by the median of the window around it.

    The edge is repeated outwards, as in ``cv2.medianBlur``. The gradient goes to the
    pixel that was taken, in equal parts where several are equal to it. A NaN spreads to
    every window that holds it.

    Args:
        image: Values, (*B, H, W, C), floating.
        size: Side of the window, odd.

    Returns:
        (*B, H, W, C).

    Raises:
        ValueError: If `size` is even or not positive.

    Examples:
        >>> image = jnp.zeros((5, 5, 1)).at[2, 2].set(9.0)
        >>> jaxflow.classical.median.median_filter(image, size=3).max().item()
        0.0
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size` must be odd and positive; got {size}")
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_floats(image=image)
    return image if size == 1 else _median(image, size)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _median(image: jax.Array, size: int) -> jax.Array:
    # Forgetful selection: of any ceil(n/2) + 1 of n values neither the least nor the
    # greatest is the median. Sorting 25 values a pixel takes 50 times as long.
    values = _windows(image, size)
    count = len(values) // 2 + 2
    pool, rest = values[:count], values[count:]
    while len(pool) > 1:
        pool = _without_extremes(pool) + rest[:1]
        rest = rest[1:]
    return pool[0]


@_median.defjvp
def _median_jvp(size, primals, tangents):
    # The network's own derivative would be a graph of hundreds of selections.
    (image,), (tangent,) = primals, tangents
    median = _median(image, size)
    total = count = jnp.zeros_like(image)
    for value, slope in zip(
        _windows(image, size), _windows(tangent, size), strict=True
    ):
        taken = value == median
        count += taken.astype(image.dtype)
        total += jnp.where(taken, slope, 0)
    return median, total / jnp.maximum(count, 1)


def _windows(image: jax.Array, size: int) -> list[jax.Array]:
    """Lists the image shifted to every position of the window."""
    height, width = image.shape[-3:-1]
    radius = size // 2
    margin = [(0, 0)] * (image.ndim - 3) + [(radius, radius), (radius, radius), (0, 0)]
    padded = jnp.pad(image, margin, mode="edge")
    return [
        padded[..., i : i + height, j : j + width, :]
        for i in range(size)
        for j in range(size)
    ]


def _without_extremes(values: list[jax.Array]) -> list[jax.Array]:
    """Drops the least and the greatest value at every pixel."""
    half = len(values) // 2
    middle = values[half : len(values) - half]
    pairs = list(zip(values[:half], values[-half:], strict=True))
    low = [jnp.minimum(a, b) for a, b in pairs] + middle
    high = [jnp.maximum(a, b) for a, b in pairs]
    least, kept = low[0], []
    for value in low[1:]:
        kept.append(jnp.maximum(least, value))
        least = jnp.minimum(least, value)
    if middle:
        # What is left of the unpaired value may yet be the greatest.
        high.append(kept.pop())
    greatest = high[0]
    for value in high[1:]:
        kept.append(jnp.minimum(greatest, value))
        greatest = jnp.maximum(greatest, value)
    return kept
