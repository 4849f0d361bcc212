"""Masks of frames: the tasks of one model, and those that it is trained on.

Two masks say what each frame of a clip is: `observed` (given) and `latent` (to be
generated). A frame with neither is padding. All are arrays of 0 and 1, (B, T).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _checks, _mesh

Task = Literal["unconditional", "future", "past", "interpolate"]
TASKS = ("unconditional", "future", "past", "interpolate")
Array = jax.Array


class Selection(NamedTuple):
    """The frames of a video that a network sees.

    Attributes:
        indices: Their numbers in the video, (B, K) int32.
        observed: Which of them are given, (B, K) float32.
        latent: Which of them are to be generated, (B, K) float32.
    """

    indices: Array
    observed: Array
    latent: Array


def task(name: Task, length: int, *, given: int = 1) -> np.ndarray:
    """Returns which frames a task observes, (length,) bool.

    Args:
        name: "future" observes the first frames, "past" the last, "interpolate" the
            first and the last (of an odd number one more at the start), and
            "unconditional" none.
        length: Frames of the clip.
        given: How many are observed; without effect for "unconditional".

    Raises:
        ValueError: If there is no such task, or it would observe all or no frames.

    Examples:
        >>> from jaxflow.diffusion import masks
        >>> masks.task("interpolate", 5, given=3).astype(int).tolist()
        [1, 1, 0, 0, 1]
    """
    _checks.one_of("name", name, TASKS)
    observed = np.zeros(length, bool)
    if name == "unconditional":
        return observed
    least = 2 if name == "interpolate" else 1
    if not least <= given < length:
        raise ValueError(
            f"`given` must be in {least} ... {length - 1} for {name!r} of {length} "
            f"frames; got {given}"
        )
    before = {"future": given, "past": 0, "interpolate": given - given // 2}[name]
    observed[:before] = True
    observed[length - (given - before) :] = given > before
    return observed


def frames_at_a_scale(key: Array, batch: int, length: int, most: int) -> Array:
    """Draws evenly spaced frames, at a spacing that is uniform in its logarithm.

    The distribution of Harvey et al., "Flexible Diffusion Modeling of Long Videos"
    (2022), Sec. 4: s frames, s uniform in 1 ... most, at

        floor(position + i scale),  log scale uniform in [0, log(length / (s - 0.999))]

    and the position uniform where they fit.

    Args:
        key: Random key.
        batch: B.
        length: T, frames of the videos.
        most: Largest number of frames to draw.

    Returns:
        Which frames were drawn, (B, T) bool.
    """
    first, second = jax.random.split(key)
    number = jax.random.randint(first, (batch,), 1, min(most, length) + 1)
    scale, position = jax.random.uniform(second, (2, batch), jnp.float32)
    return frames_of_draws(number, scale, position, length=length, most=most)


def frames_of_draws(
    number: Array, scale: Array, position: Array, *, length: int, most: int
) -> Array:
    """Returns the frames that three draws stand for; see `frames_at_a_scale`.

    Args:
        number: s, in 1 ... min(most, length), (B,).
        scale: Uniform in [0, 1], (B,).
        position: Uniform in [0, 1], (B,).
        length: T, frames of the videos.
        most: Largest number of frames.

    Returns:
        (B, T) bool.
    """
    count = jnp.asarray(number, jnp.float32)
    spacing = jnp.exp(scale * jnp.log(length / (count - 0.999)))
    start = position * (length - spacing * (count - 1))
    places = jnp.arange(most, dtype=jnp.float32)[None, :]
    frames = jnp.floor(start[:, None] + spacing[:, None] * places).astype(jnp.int32)
    frames = jnp.minimum(frames, length - 1)
    drawn = places < count[:, None]
    hits = (frames[:, :, None] == jnp.arange(length)[None, None]) & drawn[:, :, None]
    return hits.any(1)


def training_masks(
    key: Array, batch: int, length: int, most: int
) -> tuple[Array, Array]:
    """Draws which frames of a video are observed and which are generated.

    The distribution of the flexible diffusion model: a first set of frames (see
    `frames_at_a_scale`) is latent; further sets, less the frames that are taken, become
    observed or latent, each with probability one half, until one would exceed `most`
    frames in all, or none is left.

    Args:
        key: Random key.
        batch: B.
        length: T, frames of the videos.
        most: K, frames that the network takes.

    Returns:
        observed and latent, (B, T) float32.
    """
    first, rest = jax.random.split(key)
    latent = frames_at_a_scale(first, batch, length, most)

    def goes_on(state):
        return ~state[-1].all()

    def add(state):
        number, observed, latent, full = state
        coin, draw = jax.random.split(jax.random.fold_in(rest, number))
        taken = observed | latent
        new = frames_at_a_scale(draw, batch, length, most) & ~taken
        fits = ~full & (jnp.sum(taken | new, 1) <= most)
        observes = jax.random.bernoulli(coin, shape=(batch,))
        observed = observed | (new & (fits & observes)[:, None])
        latent = latent | (new & (fits & ~observes)[:, None])
        return number + 1, observed, latent, ~fits | (observed | latent).all(1)

    none = jnp.zeros((batch, length), bool)
    start = (jnp.zeros((), jnp.int32), none, latent, latent.all(1))
    _, observed, latent, _ = lax.while_loop(goes_on, add, _mesh.alike(start))
    return observed.astype(jnp.float32), latent.astype(jnp.float32)


def select(observed: Array, latent: Array, most: int) -> Selection:
    """Gathers the frames that are observed or latent, in order, into `most` places.

    Places that are left over show frame 0 and are padding.

    Args:
        observed: (B, T).
        latent: (B, T); together at most `most` frames of a row, or the last are lost.
        most: K.
    """
    used = (jnp.asarray(observed, bool)) | jnp.asarray(latent, bool)
    order = jnp.argsort(~used, axis=1, stable=True)[:, :most]
    real = jnp.take_along_axis(used, order, axis=1)
    observed, latent = (
        jnp.where(real, jnp.take_along_axis(mask, order, axis=1), 0)
        for mask in (observed, latent)
    )
    return Selection(jnp.where(real, order, 0).astype(jnp.int32), observed, latent)


def fill_padding(
    selection: Selection, drawn: Array, observed: Array, latent: Array
) -> tuple[Selection, Array]:
    """Gives padding other frames, as the official training of the flexible model does.

    A padding place takes a frame number and what the masks say of that frame, so it
    may count as observed or latent. The official default draws the numbers and shows
    those frames of another video, which the network learns to tell from its own; its
    other setting repeats frame 0 of the same video.

    Args:
        selection: From `select`.
        drawn: Frame numbers for the padding, (B, K) int32; others are not used.
        observed: (B, T), the masks that `selection` was made of.
        latent: (B, T).

    Returns:
        The selection, and which of its frames were padding, (B, K) bool.
    """
    padding = (selection.observed == 0) & (selection.latent == 0)
    indices = jnp.where(padding, drawn, selection.indices)
    filled = (
        jnp.where(padding, jnp.take_along_axis(mask, indices, axis=1), own)
        for mask, own in (
            (observed, selection.observed),
            (latent, selection.latent),
        )
    )
    return Selection(indices, *filled), padding


def gather(video: Array, indices: Array) -> Array:
    """Returns the frames of a video at some indices: (B, T, ...) to (B, K, ...)."""
    indices = indices.reshape(indices.shape + (1,) * (video.ndim - 2))
    return jnp.take_along_axis(video, indices, axis=1)
