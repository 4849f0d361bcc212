"""Clips whose class is in the motion alone, drawn on the device.

A texture is a sum of cosines, stationary and isotropic, so that a single frame says
next to nothing about how it moves. Most classes come in pairs, 2k and 2k + 1, that are
each other's time reversal. Clips are centred in time: both show the same frames, in
another order, and whatever ignores the order is at chance within a pair, by
construction. The idea that appearance can be removed from action recognition is tested
by Ilic et al., "Is Appearance Free Action Recognition Possible?" (2022).

On a frame's grid, cos(a x + b y + c) is a sum of two products of functions of x and of
y: a frame is one product of an (H, 2K) and a (2K, W) matrix.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes, ops
from jaxflow.data import draws, walkers

_WAVES = 48
# Grey levels per unit of texture: three standard deviations stay within [0, 1].
_GAIN = 0.15
# Radius of the object of "motion8-local", in pixels.
_SMALLEST, _LARGEST = 5.0, 7.0
# Colour differences of no luma (ITU-R 601): R - Y and B - Y.
_CHROMA = ((0.701, -0.299, -0.299), (-0.114, -0.114, 0.886))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A set of motion classes.

    Attributes:
        classes: Name of each class, in the order of the labels.
        frames: Usual length of a clip.
        size: Usual height and width.
        pairs: Number of pairs of classes, 2k and 2k + 1, that are each other's time
            reversal.
        summary: What the set decides.
    """

    classes: tuple[str, ...]
    frames: int = 8
    size: tuple[int, int] = (32, 32)
    pairs: int = 0
    summary: str = ""


_MOTIONS = (
    *("right", "left", "down", "up"),
    *("clockwise", "counter-clockwise", "zoom in", "zoom out"),
)
_TINTS = ("red", "blue", "cyan", "yellow")
_GRATINGS = ("vertical", "falling", "horizontal", "rising")
_PERIODS = (math.inf, 8.0, 4.0, 2.0)

TASKS = {
    "motion8": Task(
        classes=_MOTIONS,
        pairs=4,
        summary="motion against a single frame: the whole moves",
    ),
    "motion8-local": Task(
        classes=_MOTIONS,
        size=(48, 48),
        pairs=4,
        summary="local motion: a small object, on a background that moves as fast",
    ),
    "order2": Task(
        classes=("accelerate", "decelerate", "constant", "oscillate"),
        pairs=1,
        summary="change of motion; averaged velocity cannot tell the first two apart",
    ),
    "product": Task(
        classes=tuple(f"{tint}, {move}" for tint in _TINTS for move in _MOTIONS[:4]),
        pairs=8,
        summary="appearance times motion: either alone is right once in four",
    ),
    "fastslow": Task(
        classes=tuple(
            f"{grating}, period {period:g}"
            for grating in _GRATINGS
            for period in _PERIODS
        ),
        frames=32,
        summary="fine texture times fast oscillation, still if seen every 8th frame",
    ),
    "dance": Task(
        classes=tuple(
            f"{move}{way}" for move in walkers.MOVES for way in ("", ", backwards")
        ),
        frames=16,
        size=(48, 48),
        pairs=4,
        summary="dots on the joints of a dancer: a move against its reversal",
    ),
    "longclip": Task(
        classes=("same", "opposite"),
        frames=128,
        summary="the last 8 frames' motion against the first 8's",
    ),
}

# First and last seed of the clips of each split; they share none.
SPLITS = {
    "train": (0, 1_000_000),
    "validation": (1_000_000, 1_100_000),
    "test": (1_100_000, 1_200_000),
}


def clip_batch(
    key: jax.Array,
    *,
    task: str = "motion8",
    batch_size: int = 32,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    noise: float = 0.05,
) -> dict[str, jax.Array]:
    """Draws a batch of clips of random classes.

    Args:
        key: Random key, split into one for each clip.
        task: A name in `TASKS`.
        batch_size: Number of clips.
        frames: Length; None takes the task's.
        size: Height and width; None takes the task's.
        noise: Standard deviation of white noise, where the texture's is 0.6 to 1.

    Returns:
        ``clip`` (B, T, H, W, 3) RGB in [0, 1], grey unless the task has colours; and
        ``label`` (B,) int32.

    Raises:
        ValueError: If `task` is not known, or `batch_size` is not positive.
    """
    _checks.one_of("task", task, TASKS)
    _checks.positive("batch_size", batch_size)
    choose, draw = jax.random.split(key)
    labels = jax.random.randint(choose, (batch_size,), 0, len(TASKS[task].classes))
    one = functools.partial(draw_clip, task=task, frames=frames, size=size, noise=noise)
    clips = jax.vmap(one)(jax.random.split(draw, batch_size), labels)
    return {"clip": clips, "label": labels}


