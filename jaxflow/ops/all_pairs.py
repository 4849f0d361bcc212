"""Correlation between all pairs of pixels of two feature maps, and how it is looked up.

Teed and Deng, "RAFT" (2020), Sec. 3.2. Points are (x, y) in pixels of the feature map.
Products are summed in float32 at least, and results have the dtype of the first feature
map. What compares a pixel with its neighbourhood only is in `jaxflow.ops.correlation`.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.ops.correlation import accumulator


def all_pairs_correlation(features1: jax.Array, features2: jax.Array) -> jax.Array:
    """Compares each pixel of map 1 with each of map 2: <f1, f2> / sqrt(C).

    Teed and Deng, "RAFT" (2020), Eq. 1, with the scale of the released code.

    Args:
        features1: Map 1, (*B, H1, W1, C).
        features2: Map 2, (*B, H2, W2, C).

    Returns:
        (*B, H1, W1, H2, W2).

    Raises:
        ValueError: If batch axes or channels differ.

    Examples:
        >>> features = jnp.eye(4).reshape(2, 2, 4)
        >>> volume = jaxflow.ops.all_pairs_correlation(features, features)
        >>> volume.shape
        (2, 2, 2, 2)
        >>> volume[0, 1].tolist()  # it meets itself, and nothing else
        [[0.0, 0.5], [0.0, 0.0]]
    """
    _shapes.check("features1", features1, (..., "H", "W", "C"))
    *batch, height, width, features = features1.shape
    _shapes.check("features2", features2, (*batch, "H", "W", features))
    _shapes.check_floats(features1=features1, features2=features2)
    one = features1.reshape(*batch, height * width, features)
    two = features2.reshape(*batch, math.prod(features2.shape[-3:-1]), features)
    # A map is smaller than the volume, but half precision would be rounded once more.
    scale, single = 1 / math.sqrt(max(features, 1)), jnp.finfo(one.dtype).bits >= 32
    volume = jnp.einsum(
        "...nc,...mc->...nm",
        scale * one if single else one,
        two,
        preferred_element_type=accumulator(one),
    )
    volume = (volume if single else scale * volume).astype(features1.dtype)
    return volume.reshape(*batch, height, width, *features2.shape[-3:-1])


def correlation_pyramid(volume: jax.Array, levels: int) -> list[jax.Array]:
    """Halves the target axes of an all-pairs volume, again and again.

    Level l averages blocks of 2^l x 2^l target pixels; an odd last row or column is
    dropped.

    Args:
        volume: From `all_pairs_correlation`, (*B, H1, W1, H2, W2).
        levels: Number of levels, the volume itself included.

    Returns:
        One volume a level, finest first.

    Raises:
        ValueError: If `levels` is less than 1, or the target too small for so many.

    Examples:
        >>> volume = jnp.ones((2, 2, 4, 6))
        >>> [level.shape for level in jaxflow.ops.correlation_pyramid(volume, 3)]
        [(2, 2, 4, 6), (2, 2, 2, 3), (2, 2, 1, 1)]
    """
    _shapes.check("volume", volume, (..., "H1", "W1", "H2", "W2"))
    _shapes.check_floats(volume=volume)
    levels = _checks.whole("levels", levels, least=1)
    pyramid = [volume]
    for _ in range(levels - 1):
        height, width = pyramid[-1].shape[-2:]
        if min(height, width) < 2:
            raise ValueError(
                f"`levels` must be at most {len(pyramid)} for a target of "
                f"{volume.shape[-2:]} pixels; got {levels}"
            )
        even = pyramid[-1][..., : height // 2 * 2, : width // 2 * 2]
        blocks = even.reshape(*even.shape[:-2], height // 2, 2, width // 2, 2)
        pyramid.append(blocks.mean(axis=(-3, -1)))
    return pyramid


def lookup(
    pyramid: Sequence[jax.Array], points: jax.Array, *, radius: int
) -> jax.Array:
    """Reads each pixel's correlations around the point where it is thought to be.

    Teed and Deng, "RAFT" (2020), Sec. 3.2. The volume is read bilinearly, with zeros
    outside the target. Channel k = level (2 r + 1)^2 + i (2 r + 1) + j holds the
    displacement (i - r, j - r) in pixels of the level: x is the slow one, as in the
    released weights. The result is differentiable in both arguments.

    Args:
        pyramid: From `correlation_pyramid`, each (*B, H, W, H_l, W_l).
        points: Current match of every pixel, (*B, H, W, 2): (x, y) in pixels of level
            0. A point that is not finite reads zeros or NaN. Half-precision points are
            widened to float32 first.
        radius: Number r of displacements to each side.

    Returns:
        (*B, H, W, levels (2 r + 1)^2), in the dtype of the pyramid.

    Raises:
        ValueError: If the shapes do not fit, a level has no pixels or there is none,
            or `radius` is negative or not whole.

    Examples:
        >>> volume = jnp.arange(12.0).reshape(1, 1, 3, 4)
        >>> point = jnp.array([[[2.0, 1.0]]])
        >>> jaxflow.ops.lookup([volume], point, radius=0).item()
        6.0
        >>> jaxflow.ops.lookup([volume], point + 0.5, radius=0).item()
        8.5
    """
    radius = _checks.whole("radius", radius, least=0)
    _check_levels("pyramid", pyramid)
    for level, volume in enumerate(pyramid):
        name = f"pyramid[{level}]"
        _shapes.check(name, volume, (..., "H", "W", "H2", "W2"))
        _shapes.check_pixels(name, volume, axes=(-2, -1))
        _shapes.check_floats(**{name: volume})
        _shapes.check("points", points, (*volume.shape[:-2], 2))
    _shapes.check_floats(points=points)
    # Half precision cannot tell a pixel from its neighbours.
    points = jnp.asarray(points).astype(accumulator(points))
    return jnp.concatenate(
        [
            _lookup_level(volume, points / 2**level, radius)
            for level, volume in enumerate(pyramid)
        ],
        axis=-1,
    )


def lookup_on_demand(
    features1: jax.Array,
    features2_pyramid: Sequence[jax.Array],
    points: jax.Array,
    *,
    radius: int,
) -> jax.Array:
    """Computes what `lookup` would read, without ever holding the volume.

    The memory grows with the number of pixels and not with its square. In return the
    correlations are computed again at each call. Level l of the pyramid is map 2
    averaged over 2^l x 2^l pixels: the mean commutes with the product.

    Args:
        features1: Map 1, (*B, H, W, C).
        features2_pyramid: Map 2 at each level, (*B, H_l, W_l, C), finest first.
        points: Current match of every pixel, (*B, H, W, 2): (x, y) in pixels of level
            0. Half-precision points are widened to float32 first.
        radius: Number of displacements to each side.

    Returns:
        (*B, H, W, levels (2 r + 1)^2), as `lookup` orders them.

    Raises:
        ValueError: If the shapes do not fit, a level has no pixels or there is none,
            or `radius` is negative or not whole.

    Examples:
        >>> features = jnp.eye(4).reshape(2, 2, 4)
        >>> still = jaxflow.ops.pixel_grid(2, 2)
        >>> found = jaxflow.ops.lookup_on_demand(features, [features], still, radius=0)
        >>> found[..., 0].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    _shapes.check("features1", features1, (..., "H", "W", "C"))
    _shapes.check("points", points, (*features1.shape[:-1], 2))
    _shapes.check_floats(features1=features1, points=points)
    radius = _checks.whole("radius", radius, least=0)
    _check_levels("features2_pyramid", features2_pyramid)
    *batch, height, width, features = features1.shape
    examples = math.prod(batch)
    one = features1.reshape(examples, height * width, features)
    # Half precision cannot tell a pixel from its neighbours.
    points = points.reshape(examples, height * width, 2).astype(accumulator(points))
    levels = []
    for level, features2 in enumerate(features2_pyramid):
        name = f"features2_pyramid[{level}]"
        _shapes.check(name, features2, (*batch, "H", "W", features))
        _shapes.check_pixels(name, features2, axes=(-3, -2))
        _shapes.check_floats(**{name: features2})
        two = features2.reshape(examples, *features2.shape[-3:])
        match = functools.partial(_match_level, radius=radius)
        levels.append(jax.vmap(match)(one, two, points / 2**level))
    out = jnp.concatenate(levels, axis=-1) / math.sqrt(max(features, 1))
    out = out.astype(features1.dtype)
    return out.reshape(*batch, height, width, out.shape[-1])


