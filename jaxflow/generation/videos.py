"""The frames of a video that are not given, out of a diffusion network."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from jaxflow import _checks
from jaxflow.diffusion import long_video, masks
from jaxflow.diffusion import process as processes
from jaxflow.generation import clips, stages
from jaxflow.generation import given as inputs
from jaxflow.generation import settings as options
from jaxflow.generation.settings import Settings


def generate(
    model: nnx.Module,
    frames: npt.ArrayLike | None = None,
    *,
    observed: npt.ArrayLike | masks.Task | None = None,
    length: int | None = None,
    size: tuple[int, int] | None = None,
    scheme: long_video.Scheme | None = None,
    condition: npt.ArrayLike | None = None,
    settings: Settings | None = None,
    process: processes.Process | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Generates the frames of a video that are not given.

    A video longer than `model.config.num_frames` is generated in stages, each of which
    is compiled once; a network that makes one frame after the other, such as RVD, runs
    over the video once. The same seed gives the same video on the same machine.

    Args:
        model: A network of task "generation".
        frames: (T, H, W, C), uint8 or floating in [0, 1]; frames not observed have no
            effect. None gives nothing.
        observed: Which frames are given, (T,) bool; or a task: "future" takes `frames`
            for the first ones of the video, "past" for the last ones, "interpolate" for
            the first half and the last half of what is given. None: all of `frames` are
            given, as for "future".
        length: Frames of the video; None is that of `frames`, or of the model.
        size: Height and width if no frames are given; None is the model's.
        scheme: How a long video is made; see `long_video.schedule`. For "future" and
            "past" None is "hierarchy-2", or "autoreg" of a network that is not told the
            numbers of frames; other videos are filled from the first missing
            frame on, and take no scheme.
        condition: What the network is conditioned on, for one video: a class, or an
            embedding.
        settings: How clips are sampled. None is `Settings()`, by the network if it
            takes observed frames, and else by reconstruction guidance.
        process: That the network was trained with; None takes `model.process`.
        seed: Of all that is random.
        progress: Called with (stages done, stages in all).

    Returns:
        The video, (T, H, W, C): float32 in [0, 1], or uint8 if `frames` are. Observed
        frames are those given, bit for bit.

    Raises:
        ValueError: If frames, mask, length or size do not fit each other or the model,
            an observed frame is not finite, or the model cannot do what is asked.

    Examples:
        A network that knows nothing but that frames stay as the first:

        >>> import types
        >>> from flax import nnx
        >>> from jaxflow.diffusion import process
        >>> class Still(nnx.Module):
        ...     takes, multiple = ("clean", "observed"), 1
        ...     config = types.SimpleNamespace(channels=1, num_frames=3)
        ...     process = process.Process(predicts="data")
        ...
        ...     def __call__(self, noisy, time, clean, observed):
        ...         return jnp.broadcast_to(clean[:, :1], clean.shape)
        >>> first = np.full((1, 4, 4, 1), 0.75, np.float32)
        >>> video = jaxflow.generate(Still(), first, length=3)
        >>> video.shape, round(float(video[-1].mean()), 3)
        ((3, 4, 4, 1), 0.75)
    """
    _checks.seed("seed", seed)
    video, mask, task = inputs.place(model, frames, observed, length, size)
    settings = options.check_settings(model, settings, bool(mask.any()))
    if condition is None and settings.scale != 1:
        raise ValueError(
            f"`settings.scale` {settings.scale} exaggerates a `condition`: give "
            "one, or leave the scale 1"
        )
    process = options.find_process(model, process)
    if condition is not None:
        condition = options.check_condition(model, np.asarray(condition))
    scaled = inputs.to_network(video)
    scaled[~mask] = 0
    key, clip = jax.random.key(seed), scaled[None]
    if options.extends(model):
        count = clips.check_extension(mask, scheme, condition)
        made = clips.extend(key, model, settings, process, clip, count)[0]
    else:
        sample = clips.clip_sampler(model, settings, process=process)
        sample = functools.partial(sample, condition=condition)
        made = _fill(key, model, sample, clip, mask, task, scheme, progress)[0]
    fresh = np.clip((made + 1) / 2, 0, 1)
    if not np.isfinite(fresh).all():
        raise ValueError(
            "the network gave numbers that are not finite: its weights, or `process`, "
            "are not those that it was trained with"
        )
    if video.dtype == np.uint8:
        fresh = np.round(255 * fresh)
    return np.where(mask[:, None, None, None], video, fresh.astype(video.dtype))


def _fill(
    key: jax.Array,
    model: Any,
    sample: Callable[..., jax.Array],
    clip: np.ndarray,
    mask: np.ndarray,
    task: str,
    scheme: long_video.Scheme | None,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Fills a video, (1, T, H, W, C), stage by stage."""
    most = min(getattr(model.config, "num_frames", len(mask)), len(mask))
    return long_video.fill(
        key,
        sample,
        clip,
        stages.plan(model, mask, task, scheme, most),
        most=most,
        pads="latent" in model.takes,
        progress=progress,
    )