def load(
    split: str,
    count: int,
    *,
    task: str = "motion8",
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    noise: float = 0.05,
) -> dict[str, jax.Array]:
    """Draws the first clips of a split, the same at every call, classes balanced.

    Args:
        split: "train", "validation" or "test"; no clip is in two of them.
        count: Number of clips.
        task: See `clip_batch`, as for the rest.
        frames: Length.
        size: Height and width.
        noise: Standard deviation of white noise.

    Returns:
        What `clip_batch` returns; clip i is of class i modulo the number of classes.

    Raises:
        ValueError: If a name is not known, or the split has fewer clips.
    """
    _checks.one_of("split", split, SPLITS)
    _checks.one_of("task", task, TASKS)
    first, last = SPLITS[split]
    if not 0 < count <= last - first:
        raise ValueError(f"`count` must be from 1 to {last - first}; got {count}")
    root = jax.random.key(0, impl="threefry2x32")

    def one(index):
        key = jax.random.fold_in(root, first + index)
        label = index % len(TASKS[task].classes)
        return draw_clip(
            key, label, task=task, frames=frames, size=size, noise=noise
        ), label

    draw = jax.jit(lambda indices: lax.map(one, indices, batch_size=50))
    clips, labels = draw(jnp.arange(count, dtype=jnp.int32))
    return {"clip": clips, "label": labels}


