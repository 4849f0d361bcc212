"""Augmentation of pairs of frames with flow that stays exact.

A geometric augmentation is a pair of maps, one for each frame, from the pixels of the
new frame to those of the old: T1 and T2, homogeneous 3x3 matrices. Frames are sampled
there; and since a point x of new frame 1 shows the old point T1 x, which the flow F
carries to T1 x + F(T1 x), the new flow is

    F'(x) = T2^-1 (T1 x + F(T1 x)) - x

(Ilg et al., "FlowNet 2.0", 2017). Everything works on one sample, a dict of arrays;
`augment_batch` maps it over a batch.

    image1, image2                  (H, W, 3) RGB in [0, 1], or uint8
    flow, flow_backward             (H, W, 2) pixels; the second is optional
    valid                           (H, W) bool, where flow is known; optional
    occlusion, occlusion_backward   (H, W) bool, optional
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes, ops
from jaxflow.data import draws, photometric

Sample = Mapping[str, jax.Array]
Lookup = Literal["nearest", "bilinear", "sparse"]
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `augment` does.

    Attributes:
        geometry: Ranges of the maps.
        colour: Ranges of the colour changes.
        noise: Largest standard deviation of the noise that is added.
        erase: Probability that one or two boxes of frame 2 are painted over.
        lookup: How flow is read between pixels: "nearest" never mixes two motions;
            "bilinear" is exact for a motion that is affine in the position; "sparse"
            carries every known pixel of a laser scanner to the one nearest to where it
            goes, and no other pixel knows its flow.
    """

    geometry: Affine | ScaleAndCrop
    colour: photometric.Chroma | photometric.Jitter | None
    noise: float = 0.0
    erase: float = 0.0
    lookup: Lookup = "nearest"


