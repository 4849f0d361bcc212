"""Draws scenes: where their layers are, how they look and how they move.

One key gives one scene, whatever the batch that it is drawn in. What paints them is
`jaxflow.data.synthetic`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks
from jaxflow.data import draws
from jaxflow.data.scene_recipes import PRESETS, Recipe, Spread

_WAVES = 24
_CORNERS = 5
# Displacements and sizes of the presets are for frames of FlyingChairs' size.
_REFERENCE = (384, 512)


class Layers(NamedTuple):
    """The layers of a scene, bottom first: L = 1 background + objects.

    Positions are relative to the centre of the frame, in pixels.

    Attributes:
        to_object: Frame 1 to an object's own frame, where its radius is 1: (L, 2, 3).
        to_texture: Frame 1 to the plane on which textures are defined: (L, 2, 3).
        forward: Homography from frame 1 to frame 2, less the identity: (L, 3, 3).
        backward: Its inverse, less the identity: (L, 3, 3).
        ripple: Cosine and sine amplitudes of the outline's radius at 2, 3 and 4
            cycles a turn: (L, 3, 2).
        corners: Normals of the sides, for a polygon; 0 for a round object: (L, 5, 2).
        roundness: 1 for a round object, 0 for a polygon: (L,).
        hole: Inner radius, for a ring; 0 without a hole; 2 hides the layer: (L,).
        palette: Three colours, and the amplitude of the detail: (L, 4, 3).
        picture: Which picture of the bank paints the layer, from 0 to 1; -1 where the
            cosines do: (L,).
        sharpness: Slope of the change from a colour to the next: (L,).
    """

    to_object: jax.Array
    to_texture: jax.Array
    forward: jax.Array
    backward: jax.Array
    ripple: jax.Array
    corners: jax.Array
    roundness: jax.Array
    hole: jax.Array
    palette: jax.Array
    picture: jax.Array
    sharpness: jax.Array


class Scene(NamedTuple):
    """A scene in motion.

    Attributes:
        layers: See `Layers`.
        waves: Frequency along x and y and phase of each cosine, in cycles: (K, 3).
        amplitudes: Weight of each cosine in the two fields that choose the colour and
            in the detail: (K, 3).
        centre: Position (x, y) of the centre of the frame: (2,).
    """

    layers: Layers
    waves: jax.Array
    amplitudes: jax.Array
    centre: jax.Array


def draw_scene(
    key: jax.Array,
    *,
    preset: str | Recipe = "chairs",
    size: tuple[int, int] = (384, 512),
) -> Scene:
    """Draws a scene: where its layers are, how they look and how they move.

    Args:
        key: Random key.
        preset: A name in `PRESETS`, or a recipe.
        size: Height and width of the frames that it is meant for.

    Raises:
        ValueError: If `preset` is not known, or a size is not positive.
    """
    if not isinstance(preset, Recipe):
        _checks.one_of("preset", preset, PRESETS)
        preset = PRESETS[preset]
    for side in size:
        _checks.positive("size", side)
    count = 1 + preset.count[1]
    u = _draw_numbers(key, count)
    scale = math.sqrt(size[0] * size[1] / (_REFERENCE[0] * _REFERENCE[1]))
    position = (u["position"] - 0.5) * 1.1 * jnp.array([[size[1], size[0]]], float)
    position = position.at[0].set(0.0)
    to_object, outline = _draw_outlines(u, preset, scale, position)
    forward, backward = _draw_motions(u["motion"], preset, size, scale, position)
    to_texture, palette, picture, sharpness = _draw_looks(u, preset)
    waves, amplitudes = _draw_waves(u, size)
    layers = Layers(
        to_object=to_object,
        to_texture=to_texture,
        forward=forward,
        backward=backward,
        palette=palette,
        picture=picture,
        sharpness=sharpness,
        **outline,
    )
    centre = jnp.array([(size[1] - 1) / 2, (size[0] - 1) / 2], float)
    return Scene(layers, waves, amplitudes, centre)


def at_time(scene: Scene, time: float | jax.Array) -> Scene:
    """Returns the scene whose frame 2 is at another time than 1.

    A point goes straight from where it is in frame 1, at time 0, to where it is in
    frame 2, at time 1: with M = I + D its homography to frame 2, its homography to
    time t is I + t D, which is exact at both ends.

    Args:
        scene: From `draw_scene`.
        time: t, in intervals between the frames; a little before 0 and after 1 will do.
    """
    forward = time * scene.layers.forward
    backward = _less_identity(_inverse(forward + jnp.eye(3)[None]))
    return scene._replace(
        layers=scene.layers._replace(forward=forward, backward=backward)
    )


def _draw_numbers(key: jax.Array, count: int) -> dict[str, jax.Array]:
    """Draws all numbers of a scene of `count` layers, uniform in [0, 1)."""
    u = draws.uniform(
        key,
        number=(),
        position=(count, 2),
        shape=(count, 4),
        turn=(count,),
        ripple=(count, 3, 2, 2),
        corners=(count, _CORNERS, 2),
        motion=(count, 6, 2),
        texture=(count, 4),
        palette=(count, 4, 3),
        look=(count, 4),
        waves=(_WAVES, 3),
        amplitudes=(_WAVES, 3),
        slender=(count, 2),
        picture=(count, 2),
    )
    # Scenes are computed in float64 where that is on.
    return {name: numbers.astype(float) for name, numbers in u.items()}


def _draw_outlines(u, recipe, scale, position):
    """Draws the place and the outline of each layer."""
    count = position.shape[0]
    mean, deviation, smallest, largest = recipe.diameter
    diameter = mean + deviation * draws.normal(u["shape"][:, 0])
    radius = scale / 2 * jnp.clip(diameter, smallest, largest)
    stretch = jnp.exp(0.6 * (u["shape"][:, 1] - 0.5))
    long = jnp.sqrt(3 + 5 * u["slender"][:, 1])
    stretch = jnp.where(u["slender"][:, 0] < recipe.slender, long, stretch)
    rotation = _rotation(2 * jnp.pi * u["turn"])
    shrink = jnp.stack([1 / (radius * stretch), stretch / radius], axis=-1)
    linear = shrink[:, :, None] * rotation
    offset = -jnp.sum(linear * position[:, None, :], axis=-1, keepdims=True)

    number = recipe.count[0] + jnp.floor(
        u["number"] * (recipe.count[1] - recipe.count[0] + 1)
    )
    ring = u["shape"][:, 2] < 0.4
    hole = jnp.where(ring, 0.4 + 0.5 * u["shape"][:, 3], 0.0)
    hole = jnp.where(jnp.arange(count, dtype=float) > number, 2.0, hole)
    polygon = u["ripple"][:, 0, 0, 1] < 0.5
    jitter = 0.7 * (u["corners"][..., 0] - 0.5)
    corner = jnp.arange(_CORNERS, dtype=float)[None]
    angle = 2 * jnp.pi * (corner + jitter) / _CORNERS
    tightness = 1 + 0.4 * u["corners"][..., 1]
    corners = tightness[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    ripple = 0.15 * draws.normal(u["ripple"][..., 0])
    return jnp.concatenate([linear, offset], axis=-1), {
        "hole": hole,
        "roundness": jnp.where(polygon, 0.0, 1.0),
        "corners": jnp.where(polygon[:, None, None], corners, 0.0),
        "ripple": jnp.where(polygon[:, None, None], 0.0, ripple),
    }


def _draw_motions(u, recipe, size, scale, position):
    """Draws each layer's homography, less the identity, and its inverse's."""
    shift = scale if recipe.scaled else 1.0
    count = position.shape[0]
    motions = [recipe.background] + [recipe.objects] * (count - 1)
    values = _spread([_spreads(motion) for motion in motions], u)
    tx, ty, angle, zoom, tilt_x, tilt_y = jnp.moveaxis(values, -1, 0)
    angle, zoom = jnp.deg2rad(angle), jnp.exp(zoom)
    cos, sin = zoom * jnp.cos(angle), zoom * jnp.sin(angle)
    hx, hy = (jnp.tan(jnp.deg2rad(tilt)) / max(size) for tilt in (tilt_x, tilt_y))
    px, py = position[:, 0], position[:, 1]
    # Turn, zoom and tilt about the layer's centre, then shift.
    w = 1 - hx * px - hy * py
    x = shift * tx - cos * px + sin * py + px * w
    y = shift * ty - sin * px - cos * py + py * w
    move = _matrix(
        [
            [cos + px * hx, -sin + px * hy, x],
            [sin + py * hx, cos + py * hy, y],
            [hx, hy, w],
        ]
    )
    # An object moves on the background, and with it.
    with_background = jnp.matmul(move[:1], move[1:], precision=lax.Precision.HIGHEST)
    motion = jnp.concatenate([move[:1], with_background])
    return tuple(_less_identity(m) for m in (motion, _inverse(motion)))


def _inverse(motion):
    """Returns the adjugates of (L, 3, 3): inverses but for a factor.

    A homography does not have it.
    """
    rows = (motion[:, 0], motion[:, 1], motion[:, 2])
    return jnp.stack(
        [jnp.cross(rows[(k + 1) % 3], rows[(k + 2) % 3]) for k in range(3)], axis=-1
    )


def _less_identity(motion):
    """Returns homographies, (L, 3, 3), whose last entry is 1, less the identity."""
    return motion / motion[:, 2:, 2:] - jnp.eye(3)[None]


def _spreads(motion):
    """Lists the distributions of a layer's six numbers: shift, turn, zoom, tilt."""
    shift, tilt = motion.translation, motion.tilt
    return [shift, shift, motion.rotation, motion.zoom, tilt, tilt]


