"""Layered scenes drawn on the device, with exact flow both ways and exact occlusion.

A scene is a background and some objects on it, painted in order. Each layer has an
outline and a texture that can be evaluated at any real position, and moves by a
homography from frame 1 to frame 2. So nothing is interpolated: the colour that a
visible point has in frame 1 is the colour it has at its destination in frame 2, to
rounding.

Displacements follow the recipe of Dosovitskiy et al., "FlowNet" (2015), supplement,
and Ilg et al., "FlowNet 2.0" (2017); textures and outlines are procedural. One key
gives one sample, whatever the batch that it is drawn in.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.data import draws

_WAVES = 24
_CORNERS = 5
# Pixels of a picture for each unit of the texture plane.
_PICTURE_SCALE = 0.7
# How near an outline is too near to call, in radii of the object.
_DOUBT = 1e-5
# Displacements and sizes of the presets are for frames of FlyingChairs' size.
_REFERENCE = (384, 512)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A heavy-tailed random number: 0, or sign(g) |g|^power with g ~ N(0, sigma^2).

    Attributes:
        sigma: Standard deviation of g.
        power: Exponent; the larger, the heavier the tail.
        limit: Largest magnitude; beyond it the number is clipped.
        probability: How often the number is not 0.
    """

    sigma: float = 0.0
    power: float = 1.0
    limit: float = math.inf
    probability: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """How a layer moves from frame 1 to frame 2.

    Attributes:
        translation: Along each axis, in pixels of a 384x512 frame.
        rotation: About the layer's centre, in degrees.
        zoom: Logarithm of the scale.
        tilt: Out of the image plane, about each axis, in degrees: the perspective
            terms of a homography whose focal length is the frame's longer side.
    """

    translation: Spread = Spread()
    rotation: Spread = Spread()
    zoom: Spread = Spread()
    tilt: Spread = Spread()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a scene is drawn from.

    Attributes:
        background: Motion of the background.
        objects: Motion of each object, relative to the background's.
        count: Smallest and largest number of objects.
        diameter: Mean, standard deviation, smallest and largest size of an object, in
            pixels of a 384x512 frame.
        flat: Probability that a layer is almost without texture.
        slender: Probability that an object is three to eight times as long as wide.
        pictures: Probability that a layer is painted with a picture, if there are any.
        scaled: Whether translations shrink with the frame, as sizes do. If not, they
            are pixels of the frame that is drawn.
    """

    background: Motion
    objects: Motion
    count: tuple[int, int] = (3, 8)
    diameter: tuple[float, float, float, float] = (200.0, 200.0, 50.0, 640.0)
    flat: float = 0.0
    slender: float = 0.0
    pictures: float = 0.75
    scaled: bool = True


# "chairs" is fitted to the motion of real FlyingChairs pairs: mean 8.8 px, quantiles
# 2.9 (half), 10.1 (three quarters), 27 (95 %) and 59 px (99 %).
PRESETS = {
    "translation": Recipe(
        background=Motion(translation=Spread(sigma=16.0, limit=40.0)),
        objects=Motion(translation=Spread(sigma=8.0, limit=24.0)),
        count=(1, 4),
    ),
    "chairs": Recipe(
        background=Motion(
            translation=Spread(sigma=0.75, power=1.3, limit=40.0),
            rotation=Spread(sigma=0.85, power=2, limit=10.0, probability=0.5),
            zoom=Spread(sigma=0.07, power=1.5, limit=0.07, probability=0.6),
        ),
        objects=Motion(
            translation=Spread(sigma=2.75, power=1.8, limit=120.0),
            rotation=Spread(sigma=3.0, power=2, limit=30.0, probability=0.7),
            zoom=Spread(sigma=0.18, power=1.5, limit=0.2, probability=0.7),
        ),
        diameter=(142.0, 112.0, 50.0, 640.0),
    ),
    "things": Recipe(
        background=Motion(
            translation=Spread(sigma=2.2, power=2, limit=60.0),
            rotation=Spread(sigma=1.2, power=2, limit=15.0, probability=0.7),
            zoom=Spread(sigma=0.04, limit=0.15),
            tilt=Spread(sigma=2.0, limit=6.0),
        ),
        objects=Motion(
            translation=Spread(sigma=3.2, power=2, limit=160.0),
            rotation=Spread(sigma=2.5, power=2, limit=45.0),
            zoom=Spread(sigma=0.1, limit=0.35),
            tilt=Spread(sigma=6.0, limit=15.0),
        ),
        count=(6, 12),
    ),
    "sdhom": Recipe(
        background=Motion(translation=Spread(sigma=0.5, power=2, limit=4.0)),
        objects=Motion(
            translation=Spread(sigma=0.5, power=2, limit=4.0),
            rotation=Spread(sigma=0.4, power=2, limit=3.0, probability=0.3),
            zoom=Spread(sigma=0.01, limit=0.03, probability=0.3),
        ),
        flat=0.5,
        scaled=False,
    ),
    # Much of the world stands still, and what moves may cross a quarter of the frame.
    "world": Recipe(
        background=Motion(
            translation=Spread(sigma=1.6, power=1.8, limit=50.0, probability=0.75),
            rotation=Spread(sigma=1.0, power=1.5, limit=10.0, probability=0.6),
            zoom=Spread(sigma=0.03, power=1.2, limit=0.12, probability=0.6),
            tilt=Spread(sigma=1.5, limit=5.0, probability=0.5),
        ),
        objects=Motion(
            translation=Spread(sigma=2.1, power=1.9, limit=60.0, probability=0.85),
            rotation=Spread(sigma=2.2, power=1.8, limit=30.0, probability=0.7),
            zoom=Spread(sigma=0.06, power=1.3, limit=0.25, probability=0.7),
            tilt=Spread(sigma=4.0, limit=12.0, probability=0.5),
        ),
        count=(2, 9),
        diameter=(150.0, 110.0, 24.0, 500.0),
        flat=0.1,
        slender=0.2,
        scaled=False,
    ),
}


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


def flow_batch(
    key: jax.Array,
    *,
    preset: str | Recipe = "chairs",
    batch_size: int = 8,
    size: tuple[int, int] = (384, 512),
    textures: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Draws a batch of pairs of frames with their motion; see `flow_pair`.

    Args:
        key: Random key, split into one for each sample.
        preset: A name in `PRESETS`, or a recipe.
        batch_size: Number of pairs.
        size: Height and width.
        textures: As for `flow_pair`.

    Returns:
        What `flow_pair` returns, each array with a leading axis of `batch_size`.

    Raises:
        ValueError: If `preset` is not known, or a size is not positive.
    """
    _checks.positive("batch_size", batch_size)
    draw = functools.partial(flow_pair, preset=preset, size=size, textures=textures)
    return jax.vmap(draw)(jax.random.split(key, batch_size))


