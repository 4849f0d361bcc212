"""Training of a diffusion network: masks and noise for a batch, and its loss.

    draw = lambda key: training.batch(key, videos(key), model.process, most=8)
    step = train.make_step(model, training.loss, optimiser, draw=draw)

Pictures are clips of one frame, along which there is nothing to attend to: a network
learns from both at once by `joint_loss`, or first from pictures and then from videos.
"""

from typing import Any, Literal, NamedTuple

import jax

from jaxflow.diffusion import losses, masks
from jaxflow.diffusion import process as processes


class Batch(NamedTuple):
    """What a network is trained on in one step.

    Attributes:
        noised: Clips with noise and what to say of them.
        clean: The clips, (B, K, H, W, C) in [-1, 1].
        selection: Numbers of their frames, which are observed and which are latent.
        condition: What they are conditioned on, or None.
    """

    noised: processes.Noised
    clean: jax.Array
    selection: masks.Selection
    condition: jax.Array | None = None


def batch(
    key: jax.Array,
    videos: jax.Array,
    process: processes.Process,
    *,
    most: int,
    condition: jax.Array | None = None,
) -> Batch:
    """Draws masks and noise for videos; a pure function, for use inside a step.

    Args:
        key: Random key.
        videos: (B, T, H, W, C) in [-1, 1].
        process: That the network is trained with, such as `model.process`.
        most: K, frames that the network sees of each.
        condition: One for each video, or None.
    """
    first, second = jax.random.split(key)
    number, length = videos.shape[:2]
    observed, latent = masks.training_masks(first, number, length, most)
    selection = masks.select(observed, latent, most)
    clean = masks.gather(videos, selection.indices)
    return Batch(
        processes.add_noise(second, process, clean), clean, selection, condition
    )


def loss(
    model: Any,
    batch: Batch,
    *,
    power: Literal[1, 2] = 2,
    average: losses.Average = "counted",
) -> jax.Array:
    """Returns the mean error of a prediction over the latent frames.

    Args:
        model: A network of task "generation".
        batch: From `batch`.
        power: 2 for the squared error, 1 for the absolute one.
        average: What the sum is divided by; see `losses.prediction_error`.

    Returns:
        A number, for `train.make_step`: (model, batch) -> loss.
    """
    context = {"clean": batch.clean, "observed": batch.selection.observed}
    context |= {"latent": batch.selection.latent, "indices": batch.selection.indices}
    context = {name: x for name, x in context.items() if name in model.takes}
    if batch.condition is not None:
        context["condition"] = batch.condition
    prediction = model(batch.noised.noisy, batch.noised.time, **context)
    return losses.prediction_error(
        prediction,
        batch.noised.target,
        frames=batch.selection.latent,
        power=power,
        average=average,
    ).mean()


class Joint(NamedTuple):
    """Videos and pictures that a network is trained on in one step.

    Attributes:
        videos: From `batch`.
        pictures: The same, of clips of one frame; see `pictures`.
    """

    videos: Batch
    pictures: Batch


def pictures(videos: jax.Array) -> jax.Array:
    """Returns the frames of videos as clips of one: (B, T, ...) to (B T, 1, ...)."""
    return videos.reshape(-1, 1, *videos.shape[2:])


def joint_loss(model: Any, batch: Joint, *, weight: float = 1.0) -> jax.Array:
    """Returns the loss of videos, and that of pictures times a weight.

    As in "Video Diffusion Models" (Ho et al., 2022, Sec. 3), whose pictures do not see
    each other; here they are clips of their own.

    Args:
        model: A network that takes clips of any length.
        batch: Videos and pictures; their numbers need not be equal.
        weight: Of the pictures' loss.

    Returns:
        A number, for `train.make_step`.
    """
    return loss(model, batch.videos) + weight * loss(model, batch.pictures)
