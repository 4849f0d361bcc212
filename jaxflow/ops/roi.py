"""Pooling of features inside boxes."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _mesh, _shapes


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

    He et al., "Mask R-CNN" (2017), Sec. 3. A sample that lies more than one pixel
    outside the map counts as 0; a nearer one reads the border. The result is
    differentiable in `features` only.

    Pad the boxes to one number, so that a program compiles once: a row whose owner is
    not from 0 to B - 1, such as -1, gives 0. With `sampling_ratio` 0 so does an aligned
    box of no area or with swapped corners. A box that is NaN or infinite gives NaN.
    However large a box is, the work is bounded by the size of the map.

    Args:
        features: Maps, (B, H, W, C).
        boxes: Corners (x1, y1, x2, y2) in pixels of the input image, (K, 4).
        owners: Which map each box belongs to, integers from 0 to B - 1, or another for
            a row that pads, (K,).
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
        ValueError: If the shapes do not fit.

    Examples:
        >>> features = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> boxes, owners = jnp.array([[0.0, 0.0, 4.0, 4.0]]), jnp.array([0])
        >>> jaxflow.ops.roi_align(features, boxes, owners, size=(1, 1)).item()
        7.5
    """
    _shapes.check("features", features, ("B", "H", "W", "C"))
    _shapes.check("boxes", boxes, ("K", 4))
    _shapes.check_floats(features=features)
    _shapes.check("owners", owners, (boxes.shape[0],))
    if not jnp.issubdtype(owners.dtype, jnp.integer):
        raise ValueError(
            f"`owners` must hold whole numbers, one a box; got {owners.dtype}"
        )
    wide = jnp.float64 if features.dtype == jnp.float64 else jnp.float32
    corners = lax.stop_gradient(boxes.astype(wide)) * scale
    # NaN comes last: inside the sums, it would reach the gradient of every row.
    finite = jnp.isfinite(corners).all(axis=1)
    corners = jnp.where(finite[:, None], corners, 0) - (0.5 if aligned else 0.0)
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
    owned = (owners >= 0) & (owners < features.shape[0])
    maps = features[jnp.where(owned, owners, 0)]
    rows = jnp.einsum("kph,khwc->kpwc", down, maps, preferred_element_type=wide)
    grid = jnp.einsum("kqw,kpwc->kpqc", across.astype(wide), rows)
    outside = jnp.where(owned, jnp.nan, 0).astype(wide)[:, None, None, None]
    grid = jnp.where((owned & finite)[:, None, None, None], grid, outside)
    return grid.astype(features.dtype)


def _weights(first, extent, cells, size, sampling_ratio):
    """Returns how much each pixel of one axis counts in each cell, (K, cells, size)."""
    if sampling_ratio:
        most = jnp.asarray(sampling_ratio, extent.dtype)
        samples = jnp.full(extent.shape, most)
    else:
        samples = jnp.maximum(jnp.ceil(extent / cells), 0)
        # Samples are more than half a pixel apart where a cell has several, so that no
        # more of them than this are on the map.
        most = jnp.minimum(jnp.max(samples, initial=0), 2.0 * size + 8)
    cell = jnp.arange(cells, dtype=extent.dtype)[:, None]
    pixel = jnp.arange(size, dtype=extent.dtype)[None, :]

    def one_box(first, extent, samples):
        step = extent / cells
        skipped = jnp.floor((-1 - first - step * cell) * samples / step) - 2
        skipped = jnp.where(samples > most, jnp.maximum(skipped, 0), 0)

        def add_sample(i, total):
            i = skipped + i.astype(extent.dtype)
            at = first + step * (cell + (i + 0.5) / samples)
            nearest = jnp.clip(at, 0, size - 1)
            hat = jnp.maximum(0, 1 - jnp.abs(nearest - pixel))
            counts = (i < samples) & (at >= -1) & (at <= size)
            return total + jnp.where(counts, hat, 0)

        none = jnp.zeros((cells, size), extent.dtype)
        return lax.fori_loop(
            0, most.astype(jnp.int32), add_sample, _mesh.alike(none, first)
        )

    total = jax.vmap(one_box)(first, extent, samples)
    return total / jnp.maximum(samples, 1)[:, None, None]
