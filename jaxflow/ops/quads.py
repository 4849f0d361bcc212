"""Weighted sums of 2 x 2 pixels at many places, which sampling and splatting share.

    out[n] = sum_k weights[n, k] image[row[n] + k // 2, column[n] + k % 2]

Pixels outside the image are 0. The map is bilinear in the image and the weights. Its
transpose in the image adds values to the 2 x 2 pixels of each place, which is forward
splatting; all derivatives of either are in these maps. Arrays are channels-last.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow.ops import bilinear

# On a CPU: points whose pixels fit into its cache together, and channels from which on
# a matrix product adds them up faster than a sum.
_BLOCK_POINTS = 1024
_LEAST_CHANNELS = 4
# Channels below which a pixel outside is read like any other; see `_reader`.
_FEW_CHANNELS = 16


@jax.custom_jvp
def blend(image: jax.Array, weights: jax.Array, places: jax.Array) -> jax.Array:
    """Adds up the 2 x 2 pixels at each place.

    Args:
        image: (B, H, W, C), floating.
        weights: (B, N, 4): of the upper two pixels, then of the lower two. Sums have
            their dtype.
        places: Integers, (B, N, 2): row and column of the first pixel, from -1 to H
            and W.

    Returns:
        (B, N, C), in the dtype of `weights`. A pixel that is NaN makes NaN what it is
        added to, even with a weight of 0; so does a weight, even of no pixel.
    """
    return QUADS.out(image, weights, None, places)


@blend.defjvp
def _blend_jvp(primals, tangents):
    image, weights, places = primals
    out, tangent = jax.jvp(
        lambda *arrays: QUADS.out(*arrays, None, places),
        (image, weights),
        tangents[:2],
    )
    # Else what the cotangent is made of would be read again wherever it is used.
    return lax.optimization_barrier(out), tangent


def spread(
    values: jax.Array, weights: jax.Array, places: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Adds values to the 2 x 2 pixels at each place: `blend`, transposed in the image.

    Args:
        values: (B, N, C), floating.
        weights: (B, N, 4).
        places: Integers, (B, N, 2), as for `blend`.
        size: (H, W).

    Returns:
        (B, H, W, C), in the dtype of `values`.
    """
    shape = (values.shape[0], *size, values.shape[-1])
    like = jax.ShapeDtypeStruct(shape, values.dtype)
    return QUADS.first(values, weights, like, None, places)


# The forms are of one image each, and mapped over images: what belongs to another is
# never read, so that a batch may lie on many devices.


def _blend(image, weights, places, few):
    terms = (
        weights[:, k, None] * pixel.astype(weights.dtype)
        for k, pixel in enumerate(_reader(image, few)(places))
    )
    return cast(jax.Array, sum(terms))


def _spread(canvas, values, weights, places):
    """Adds (N, C) values to a canvas, a frame of which takes what lands outside."""
    values = weights[..., None] * values[:, None, :].astype(canvas.dtype)
    return lax.scatter_add(
        canvas,
        places + 1,
        values.reshape(-1, 2, 2, values.shape[-1]),
        lax.ScatterDimensionNumbers(
            update_window_dims=(1, 2, 3),
            inserted_window_dims=(),
            scatter_dims_to_operand_dims=(0, 1),
        ),
        mode="promise_in_bounds",
    )


def _products(read, values, places, add):
    """Multiplies each value with the pixels at its place, and sums over channels."""
    products = (pixel.astype(values.dtype) * values for pixel in read(places))
    return jnp.stack([add(product) for product in products], axis=-1)


def _reader(image, few):
    """Returns what reads the 2 x 2 pixels at each place, (N, C) each: 0 outside.

    Of few channels, a pixel of zeros is read instead. It is put behind a copy of all
    pixels, which takes less than to choose for each number where it comes from.
    """
    height, width, channels = image.shape
    flat = image.reshape(height * width, channels)
    copied = channels < few or not len(flat)
    if copied:
        flat = jnp.concatenate([flat, jnp.zeros((1, channels), flat.dtype)])

    def read(places):
        found = []
        for below, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row, column = places[:, 0] + below, places[:, 1] + right
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.where(inside, row * width + column, len(flat) - 1)
            pixel = flat.at[index].get(mode="promise_in_bounds")
            found.append(pixel if copied else jnp.where(inside[:, None], pixel, 0))
        return found

    return read


def _sum(x):
    return jnp.sum(x, axis=-1)


def _sum_on_cpu(x):
    if x.shape[-1] < _LEAST_CHANNELS:
        return jnp.sum(x, axis=-1)
    return jnp.matmul(x, jnp.ones(x.shape[-1], x.dtype), precision="highest")


def _blocks(size, *arrays):
    """Returns the numbers of blocks of (N, *), and what cuts one of each array."""
    count = len(arrays[0])
    # What is filled up is copied first, all of it.
    size = next((s for s in range(size, size // 4, -1) if count % s == 0), size)
    over = ((0, -count % size), (0, 0))
    filled = [jnp.pad(x, over) if count % size else x for x in arrays]

    def block(k):
        return [lax.dynamic_slice_in_dim(x, k * size, size) for x in filled]

    return jnp.arange(-(-count // size)), block


def _forms(few, spread, products):
    def out(image, weights, like, settings, places):
        del like, settings
        blend = functools.partial(_blend, few=few)
        return jax.vmap(blend)(image, weights, places)

    def first(values, weights, like, settings, places):
        del settings
        _, height, width, channels = like.shape
        dtype = jnp.promote_types(values.dtype, weights.dtype)

        def one(*arrays):
            canvas = jnp.zeros((height + 3, width + 3, channels), dtype)
            return spread(canvas, *arrays, size=_block_size(places))

        canvas = jax.vmap(one)(values, weights, places)
        return canvas[:, 1:-2, 1:-2].astype(like.dtype)

    def second(image, values, like, settings, places):
        del settings
        one = functools.partial(products, size=_block_size(places))
        return jax.vmap(one)(image, values.astype(like.dtype), places)

    return bilinear.Forms(out, first, second)


def _block_size(places):
    batch, points, _ = places.shape
    return max(1, min(points, _BLOCK_POINTS // batch))


def _spread_at_once(*arrays, size):
    del size
    return _spread(*arrays)


def _products_at_once(image, values, places, size):
    del size
    return _products(_reader(image, 0), values, places, _sum)


def _spread_by_blocks(canvas, *arrays, size):
    numbers, block = _blocks(size, *arrays)

    def add_block(canvas, k):
        return _spread(canvas, *block(k)), None

    return lax.scan(add_block, canvas, numbers)[0]


def _products_by_blocks(image, values, places, size):
    read = _reader(image, _FEW_CHANNELS)
    numbers, block = _blocks(size, values, places)

    def products(k):
        slopes, own = block(k)
        return _products(read, slopes, own, _sum_on_cpu)

    found = lax.map(products, numbers)
    return found.reshape(-1, 4)[: len(places)]


QUADS = bilinear.bilinear(
    "quads",
    plain=_forms(0, _spread_at_once, _products_at_once),
    on_cpu=_forms(_FEW_CHANNELS, _spread_by_blocks, _products_by_blocks),
    examples=(True, True, True),
    places=1,
)
