"""Pooling of features inside boxes."""

import chex
import jax
import jax.numpy as jnp
from jax import lax


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    owners: jax.Array,
    *,
    size: tuple[int, int],
    scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> jax.Array:
    """Averages bilinear samples in each cell of a grid laid over each box.

    He et al., "Mask R-CNN" (2017), Sec. 3. A sample more than one pixel outside the map
    counts as 0, a nearer one reads the border. Differentiable in `features` only.

    Args:
        features: Maps, (B, H, W, C).
        boxes: Corners (x1, y1, x2, y2) in pixels of the input image, (K, 4).
        owners: Which map each box belongs to, integers from 0 to B - 1, (K,).
        size: Cells of the grid in y and x.
        scale: Pixels of the map for each pixel of the input.
        sampling_ratio: Samples a cell in y and in x; 0 takes as many as the cell has
            pixels, rounded up.
        aligned: Whether coordinates count from pixel corners, half a pixel before the
            centres. If not, as in the first Detectron, they count from the centres and
            no box is smaller than one pixel.

    Returns:
        One grid a box, (K, *size, C), in the dtype of `features`.

    Raises:
        AssertionError: If the shapes do not fit.
    """
    chex.assert_rank(features, 4)
    chex.assert_shape(boxes, (None, 4))
    chex.assert_shape(owners, (boxes.shape[0],))
    corners = lax.stop_gradient(boxes.astype(jnp.float32)) * scale
    corners = corners - (0.5 if aligned else 0.0)
    first, last = corners[:, :2], corners[:, 2:]
    extent = last - first if aligned else jnp.maximum(last - first, 1)
    across, down = (
        _weights(
            first[:, axis],
            extent[:, axis],
            cells,
            features.shape[2 - axis],
            sampling_ratio,
        ).astype(features.dtype)
        for axis, cells in enumerate(size[::-1])
    )
    is_double = features.dtype == jnp.float64
    accumulator = jnp.float64 if is_double else jnp.float32
    rows = jnp.einsum(
        "kph,khwc->kpwc", down, features[owners], preferred_element_type=accumulator
    )
    grid = jnp.einsum("kqw,kpwc->kpqc", across.astype(accumulator), rows)
    return grid.astype(features.dtype)


def _weights(first, extent, cells, size, sampling_ratio):
    """Returns how much each pixel of one axis counts in each cell, (K, cells, size)."""
    if sampling_ratio:
        samples = jnp.full(extent.shape, float(sampling_ratio))
    else:
        samples = jnp.maximum(jnp.ceil(extent / cells), 0)
    cell = jnp.arange(cells, dtype=jnp.float32)[:, None]
    pixel = jnp.arange(size, dtype=jnp.float32)

    def one_box(first, extent, samples):
        step = extent / cells

        def add_sample(i, total):
            i = i.astype(jnp.float32)
            at = first + step * (cell + (i + 0.5) / samples)
            nearest = jnp.clip(at, 0, size - 1)
            hat = jnp.maximum(0, 1 - jnp.abs(nearest - pixel))
            counts = (i < samples) & (at >= -1) & (at <= size)
            return total + jnp.where(counts, hat, 0)

        return lax.fori_loop(0, most, add_sample, jnp.zeros((cells, size)))

    most = jnp.max(samples, initial=0).astype(jnp.int32)
    total = jax.vmap(one_box)(first, extent, samples)
    return total / jnp.maximum(samples, 1)[:, None, None]