def _draw_looks(u, recipe):
    """Draws the place on the texture plane, the colours and the edges of each layer."""
    turn, zoom, offset = u["texture"][:, 0], u["texture"][:, 1], u["texture"][:, 2:]
    linear = _rotation(2 * jnp.pi * turn) * jnp.exp(0.8 * (zoom - 0.5))[:, None, None]
    to_texture = jnp.concatenate([linear, 100 * (offset - 0.5)[..., None]], axis=-1)

    flat = u["look"][:, 0] < recipe.flat
    # Colours of the world are paler than those of a cube of random numbers.
    grey = jnp.mean(u["palette"], axis=-1, keepdims=True)
    colours = grey + 0.6 * (u["palette"] - grey)
    base, first, second = (colours[:, k] for k in range(3))
    contrast = jnp.where(flat, 0.15, 0.5 + 0.5 * u["look"][:, 1])[:, None]
    first, second = contrast * (first - base), contrast * (second - base) * 0.7
    tint = 1 + 0.5 * (u["palette"][:, 3] - 0.5)
    detail = jnp.where(flat, 0.0, 0.1 * u["look"][:, 2] ** 2)[:, None] * tint
    sharpness = jnp.exp(math.log(0.7) + math.log(10.0) * u["look"][:, 3])
    palette = jnp.stack([base, first, second, detail], axis=1)
    painted = (u["picture"][:, 0] < recipe.pictures) & ~flat
    picture = jnp.where(painted, u["picture"][:, 1], -1.0)
    return to_texture, palette, picture, sharpness


