"""Cuts views out of a video: clips in time, crops in space, and batches of them."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, spec
from jaxflow.data.clips import Placement, clip_indices
from jaxflow.views.crops import CROPS, random_crop, spatial_views
from jaxflow.views.networks import check_network, setting
from jaxflow.views.source import Flow, Source, Video, check_fps


def sample_views(
    model: nnx.Module,
    video: Video,
    *,
    clips: int = 1,
    crops: Literal[1, 3, 5, 10] = 1,
    random_views: int = 0,
    placement: Placement | None = None,
    num_frames: int | None = None,
    stride: float | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    short_side: int | None = None,
    seed: int = 0,
    flow: Flow | None = None,
) -> Iterator[np.ndarray]:
    """Cuts the views that a network shall see out of a video.

    Args:
        model: A recognition network, whose config has the defaults.
        video: See `jaxflow.classify_video`.
        clips: Clips sampled in time; 10, with 3 crops, are the usual 30 views.
        crops: Crops of each clip; see `spatial_views`.
        random_views: If positive, so many clips at random times, each cropped at a
            random place, instead of `clips` and `crops`; 25 in the paper of
            representation flow.
        placement: Where clips start; see `clip_indices`. By default the model's, which
            for most is "spread".
        num_frames: Frames of a clip; the model's by default.
        stride: Frames of the video from frame to frame of a clip. By default the
            model's, at the rate that the model counts in: 30 frames a second for most.
        seconds: Duration of a clip, instead of `stride`; needs a rate.
        fps: Rate of the video; a file's own by default. For frames without a rate,
            the model's stride counts them.
        crop_size: Side of the crops, in pixels; the model's by default.
        short_side: The video's shorter side is resized to this first; 8 / 7 of
            `crop_size` by default, or `crop_size` if there are several crops.
        seed: Of the random places.
        flow: For networks that see flow: the flow of each frame of the video to the
            next, in pictures; a folder of them, see `jaxflow.data.flow_pictures`, or
            (T, H, W, 2) or (T - 1, H, W, 2), uint8 or float in [0, 1]. Resized as
            pictures are, to the size of the frames. The last one repeats.

    Returns:
        An iterator over (T, S, S, C) float32 in [0, 1]: the crops of the first clip,
        then those of the second, and so on. Frames are read when the first is asked
        for.

    Raises:
        ValueError: As `jaxflow.classify_video`: what the header tells at the call,
            damage of the file at the frame in question.
    """
    config = getattr(check_network(model), "config", None)
    _checks.seed("seed", seed, signed=False)
    _checks.positive("clips", clips)
    _checks.one_of("crops", crops, CROPS)
    if random_views < 0:
        raise ValueError(f"`random_views` must not be negative; got {random_views}")
    num_frames = int(setting(config, "num_frames", num_frames))
    side = int(setting(config, "crop_size", crop_size))
    for name, value in (("stride", stride), ("seconds", seconds)):
        if value is not None:
            _checks.positive(name, value)
    check_fps(fps)
    short = round(side * 8 / 7) if crops == 1 else side
    short = short if short_side is None else int(short_side)
    if short < side:
        raise ValueError(
            f"`short_side` must be at least the crop's {side}; got {short}"
        )
    source = Source(video, fps, getattr(config, "in_features", 3), flow)
    generator = np.random.default_rng(seed)
    if random_views:
        placement = "random"
    indices = clip_indices(
        source.length,
        num_frames,
        source.stride(num_frames, stride, seconds, config),
        clips=random_views or clips,
        placement=placement or getattr(config, "placement", "spread"),
        run=getattr(config, "stack", 1),
        generator=generator,
    )

    def views() -> Iterator[np.ndarray]:
        for clip in source.clips(indices, short):
            if random_views:
                yield random_crop(clip, side, generator)
            else:
                yield from spatial_views(clip, side, count=crops)

    return views()


def clips_around(
    model: nnx.Module,
    video: Video,
    seconds: Sequence[float],
    *,
    num_frames: int | None = None,
    stride: float | None = None,
    fps: float | None = None,
    short_side: int | None = None,
) -> Iterator[np.ndarray]:
    """Cuts a clip around each of some moments out of a video, whole frames.

    The middle frame, number num_frames / 2 from 0, is the one nearest to the moment, as
    in PySlowFast's reader of AVA; before the start and behind the end of the video its
    first and last frame repeat.

    Args:
        model: A recognition network, whose config has the defaults.
        video: See `jaxflow.classify_video`.
        seconds: The moments, in order, in seconds from the start.
        num_frames: Frames of a clip; the model's by default.
        stride: Frames of the video from frame to frame of a clip; as for
            `sample_views`.
        fps: Rate of the video; a file's own by default. Frames without a rate need it.
        short_side: The shorter side is resized to this; by default 8 / 7 of the
            model's `crop_size`.

    Returns:
        An iterator over (T, H', W', C) float32 in [0, 1], one a moment. Of the video
        only the frames of a clip are kept.

    Raises:
        ValueError: As `sample_views`; and if a moment is not in the video, or earlier
            than the one before.
    """
    config = getattr(check_network(model), "config", None)
    num_frames = int(setting(config, "num_frames", num_frames))
    side = int(setting(config, "crop_size", None))
    short = round(side * 8 / 7) if short_side is None else int(short_side)
    _checks.positive("short_side", short)
    if stride is not None:
        _checks.positive("stride", stride)
    check_fps(fps)
    source = Source(video, fps, getattr(config, "in_features", 3))
    moments = np.asarray(seconds, np.float64)
    if np.any(np.diff(moments) < 0):
        raise ValueError("`seconds` must be in order")
    centres = source.frames_at(moments)
    step = source.stride(num_frames, stride, None, config)
    offsets = np.arange(num_frames) * step - np.floor(num_frames * step / 2)
    indices = np.floor(centres[:, None] + offsets + 1e-6)
    indices = np.clip(indices, 0, source.length - 1).astype(np.int64)
    return source.clips(indices, short)


def duration(video: Video, *, fps: float | None = None) -> float:
    """Returns how long a video lasts, in seconds, its last frame included.

    Args:
        video: See `jaxflow.classify_video`.
        fps: Its rate; a file's own by default. Frames without a rate need it.

    Raises:
        ValueError: If the video is damaged or empty, or there is no rate.

    Examples:
        >>> from jaxflow import views
        >>> views.duration(np.zeros((30, 8, 8, 3), np.uint8), fps=15)
        2.0
    """
    check_fps(fps)
    is_path = isinstance(video, (str, os.PathLike))
    channels = 3 if is_path or np.shape(video)[-1] not in (2, 5) else video.shape[-1]
    return Source(video, fps, channels).lasts()


def batches(views: Iterable[np.ndarray], size: int) -> Iterator[tuple[jax.Array, int]]:
    """Stacks views into batches of one size, so that a network compiles once.

    Args:
        views: As `sample_views` gives them.
        size: Views in a batch.

    Yields:
        (batch, count): always `size` views, of which the first `count` are real, and
        the others copies of the last.

    Raises:
        ValueError: If `size` is not positive.

    Examples:
        >>> from jaxflow import views
        >>> found = views.batches(np.zeros((3, 1, 2, 2, 3), np.float32), 2)
        >>> [(batch.shape, count) for batch, count in found]
        [((2, 1, 2, 2, 3), 2), ((2, 1, 2, 2, 3), 1)]
    """
    _checks.positive("batch_size", size)
    views = iter(views)
    while pending := list(itertools.islice(views, size)):
        count = len(pending)
        for view in pending:
            spec.check_pixels("views", np.asarray(view))
        pending += [pending[-1]] * (size - count)
        yield jnp.asarray(np.stack(pending)), count
