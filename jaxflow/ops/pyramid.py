"""Gaussian blur and image pyramids.

Arrays are channels-last. `border` is as in `jaxflow.ops.stencil`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import _checks, _shapes
from jaxflow.ops import stencil
from jaxflow.ops.resize import resize

Border = stencil.Border

_BURT_ADELSON = np.array([1, 4, 6, 4, 1]) / 16


def gaussian_blur(
    image: jax.Array,
    sigma: float | jax.Array,
    *,
    truncate: float = 4.0,
    radius: int | None = None,
    border: Border = "edge",
) -> jax.Array:
    """Smooths with a sampled Gaussian, normalised to sum 1.

    The result is that of ``scipy.ndimage.gaussian_filter`` over height and width, and
    that of ``cv2.GaussianBlur`` with ksize = 2 radius + 1. A NaN makes its whole window
    NaN.

    Args:
        image: (*B, H, W, C), floating.
        sigma: Width of the Gaussian, in pixels; 0 leaves the image alone. It may be
            traced where `radius` is given, and must then be positive.
        truncate: Cuts the Gaussian off at this many sigmas.
        radius: Cuts it off at this many pixels instead.
        border: What lies beyond the image.

    Returns:
        (*B, H, W, C), in the dtype of `image`.

    Raises:
        ValueError: If `sigma` is negative, or `border` unknown.

    Examples:
        >>> point = jnp.zeros((1, 3, 1)).at[0, 1].set(1.0)
        >>> print(np.asarray(jaxflow.ops.gaussian_blur(point, 0.5))[0, :, 0].round(3))
        [0.106 0.787 0.106]
    """
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_floats(image=image)
    if not isinstance(sigma, jax.Array):
        if sigma == 0:
            return jnp.asarray(image)
        _checks.positive("sigma", sigma)
    if radius is None:
        radius = int(truncate * sigma + 0.5)
    weights = stencil.gaussian_kernel(sigma, radius=radius)
    return stencil.separable_filter(image, weights, weights, border=border)


def pyramid_down(image: jax.Array, *, border: Border = "reflect") -> jax.Array:
    """Smooths by [1 4 6 4 1] / 16 along both axes and keeps the even pixels.

    Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code" (1983). The result
    is that of ``cv2.pyrDown``. Pixel i of the result lies at pixel 2 i of `image`.

    Args:
        image: (*B, H, W, C), floating.
        border: What lies beyond the image.

    Returns:
        (*B, ceil(H / 2), ceil(W / 2), C), in the dtype of `image`.

    Raises:
        ValueError: If `border` is unknown.

    Examples:
        >>> jaxflow.ops.pyramid_down(jnp.ones((5, 7, 3))).shape
        (3, 4, 3)
    """
    smooth = stencil.separable_filter(
        image, _BURT_ADELSON, _BURT_ADELSON, border=border
    )
    return smooth[..., ::2, ::2, :]


def gaussian_pyramid(
    image: jax.Array,
    levels: int,
    *,
    scale: float | None = None,
    sigma: float | None = None,
    border: Border = "reflect",
) -> tuple[jax.Array, ...]:
    """Builds a pyramid, the finest level first.

    Args:
        image: (*B, H, W, C), floating: level 0.
        levels: How many levels, with the image itself.
        scale: Size of a level relative to the one below it, in (0, 1). Sizes round to
            nearest and are at least 1; the corners of the corner pixels stay where
            they are, as in ``cv2.resize``. None halves by `pyramid_down`.
        sigma: Blur before each shrinking, in pixels, for a given `scale`; 0 for none.
            None is 0.6 sqrt(1 / scale^2 - 1), after Morel and Yu (2009).
        border: What lies beyond the image.

    Returns:
        `levels` arrays, in the dtype of `image`.

    Raises:
        ValueError: If `levels` or `scale` is out of range, or `sigma` is given without
            `scale`.

    Examples:
        >>> levels = jaxflow.ops.gaussian_pyramid(jnp.ones((32, 48, 3)), 3)
        >>> [level.shape for level in levels]
        [(32, 48, 3), (16, 24, 3), (8, 12, 3)]
    """
    _checks.positive("levels", levels)
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_floats(image=image)
    pyramid = [image]
    if scale is None:
        if sigma is not None:
            raise ValueError(f"`sigma` needs a `scale`; got sigma={sigma!r}")
        for _ in range(levels - 1):
            pyramid.append(pyramid_down(pyramid[-1], border=border))
        return tuple(pyramid)
    if not 0 < scale < 1:
        raise ValueError(f"`scale` must be in (0, 1); got {scale!r}")
    width = 0.6 * (1 / scale**2 - 1) ** 0.5 if sigma is None else sigma
    for _ in range(levels - 1):
        rows, columns = pyramid[-1].shape[-3:-1]
        size = max(1, round(rows * scale)), max(1, round(columns * scale))
        smooth = gaussian_blur(pyramid[-1], width, border=border)
        pyramid.append(resize(smooth, size))
    return tuple(pyramid)
