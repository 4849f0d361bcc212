"""Textures that move: what the clips of `jaxflow.data.motion_classes` show.

On a frame's grid, cos(a x + b y + c) is a sum of two products of functions of x and of
y: a frame is one product of an (H, 2K) and a (2K, W) matrix.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _shapes, ops
from jaxflow.data import draws, walkers

_WAVES = 48
# Radius of the object of "motion8-local", in pixels.
_SMALLEST, _LARGEST = 5.0, 7.0
# Colour differences of no luma (ITU-R 601): R - Y and B - Y.
_CHROMA = ((0.701, -0.299, -0.299), (-0.114, -0.114, 0.886))
# Frames of a period of the rhythms of "fastslow".
PERIODS = (math.inf, 8.0, 4.0, 2.0)


def draw_numbers(key: jax.Array) -> dict[str, jax.Array]:
    """Draws all numbers of a clip but its noise, uniform in [0, 1), by name.

    Args:
        key: Random key.
    """
    return draws.uniform(
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


def draw_grey(
    task: str,
    label: jax.Array,
    u: dict[str, jax.Array],
    frames: int,
    size: tuple[int, int],
) -> jax.Array:
    """Draws the textures of a clip as the task has them move: (T, H, W).

    Args:
        task: A name in `jaxflow.data.motion_classes.TASKS`.
        label: The class, ().
        u: Uniform numbers, by name; see `draw_numbers`.
        frames: Length.
        size: Height and width.
    """
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
    frequency = jnp.array([1 / period for period in PERIODS])[rhythm]
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


def tint(number: jax.Array, jitter: jax.Array) -> jax.Array:
    """Returns one of four colour differences, (3,), which leave the luma alone.

    Args:
        number: Which, from 0 to 3.
        jitter: In [0, 1): turns it by up to 0.35 radians.
    """
    angle = jnp.pi / 2 * number.astype(float) + draws.between(jitter, -0.35, 0.35)
    red, blue = (jnp.array(row) for row in _CHROMA)
    return 0.12 * (jnp.cos(angle) * red + jnp.sin(angle) * blue)
