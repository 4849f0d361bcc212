"""Which frames a recognition network sees: clips in time, crops in space.

video -> clips of frames (`clip_indices`) -> crops (`spatial_views`)
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, io, models, ops, spec
from jaxflow.data import clips as clip_data
from jaxflow.data import flow_pictures
from jaxflow.io import frames as sequences

Video = str | os.PathLike | np.ndarray | jax.Array
Flow = str | os.PathLike | np.ndarray
Placement = clip_data.Placement
CROPS = (1, 3, 5, 10)
# Rates that a recording can have, in frames a second.
_FPS = (0.01, 100_000)
clip_indices = clip_data.clip_indices


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
    _checks.positive("clips", clips)
    _checks.one_of("crops", crops, CROPS)
    if random_views < 0:
        raise ValueError(f"`random_views` must not be negative; got {random_views}")
    num_frames = int(_setting(config, "num_frames", num_frames))
    side = int(_setting(config, "crop_size", crop_size))
    for name, value in (("stride", stride), ("seconds", seconds)):
        if value is not None:
            _checks.positive(name, value)
    _check_fps(fps)
    short = round(side * 8 / 7) if crops == 1 else side
    short = short if short_side is None else int(short_side)
    if short < side:
        raise ValueError(
            f"`short_side` must be at least the crop's {side}; got {short}"
        )
    source = _Source(video, fps, getattr(config, "in_features", 3), flow)
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
                yield _random_crop(clip, side, generator)
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
    num_frames = int(_setting(config, "num_frames", num_frames))
    side = int(_setting(config, "crop_size", None))
    short = round(side * 8 / 7) if short_side is None else int(short_side)
    _checks.positive("short_side", short)
    if stride is not None:
        _checks.positive("stride", stride)
    _check_fps(fps)
    source = _Source(video, fps, getattr(config, "in_features", 3))
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
    """
    _check_fps(fps)
    is_path = isinstance(video, (str, os.PathLike))
    channels = 3 if is_path or np.shape(video)[-1] not in (2, 5) else video.shape[-1]
    return _Source(video, fps, channels).lasts()