def flow_pair(
    key: jax.Array,
    *,
    preset: str | Recipe = "chairs",
    size: tuple[int, int] = (384, 512),
    textures: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Draws two frames of a scene with their motion.

    Args:
        key: Random key.
        preset: A name in `PRESETS`, or a recipe.
        size: Height and width.
        textures: Pictures that paint some of the layers, (N, S, S, 3), uint8 or float
            in [0, 1], such as `jaxflow.data.textures.bank` returns. They are read
            bilinearly, and mirrored beyond their border. None paints all layers with
            cosines.

    Returns:
        A dict of ``image1``, ``image2`` (H, W, 3) RGB in [0, 1]; ``flow`` and
        ``flow_backward`` (H, W, 2) in pixels, from frame 1 to 2 and from 2 to 1;
        ``occlusion`` and ``occlusion_backward`` (H, W) bool, True where the point is
        hidden in the other frame or lies outside it, and where it is within 1e-5 radii
        of an object's outline there; ``label`` and ``label2`` (H, W)
        int32, the layer seen in each frame, 0 for the background.

    Raises:
        ValueError: If `preset` is not known, or a size is not positive.
    """
    scene = draw_scene(key, preset=preset, size=size)
    first = _frame(scene, size, textures, frame=1)
    second = _frame(scene, size, textures, frame=2)
    return {
        "image1": first["image"],
        "image2": second["image"],
        "flow": first["flow"],
        "flow_backward": second["flow"],
        "occlusion": first["occlusion"],
        "occlusion_backward": second["occlusion"],
        "label": first["label"],
        "label2": second["label"],
    }


def render(
    scene: Scene,
    points: jax.Array,
    *,
    frame: int = 1,
    textures: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Evaluates a frame of a scene at any points, on and off the pixel grid.

    Args:
        scene: From `draw_scene`.
        points: Where to look, (*S, 2): (x, y) in pixels.
        frame: 1 or 2.
        textures: As for `flow_pair`.

    Returns:
        The colours, (*S, 3) RGB in [0, 1], and the layers seen, (*S) int32.

    Raises:
        ValueError: If `frame` is neither 1 nor 2.
    """
    _checks.one_of("frame", frame, (1, 2))
    _shapes.check("points", points, (..., 2))
    x, y = points[..., 0] - scene.centre[0], points[..., 1] - scene.centre[1]
    label, x1, y1, _ = _look(scene.layers, x, y, frame=frame)
    return _colour(scene, textures, label, x1, y1), label


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
    u = {name: numbers.astype(float) for name, numbers in u.items()}
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


def _frame(
    scene: Scene, size: tuple[int, int], textures: jax.Array | None, *, frame: int
) -> dict[str, jax.Array]:
    """Draws a frame, its flow to the other frame, its occlusion and its labels."""
    height, width = size
    x, y = jnp.meshgrid(
        jnp.arange(width, dtype=float) - scene.centre[0],
        jnp.arange(height, dtype=float) - scene.centre[1],
    )
    label, x1, y1, _ = _look(scene.layers, x, y, frame=frame)
    motion = scene.layers.forward if frame == 1 else scene.layers.backward
    u, v = _displacement(jnp.moveaxis(motion[label], (-2, -1), (0, 1)), x, y)
    other, _, _, doubtful = _look(scene.layers, x + u, y + v, frame=3 - frame)
    outside = (jnp.abs(x + u) > scene.centre[0]) | (jnp.abs(y + v) > scene.centre[1])
    return {
        "image": _colour(scene, textures, label, x1, y1),
        "flow": jnp.stack([u, v], axis=-1),
        "occlusion": outside | doubtful | (other != label),
        "label": label,
    }


def _look(
    layers: Layers, x: jax.Array, y: jax.Array, *, frame: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Finds the layer seen at each point, and where that point is in frame 1.

    Also tells where a point is so near an outline that rounding decides.
    """

    def in_frame_1(layer):
        if frame == 1:
            return x, y
        u, v = _displacement(layer.backward, x, y)
        return x + u, y + v

    def paint(below, numbered_layer):
        *below, doubtful = below
        number, layer = numbered_layer
        x1, y1 = in_frame_1(layer)
        seen, near = _inside(layer, *_affine(layer.to_object, x1, y1))
        above = (jnp.full_like(below[0], number), x1, y1)
        shown = (jnp.where(seen, a, b) for a, b in zip(above, below, strict=True))
        return (*shown, near | (doubtful & ~seen)), None

    background = jax.tree.map(lambda a: a[0], layers)
    objects = jax.tree.map(lambda a: a[1:], layers)
    label, doubtful = jnp.zeros(x.shape, jnp.int32), jnp.zeros(x.shape, bool)
    bottom = (label, *in_frame_1(background), doubtful)
    numbers = jnp.arange(1, 1 + objects.hole.shape[0], dtype=jnp.int32)
    (label, x1, y1, doubtful), _ = lax.scan(paint, bottom, (numbers, objects))
    return label, x1, y1, doubtful


def _inside(layer: Layers, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tells which points of an object's own frame belong to it, and which nearly do.

    A point at radius r and angle t is inside if hole < r / R(t) < 1, with
    R(t) = 1 + sum_k a_k cos kt + b_k sin kt for a round object, or R the outline of a
    polygon with that ripple.
    """
    square = x * x + y * y
    radius = jnp.sqrt(square)
    inverse = 1 / jnp.maximum(radius, 1e-6)
    cos1, sin1 = x * inverse, y * inverse
    cos, sin = cos1, sin1
    outline = 1.0
    for k in range(3):
        cos, sin = cos * cos1 - sin * sin1, sin * cos1 + cos * sin1
        outline = outline + layer.ripple[k, 0] * cos + layer.ripple[k, 1] * sin
    reach = layer.roundness * radius
    for k in range(_CORNERS):
        reach = jnp.maximum(reach, layer.corners[k, 0] * x + layer.corners[k, 1] * y)
    inner = layer.hole * outline
    to_edge = jnp.minimum(jnp.abs(reach - outline), jnp.abs(reach - inner))
    # A hole of 0 has no edge; rounding moves a point by some 1e-6 of an object.
    near = (to_edge < _DOUBT) & (layer.hole < 1) & (reach > _DOUBT)
    return (reach < outline) & (reach >= inner), near


def _colour(
    scene: Scene,
    textures: jax.Array | None,
    label: jax.Array,
    x: jax.Array,
    y: jax.Array,
) -> jax.Array:
    """Paints points of frame 1, given the layers that they belong to."""
    layers = scene.layers
    s, t = _affine(jnp.moveaxis(layers.to_texture[label], (-2, -1), (0, 1)), x, y)

    def add_wave(fields, wave):
        (fx, fy, phase), amplitude = wave
        value = jnp.cos(2 * jnp.pi * (fx * s + fy * t + phase))
        return tuple(
            f + a * value for f, a in zip(fields, amplitude, strict=True)
        ), None

    fields = (jnp.zeros_like(s),) * 3
    fields, _ = lax.scan(add_wave, fields, (scene.waves, scene.amplitudes))
    sharpness = layers.sharpness[label]
    first, second = (jax.nn.sigmoid(sharpness * field) for field in fields[:2])
    palette = layers.palette[label]
    mixed = palette[..., 0, :] + first[..., None] * palette[..., 1, :]
    mixed = mixed + second[..., None] * palette[..., 2, :]
    colour = mixed + fields[2][..., None] * palette[..., 3, :]
    if textures is not None:
        picture = layers.picture[label]
        painted = _read_picture(textures, picture, s, t)
        # Between the picture's own colours and those of the layer.
        painted = 0.8 * painted + 0.4 * (palette[..., 0, :] - 0.25)
        colour = jnp.where(picture[..., None] >= 0, painted, colour)
    return jnp.clip(colour, 0.0, 1.0)


def _read_picture(textures, picture, s, t):
    """Reads pictures bilinearly at points of the texture plane; mirrored beyond."""
    count, side = textures.shape[:2]
    number = jnp.clip((count * picture).astype(jnp.int32), 0, count - 1)
    # Half a pixel of the picture a pixel of the frame, and any place in it.
    s, t = (_PICTURE_SCALE * s + 3 * side, _PICTURE_SCALE * t + 3 * side)
    left, top = jnp.floor(s), jnp.floor(t)

    def fold(index):
        index = index.astype(jnp.int32) % (2 * side)
        return jnp.where(index < side, index, 2 * side - 1 - index)

    flat = textures.reshape(-1, 3)
    colour = jnp.zeros((*s.shape, 3))
    for dy, wy in ((0, 1 - (t - top)), (1, t - top)):
        for dx, wx in ((0, 1 - (s - left)), (1, s - left)):
            row = (number * side + fold(top + dy)) * side + fold(left + dx)
            value = flat[row].astype(jnp.float32)
            colour = colour + (wy * wx)[..., None] * value
    return colour / 255 if textures.dtype == jnp.uint8 else colour


def _affine(matrix, x, y):
    """Maps points by a 2x3 matrix."""
    return (
        matrix[0][0] * x + matrix[0][1] * y + matrix[0][2],
        matrix[1][0] * x + matrix[1][1] * y + matrix[1][2],
    )


def _displacement(matrix, x, y):
    """How far a homography moves points, given the homography less the identity.

    With M = I + D: (M p - p) = (D p - p d.p) / (1 + d.p), d the last row of D. Small
    motions keep their digits, which M p - p would lose.
    """
    ratio = matrix[2][0] * x + matrix[2][1] * y
    u, v = _affine(matrix, x, y)
    return (u - ratio * x) / (1 + ratio), (v - ratio * y) / (1 + ratio)


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
    rows = (motion[:, 0], motion[:, 1], motion[:, 2])
    # The adjugate: the inverse up to a factor, which a homography does not have.
    inverse = jnp.stack(
        [jnp.cross(rows[(k + 1) % 3], rows[(k + 2) % 3]) for k in range(3)], axis=-1
    )
    return tuple(m / m[:, 2:, 2:] - jnp.eye(3)[None] for m in (motion, inverse))


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
