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

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.data.scene_recipes import PRESETS as PRESETS
from jaxflow.data.scene_recipes import Motion as Motion
from jaxflow.data.scene_recipes import Recipe as Recipe
from jaxflow.data.scene_recipes import Spread as Spread
from jaxflow.data.scenes import Layers as Layers
from jaxflow.data.scenes import Scene as Scene
from jaxflow.data.scenes import at_time as at_time
from jaxflow.data.scenes import draw_scene as draw_scene

# Pixels of a picture for each unit of the texture plane.
_PICTURE_SCALE = 0.7
# How near an outline is too near to call, in radii of the object.
_DOUBT = 1e-5


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


def expose(
    scene: Scene,
    size: tuple[int, int],
    *,
    exposure: float | jax.Array,
    samples: int = 5,
    textures: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Draws both frames of a scene with the blur of its motion.

    A frame is the mean of pictures at times spread evenly over its exposure, in the
    middle of which it is; between the frames points go straight, see `at_time`. What
    `flow_pair` says of the scene is true of those middles.

    Args:
        scene: From `draw_scene`.
        size: Height and width.
        exposure: How long a frame is exposed, as a share of the interval between the
            frames.
        samples: Pictures a frame. A point at speed v is drawn that many times, each
            v exposure / samples pixels from the next.
        textures: As for `flow_pair`.

    Returns:
        Both frames, (H, W, 3) RGB in [0, 1].

    Raises:
        ValueError: If `samples` is not positive.
    """
    _checks.positive("samples", samples)
    points = ops.pixel_grid(*size)
    offsets = (jnp.arange(samples, dtype=float) + 0.5) / samples - 0.5

    def picture(time):
        return render(at_time(scene, time), points, frame=2, textures=textures)[0]

    def add(total, offset):
        times = (exposure * offset, 1 + exposure * offset)
        return tuple(
            t + picture(time) for t, time in zip(total, times, strict=True)
        ), None

    black = jnp.zeros((*size, 3), points.dtype)
    start = _mesh.alike((black, black), scene, textures)
    (first, second), _ = lax.scan(add, start, offsets)
    return first / samples, second / samples


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
    bottom = _mesh.alike((label, *in_frame_1(background), doubtful), layers)
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
    for k in range(len(layer.corners)):
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

    fields = _mesh.alike((jnp.zeros_like(s),) * 3, s, scene)
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
