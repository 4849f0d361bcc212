"""What JPEG takes from a picture, computed on the device.

Blocks of 8x8 pixels, their cosines rounded: the loss of a file, without the file.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _shapes

_SIDE = 8

# ITU-T T.81 (1992), Annex K: tables K.1 and K.2. Rows are vertical frequencies.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
# ITU-T T.871 (JFIF): the luma of BT.601 and what blue and red differ from it by.
_TO_YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ]
)


def compress(image: jax.Array, quality: int | jax.Array) -> jax.Array:
    """Loses what a JPEG file of a picture loses.

    ITU-T T.81 (1992): the picture in 8 bits, as YCbCr; the cosine transform of blocks
    of 8x8 pixels; each coefficient rounded to multiples of a step; and back. The steps
    are those of Annex K, scaled by the quality as libjpeg does. All three channels have
    all their pixels (4:4:4). The gradient is 0 in both arguments.

    Args:
        image: (*B, H, W, 3), RGB in [0, 1]. Where a side is no multiple of 8, its last
            row or column is repeated, and what was added is cut off again.
        quality: From 1 to 100, as libjpeg counts; less is taken as 1, more as 100.

    Returns:
        The picture in 256 levels of each channel, in [0, 1] and of the type of `image`.

    Raises:
        ValueError: If `image` is not of that shape.

    Examples:
        >>> ramp = jnp.broadcast_to(jnp.arange(64.0)[:, None, None] / 63, (64, 64, 3))
        >>> jpeg = jaxflow.data.jpeg
        >>> fine, coarse = (jpeg.compress(ramp, quality) for quality in (95, 5))
        >>> bool(jnp.abs(fine - ramp).max() < 0.01 < jnp.abs(coarse - ramp).max())
        True
    """
    _shapes.check("image", image, (..., None, None, 3))
    height, width = image.shape[-3:-1]
    levels = jnp.rint(255 * image.astype(jnp.float32))
    grey = lax.broadcast_to_rank(jnp.array([128.0, 0.0, 0.0]), image.ndim)
    planes = jnp.rint(_mix(levels, _TO_YCBCR)) - grey
    edges = [(0, 0)] * (image.ndim - 3) + [(0, -n % _SIDE) for n in (height, width)]
    planes = jnp.pad(planes, [*edges, (0, 0)], mode="edge")
    blocks = planes.reshape(
        *image.shape[:-3], planes.shape[-3] // _SIDE, _SIDE, -1, _SIDE, 3
    )
    steps = lax.broadcast_to_rank(_steps(quality), blocks.ndim)
    numbers = _transform(blocks, _cosines()) / steps
    # Halves go away from zero, as in libjpeg.
    coefficients = steps * jnp.trunc(numbers + jnp.copysign(0.5, numbers))
    planes = _transform(coefficients, _cosines().T).reshape(planes.shape)
    planes = jnp.clip(jnp.rint(planes[..., :height, :width, :]), -128, 127)
    levels = _mix(planes + grey, np.linalg.inv(_TO_YCBCR))
    return (jnp.clip(jnp.rint(levels), 0, 255) / 255).astype(image.dtype)


def _steps(quality: int | jax.Array) -> jax.Array:
    """Returns the steps of each channel, (8, 1, 8, 3), as libjpeg scales them."""
    tables = np.stack([_LUMINANCE, _CHROMINANCE, _CHROMINANCE], axis=-1)[:, None]
    quality = jnp.clip(jnp.asarray(quality, jnp.float32), 1, 100)
    percent = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    scaled = jnp.asarray(tables, jnp.float32) * percent
    return jnp.clip(jnp.floor((scaled + 50) / 100), 1, 255)


def _cosines() -> np.ndarray:
    """Returns the cosine transform of 8 numbers: orthogonal, a row a frequency."""
    frequency, place = np.mgrid[:_SIDE, :_SIDE]
    rows = np.cos(math.pi * frequency * (2 * place + 1) / (2 * _SIDE))
    rows[0] /= math.sqrt(2)
    return rows * math.sqrt(2 / _SIDE)


def _transform(blocks: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Multiplies rows and columns of (..., m, 8, n, 8, 3) blocks by a matrix."""
    weights = jnp.asarray(matrix, blocks.dtype)
    return jnp.einsum(
        "ui,vj,...minjc->...munvc", weights, weights, blocks,
        precision=lax.Precision.HIGHEST,
    )  # fmt: skip


def _mix(colours: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Multiplies the channels of a picture by a matrix."""
    weights = jnp.asarray(matrix, colours.dtype)
    return jnp.einsum(
        "kc,...c->...k", weights, colours, precision=lax.Precision.HIGHEST
    )
