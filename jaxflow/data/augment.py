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

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes, ops
from jaxflow.data import augment_maps, draws, photometric
from jaxflow.data.augment_maps import Affine as Affine
from jaxflow.data.augment_maps import ScaleAndCrop as ScaleAndCrop
from jaxflow.data.augment_maps import draw_maps as draw_maps
from jaxflow.data.augment_recipes import RECIPES as RECIPES
from jaxflow.data.augment_recipes import Lookup as Lookup
from jaxflow.data.augment_recipes import Recipe as Recipe

Sample = Mapping[str, jax.Array]


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
    inverse1, inverse2 = augment_maps.invert(map1), augment_maps.invert(map2)
    grid = ops.pixel_grid(*size)
    points1, points2 = (
        augment_maps.map_points(map1, grid),
        augment_maps.map_points(map2, grid),
    )
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
        target = augment_maps.map_points(other, points + _read(flow, points, lookup))
        result["flow" + suffix] = target - grid
        if "occlusion" + suffix in sample:
            hidden = _read(sample["occlusion" + suffix], points, "nearest")
            result["occlusion" + suffix] = hidden | ~augment_maps.inside(target, size)
    known = sample.get("valid", jnp.ones(old, bool)).astype(bool)
    if lookup == "sparse" and "flow" in sample:
        maps = inverse1, inverse2
        result["flow"], result["valid"] = _scatter(sample["flow"], known, maps, size)
    else:
        result["valid"] = _read(known, points1, "nearest") & augment_maps.inside(
            points1, old
        )
    return result


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
    here = augment_maps.map_points(maps[0], grid)
    moved = augment_maps.map_points(maps[1], grid + flow) - here
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