def spatial_views(
    clip: np.ndarray, side: int, *, count: Literal[1, 3, 5, 10] = 1
) -> list[np.ndarray]:
    """Crops squares.

    Args:
        clip: (T, H, W, C).
        side: Height and width of the squares.
        count: 1: the centre. 3: centre and both ends of the longer side, in order. 5:
            four corners and the centre. 10: those, and their mirror images. In the
            mirror, flow to the left is flow to the right: of clips of 2 or 5 channels u
            becomes 1 - u; see `jaxflow.two_stream`.

    Returns:
        `count` arrays (T, side, side, C).

    Raises:
        ValueError: If the clip is smaller than the square or `count` is another.
    """
    _checks.one_of("count", count, CROPS)
    height, width = clip.shape[1:3]
    if min(height, width) < side:
        raise ValueError(f"`clip` is {height} x {width}, smaller than the crop {side}")
    low, high = height - side, width - side
    middle = (-(-low // 2), -(-high // 2))
    if count == 1:
        places = [middle]
    elif count == 3:
        ends = (0, middle[1], high) if width >= height else (0, middle[0], low)
        places = [
            (middle[0], end) if width >= height else (end, middle[1]) for end in ends
        ]
    else:
        places = [(0, 0), (0, high), (low, 0), (low, high), middle]
    views = [clip[:, y : y + side, x : x + side] for y, x in places]
    return views + [mirrored(view) for view in views] if count == 10 else views


def mirrored(clip: np.ndarray) -> np.ndarray:
    """Mirrors a clip left to right, and with it the flow in its last two channels.

    Args:
        clip: (T, H, W, C) in [0, 1]; flow, as a picture, is in the last two of 2 or 5
            channels.
    """
    turned = clip[:, :, ::-1]
    if clip.shape[-1] not in (2, 5):
        return turned
    turned = turned.copy()
    turned[..., -2] = 1 - turned[..., -2]
    return turned


def resized(frame: np.ndarray, short_side: int) -> np.ndarray:
    """Resizes a frame as `sample_views` does before it crops.

    Args:
        frame: (H, W, 3), uint8, uint16 or float in [0, 1].
        short_side: Length of the shorter side, in pixels.

    Returns:
        (H', W', 3) float32 in [0, 1].
    """
    return _resized(_as_float(frame), short_side)


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
    """
    _checks.positive("batch_size", size)
    views = iter(views)
    while pending := list(itertools.islice(views, size)):
        count = len(pending)
        for view in pending:
            spec.check_pixels("views", np.asarray(view))
        pending += [pending[-1]] * (size - count)
        yield jnp.asarray(np.stack(pending)), count


def check_network(model: Any) -> Any:
    """Returns `model` if it may be a recognition network.

    Args:
        model: Anything.

    Raises:
        ValueError: If it is a name, which has no weights, or a network for flow.
    """
    if isinstance(model, str):
        if model in models.list_models("video"):
            raise ValueError(
                f"`model` {model!r} names a network, and weights are needed too: pass "
                f"jaxflow.load_weights(jaxflow.create_model({model!r}), path)"
            )
        known = models.list_models("video")
        advice = _checks.nearest(model, known, "`jaxflow models --task video`")
        raise ValueError(
            f"`model` must be a recognition network; got {model!r}; {advice}"
        )
    if isinstance(getattr(model, "frames", None), spec.Frames):
        raise ValueError(
            "`model` must be a recognition network; got one for flow, "
            f"{type(model).__module__}.{type(model).__name__}: call "
            "jaxflow.estimate_flow"
        )
    return model


def _check_fps(fps: float | None) -> None:
    """Raises ValueError if a rate is none that a recording can have."""
    if fps is not None and not _FPS[0] <= fps <= _FPS[1]:
        raise ValueError(
            f"`fps` must be frames a second, from {_FPS[0]} to {_FPS[1]}; got {fps!r}"
        )


def _setting(config: Any, name: str, given: Any, *, option: str | None = None) -> Any:
    """Returns an option, or what the config says instead."""
    value = getattr(config, name, None) if given is None else given
    if value is None:
        raise ValueError(
            f"`{option or name}` must be given: the model has no config.{name}"
        )
    _checks.positive(option or name, value)
    return value


class _Source:
    """Frames of a file, a folder, a pattern or an array, by number."""

    def __init__(
        self, video: Any, fps: float | None, channels: int, flow: Flow | None = None
    ):
        self.path = video if isinstance(video, (str, os.PathLike)) else None
        self.fps = fps
        self.times: np.ndarray | None = None
        self.channels = channels
        self.frames: Any = None
        self.flow: _Flow | None = None
        if flow is not None and channels not in (2, 5):
            raise ValueError("`flow` must be None: the network sees none")
        if channels == 2 and self.path is not None and flow is None:
            # Pictures of flow are a video of their own.
            if flow_pictures.is_flow_folder(self.path):
                self.flow, self.path = _Flow(self.path), None
                self.length = self.flow.length
                return
        if self.path is None:
            self.frames = _as_frames(video, channels if flow is None else 3)
            self.length = len(self.frames)
            self.flow = None if flow is None else _Flow(flow, self.length)
            return
        if channels != 3 and flow is None:
            raise ValueError(
                f"{self.path}: the network takes {channels} channels, not the frames "
                "of a file alone: give `flow`, in pictures; or put an estimator in "
                "front of it, jaxflow.two_stream.WithFlow; or give an array, flow "
                "clipped to 20 pixels, (flow + 20) / 40"
            )
        self._look(fps)
        self.flow = None if flow is None else _Flow(flow, self.length)

    def _look(self, fps: float | None) -> None:
        """Counts the frames of a file, a folder or a pattern."""
        assert self.path is not None
        if sequences.is_sequence(self.path):
            self.length = len(io.list_frames(self.path))
        else:
            info = io.video_info(self.path)
            self.fps = fps or info.fps
            self.length = info.length or sum(1 for _ in io.read_video(self.path))
            self.times = None if fps else info.times

    def stride(self, num_frames, stride, seconds, config) -> float:
        """Returns the step between the frames of a clip, in frames of the video."""
        if stride is not None and seconds is not None:
            raise ValueError("give `stride` or `seconds`, not both")
        if seconds is not None:
            if self.fps is None:
                raise ValueError("`seconds` needs the rate of the frames: give `fps`")
            return seconds * self.fps / num_frames
        if stride is not None:
            return stride
        rate = getattr(config, "frame_rate", clip_data.TARGET_FPS)
        scale = self.fps / rate if self.fps and rate else 1
        return _setting(config, "frame_stride", None, option="stride") * scale

    def lasts(self) -> float:
        """Returns the duration in seconds.

        Raises:
            ValueError: If there is no rate.
        """
        if self.fps is None:
            raise ValueError("moments need the rate of the frames: give `fps`")
        last = (self.length - 1) / self.fps if self.times is None else self.times[-1]
        return float(last + 1 / self.fps)

    def frames_at(self, moments: np.ndarray) -> np.ndarray:
        """Returns the number of the frame that is nearest to each moment.

        Raises:
            ValueError: If a moment is not in the video, or there is no rate.
        """
        last, times = self.lasts(), self.times
        if times is None:
            times = np.arange(self.length) / (self.fps or 1)
        for moment in moments:
            if not 0 <= moment <= last:
                raise ValueError(
                    f"`seconds` must be in the video, which lasts {last:g} s; got "
                    f"{moment:g}"
                )
        # Half way between two frames, the later one.
        return np.searchsorted((times[1:] + times[:-1]) / 2, moments, side="right")

    def clips(self, indices: np.ndarray, short: int) -> Iterator[np.ndarray]:
        """Yields clips, (T, H', W', C) float32 in [0, 1], of that shorter side."""
        frames = self._read(set(indices.ravel().tolist()), short)
        last_use = {index: n for n, row in enumerate(indices.tolist()) for index in row}
        kept: dict[int, np.ndarray] = {}
        newest = -1
        for number, row in enumerate(indices.tolist()):
            while newest < max(row):
                newest, frame = next(frames)
                kept[newest] = frame
            yield np.stack([kept[index] for index in row])
            # What no later clip needs is let go: a video may be long.
            kept = {i: frame for i, frame in kept.items() if last_use[i] > number}

    def _read(self, wanted: set[int], short: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the wanted frames in order, (number, (H', W', C) float32)."""
        for index, frame in self._pictures(wanted, short):
            yield index, self._with_flow(index, frame, short)

    def _with_flow(
        self, index: int, frame: np.ndarray | None, short: int
    ) -> np.ndarray:
        """Joins a frame and its flow, or returns what there is."""
        if self.flow is None:
            assert frame is not None
            return frame
        size = None if frame is None else frame.shape[:2]
        flow = _resized(self.flow.read(index), short, size)
        if self.channels == 2 or frame is None:
            return flow
        return np.concatenate([frame, flow], axis=-1)

    def _pictures(
        self, wanted: set[int], short: int
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yields the wanted frames in order; None where there is only flow."""
        if self.path is None:
            for index in sorted(wanted):
                known = self.frames
                yield (
                    index,
                    None if known is None else _resized(_as_float(known[index]), short),
                )
            return
        index, frame = -1, None
        stream = io.read_frames(self.path, stop=max(wanted) + 1)
        for index, frame in enumerate(stream):
            if index in wanted:
                yield index, _resized(_as_float(_as_frames(frame[None], 3)[0]), short)
        if frame is None:
            raise ValueError(f"{self.path}: holds no frames")
        # A header may promise more frames than there are.
        last = _resized(_as_float(_as_frames(frame[None], 3)[0]), short)
        for missing in sorted(number for number in wanted if number > index):
            yield missing, last


class _Flow:
    """Pictures of flow, of a folder or in an array, by number."""

    def __init__(self, flow: Any, frames: int | None = None):
        self.pictures = self.array = None
        if isinstance(flow, (str, os.PathLike)):
            self.pictures = flow_pictures.list_flow_pictures(flow)
            self.length, where = len(self.pictures.x), f"{flow}: "
        else:
            self.array = _as_frames(flow, 2, name="flow")
            self.length, where = len(self.array), "`flow`: "
        if frames is not None and frames - self.length not in (0, 1):
            raise ValueError(
                f"{where}has {self.length} flows for a video of {frames} frames: there "
                "must be one for each, or for each but the last"
            )

    def read(self, index: int) -> np.ndarray:
        """Returns a flow as a picture, (H, W, 2) float32 in [0, 1]."""
        index = min(index, self.length - 1)
        if self.pictures is not None:
            return _as_float(flow_pictures.read_flow_picture(self.pictures, index))
        assert self.array is not None
        return _as_float(self.array[index])


def _as_frames(video: Any, channels: int, *, name: str = "video") -> np.ndarray:
    """Checks frames; returns them as they are, (T, H, W, channels)."""
    frames = np.asarray(video)
    if frames.ndim == 3 and frames.shape[-1] in (2, 3, 4):
        raise ValueError(
            f"`{name}` of shape {frames.shape} is one picture; give frames, (T, H, W, "
            f"{channels}), or picture[None] for a video of one frame"
        )
    # Grey frames are frames; one channel of flow is none.
    grey = ", (T, H, W, 1) or (T, H, W)" if channels == 3 else ""
    if frames.ndim == 3 and grey:
        frames = frames[..., None]
    counts = (1, channels) if grey else (channels,)
    if frames.ndim != 4 or frames.shape[-1] not in counts or 0 in frames.shape:
        raise ValueError(
            f"`{name}` must be (T, H, W, {channels}){grey}; got {np.shape(video)}"
        )
    if frames.dtype not in (np.uint8, np.uint16):
        if not jnp.issubdtype(frames.dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be uint8, uint16 or float; got {frames.dtype}"
            )
        spec.check_pixels(name, frames)
    return np.broadcast_to(frames, (*frames.shape[:-1], channels))


def _as_float(frame: np.ndarray) -> np.ndarray:
    """Returns a frame as float32 in [0, 1]."""
    wide = frame.astype(np.float32)
    if frame.dtype in (np.uint8, np.uint16):
        wide /= np.float32(np.iinfo(frame.dtype).max)
    return wide


def _resized(
    frame: np.ndarray, short: int, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Resizes (H, W, C) to a shorter side of `short`, or to `size`, bilinearly."""
    height, width = frame.shape[:2]
    if size is None and min(height, width) == short:
        size = (height, width)
    elif size is None and height < width:
        size = (short, max(short, int(width / height * short)))
    elif size is None:
        size = (max(short, int(height / width * short)), short)
    if (height, width) == size:
        return frame.astype(np.float32)
    return np.asarray(_resize(jnp.asarray(frame, jnp.float32), size))


@functools.partial(jax.jit, static_argnums=1)
def _resize(frame: jax.Array, size: tuple[int, int]) -> jax.Array:
    return ops.resize(frame, size)


def _random_crop(clip: np.ndarray, side: int, generator) -> np.ndarray:
    y, x = (generator.integers(0, n - side + 1) for n in clip.shape[1:3])
    return clip[:, y : y + side, x : x + side]
