"""Clips of shapes and glyphs that move and bounce, for models that generate video.

    shapes    one soft disc or square, elastic walls
    shapes3   two of them and their overlap: the second hides the first
    glyphs    two digits of straight strokes; a wall sends them on in a new direction

The first two are determined by two of their frames; every kind can have either walls.
The glyphs follow the rule of stochastic Moving MNIST (Denton and Fergus, 2018), without
its pictures: their strokes are drawn on the device.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _checks, _mesh, ops
from jaxflow.data import draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of clips.

    Attributes:
        objects: How many move in a clip.
        frames: Usual length of a clip.
        size: Usual height and width.
        speeds: Smallest and largest speed, in pixels a frame; of glyphs, the largest
            step along either axis.
        stochastic: Whether walls send objects on in a new direction.
    """

    objects: int
    frames: int
    size: tuple[int, int]
    speeds: tuple[float, float]
    stochastic: bool


KINDS = {
    "shapes": Kind(
        objects=1, frames=8, size=(16, 16), speeds=(0.6, 1.8), stochastic=False
    ),
    "shapes3": Kind(
        objects=2, frames=8, size=(24, 24), speeds=(0.6, 1.8), stochastic=False
    ),
    "glyphs": Kind(
        objects=2, frames=20, size=(64, 64), speeds=(0.0, 4.0), stochastic=True
    ),
}
_RADII = (2.0, 3.5)
# Corners and middles of a digit, (x, y) in [0, 1], and the strokes of 0 to 9 between
# them: a to g of a seven-segment display.
_STROKES = np.array(
    [
        [0, 0, 1, 0],
        [1, 0, 1, 0.5],
        [1, 0.5, 1, 1],
        [0, 1, 1, 1],
        [0, 0.5, 0, 1],
        [0, 0, 0, 0.5],
        [0, 0.5, 1, 0.5],
    ],
    np.float32,
)
_DIGITS = np.array(
    [
        [letter in digit for letter in "abcdefg"]
        for digit in (
            "abcdef bc abged abgcd fgbc afgcd afgedc abc abcdefg abcdfg".split()
        )
    ]
)


def clip_batch(
    key: jax.Array,
    *,
    kind: str = "shapes",
    batch_size: int = 8,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    stochastic: bool | None = None,
) -> jax.Array:
    """Draws a batch of clips.

    Args:
        key: Random key, split into one for each clip.
        kind: A name in `KINDS`.
        batch_size: B.
        frames: T; None takes the kind's.
        size: Height and width; None takes the kind's.
        stochastic: Whether walls send objects on in a new direction; None takes the
            kind's.

    Returns:
        (B, T, H, W, 1) float32 in [-1, 1]; empty space is -1.

    Raises:
        ValueError: If `kind` is not known, or sizes or numbers are too small.
    """
    _checks.one_of("kind", kind, KINDS)
    chosen = KINDS[kind]
    frames = chosen.frames if frames is None else frames
    size = chosen.size if size is None else size
    stochastic = chosen.stochastic if stochastic is None else stochastic
    _checks.positive("batch_size", batch_size)
    _checks.positive("frames", frames)
    if min(size) < 10:
        raise ValueError(f"`size` must be at least (10, 10); got {size}")

    def one(key: jax.Array) -> jax.Array:
        if kind == "glyphs":
            return _glyphs(key, chosen, frames, size, stochastic)
        return _shapes(key, chosen, frames, size, stochastic)

    return 2 * jax.vmap(one)(jax.random.split(key, batch_size))[..., None] - 1


def bounce(
    start: jax.Array,
    velocity: jax.Array,
    low: jax.Array,
    high: jax.Array,
    fresh: jax.Array | None,
    *,
    frames: int,
) -> jax.Array:
    """Moves points between walls.

    Args:
        start: Position in frame 0, (N, 2), between the walls.
        velocity: Pixels a frame, (N, 2), less than the distance of the walls.
        low: Left and upper wall, broadcast to (N, 2).
        high: Right and lower wall.
        fresh: Velocities, (frames, N, 2), of which the one of a frame is taken on where
            a point meets a wall in it, away from the wall; None reflects.
        frames: T.

    Returns:
        Positions, (T, N, 2).
    """
    low, high = (jnp.broadcast_to(wall, start.shape) for wall in (low, high))

    def move(state, drawn):
        position, velocity = state
        moved = position + velocity
        below, above = moved < low, moved > high
        reflected = jnp.where(below, 2 * low - moved, moved)
        reflected = jnp.where(above, 2 * high - moved, reflected)
        hits = below | above
        turned = jnp.where(hits, -velocity, velocity)
        if drawn is not None:
            inward = jnp.where(below, jnp.abs(drawn), -jnp.abs(drawn))
            away = jnp.where(hits, inward, drawn)
            turned = jnp.where(hits.any(-1, keepdims=True), away, velocity)
        return (jnp.clip(reflected, low, high), turned), position

    state = _mesh.alike((start, velocity), low, high, fresh)
    _, path = lax.scan(move, state, fresh, length=frames)
    return path


