"""Maps from the pixels of augmented frames to those of the old ones, drawn at random.

A map is a homogeneous matrix, (3, 3), of points (x, y, 1) in pixels.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxflow.data import draws

_ATTEMPTS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affine:
    """Ranges of the affine maps of FlowNet2, PWC-Net and LiteFlowNet.

    Frame 1 takes uniform numbers, frame 2 the same plus normal ones. A draw that would
    look outside the old frame is repeated, 50 times; then the middle is cut out.

    Attributes:
        translation: Largest shift, as a part of the new size.
        rotation: Largest angle, radians.
        zoom: Smallest and largest logarithm of the magnification.
        squeeze: Largest logarithm of the ratio of horizontal to vertical zoom.
        relative_translation: Standard deviation of the shift between the frames.
        relative_rotation: Of the rotation between them, radians.
        relative_zoom: Of the logarithm of the magnification between them.
    """

    translation: float = 0.4
    rotation: float = 0.4
    zoom: tuple[float, float] = (-0.2, 0.6)
    squeeze: float = 0.3
    relative_translation: float = 0.03
    relative_rotation: float = 0.03
    relative_zoom: float = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleAndCrop:
    """Ranges of RAFT's maps: scale, stretch, flip, and a crop anywhere.

    Attributes:
        scale: Smallest and largest base-2 logarithm of the magnification.
        stretch: Largest base-2 logarithm by which each axis deviates from it.
        probability: Of scaling, and of stretching.
        flip_horizontal: Probability.
        flip_vertical: Probability.
    """

    scale: tuple[float, float] = (-0.1, 1.0)
    stretch: float = 0.2
    probability: float = 0.8
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.1


def draw_maps(
    key: jax.Array,
    ranges: Affine | ScaleAndCrop,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    strength: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Draws the maps of both frames, from new pixels to old ones.

    Args:
        key: Random key.
        ranges: What to draw from.
        old: Height and width of the given frames.
        new: Height and width of the frames to make.
        strength: Scales the ranges of `Affine`.

    Returns:
        Two matrices, (3, 3); the same one twice for `ScaleAndCrop`.
    """
    if isinstance(ranges, Affine):
        return _draw_affine(key, ranges, old, new, strength)
    return _draw_scale_and_crop(key, ranges, old, new)


def _draw_affine(key, ranges, old, new, strength):
    """Draws maps until the corners of the new frames fall inside the old."""
    u = draws.uniform(key, common=(_ATTEMPTS, 5), relative=(_ATTEMPTS, 4))
    low, high = ranges.zoom
    centre = jnp.array([[0, 0, 0, (low + high) / 2, 0]], float)
    reach = jnp.array(
        [
            ranges.translation,
            ranges.translation,
            ranges.rotation,
            (high - low) / 2,
            ranges.squeeze,
        ],
        float,
    )
    common = strength * (centre + reach[None] * (2 * u["common"] - 1))
    deviation = jnp.array(
        [
            ranges.relative_translation,
            ranges.relative_translation,
            ranges.relative_rotation,
            ranges.relative_zoom,
        ],
        float,
    )
    relative = strength * deviation[None] * draws.normal(u["relative"])
    second = common.at[:, :4].add(relative)
    build = jax.vmap(functools.partial(_affine_map, old=old, new=new))
    maps = jnp.stack([build(common), build(second)], axis=1)
    corners = jnp.array(
        [[x, y] for x in (0.0, new[1] - 1.0) for y in (0.0, new[0] - 1.0)]
    )
    reached = jax.vmap(jax.vmap(lambda m: map_points(m, corners)))(maps)
    fits = jnp.all(inside(reached, old), axis=(1, 2))
    middle = _affine_map(jnp.zeros(5), old=old, new=new)
    chosen = maps[jnp.argmax(fits)]
    chosen = jnp.where(jnp.any(fits), chosen, jnp.stack([middle, middle]))
    return chosen[0], chosen[1]


