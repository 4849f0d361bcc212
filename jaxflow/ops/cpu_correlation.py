"""Correlation of tiles of columns in the form that is fast on a CPU.

It computes what the plain form in `jaxflow.ops.correlation` does, and is lowered for
CPUs instead of it. One row is taken after the other, so that a CPU finds everything in
its cache; sums are in float32 at least.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxflow.ops.bilinear import Forms


def _rows_in_turn(one, two, like, settings):
    """(B, H, N, T, C) with (B, H + 2 r, N, T + 2 r, C) -> (B, H, N, T, (2 r + 1)^2)."""
    del settings
    height, diameter = one.shape[1], two.shape[1] - one.shape[1] + 1

    def row(k):
        image, y = k // height, k % height
        window = _flat_window(two[image], y, diameter)
        band = jnp.einsum(
            "ntc,nsc->nts",
            one[image, y],
            window,
            preferred_element_type=like.dtype,
        )
        return _narrow(band, diameter)

    out = lax.map(row, jnp.arange(one.shape[0] * height))
    return out.reshape(*one.shape[:2], *out.shape[1:])


def _in_one(sums, two, like, settings):
    """Transposes in map 1: a row of it needs a window of map 2."""
    del settings
    height, diameter, reach = (
        like.shape[1],
        two.shape[1] - like.shape[1] + 1,
        two.shape[3],
    )

    def row(k):
        image, y = k // height, k % height
        band = _widen(sums[image, y], reach).astype(two.dtype)
        window = _flat_window(two[image], y, diameter)
        return jnp.einsum(
            "nts,nsc->ntc", band, window, preferred_element_type=sums.dtype
        )

    out = lax.map(row, jnp.arange(like.shape[0] * height))
    return out.reshape(like.shape).astype(like.dtype)


def _in_two(one, sums, like, settings):
    """Transposes in map 2: its sums are in a window that slides over its rows."""
    del settings
    diameter, reach = like.shape[1] - one.shape[1] + 1, like.shape[3]

    def image(maps):
        one, cotangent = maps

        def row(window, y):
            band = _widen(cotangent[y], reach).astype(one.dtype)
            added = jnp.einsum(
                "nts,ntc->nsc", band, one[y], preferred_element_type=window.dtype
            )
            added = added.reshape(-1, diameter, reach, one.shape[-1]).swapaxes(0, 1)
            window = window + added
            below = jnp.concatenate([window[1:], jnp.zeros_like(window[:1])])
            return below, window[0]

        empty = jnp.zeros((diameter, *like.shape[2:]), sums.dtype)
        rest, rows = lax.scan(row, empty, jnp.arange(one.shape[0]))
        return jnp.concatenate([rows, rest[:-1]])

    return lax.map(image, (one, sums)).astype(like.dtype)


FORMS = Forms(_rows_in_turn, _in_one, _in_two)


def _flat_window(two, y, diameter):
    """Returns the rows that row y meets: (N, diameter reach, C)."""
    window = lax.dynamic_slice_in_dim(two, y, diameter, axis=0).swapaxes(0, 1)
    return window.reshape(window.shape[0], -1, window.shape[-1])


def _narrow(band, diameter):
    """Keeps columns t to t + D - 1 of row t: (N, T, D reach) -> (N, T, D^2)."""
    tiles, tile, width = band.shape
    # Rows that are longer by one move the band's edges into columns.
    flat = jnp.pad(band.reshape(tiles, tile * width), ((0, 0), (0, tile)))
    rows = flat.reshape(tiles, tile, width + 1)[..., :width]
    columns = rows.reshape(tiles, tile, diameter, width // diameter)[..., :diameter]
    return columns.reshape(tiles, tile, diameter**2)


def _widen(sums, reach):
    """Transposes `_narrow`: (N, T, D^2) -> (N, T, D reach), 0 off the band."""
    tiles, tile, count = sums.shape
    diameter = math.isqrt(count)
    columns = sums.reshape(tiles, tile, diameter, diameter)
    band = jnp.zeros((tiles, tile, diameter, reach), sums.dtype)
    # Copies of whole pieces: padding, as in `_narrow`, takes ten times as long.
    for t in range(tile):
        band = lax.dynamic_update_slice(band, columns[:, t : t + 1], (0, t, 0, t))
    return band.reshape(tiles, tile, diameter * reach)
