"""The window around every pixel, gathered into channels."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxflow import _checks, _shapes


def extract_windows(
    image: jax.Array, size: int, *, padding: Literal["zeros", "border"] = "zeros"
) -> jax.Array:
    """Gathers the size x size window around every pixel, row by row.

    Args:
        image: Values, (*B, H, W, C).
        size: Side of the window, odd.
        padding: What lies beyond the image: "zeros", or "border" for the value of the
            nearest edge pixel.

    Returns:
        Windows, (*B, H, W, size^2, C): entry i size + j is the value at
        (x + j - size // 2, y + i - size // 2). Values are copied, never rounded.

    Raises:
        ValueError: If `size` is even or not positive, or `padding` is unknown.

    Examples:
        >>> image = jnp.arange(9.0).reshape(3, 3, 1)
        >>> jaxflow.ops.extract_windows(image, 3)[1, 1, :, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """
    _checks.one_of("padding", padding, ("zeros", "border"))
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size` must be odd and positive; got {size}")
    _shapes.check("image", image, (..., "H", "W", "C"))
    height, width = image.shape[-3:-1]
    radius = size // 2
    widths = [(0, 0)] * (image.ndim - 3) + [(radius, radius), (radius, radius), (0, 0)]
    mode = "constant" if padding == "zeros" else "edge"
    padded = jnp.pad(image, widths, mode=mode)
    return jnp.stack(
        [
            padded[..., i : i + height, j : j + width, :]
            for i in range(size)
            for j in range(size)
        ],
        axis=-2,
    )