def _affine_map(numbers, *, old, new):
    """Builds a map from shift (2), angle, log zoom and log squeeze.

    About the middle of the new frame: rotate, shift by a part of the new size, divide
    by the zoom of each axis, and go to the middle of the old frame.
    """
    shift_x, shift_y, angle, zoom, squeeze = numbers
    zoom_x, zoom_y = jnp.exp(zoom + squeeze / 2), jnp.exp(zoom - squeeze / 2)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    middle_new = (new[1] - 1) / 2, (new[0] - 1) / 2
    middle_old = (old[1] - 1) / 2, (old[0] - 1) / 2
    x = shift_x * new[1] - cos * middle_new[0] + sin * middle_new[1]
    y = shift_y * new[0] - sin * middle_new[0] - cos * middle_new[1]
    return jnp.stack(
        [
            jnp.stack([cos / zoom_x, -sin / zoom_x, x / zoom_x + middle_old[0]]),
            jnp.stack([sin / zoom_y, cos / zoom_y, y / zoom_y + middle_old[1]]),
            jnp.array([0.0, 0.0, 1.0]),
        ]
    )


def _draw_scale_and_crop(key, ranges, old, new):
    """Draws RAFT's map; both frames share it."""
    u = draws.uniform(key, scale=(), stretch=(2,), gates=(2,), flips=(2,), crop=(2,))
    scale = draws.between(u["scale"], *ranges.scale)
    stretch = ranges.stretch * (2 * u["stretch"] - 1)
    # One gate for each, as in the official code; without scaling neither happens.
    scaled = u["gates"][0] < ranges.probability
    stretched = scaled & (u["gates"][1] < ranges.probability)
    log_scale = jnp.where(scaled, scale, 0.0) + jnp.where(stretched, stretch, 0.0)
    size_old = jnp.array([old[1], old[0]], float)
    size_new = jnp.array([new[1], new[0]], float)
    scale = jnp.maximum(jnp.exp2(log_scale), size_new / size_old)
    # Pixel centres of the scaled frame: (x + 0.5) / scale - 0.5 in the old one.
    offset = u["crop"] * (size_old * scale - size_new)
    flips = jnp.array([ranges.flip_horizontal, ranges.flip_vertical], float)
    mirrored = u["flips"] < flips
    slope = jnp.where(mirrored, -1.0, 1.0) / scale
    start = jnp.where(mirrored, offset + size_new - 0.5, offset + 0.5) / scale - 0.5
    zero, one = jnp.zeros(()), jnp.ones(())
    matrix = jnp.stack(
        [
            jnp.stack([slope[0], zero, start[0]]),
            jnp.stack([zero, slope[1], start[1]]),
            jnp.stack([zero, zero, one]),
        ]
    )
    return matrix, matrix


def map_points(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Maps points by a homogeneous matrix, in full precision.

    Args:
        matrix: (3, 3).
        points: (..., 2), (x, y).
    """
    x, y = points[..., 0], points[..., 1]
    rows = [row[0] * x + row[1] * y + row[2] for row in matrix]
    return jnp.stack(rows[:2], axis=-1) / rows[2][..., None]


def invert(matrix: jax.Array) -> jax.Array:
    """Inverts a homogeneous matrix up to a factor, by its adjugate.

    Args:
        matrix: (3, 3).
    """
    a, b, c = matrix
    return jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)


def inside(points: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Tells which points lie within the pixel centres of a frame.

    Args:
        points: (..., 2), (x, y) in pixels.
        size: Height and width of the frame.
    """
    x, y = points[..., 0], points[..., 1]
    # Rounding must not push the corners of an unchanged frame outside.
    slack = 1e-3
    inside_x = (x >= -slack) & (x <= size[1] - 1 + slack)
    return inside_x & (y >= -slack) & (y <= size[0] - 1 + slack)