def _check_levels(name, pyramid):
    if not len(pyramid):
        raise ValueError(f"`{name}` must have one level or more; got {pyramid!r}")


def _window(points, radius, height, width):
    """Returns rows, columns and whether they exist, and the weights of the far ones.

    Rows and columns are the 2 r + 2 that surround each of N points, (N, 2 r + 2).
    """
    corner = jnp.floor(points)
    weight = points - corner
    offsets = jnp.arange(-radius, radius + 2, dtype=points.dtype)[None, :]
    columns = corner[..., :1] + offsets
    rows = corner[..., 1:] + offsets
    has_column = (columns >= 0) & (columns < width)
    has_row = (rows >= 0) & (rows < height)
    columns = jnp.clip(columns, 0, width - 1).astype(jnp.int32)
    rows = jnp.clip(rows, 0, height - 1).astype(jnp.int32)
    return rows, columns, has_row, has_column, weight


def _blend(values, weight):
    """Blends (*N, 2 r + 2 rows, 2 r + 2 columns) into (*N, (2 r + 1)^2), x slow."""
    x = weight[..., 0, None, None].astype(values.dtype)
    y = weight[..., 1, None, None].astype(values.dtype)
    values = (1 - x) * values[..., :-1] + x * values[..., 1:]
    values = (1 - y) * values[..., :-1, :] + y * values[..., 1:, :]
    return values.swapaxes(-1, -2).reshape(
        *values.shape[:-2], math.prod(values.shape[-2:])
    )


