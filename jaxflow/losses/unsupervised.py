"""Losses without ground truth: brightness, census and smoothness."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _shapes
from jaxflow.losses.masking import (
    check_flow,
    check_images,
    masked,
    masked_error,
    masked_mean,
)
from jaxflow.losses.penalties import Penalty, charbonnier


def photometric(
    image1: jax.Array,
    warped2: jax.Array,
    mask: jax.Array | None = None,
    *,
    penalty: Penalty = charbonnier,
) -> jax.Array:
    """Compares frame 1 with frame 2 warped onto it: brightness constancy.

    Yu et al., "Back to Basics: Unsupervised Learning of Optical Flow via Brightness
    Constancy and Motion Smoothness" (2016), Eq. 3.

    Args:
        image1: Frame 1, (B, H, W, C).
        warped2: Frame 2 as frame 1 would see it, alike.
        mask: Where both show the same surface, (B, H, W); None for everywhere.
        penalty: Maps differences (..., C) to (...).

    Returns:
        The mean over pixels that count, a scalar; 0 if none does.

    Examples:
        >>> frame = jnp.full((1, 4, 4, 3), 0.5)
        >>> round(jaxflow.losses.photometric(frame, frame + 0.1).item(), 3)
        0.3
    """
    check_images(image1, warped2, mask)
    error, mask = masked_error(warped2, image1, mask)
    return masked_mean(penalty(error), mask)


def census(
    image1: jax.Array,
    warped2: jax.Array,
    mask: jax.Array | None = None,
    *,
    radius: int = 3,
) -> jax.Array:
    """Compares each pixel's order among its neighbours, which lighting leaves alone.

        s(d) = d / sqrt(0.81 + d^2),  d = 255 (neighbour - centre)
        L    = mean charbonnier(sum_n (s1 - s2)^2 / (0.1 + (s1 - s2)^2))

    Meister et al., "UnFlow" (2018), Sec. 3.2: the soft ternary census transform. Pixels
    nearer to the border than `radius` do not count.

    Args:
        image1: Frame 1, (B, H, W, C); the census is taken of the mean over channels.
        warped2: Frame 2 as frame 1 would see it, alike.
        mask: Where both show the same surface, (B, H, W); None for everywhere.
        radius: Half the window: 3 compares with the 48 neighbours in 7x7.

    Returns:
        The mean over pixels that count, a scalar; 0 if none does.

    Examples:
        >>> frame = jax.random.uniform(jax.random.key(0), (1, 9, 9, 3))
        >>> same = jaxflow.losses.census(frame, frame)
        >>> brighter = jaxflow.losses.census(frame, frame + 0.1)
        >>> abs(brighter - same).item() < 1e-3
        True
    """
    check_images(image1, warped2, mask)
    _, height, width, _ = image1.shape
    counts = masked(image1, mask)[1]
    # A masked pixel may hold NaN, and it is also somebody's neighbour.
    warped2 = jnp.where(counts[..., None] > 0, warped2, image1)
    first, second = (
        255 * jnp.mean(image.astype(jnp.float32), axis=-1)
        for image in (image1, warped2)
    )
    inner = (slice(None), slice(radius, height - radius), slice(radius, width - radius))
    distance = jnp.zeros_like(first[inner])
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            window = (
                slice(None),
                slice(dy, dy + height - 2 * radius),
                slice(dx, dx + width - 2 * radius),
            )
            signs = [_soft_sign(gray[window] - gray[inner]) for gray in (first, second)]
            squared = jnp.square(signs[0] - signs[1])
            distance += squared / (0.1 + squared)
    return masked_mean(charbonnier(distance[..., None]), counts[inner])


def smoothness(
    flow: jax.Array,
    image: jax.Array,
    mask: jax.Array | None = None,
    *,
    edge_weight: float = 10.0,
    order: int = 1,
    penalty: Penalty = charbonnier,
) -> jax.Array:
    """Penalises flow that varies where the image does not.

        L = mean_axes mean_x exp(-edge_weight mean_c |D I|) penalty(D^order w)

    Jonschkowski et al., "What Matters in Unsupervised Optical Flow" (2020), Eq. 5,
    with forward differences D along x and along y.

    Args:
        flow: Flow, (B, H, W, 2).
        image: Frame 1 at the same size, (B, H, W, C), in [0, 1].
        mask: Pixels that count, (B, H, W): a difference counts if all its pixels do.
        edge_weight: How fast an edge of the image releases the flow.
        order: 1 prefers constant flow, 2 affine flow.
        penalty: Maps differences (..., 2) to (...).

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If `order` is neither 1 nor 2.

    Examples:
        >>> image, flow = jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4, 2))
        >>> ramp = flow * jnp.arange(4.0)[None, None, :, None]
        >>> [round(jaxflow.losses.smoothness(x, image).item(), 3) for x in (flow, ramp)]
        [0.002, 1.001]
    """
    if order not in (1, 2):
        raise ValueError(f"`order` must be 1 or 2; got {order!r}")
    check_flow(flow, mask, name="flow")
    _shapes.check("image", image, (*flow.shape[:-1], "C"))
    _shapes.check_floats(image=image)
    flow, mask = masked(flow, mask)
    image = image.astype(jnp.float32)
    total = jnp.zeros((), jnp.float32)
    for axis in (1, 2):
        slope, edge, counts = flow, image, mask
        for _ in range(order):
            counts = _ahead(counts, axis) * _behind(counts, axis)
            slope = _ahead(slope, axis) - _behind(slope, axis)
        edge = jnp.mean(jnp.abs(_ahead(edge, axis) - _behind(edge, axis)), axis=-1)
        if order == 2:
            edge = jnp.maximum(_ahead(edge, axis), _behind(edge, axis))
        total += 0.5 * masked_mean(
            jnp.exp(-edge_weight * edge) * penalty(slope), counts
        )
    return total


def _soft_sign(difference: jax.Array) -> jax.Array:
    return difference / jnp.sqrt(0.81 + jnp.square(difference))


def _ahead(x: jax.Array, axis: int) -> jax.Array:
    return lax.slice_in_dim(x, 1, None, axis=axis)


def _behind(x: jax.Array, axis: int) -> jax.Array:
    return lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
