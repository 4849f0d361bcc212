"""Clips whose class is in the motion alone, drawn on the device.

A texture is a sum of cosines, stationary and isotropic, so that a single frame says
next to nothing about how it moves. Most classes come in pairs, 2k and 2k + 1, that are
each other's time reversal. Clips are centred in time: both show the same frames, in
another order, and whatever ignores the order is at chance within a pair, by
construction. The idea that appearance can be removed from action recognition is tested
by Ilic et al., "Is Appearance Free Action Recognition Possible?" (2022).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _shapes
from jaxflow.data import draws, motion_textures, walkers
from jaxflow.data.motion_textures import render_texture as render_texture

# Grey levels per unit of texture: three standard deviations stay within [0, 1].
_GAIN = 0.15


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
            for period in motion_textures.PERIODS
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
    u = motion_textures.draw_numbers(key)
    clip = motion_textures.draw_grey(task, label, u, frames, size)
    contrast = draws.between(u["look"][0], 0.6, 1.0)
    bias = draws.between(u["look"][1], -0.3, 0.3)
    grain = jax.random.normal(jax.random.fold_in(key, 1), clip.shape, clip.dtype)
    clip = 0.5 + _GAIN * (contrast * clip + bias + noise * grain)
    clip = jnp.broadcast_to(clip[..., None], (*clip.shape, 3))
    if task == "product":
        clip = clip + motion_textures.tint(label // 4, u["look"][2])[None, None, None]
    return jnp.clip(clip, 0.0, 1.0)