def draw_clip(
    key: jax.Array,
    label: int | jax.Array,
    *,
    task: str = "motion8",
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    noise: float = 0.05,
) -> jax.Array:
    """Draws a clip of a given class.

    With the same key and without noise, the clips of a pair of classes are each other's
    time reversal.

    Args:
        key: Random key.
        label: The class, from 0.
        task: A name in `TASKS`.
        frames: Length; None takes the task's.
        size: Height and width; None takes the task's.
        noise: Standard deviation of white noise, where the texture's is 0.6 to 1.

    Returns:
        (T, H, W, 3) RGB in [0, 1].

    Raises:
        ValueError: If `task` is not known, or a number is not positive.
    """
    _checks.one_of("task", task, TASKS)
    frames = TASKS[task].frames if frames is None else frames
    size = TASKS[task].size if size is None else size
    for name, value in (("frames", frames), ("size", min(size))):
        _checks.positive(name, value)
    label = jnp.asarray(label, jnp.int32)
    _shapes.check("label", label, ())
    u = draws.uniform(
        key,
        waves=(2, _WAVES, 4),
        scale=(2,),
        grating=(2,),
        motion=(4,),
        background=(2,),
        wander=(4,),
        object=(3,),
        look=(3,),
    )
    clip = _draw_grey(task, label, u, frames, size)
    contrast = draws.between(u["look"][0], 0.6, 1.0)
    bias = draws.between(u["look"][1], -0.3, 0.3)
    grain = jax.random.normal(jax.random.fold_in(key, 1), clip.shape, clip.dtype)
    clip = 0.5 + _GAIN * (contrast * clip + bias + noise * grain)
    clip = jnp.broadcast_to(clip[..., None], (*clip.shape, 3))
    if task == "product":
        clip = clip + _tint(label // 4, u["look"][2])[None, None, None]
    return jnp.clip(clip, 0.0, 1.0)


def render_texture(
    texture: tuple[jax.Array, jax.Array], path: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Renders a sum of cosines that moves as a whole.

    A point p of the texture is seen in frame t at  exp(z) R(angle) p + (x, y), from the
    frame's centre.

    Args:
        texture: Frequency along x and y, in cycles a pixel, and phase, in cycles, of
            each wave: (K, 3); and its amplitude: (K,).
        path: (x, y, angle, z) at each frame, in pixels, radians and the logarithm of
            the scale: (T, 4). A positive angle turns clockwise.
        size: Height and width.

    Returns:
        (T, H, W), of mean 0.
    """
    waves, amplitudes = texture
    _shapes.check("waves", waves, (None, 3))
    _shapes.check("path", path, (None, 4))
    height, width = size
    x, y, angle, log_scale = (column[:, None] for column in path.T)
    fx, fy, phase = (row[None, :] for row in waves.T)
    shrink = 2 * jnp.pi * jnp.exp(-log_scale)
    along_x = shrink * (jnp.cos(angle) * fx - jnp.sin(angle) * fy)
    along_y = shrink * (jnp.sin(angle) * fx + jnp.cos(angle) * fy)
    shift = 2 * jnp.pi * phase - along_x * x - along_y * y
    columns = jnp.arange(width, dtype=float)[None, None] - (width - 1) / 2
    rows = jnp.arange(height, dtype=float)[None, None] - (height - 1) / 2
    of_x = along_x[..., None] * columns + shift[..., None]
    of_y = along_y[..., None] * rows
    left = jnp.concatenate([jnp.cos(of_y), -jnp.sin(of_y)], axis=1)
    right = jnp.concatenate([jnp.cos(of_x), jnp.sin(of_x)], axis=1)
    right *= jnp.concatenate([amplitudes, amplitudes])[None, :, None]
    return jnp.einsum("tkh,tkw->thw", left, right, precision=lax.Precision.HIGHEST)


def _draw_grey(task, label, u, frames, size):
    """Draws the textures of a clip as the task has them move: (T, H, W)."""
    time = jnp.arange(frames, dtype=float) - (frames - 1) / 2
    texture = _draw_texture(u["waves"][0], u["scale"][0])
    if task == "order2":
        return render_texture(texture, _changing(label, u, time), size)
    if task == "fastslow":
        texture = _add_grating(texture, label // 4, u)
        return render_texture(texture, _oscillating(label % 4, u, frames), size)
    if task == "longclip":
        return render_texture(texture, _two_motions(label, u, frames), size)
    time = jnp.where(label % 2 == 1, -time, time)
    if task == "dance":
        return _dance(label // 2, u, time, size)
    if task == "motion8-local":
        path = _steady(label // 2, u, time, _LARGEST)
        background = _draw_texture(u["waves"][1], u["scale"][1])
        behind = render_texture(background, _drift(u["background"], time), size)
        return _show_disc(texture, path, behind, u["object"])
    axis = label // 2 if task == "motion8" else label % 4 // 2
    return render_texture(texture, _steady(axis, u, time, min(size) / 2), size)


def _draw_texture(u, jitter):
    """Draws waves of 5 to 40 px, of all directions, with a common scale of +-35 %."""
    scale = jnp.exp(draws.between(jitter, -0.35, 0.35))
    wavelength = scale * 5.0 * 8.0 ** u[:, 0]
    angle = 2 * jnp.pi * u[:, 1]
    waves = jnp.stack(
        [jnp.cos(angle) / wavelength, jnp.sin(angle) / wavelength, u[:, 2]], axis=-1
    )
    amplitudes = draws.normal(u[:, 3])
    return waves, amplitudes * lax.rsqrt(jnp.sum(amplitudes**2) / 2)


def _speed(u):
    """Draws a speed of 0.5 to 1.5 px a frame."""
    return draws.between(u, 0.5, 1.5)


def _steady(axis, u, time, radius):
    """Moves right (axis 0), down (1), clockwise (2) or closer (3), at one speed.

    Turning and zooming have that speed at 0.8 of the radius.
    """
    rate = 1 / (0.8 * radius)
    unit = jnp.array([1.0, 1.0, rate, rate])
    step = _speed(u["motion"][0]) * jax.nn.one_hot(axis, 4) * unit
    return time[:, None] * step[None, :]


def _drift(u, time):
    """Moves in a random direction, at one speed."""
    return _along(2 * jnp.pi * u[1], _speed(u[0]) * time)


def _changing(label, u, time):
    """Moves in a random direction: speeding up, slowing down, steadily, to and fro.

    All have the same mean speed.
    """
    last = time[-1]
    quadratic = time + time**2 / (2 * jnp.maximum(last, 0.5))
    period = 2 * last + 1
    swing = period / 4 * jnp.sin(2 * jnp.pi * (time / period + u["motion"][2]))
    profiles = jnp.stack([quadratic, quadratic[::-1], time, swing])
    travelled = _speed(u["motion"][0]) * profiles[label]
    return _along(2 * jnp.pi * u["motion"][1], travelled)


def _dance(move, u, time, size):
    """Shows a dancer in dots, one to two moves in 16 frames, anywhere in the cycle."""
    step = 2 * jnp.pi / draws.between(u["motion"][0], 8.0, 16.0)
    phase = step * time + 2 * jnp.pi * u["motion"][1]
    tall = min(size) * draws.between(u["object"][0], 0.65, 0.85)
    middle = jnp.array([size[1] - 1, size[0] - 1]) / 2
    middle = middle + 0.05 * min(size) * (2 * u["object"][1:3] - 1)
    places = middle[None, None, :] + tall * walkers.joints(move, phase)
    return 4 * walkers.render_dots(places, size) - 1


def _oscillating(rhythm, u, frames):
    """Moves to and fro, with a period that divides 8 frames, or stands still."""
    reach = draws.between(u["motion"][0], 1.5, 2.5)
    frequency = jnp.array([1 / period for period in _PERIODS])[rhythm]
    time = jnp.arange(frames, dtype=float)
    position = reach * jnp.cos(2 * jnp.pi * frequency * time)
    return _along(2 * jnp.pi * u["motion"][1], position)


def _two_motions(label, u, frames, window=8):
    """Moves steadily at first, wanders, and ends in the same or opposite direction."""
    angle = 2 * jnp.pi * u["motion"][1]
    steps = jnp.arange(frames)
    first = _speed(u["motion"][0]) * (steps < window).astype(float)
    sign = jnp.where(label == 1, -1.0, 1.0)
    last = sign * _speed(u["motion"][2]) * (steps >= frames - window).astype(float)
    middle = ((steps >= window) & (steps < frames - window)).astype(float)
    # Two slow oscillations, whose sum over the clip is as likely either way.
    period = draws.between(u["wander"][None, :2], 20.0, 60.0)
    turn = steps.astype(float)[:, None] / period + u["wander"][None, 2:]
    wander = middle[:, None] * jnp.cos(2 * jnp.pi * turn)
    path = jnp.cumsum(_along(angle, first + last).at[:, :2].add(wander), axis=0)
    return path - path[:1]


def _along(angle, travelled):
    """Builds a path of translations in one direction."""
    zero = jnp.zeros_like(travelled)
    return jnp.stack(
        [jnp.cos(angle) * travelled, jnp.sin(angle) * travelled, zero, zero], axis=-1
    )


def _add_grating(texture, direction, u):
    """Adds a grating of 2.4 px in one of four directions.

    Averaged over 2x2 pixels it keeps about a third of its contrast.
    """
    waves, amplitudes = texture
    angle = jnp.pi / 4 * direction.astype(float)
    angle = angle + jnp.deg2rad(draws.between(u["grating"][0], -8.0, 8.0))
    frequency = jnp.cos(angle) / 2.4, jnp.sin(angle) / 2.4
    grating = jnp.stack([*frequency, u["grating"][1]])
    return jnp.concatenate([waves, grating[None]]), jnp.append(amplitudes, 1.0)


def _show_disc(texture, path, behind, u):
    """Shows a texture inside a disc that moves and grows with it."""
    size = behind.shape[1:]
    radius = draws.between(u[0], _SMALLEST, _LARGEST) * jnp.exp(path[:, 3])
    # Half way, the disc is at home, well inside the frame.
    sides = jnp.array([size[1], size[0]], float)
    home = (2 * u[1:] - 1) * jnp.maximum(sides / 2 - 2 * _LARGEST, 0.0)
    path = path.at[:, :2].add(home[None])
    centre = path[:, :2] + (sides[None] - 1) / 2
    offset = ops.pixel_grid(*size)[None] - centre[:, None, None]
    inside = jnp.sum(offset**2, axis=-1) < radius[:, None, None] ** 2
    return jnp.where(inside, render_texture(texture, path, size), behind)


def _tint(number, jitter):
    """Returns one of four colour differences, which leave the luma alone."""
    angle = jnp.pi / 2 * number.astype(float) + draws.between(jitter, -0.35, 0.35)
    red, blue = (jnp.array(row) for row in _CHROMA)
    return 0.12 * (jnp.cos(angle) * red + jnp.sin(angle) * blue)
