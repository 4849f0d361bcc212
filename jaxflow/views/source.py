"""A video as frames by number: of a file, a folder, a pattern or an array."""

import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxflow import io
from jaxflow.data import clips as clip_data
from jaxflow.data import flow_pictures
from jaxflow.io import frames as sequences
from jaxflow.views import networks, pixels

Video = str | os.PathLike | np.ndarray | jax.Array
Flow = str | os.PathLike | np.ndarray
# Rates that a recording can have, in frames a second.
_FPS = (0.01, 100_000)


def check_fps(fps: float | None) -> None:
    """Raises ValueError if a rate is none that a recording can have."""
    if fps is not None and not _FPS[0] <= fps <= _FPS[1]:
        raise ValueError(
            f"`fps` must be frames a second, from {_FPS[0]} to {_FPS[1]}; got {fps!r}"
        )


class Source:
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
            self.frames = pixels.as_frames(video, channels if flow is None else 3)
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
        return networks.setting(config, "frame_stride", None, option="stride") * scale

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
        flow = pixels.resized(self.flow.read(index), short, size=size)
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
                    None if known is None else pixels.resized(known[index], short),
                )
            return
        index, frame = -1, None
        stream = io.read_frames(self.path, stop=max(wanted) + 1)
        for index, frame in enumerate(stream):
            if index in wanted:
                yield index, pixels.resized(pixels.as_frames(frame[None], 3)[0], short)
        if frame is None:
            raise ValueError(f"{self.path}: holds no frames")
        # A header may promise more frames than there are.
        last = pixels.resized(pixels.as_frames(frame[None], 3)[0], short)
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
            self.array = pixels.as_frames(flow, 2, name="flow")
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
            return pixels.as_float(
                flow_pictures.read_flow_picture(self.pictures, index)
            )
        assert self.array is not None
        return pixels.as_float(self.array[index])