def _draw_waves(u, size):
    """Draws the cosines that make the fields of the texture plane.

    The first two thirds are long and choose the colours, the last third is short and is
    the detail. Amplitudes grow with the wavelength, as in natural images.
    """
    long = _WAVES * 2 // 3
    is_long = jnp.arange(_WAVES) < long
    shortest = jnp.where(is_long, max(8.0, min(size) / 12), 4.0)
    longest = jnp.where(is_long, max(24.0, 0.7 * min(size)), 12.0)
    # Stratified, so that no texture lacks an octave.
    rank = jnp.arange(_WAVES) % long / jnp.where(is_long, long, _WAVES - long)
    place = jnp.clip(rank + 0.1 * (u["waves"][:, 0] - 0.5), 0.0, 1.0)
    wavelength = shortest * (longest / shortest) ** place
    angle = 2 * jnp.pi * u["waves"][:, 1]
    waves = jnp.stack(
        [jnp.cos(angle) / wavelength, jnp.sin(angle) / wavelength, u["waves"][:, 2]], -1
    )
    weight = draws.normal(u["amplitudes"]) * jnp.sqrt(wavelength)[:, None]
    used = jnp.stack([is_long, is_long, ~is_long], axis=-1)
    weight = jnp.where(used, weight, 0.0)
    power = jnp.sum(weight**2, axis=0, keepdims=True)
    return waves, weight * jnp.sqrt(2 / jnp.maximum(power, 1e-12))


def _spread(spreads: list[list[Spread]], uniform: jax.Array) -> jax.Array:
    """Draws from a table of `Spread`s, given two uniform numbers for each: (..., 2)."""
    fields = ("sigma", "power", "limit", "probability")
    sigma, power, limit, probability = (
        jnp.array([[getattr(spread, name) for spread in row] for row in spreads], float)
        for name in fields
    )
    normal = sigma * draws.normal(uniform[..., 0])
    magnitude = jnp.minimum(jnp.abs(normal) ** power, limit)
    value = jnp.sign(normal) * magnitude
    return jnp.where(uniform[..., 1] < probability, value, 0.0)


def _rotation(angle: jax.Array) -> jax.Array:
    """Returns 2x2 rotations: (..., 2, 2)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix([[cos, -sin], [sin, cos]])


def _matrix(rows) -> jax.Array:
    """Stacks arrays of entries into matrices, on the last two axes."""
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