_SPARSE_COLOUR = photometric.Jitter(
    brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3 / math.pi, asymmetric=0.0
)
RECIPES = {
    "flownet": Recipe(geometry=Affine(), colour=photometric.Chroma(), noise=0.06),
    "raft_chairs": Recipe(
        geometry=ScaleAndCrop(), colour=photometric.Jitter(), erase=0.5
    ),
    "raft_things": Recipe(
        geometry=ScaleAndCrop(scale=(-0.4, 0.8)), colour=photometric.Jitter(), erase=0.5
    ),
    "raft_sintel": Recipe(
        geometry=ScaleAndCrop(scale=(-0.2, 0.6)), colour=photometric.Jitter(), erase=0.5
    ),
    # Sparse flow: no stretching, no asymmetric colours. Alone, KITTI is not mirrored.
    "raft_kitti": Recipe(
        geometry=ScaleAndCrop(
            scale=(-0.2, 0.4), stretch=0.0, flip_horizontal=0.0, flip_vertical=0.0
        ),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
    "raft_sintel_kitti": Recipe(
        geometry=ScaleAndCrop(scale=(-0.3, 0.5), stretch=0.0, flip_vertical=0.0),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
    "raft_sintel_hd1k": Recipe(
        geometry=ScaleAndCrop(scale=(-0.5, 0.2), stretch=0.0, flip_vertical=0.0),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
}
"""The published sets of augmentations, by name.

The last two are those of the sparse sets that RAFT mixes with Sintel.
"""


def augment_batch(
    key: jax.Array,
    batch: Sample,
    *,
    recipe: str | Recipe = "flownet",
    size: tuple[int, int] | None = None,
    strength: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """Augments each sample of a batch on its own; see `augment`."""
    keys = jax.random.split(key, batch["image1"].shape[0])
    one = functools.partial(augment, recipe=recipe, size=size, strength=strength)
    return jax.vmap(one)(keys, dict(batch))


def augment(
    key: jax.Array,
    sample: Sample,
    *,
    recipe: str | Recipe = "flownet",
    size: tuple[int, int] | None = None,
    strength: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """Augments a pair of frames with its flow.

    Args:
        key: Random key.
        sample: See the module.
        recipe: A name in `RECIPES`, or a recipe.
        size: Height and width to cut out; None keeps the size.
        strength: Scales the ranges of `Affine` and of `photometric.Chroma`, and the
            noise; see `ramp`.

    Returns:
        The entries of `sample` that the module lists, augmented, and ``valid``.

    Raises:
        ValueError: If `recipe` is not known.
        ValueError: If arrays differ in size.
    """
    if not isinstance(recipe, Recipe):
        _checks.one_of("recipe", recipe, RECIPES)
        recipe = RECIPES[recipe]
    place, paint, grain, boxes = jax.random.split(key, 4)
    old = _size(sample)
    new = old if size is None else size
    first, second = draw_maps(place, recipe.geometry, old, new, strength=strength)
    sample = apply_maps(sample, first, second, size=new, lookup=recipe.lookup)
    images = sample["image1"], sample["image2"]
    if isinstance(recipe.colour, photometric.Chroma):
        images = photometric.change_chroma(
            paint, *images, ranges=recipe.colour, strength=strength
        )
    elif isinstance(recipe.colour, photometric.Jitter):
        images = photometric.jitter_colours(paint, *images, ranges=recipe.colour)
    if recipe.noise:
        images = photometric.add_noise(grain, *images, largest=strength * recipe.noise)
    if recipe.erase:
        erased = photometric.erase_boxes(boxes, images[1], probability=recipe.erase)
        images = images[0], erased
    return sample | {"image1": images[0], "image2": images[1]}


def ramp(step: int | jax.Array, *, scale: float = 50_000.0) -> jax.Array:
    """Returns the strength of FlowNet2's augmentation: 0.5 at step 0, in the end 1.

    0.5 + 0.5 (2 / (1 + exp(-1.0986 step / scale)) - 1)
    """
    step = jnp.asarray(step, float)
    return 1 / (1 + jnp.exp(-math.log(3) * step / scale))


def apply_maps(
    sample: Sample,
    map1: jax.Array,
    map2: jax.Array,
    *,
    size: tuple[int, int],
    lookup: Lookup = "nearest",
) -> dict[str, jax.Array]:
    """Resamples a pair by one map a frame, and works out its flow.

    Frames are bilinear between pixels and repeat their border outside. A point is
    occluded if it was, or if it now goes outside the new frame. Its flow is valid if
    the point, and the pixel that its flow is read from, were. With "sparse" every
    known flow goes to one pixel, or to none outside; where two meet, the one further
    down and right stays (as by RAFT's ``resize_sparse_flow_map``).

    Args:
        sample: See the module.
        map1: From pixels (x, y, 1) of new frame 1 to those of the old: (3, 3).
        map2: Likewise, of frame 2.
        size: Height and width of the new frames.
        lookup: How flow is read between pixels: "nearest", "bilinear" or "sparse",
            which is for ``flow``: the backward flow is then read as by "nearest".

    Returns:
        The entries of `sample` that the module lists, and ``valid``.

    Raises:
        ValueError: If `lookup` is none of them.
        ValueError: If arrays differ in size.
    """
    _checks.one_of("lookup", lookup, ("nearest", "bilinear", "sparse"))
    old = _size(sample)
    for name in ("image1", "image2"):
        _shapes.check(f'sample["{name}"]', sample[name], (*old, 3))
    for name, matrix in (("map1", map1), ("map2", map2)):
        _shapes.check(name, matrix, (3, 3))
    images = [photometric.as_float(sample[f"image{number}"]) for number in (1, 2)]
    # Homogeneous coordinates are near 1000, where bfloat16 steps by 4.
    inverse1, inverse2 = _invert(map1), _invert(map2)
    grid = ops.pixel_grid(*size)
    points1, points2 = _map_points(map1, grid), _map_points(map2, grid)
    result = {
        "image1": ops.bilinear_sample(images[0], points1, padding="border"),
        "image2": ops.bilinear_sample(images[1], points2, padding="border"),
    }
    for points, other, suffix in (
        (points1, inverse2, ""),
        (points2, inverse1, "_backward"),
    ):
        if "flow" + suffix not in sample:
            continue
        flow = sample["flow" + suffix]
        _shapes.check('sample["flow"]', flow, (*old, 2))
        target = _map_points(other, points + _read(flow, points, lookup))
        result["flow" + suffix] = target - grid
        if "occlusion" + suffix in sample:
            hidden = _read(sample["occlusion" + suffix], points, "nearest")
            result["occlusion" + suffix] = hidden | ~_inside(target, size)
    known = sample.get("valid", jnp.ones(old, bool)).astype(bool)
    if lookup == "sparse" and "flow" in sample:
        maps = inverse1, inverse2
        result["flow"], result["valid"] = _scatter(sample["flow"], known, maps, size)
    else:
        result["valid"] = _read(known, points1, "nearest") & _inside(points1, old)
    return result


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


def flip_horizontal(sample: Sample) -> dict[str, jax.Array]:
    """Mirrors left and right: columns are reversed and u changes sign."""
    return _flip(sample, axis=1, sign=(-1.0, 1.0))


def flip_vertical(sample: Sample) -> dict[str, jax.Array]:
    """Mirrors top and bottom: rows are reversed and v changes sign."""
    return _flip(sample, axis=0, sign=(1.0, -1.0))


def random_crop(
    key: jax.Array, sample: Sample, *, size: tuple[int, int]
) -> dict[str, jax.Array]:
    """Cuts the same window out of every array of a sample.

    Occlusion is left as it was: a point that now goes outside is not marked.

    Args:
        key: Random key; decides the place, uniformly.
        sample: Arrays of one height and width, (H, W, ...).
        size: Height and width of the window.

    Returns:
        The cut arrays.

    Raises:
        ValueError: If the window is larger than the frame.
    """
    height, width = sample["image1"].shape[:2]
    if size[0] > height or size[1] > width:
        raise ValueError(
            f"`size` {tuple(size)} is larger than the frame, {(height, width)}"
        )
    place = draws.uniform(key, corner=(2,))["corner"]
    room = jnp.array([height - size[0] + 1, width - size[1] + 1], float)
    top, left = jnp.floor(place * room).astype(jnp.int32)
    return {
        name: lax.dynamic_slice(
            value, (top, left, *[0] * (value.ndim - 2)), (*size, *value.shape[2:])
        )
        for name, value in sample.items()
    }


def _size(sample: Sample) -> tuple[int, int]:
    """Returns the height and width of a sample."""
    height, width, _ = sample["image1"].shape
    return height, width


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
    reached = jax.vmap(jax.vmap(lambda m: _map_points(m, corners)))(maps)
    fits = jnp.all(_inside(reached, old), axis=(1, 2))
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


def _map_points(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Maps points (..., 2) by a homogeneous matrix, in full precision."""
    x, y = points[..., 0], points[..., 1]
    rows = [row[0] * x + row[1] * y + row[2] for row in matrix]
    return jnp.stack(rows[:2], axis=-1) / rows[2][..., None]


def _invert(matrix: jax.Array) -> jax.Array:
    """Inverts a homogeneous matrix up to a factor, by its adjugate."""
    a, b, c = matrix
    return jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)


def _inside(points: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Tells which points lie within the pixel centres of a frame."""
    x, y = points[..., 0], points[..., 1]
    # Rounding must not push the corners of an unchanged frame outside.
    slack = 1e-3
    inside_x = (x >= -slack) & (x <= size[1] - 1 + slack)
    return inside_x & (y >= -slack) & (y <= size[0] - 1 + slack)


def _scatter(flow, known, maps, size) -> tuple[jax.Array, jax.Array]:
    """Carries the flow of every known pixel to the nearest pixel of the new frame.

    Args:
        flow: (H, W, 2).
        known: Where it counts, (H, W) bool.
        maps: Of either frame, from old pixels to new ones.
        size: Height and width of the new frames.

    Returns:
        The new flow, 0 where there is none, and where it is known.
    """
    height, width = size
    grid = ops.pixel_grid(*known.shape)
    here = _map_points(maps[0], grid)
    moved = _map_points(maps[1], grid + flow) - here
    column, row = jnp.round(here[..., 0]), jnp.round(here[..., 1])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & known
    place = row.astype(jnp.int32) * width + column.astype(jnp.int32)
    place = jnp.where(inside, place, height * width).ravel()
    # The last of several is the one of the highest number, in whatever order they come.
    number = jnp.arange(place.size, dtype=jnp.int32)
    last = jnp.full(height * width + 1, -1, jnp.int32).at[place].max(number)[:-1]
    found = moved.reshape(-1, 2)[jnp.maximum(last, 0)]
    valid = (last >= 0).reshape(size)
    return jnp.where(valid[..., None], found.reshape(*size, 2), 0), valid


def _read(field: jax.Array, points: jax.Array, lookup: Lookup) -> jax.Array:
    """Reads a field, (H, W) or (H, W, C), at points; outside, its border."""
    if lookup == "bilinear":
        return ops.bilinear_sample(field, points, padding="border")
    height, width = field.shape[:2]
    column, row = jnp.round(points[..., 0]), jnp.round(points[..., 1])
    column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
    row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
    return field[row, column]


def _flip(sample, *, axis, sign):
    """Reverses an axis of every array, and the component of flow along it."""
    flipped = {name: jnp.flip(value, axis) for name, value in sample.items()}
    for name in ("flow", "flow_backward"):
        if name in flipped:
            flipped[name] *= jnp.array(sign, flipped[name].dtype)[None, None]
    return flipped