def _lookup_level(volume, points, radius):
    height, width = volume.shape[-2:]
    flat = volume.reshape(math.prod(volume.shape[:-2]), height * width)
    rows, columns, has_row, has_column, weight = _window(
        points.reshape(len(flat), 2), radius, height, width
    )
    pixel = jnp.arange(flat.shape[0])[:, None, None]
    index = rows[:, :, None] * width + columns[:, None, :]
    values = flat.at[pixel, index].get(mode="promise_in_bounds")
    exists = has_row[:, :, None] & has_column[:, None, :]
    values = jnp.where(exists, values, 0)
    return _blend(values, weight).reshape(*volume.shape[:-2], (2 * radius + 1) ** 2)


def _match_level(one, two, points, radius):
    """Correlates (N, C) with the window of (H, W, C) around each of N points."""
    height, width, features = two.shape
    flat = two.reshape(height * width, features)
    rows, columns, has_row, has_column, weight = _window(points, radius, height, width)

    @jax.checkpoint
    def displaced(offset):
        i, j = offset
        index = rows[:, i] * width + columns[:, j]
        met = flat.at[index].get(mode="promise_in_bounds")
        product = jnp.einsum(
            "nc,nc->n", one, met, preferred_element_type=accumulator(one)
        )
        return jnp.where(has_row[:, i] & has_column[:, j], product, 0)

    side = jnp.arange(2 * radius + 2)
    offsets = jnp.meshgrid(side, side, indexing="ij")
    values = lax.map(displaced, tuple(o.ravel() for o in offsets))
    return _blend(values.T.reshape(len(one), len(side), len(side)), weight)
