"""Dense trajectories, and histograms of the motion around them.

Wang, Kläser, Schmid and Liu, "Action Recognition by Dense Trajectories" (2011): points
of a grid follow a median-filtered flow for some frames; a volume that bends along with
each is described by histograms of flow orientations (HOF) and of the orientations of
the flow's own derivatives (MBH), which a camera's translation leaves empty.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine, structure
from jaxflow.classical import median as median_

Flow = Callable[[jax.Array, jax.Array], jax.Array]


class Trajectories(NamedTuple):
    """Points followed along a flow.

    Attributes:
        points: (L + 1, N, 2), in pixels.
        valid: Which started on texture, moved, and did not jump, (N,) booleans.
    """

    points: jax.Array
    valid: jax.Array


def dense_trajectories(
    clip: jax.Array,
    flows: jax.Array,
    *,
    spacing: int = 5,
    quality: float = 0.001,
    minimum_spread: float = 0.5,
    maximum_step: float = 20.0,
) -> Trajectories:
    """Follows a grid of points from the first frame of a clip to the last.

    Args:
        clip: (L + 1, H, W, 3 or 1), floating, in [0, 1].
        flows: Frame t -> frame t + 1, (L, H, W, 2), in pixels.
        spacing: Distance of the grid's points, in pixels.
        quality: Least of the smaller eigenvalue of a point's window, as a share of the
            largest in the frame.
        minimum_spread: Least standard deviation of a valid trajectory, in pixels.
        maximum_step: Longest step of a valid trajectory, in pixels.

    Returns:
        The trajectories of all points of the grid.
    """
    _shapes.check("flows", flows, (len(clip) - 1, *clip.shape[1:3], 2))
    height, width = clip.shape[1:3]
    start = ops.pixel_grid(height, width)[
        spacing // 2 :: spacing, spacing // 2 :: spacing
    ]
    start = _mesh.alike(start.reshape(-1, 2).astype(flows.dtype), flows)
    corner = jnp.array([[[width - 1, height - 1]]], flows.dtype)

    def step(points, flow):
        smooth = median_.median_filter(flow, size=3)
        moved = points + ops.bilinear_sample(smooth, points, padding="border")
        return moved, moved

    _, later = jax.lax.scan(step, start, flows)
    points = jnp.concatenate([start[None], later])
    tensor = ops.structure_tensor(
        coarse_to_fine.luminance(clip[0]), window=3, kernel="sobel"
    )
    texture = structure.shi_tomasi(tensor)
    textured = ops.bilinear_sample(texture[..., None], start)[..., 0]
    steps = jnp.sqrt((jnp.diff(points, axis=0) ** 2).sum(-1))
    valid = (
        (textured > quality * texture.max())
        & (points.std(0).max(-1) >= minimum_spread)
        & (steps.max(0) <= maximum_step)
        & ((points >= 0) & (points <= corner)).all((0, 2))
    )
    return Trajectories(points, valid)


def orientation_histogram(
    field: jax.Array, *, bins: int = 8, threshold: float | None = None
) -> jax.Array:
    """Spreads the length of each vector over two neighbouring orientation bins.

    Bin k is centred on the angle 2 pi k / bins, from x towards y.

    Args:
        field: (*B, H, W, 2).
        bins: Number of orientations.
        threshold: Vectors shorter than this add 1 to one more bin instead (HOF); None
            for no such bin (MBH).

    Returns:
        (*B, H, W, bins), or bins + 1 with a threshold.

    Examples:
        >>> right = jnp.array([[[2.0, 0.0]]])
        >>> histogram = jaxflow.classical.trajectories.orientation_histogram
        >>> histogram(right, bins=4)[0, 0].tolist()
        [2.0, 0.0, 0.0, 0.0]
    """
    square = (field**2).sum(-1)
    moving = square > 1e-12
    length = jnp.where(moving, jnp.sqrt(jnp.where(moving, square, 1)), 0)
    x = jnp.where(moving, field[..., 0], 1)
    angle = jnp.arctan2(jnp.where(moving, field[..., 1], 0), x)
    position = angle * (bins / (2 * np.pi))
    middles = jnp.arange(bins, dtype=field.dtype).reshape(*[1] * position.ndim, bins)
    offset = position[..., None] - middles
    circular = jnp.abs(offset - bins * jnp.round(offset / bins))
    share = jnp.maximum(1 - circular, 0)
    if threshold is None:
        return share * length[..., None]
    still = (length < threshold)[..., None]
    oriented = jnp.where(still, 0, share * length[..., None])
    return jnp.concatenate([oriented, still.astype(field.dtype)], axis=-1)


def describe(
    trajectories: Trajectories,
    flows: jax.Array,
    *,
    patch: int = 32,
    cells: int = 2,
    segments: int = 3,
    bins: int = 8,
    threshold: float = 0.4,
) -> dict[str, jax.Array]:
    """Describes the volume around each trajectory.

    Args:
        trajectories: N trajectories of L steps.
        flows: Frame t -> frame t + 1, (L, H, W, 2), in pixels.
        patch: Side of the volume, in pixels.
        cells: Cells along each side.
        segments: Cells along time.
        bins: Orientations.
        threshold: Flow shorter than this counts as still, in pixels.

    Returns:
        "shape", (N, 2 L): the steps over their total length; "hof", (N, segments
        cells^2 (bins + 1)), "mbh_x" and "mbh_y", (N, segments cells^2 bins): histograms
        of unit length. 0 where the trajectory is not valid.
    """
    points, valid = trajectories
    steps = jnp.diff(points, axis=0)
    lengths = jnp.sqrt((steps**2).sum(-1) + 1e-12).sum(0)
    shape = jnp.moveaxis(steps, 0, 1) / lengths[:, None, None]

    pool = functools.partial(
        _pool, points[:-1], patch=patch, cells=cells, segments=segments
    )
    boundary_x = jnp.concatenate(ops.spatial_gradient(flows[..., :1]), axis=-1)
    boundary_y = jnp.concatenate(ops.spatial_gradient(flows[..., 1:]), axis=-1)
    found = {
        "shape": shape.reshape(len(shape), -1),
        "hof": pool(orientation_histogram(flows, bins=bins, threshold=threshold)),
        "mbh_x": pool(orientation_histogram(boundary_x, bins=bins)),
        "mbh_y": pool(orientation_histogram(boundary_y, bins=bins)),
    }
    return {name: jnp.where(valid[:, None], x, 0) for name, x in found.items()}


def clip_descriptor(clip: jax.Array, flow: Flow, **options) -> jax.Array:
    """Averages the descriptors of a clip's dense trajectories.

    Args:
        clip: (T, H, W, 3 or 1), floating, in [0, 1].
        flow: Estimates the flow between two frames, (H, W, C) each.
        **options: Of `describe`.

    Returns:
        One vector: the means of "shape", "hof", "mbh_x" and "mbh_y" over the valid
        trajectories, each of unit length.
    """
    flows = jax.lax.map(lambda pair: flow(*pair), (clip[:-1], clip[1:]))
    trajectories = dense_trajectories(clip, flows)
    found = describe(trajectories, flows, **options)
    return jnp.concatenate([_unit(x.sum(0)) for x in found.values()])


def _pool(points, histograms, *, patch, cells, segments):
    """Sums histograms over the cells that move with each point: (N, features)."""
    side = patch // cells
    box = np.full(side | 1, 1 / (side | 1))
    sums = ops.separable_filter(histograms, box, box)
    middle = (np.arange(cells) - (cells - 1) / 2) * side
    offsets = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
    places = points[:, :, None] + jnp.asarray(offsets, points.dtype)[None, None]
    cell = ops.bilinear_sample(sums, places, padding="border")  # (L, N, cells^2, bins)
    parts = jnp.array_split(cell, segments)
    volume = jnp.stack([part.mean(0) for part in parts], axis=1)
    return _unit(volume.reshape(len(volume), -1))


def _unit(x: jax.Array) -> jax.Array:
    """Divides by the Euclidean length, with a slope of 0 for nothing."""
    square = (x**2).sum(-1, keepdims=True)
    some = square > 1e-20
    return jnp.where(some, x / jnp.sqrt(jnp.where(some, square, 1)), 0)