def _shapes(key, kind, frames, size, stochastic) -> jax.Array:
    """Draws discs and squares, each in front of those before it."""
    count = kind.objects
    u = draws.uniform(
        key,
        start=(count, 2),
        speed=(frames + 1, count),
        angle=(frames + 1, count),
        radius=(count,),
        round=(count,),
        bright=(count,),
    )
    speed = draws.between(u["speed"], *kind.speeds)
    angle = 2 * jnp.pi * u["angle"]
    velocity = speed[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    radius = draws.between(u["radius"], *_RADII)
    low = radius[:, None]
    high = jnp.array([[size[1] - 1, size[0] - 1]], jnp.float32) - low
    path = bounce(
        low + u["start"] * (high - low),
        velocity[0],
        low,
        high,
        velocity[1:] if stochastic else None,
        frames=frames,
    )
    scene = jnp.zeros((frames, *size))
    for i in range(count):
        offset = ops.pixel_grid(*size)[None] - path[:, i, None, None]
        disc, square = jnp.hypot(*jnp.moveaxis(offset, -1, 0)), jnp.abs(offset).max(-1)
        far = jnp.where(u["round"][i] < 0.5, disc, square)
        cover = jnp.clip(radius[i] + 0.5 - far, 0, 1)
        # With one object it is white; of two, each has a grey of its own.
        grey = 1.0 if count == 1 else draws.between(u["bright"][i], 0.4, 1.0)
        scene = scene * (1 - cover) + grey * cover
    return scene


def _glyphs(key, kind, frames, size, stochastic) -> jax.Array:
    """Draws digits half as large as the frame, whose brightness adds up to white."""
    count, (height, width) = kind.objects, size
    u = draws.uniform(
        key, start=(count, 2), step=(frames + 1, count, 2), digit=(count,)
    )
    most = kind.speeds[1]
    velocity = jnp.floor(draws.between(u["step"], -most, most + 1))
    room = jnp.array([[width - width // 2, height - height // 2]], jnp.float32)
    path = bounce(
        jnp.floor(u["start"] * room),
        velocity[0],
        jnp.zeros(2),
        room,
        velocity[1:] if stochastic else None,
        frames=frames,
    )
    number = jnp.floor(10 * u["digit"]).astype(jnp.int32)
    scene = jnp.zeros((frames, height, width))
    for i in range(count):
        local = ops.pixel_grid(height, width)[None] - path[:, i, None, None]
        used = jnp.asarray(_DIGITS)[number[i]]
        scene = scene + _strokes(local, used, (height // 2, width // 2))
    return jnp.minimum(scene, 1)


def _strokes(points: jax.Array, used: jax.Array, box: tuple[int, int]) -> jax.Array:
    """Draws the strokes of a digit in a box: (*B, H, W, 2) to (*B, H, W)."""
    height, width = box
    # A digit fills half the width of its box, and leaves a margin above and below.
    scale = jnp.array([0.4 * width, 0.7 * height], jnp.float32)
    corner = jnp.array([0.3 * width, 0.15 * height], jnp.float32)
    thick = height / 20
    nearest = jnp.full(points.shape[:-1], jnp.inf)
    for stroke, on in zip(_STROKES, used, strict=True):
        begin, end = corner + stroke[:2] * scale, corner + stroke[2:] * scale
        along = end - begin
        offset = points - lax.broadcast_to_rank(begin, points.ndim)
        share = jnp.clip(offset @ along / (along @ along), 0, 1)
        far = offset - share[..., None] * lax.broadcast_to_rank(along, points.ndim)
        far = jnp.sqrt(jnp.sum(far**2, -1))
        nearest = jnp.where(on, jnp.minimum(nearest, far), nearest)
    return jnp.clip(thick + 0.5 - nearest, 0, 1)
