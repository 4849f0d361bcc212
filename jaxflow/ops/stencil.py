"""Finite differences and small separable filters on images.

Arrays are channels-last; x runs to the right and y down, and derivatives are per
pixel. `border` says what lies beyond the image, in the words of `numpy.pad`:

    "edge"       aaa|abc|ccc   cv2.BORDER_REPLICATE     scipy "nearest"
    "reflect"    dcb|abcd|cba  cv2.BORDER_REFLECT_101   scipy "mirror"
    "symmetric"  cba|abc|cba   cv2.BORDER_REFLECT       scipy "reflect"
    "zeros"      000|abc|000   cv2.BORDER_CONSTANT      scipy "constant"
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _checks, _shapes

Border = Literal["edge", "reflect", "symmetric", "zeros"]
Kernel = Literal["central", "sobel", "scharr", "five_point", "forward", "backward"]
Laplacian = Literal["cross", "horn_schunck"]

_PAD_MODES = {
    "edge": "edge",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "zeros": "constant",
}
# Kernel -> (differences along the axis, smoothing across it).
_DERIVATIVES = {
    "central": (np.array([-1, 0, 1]) / 2, np.ones(1)),
    "sobel": (np.array([-1, 0, 1]) / 2, np.array([1, 2, 1]) / 4),
    "scharr": (np.array([-1, 0, 1]) / 2, np.array([3, 10, 3]) / 16),
    "five_point": (np.array([1, -8, 0, 8, -1]) / 12, np.ones(1)),
    "forward": (np.array([0, -1, 1]), np.ones(1)),
    "backward": (np.array([-1, 1, 0]), np.ones(1)),
}


def separable_filter(
    image: jax.Array,
    kernel_y: Sequence[float] | np.ndarray | jax.Array,
    kernel_x: Sequence[float] | np.ndarray | jax.Array,
    *,
    border: Border = "edge",
) -> jax.Array:
    """Correlates each channel with the outer product of two kernels (no flip).

    A NaN makes every result NaN whose weight for it is not 0.

    Args:
        image: (*B, H, W, C), floating.
        kernel_y: Weights along the height, an odd number of them.
        kernel_x: Weights along the width, an odd number of them.
        border: What lies beyond the image; see the head of this module.

    Returns:
        (*B, H, W, C), summed in at least float32, in the dtype of `image`.

    Raises:
        ValueError: If `border` is unknown or a kernel has no middle.

    Examples:
        >>> image = jnp.arange(9.0).reshape(3, 3, 1)
        >>> jaxflow.ops.separable_filter(image, [1.0], [0.5, 0.0, 0.5])[..., 0].tolist()
        [[0.5, 1.0, 1.5], [3.5, 4.0, 4.5], [6.5, 7.0, 7.5]]
    """
    _checks.one_of("border", border, _PAD_MODES)
    _shapes.check("image", image, (..., "H", "W", "C"))
    _shapes.check_floats(image=image)
    out = jnp.asarray(image).astype(
        jnp.float64 if image.dtype == jnp.float64 else jnp.float32
    )
    out = _correlate(out, kernel_y, -3, border)
    return _correlate(out, kernel_x, -2, border).astype(image.dtype)


def spatial_gradient(
    image: jax.Array, *, kernel: Kernel = "central", border: Border = "edge"
) -> tuple[jax.Array, jax.Array]:
    """Differentiates an image along x and y, per pixel.

        central     [-1 0 1] / 2
        sobel       the same, smoothed across by [1 2 1] / 4    (Sobel / 8)
        scharr      the same, smoothed across by [3 10 3] / 16  (Scharr / 32)
        five_point  [1 -8 0 8 -1] / 12, fourth-order accurate
        forward     f[i + 1] - f[i]
        backward    f[i] - f[i - 1]

    All are exact on linear images, away from the border. With "edge", "forward" is 0 in
    the last column (row), "backward" in the first, and "central" halves to one side.

    Args:
        image: (*B, H, W, C), floating.
        kernel: One of the above.
        border: What lies beyond the image; see the head of this module.

    Returns:
        The derivatives along x and along y, each (*B, H, W, C), in the dtype of the
        image.

    Raises:
        ValueError: If `kernel` or `border` is unknown.

    Examples:
        >>> ramp = jnp.arange(4.0)[None, :, None]
        >>> along_x, along_y = jaxflow.ops.spatial_gradient(ramp)
        >>> along_x[0, :, 0].tolist()
        [0.5, 1.0, 1.0, 0.5]
    """
    _checks.one_of("kernel", kernel, _DERIVATIVES)
    difference, smoothing = _DERIVATIVES[kernel]
    return (
        separable_filter(image, smoothing, difference, border=border),
        separable_filter(image, difference, smoothing, border=border),
    )


def divergence(field_x: jax.Array, field_y: jax.Array) -> jax.Array:
    """Computes the divergence of a vector field, by backward differences.

    It is minus the adjoint of the forward gradient of `spatial_gradient` with "edge":
    sum(gradient(f) . p) = -sum(f divergence(p)) for every f and p (Chambolle, "An
    Algorithm for Total Variation Minimization", 2004). For this the field counts as 0
    before the first and in the last column (row).

    Args:
        field_x: The x components, (*B, H, W, C), per pixel.
        field_y: The y components, of the same shape.

    Returns:
        (*B, H, W, C).

    Examples:
        >>> zero, ramp = jnp.zeros((3, 3, 1)), jnp.arange(9.0).reshape(3, 3, 1)
        >>> jaxflow.ops.divergence(ramp, zero)[1, 1].item()
        1.0
    """
    _shapes.check("field_x", field_x, (..., "H", "W", "C"))
    _shapes.check_floats(field_x=field_x, field_y=field_y)
    _shapes.check_equal(field_x=field_x, field_y=field_y)
    return _backward_difference(field_x, -2) + _backward_difference(field_y, -3)


def laplacian(
    image: jax.Array, *, kernel: Laplacian = "cross", border: Border = "edge"
) -> jax.Array:
    """Estimates the sum of second derivatives, per square pixel.

        cross           the four neighbours, minus 4 f
        horn_schunck    3 (mean - f), where the mean weighs the four neighbours 1/6 and
                        the diagonal ones 1/12 (Horn and Schunck, 1981, Sec. 8)

    Both are exact on quadratic images, away from the border.

    Args:
        image: (*B, H, W, C), floating.
        kernel: "cross" or "horn_schunck".
        border: What lies beyond the image; see the head of this module.

    Returns:
        (*B, H, W, C), in the dtype of `image`.

    Raises:
        ValueError: If `kernel` or `border` is unknown.

    Examples:
        >>> point = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
        >>> jaxflow.ops.laplacian(point)[..., 0].tolist()
        [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]
    """
    _checks.one_of("kernel", kernel, ("cross", "horn_schunck"))
    second, one = [1.0, -2.0, 1.0], [1.0]
    if kernel == "cross":
        along_x = separable_filter(image, one, second, border=border)
        return along_x + separable_filter(image, second, one, border=border)
    # [1 2 1]' [1 2 1] is 12 times the mean plus 4 times the middle.
    square = separable_filter(image, [1.0, 2.0, 1.0], [1.0, 2.0, 1.0], border=border)
    return square / 4 - 4 * image


def structure_tensor(
    image: jax.Array,
    *,
    sigma: float = 1.0,
    window: int | None = None,
    kernel: Kernel = "central",
    border: Border = "edge",
) -> jax.Array:
    """Averages the outer product of the gradient with itself over a window.

        J = W * [Ix Ix  Ix Iy; Ix Iy  Iy Iy],   summed over channels

    W is a Gaussian, cut at 4 sigma, or a box. Förstner and Gülch (1987).

    Args:
        image: (*B, H, W, C), floating.
        sigma: Width of the Gaussian, in pixels.
        window: Side of a box to use instead, in pixels, odd.
        kernel: How to differentiate; see `spatial_gradient`.
        border: What lies beyond the image, and beyond the products.

    Returns:
        (Jxx, Jxy, Jyy), stacked: (*B, H, W, 3), in the dtype of `image`.

    Raises:
        ValueError: If `kernel` or `border` is unknown, or `sigma` not positive.

    Examples:
        >>> stripes = jnp.tile(jnp.sin(jnp.arange(9.0))[:, None], (9, 1, 1))
        >>> tensor = jaxflow.ops.structure_tensor(stripes)
        >>> tensor.shape, tensor[4, 4, 1:].tolist()  # nothing varies along y
        ((9, 9, 3), [0.0, 0.0])
    """
    # Else the derivatives would be computed again for each product and channel.
    ix, iy = lax.optimization_barrier(
        spatial_gradient(image, kernel=kernel, border=border)
    )
    wide = jnp.float64 if image.dtype == jnp.float64 else jnp.float32
    ix, iy = ix.astype(wide), iy.astype(wide)
    products = [_sum_channels(a * b) for a, b in ((ix, ix), (ix, iy), (iy, iy))]
    if window is None:
        _checks.positive("sigma", sigma)
        weights = gaussian_kernel(sigma, radius=int(4 * sigma + 0.5))
    else:
        weights = np.full(window, 1 / window)
    smoothed = separable_filter(
        jnp.stack(products, axis=-1), weights, weights, border=border
    )
    return smoothed.astype(image.dtype)


def gaussian_kernel(sigma: float | jax.Array, *, radius: int) -> np.ndarray | jax.Array:
    """Samples a Gaussian at the integers from -radius to radius; the sum is 1.

    Args:
        sigma: Width, in pixels, positive; traced numbers are welcome.
        radius: How far the kernel reaches, in pixels.

    Returns:
        The 2 radius + 1 weights; float64 NumPy unless `sigma` is a JAX array.

    Examples:
        >>> print(jaxflow.ops.gaussian_kernel(1.0, radius=1).round(3))
        [0.274 0.452 0.274]
    """
    offsets = np.arange(-radius, radius + 1)
    if isinstance(sigma, jax.Array):
        weights = jnp.exp(-0.5 * jnp.square(jnp.asarray(offsets, sigma.dtype) / sigma))
    else:
        weights = np.exp(-0.5 * np.square(offsets / sigma))
    return weights / weights.sum()


def _sum_channels(x: jax.Array) -> jax.Array:
    """Sums the last axis: a short one by slices, 20 times faster on a CPU."""
    channels = x.shape[-1]
    if channels > 8:
        return jnp.sum(x, axis=-1)
    return functools.reduce(jnp.add, [x[..., c] for c in range(channels)])


def _correlate(
    x: jax.Array, kernel: Sequence[float] | np.ndarray | jax.Array, axis: int, border
) -> jax.Array:
    """Correlates one axis with a kernel."""
    count = len(kernel)
    if count % 2 == 0:
        raise ValueError(f"a kernel must have an odd number of weights; got {count}")
    if count > 1:
        x = _pad(x, count // 2, axis, _PAD_MODES[border])
    if count > 3:
        # Fused into the sum, what computes `x` would run once per tap.
        x = lax.optimization_barrier(x)
    if isinstance(kernel, jax.Array):
        return _slide(x, kernel, axis)
    kernel = np.asarray(kernel, np.float64)

    @jax.custom_jvp
    def slide(x):
        return _slide(x, kernel, axis)

    @slide.defjvp
    def _(primals, tangents):
        # Written as the transpose of the adjoint, so that reverse mode runs the
        # adjoint: one fused sum, where JAX would add up an array per tap.
        out = slide(*primals)

        def adjoint(g):
            padded = _pad(g, count - 1, axis, "constant")
            if count > 3:
                padded = lax.optimization_barrier(padded)
            return _slide(padded, kernel[::-1], axis)

        return out, *jax.linear_transpose(adjoint, out)(*tangents)

    return slide(x)


def _pad(x: jax.Array, width: int, axis: int, mode: str) -> jax.Array:
    """Pads both ends of one axis."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (width, width)
    return jnp.pad(x, pads, mode=mode)


def _slide(x: jax.Array, kernel: np.ndarray | jax.Array, axis: int) -> jax.Array:
    """Correlates one axis with a kernel, wherever it lies inside."""
    extent = x.shape[axis] - len(kernel) + 1
    out = jnp.zeros((), x.dtype)
    for k in range(len(kernel)):
        if isinstance(kernel, jax.Array) or kernel[k] != 0:
            shifted = lax.slice_in_dim(x, k, k + extent, axis=axis)
            out += jnp.asarray(kernel[k], x.dtype) * shifted
    return out


def _backward_difference(p: jax.Array, axis: int) -> jax.Array:
    """f[i] - f[i - 1], the last f being 0, and the one before the first."""
    inner = lax.slice_in_dim(p, 0, p.shape[axis] - 1, axis=axis)
    before, after = [(0, 0)] * p.ndim, [(0, 0)] * p.ndim
    before[axis], after[axis] = (1, 0), (0, 1)
    return jnp.pad(inner, after) - jnp.pad(inner, before)
