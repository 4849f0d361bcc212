"""Correlation of each pixel of a feature map with those around it in another map.

Displacements are (x, y) in pixels of the feature map. Products are summed in float32 at
least, and results have the dtype of the first feature map. What compares every pixel
with every other, as RAFT does, is in `jaxflow.ops.all_pairs`.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.ops import cpu_correlation
from jaxflow.ops.bilinear import Forms, bilinear
from jaxflow.ops.conv import Size, check_least, per_axis

# Columns a matrix product: wide tiles waste products, narrow ones time between them.
_TILE = 16


def local_correlation(
    features1: jax.Array,
    features2: jax.Array,
    *,
    radius: int,
    stride: int = 1,
    dilation: int = 1,
    normalise: bool = True,
) -> jax.Array:
    """Compares each pixel of map 1 with the pixels around it in map 2.

    Dosovitskiy et al., "FlowNet" (2015), Eq. 1, for patches of one pixel:

        out[y, x, i, j] = mean_c f1[s y, s x] f2[s y + d i, s x + d j]

    for i and j from -r to r. Map 2 is zero outside. Derivatives of any order exist.

    Args:
        features1: Map 1, (*B, H, W, C).
        features2: Map 2, of the same shape.
        radius: Number r of displacements to each side.
        stride: Step s between the pixels of map 1 that are compared.
        dilation: Step d between displacements, in pixels.
        normalise: Whether to take the mean over channels, not the sum.

    Returns:
        (*B, ceil(H / s), ceil(W / s), (2 r + 1)^2); displacement in y is the slow one.

    Raises:
        ValueError: If the maps differ in shape, or a number is too small or not whole.

    Examples:
        >>> features = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
        >>> moved = jnp.roll(features, 1, axis=1)  # one pixel to the right
        >>> scores = jaxflow.ops.local_correlation(features, moved, radius=1)
        >>> scores[1, 1].reshape(3, 3).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    _shapes.check("features1", features1, (..., "H", "W", "C"))
    _shapes.check_equal(features1=features1, features2=features2)
    _shapes.check_floats(features1=features1, features2=features2)
    radius = _checks.whole("radius", radius, least=0)
    stride = _checks.whole("stride", stride, least=1)
    dilation = _checks.whole("dilation", dilation, least=1)
    *batch, height, width, features = features1.shape
    one = features1.reshape(math.prod(batch), height, width, features)
    two = features2.reshape(math.prod(batch), height, width, features)
    shared = math.gcd(stride, dilation)
    one, two = one[:, ::shared, ::shared], two[:, ::shared, ::shared]
    out = _correlate_dilated(one, two, radius, dilation // shared)
    left = stride // shared
    out = out[:, ::left, ::left]
    if normalise:
        out = out / max(features, 1)
    return out.astype(features1.dtype).reshape(*batch, *out.shape[1:])


def correlation_volume(
    features1: jax.Array, features2: jax.Array, *, radius: Size
) -> jax.Array:
    """Multiplies each pixel of map 1 with those around it in map 2, channel by channel.

    Yang and Ramanan, "Volumetric Correspondence Networks" (2019), Sec. 3.1: the
    correlation before its sum over channels,

        out[j + rx, i + ry, y, x] = f1[y, x] f2[y + i, x + j]

    Map 2 is zero outside.

    Args:
        features1: Map 1, (*B, H, W, C).
        features2: Map 2, of the same shape.
        radius: Number of displacements to each side, (y, x) or one for both.

    Returns:
        (*B, 2 rx + 1, 2 ry + 1, H, W, C); displacement in x comes first.

    Raises:
        ValueError: If the maps differ in shape, or `radius` is negative or not whole.

    Examples:
        >>> features = jnp.ones((4, 5, 2))
        >>> jaxflow.ops.correlation_volume(features, features, radius=(1, 2)).shape
        (5, 3, 4, 5, 2)
    """
    _shapes.check("features1", features1, (..., "H", "W", "C"))
    _shapes.check_equal(features1=features1, features2=features2)
    _shapes.check_floats(features1=features1, features2=features2)
    radius_y, radius_x = radius = per_axis(radius, 2, name="radius")
    check_least(0, radius=radius)
    height, width = features1.shape[-3:-1]
    margins = [(radius_y, radius_y), (radius_x, radius_x), (0, 0)]
    padded = jnp.pad(features2, [(0, 0)] * (features2.ndim - 3) + margins)
    rows = jnp.stack(
        [padded[..., i : i + height, :, :] for i in range(2 * radius_y + 1)], axis=-4
    )
    shifted = jnp.stack(
        [rows[..., j : j + width, :] for j in range(2 * radius_x + 1)], axis=-5
    )
    return features1[..., None, None, :, :, :] * shifted


def accumulator(x: jax.Array) -> jnp.dtype:
    """Returns the type in which products of `x` are summed: float32, or float64."""
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    return jnp.dtype(wide)


def _correlate_dilated(one, two, radius, dilation):
    """Splits the maps into d x d interleaved ones, whose displacements are dense."""
    if dilation == 1:
        return _correlate(one, two, radius)
    batch, height, width, features = one.shape

    def split(x):
        x = jnp.pad(
            x, ((0, 0), (0, -height % dilation), (0, -width % dilation), (0, 0))
        )
        rows, columns = x.shape[1] // dilation, x.shape[2] // dilation
        x = x.reshape(batch, rows, dilation, columns, dilation, features)
        x = x.transpose(0, 2, 4, 1, 3, 5)
        return x.reshape(batch * dilation**2, rows, columns, features)

    out = _correlate(split(one), split(two), radius)
    rows, columns, displacements = out.shape[1:]
    out = out.reshape(batch, dilation, dilation, rows, columns, displacements)
    out = out.transpose(0, 3, 1, 4, 2, 5)
    out = out.reshape(batch, rows * dilation, columns * dilation, displacements)
    return out[:, :height, :width]


def _correlate(one, two, radius):
    """Sums products over channels, (B, H, W, C) -> (B, H, W, (2 r + 1)^2) float32.

    A matrix product compares a tile of columns with all columns within its reach; of
    each row of that product, only a band is wanted.
    """
    batch, height, width, features = one.shape
    tiles = max(1, -(-width // _TILE))
    tile = max(1, -(-width // tiles))
    met = -(-(tile + 2 * radius) // tile)
    spare = tiles * tile - width
    one = jnp.pad(one, ((0, 0), (0, 0), (0, spare), (0, 0)))
    one = one.reshape(batch, height, tiles, tile, features)
    right = (tiles + met - 1) * tile - radius - width
    two = jnp.pad(two, ((0, 0), (radius, radius), (radius, right), (0, 0)))
    two = two.reshape(batch, height + 2 * radius, tiles + met - 1, tile, features)
    two = jnp.concatenate([two[:, :, k : k + tiles] for k in range(met)], axis=3)
    out = TILES.out(one, two[:, :, :, : tile + 2 * radius], None)
    return out.reshape(batch, height, tiles * tile, out.shape[-1])[:, :, :width]


def _displacements_in_turn(one, two, like, settings):
    """Correlates tiles: all rows at once, one displacement in y after the other.

    (B, H, N, T, C) with (B, H + 2 r, N, T + 2 r, C) -> (B, H, N, T, (2 r + 1)^2)
    """
    del settings
    dtype = accumulator(one) if like is None else like.dtype
    height, diameter = one.shape[1], two.shape[1] - one.shape[1] + 1

    def displaced(i):
        rows = lax.dynamic_slice_in_dim(two, i, height, axis=1)
        band = jnp.einsum("bhntc,bhnsc->bhnts", one, rows, preferred_element_type=dtype)
        return _narrow(band, diameter)

    out = jnp.moveaxis(lax.map(displaced, jnp.arange(diameter)), 0, -2)
    return out.reshape(*out.shape[:-2], diameter**2)


def _narrow(band, diameter):
    """Keeps entries t to t + diameter - 1 of row t: (..., T, reach) -> (..., T, D)."""
    *batch, tile, reach = band.shape
    # Rows that are longer by one move the band's edges into columns.
    flat = jnp.pad(
        band.reshape(*batch, tile * reach), [(0, 0)] * len(batch) + [(0, tile)]
    )
    return flat.reshape(*batch, tile, reach + 1)[..., :diameter]


def _widen(columns, reach):
    """Transposes `_narrow`: (..., T, D) -> (..., T, reach), 0 off the band."""
    *batch, tile, diameter = columns.shape
    padding = [(0, 0)] * (len(batch) + 1) + [(0, reach + 1 - diameter)]
    flat = jnp.pad(columns, padding).reshape(*batch, tile * (reach + 1))
    return flat[..., : tile * reach].reshape(*batch, tile, reach)


def _bands(sums, like, reach):
    """Puts the sums for each displacement in y on a band: (D, B, H, N, T, reach)."""
    diameter = math.isqrt(sums.shape[-1])
    columns = sums.reshape(*sums.shape[:-1], diameter, diameter)
    return _widen(jnp.moveaxis(columns, -2, 0).astype(like.dtype), reach)


def _in_one(sums, two, like, settings):
    """Transposes `_displacements_in_turn` in map 1."""
    del settings
    bands = _bands(sums, like, two.shape[3])

    def displaced(total, i):
        rows = lax.dynamic_slice_in_dim(two, i, like.shape[1], axis=1)
        added = jnp.einsum(
            "bhnts,bhnsc->bhntc", bands[i], rows, preferred_element_type=sums.dtype
        )
        return total + added, None

    zero = jnp.zeros_like(sums, shape=like.shape)
    return lax.scan(displaced, zero, jnp.arange(len(bands)))[0].astype(like.dtype)


def _in_two(one, sums, like, settings):
    """Transposes `_displacements_in_turn` in map 2."""
    del settings
    bands = _bands(sums, like, like.shape[3])

    def displaced(total, i):
        added = jnp.einsum(
            "bhnts,bhntc->bhnsc", bands[i], one, preferred_element_type=sums.dtype
        )
        rows = lax.dynamic_slice_in_dim(total, i, one.shape[1], axis=1)
        return lax.dynamic_update_slice_in_dim(total, rows + added, i, axis=1), None

    zero = jnp.zeros_like(sums, shape=like.shape)
    return lax.scan(displaced, zero, jnp.arange(len(bands)))[0].astype(like.dtype)


TILES = bilinear(
    "correlation",
    plain=Forms(_displacements_in_turn, _in_one, _in_two),
    on_cpu=cpu_correlation.FORMS,
    examples=(True, True, True),
)
