"""Video files, decoded and encoded by FFmpeg through PyAV.

PyAV is the optional dependency of the extra ``video``, and is imported when a video is
first opened. Frames are (H, W, 3) uint8 RGB, turned upright as the file asks for.
"""

import dataclasses
import fractions
import itertools
import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxflow.io import files, image, video_index, video_stream

READABLE = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv",
    ".ts", ".m2ts", ".mts", ".vob", ".asf", ".3gp", ".ogv", ".gif",
)  # fmt: skip
WRITABLE = (".mp4", ".mov", ".mkv")
# Without an index, so many frames are decoded rather than sought.
_SOUGHT_FROM = 250
# Ticks a second of a video that keeps time stamps; Matroska knows milliseconds only.
_CLOCKS = {".mp4": 90000, ".mov": 90000, ".mkv": 1000}


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What is in a video file, whatever its header says.

    Attributes:
        size: (height, width) of its frames, upright.
        fps: Frames a second, on average.
        length: Number of frames that decode.
        seconds: Duration, the last frame included.
        times: (length,) float64: when each frame is shown, in seconds after the first.
    """

    size: tuple[int, int]
    fps: float
    length: int
    seconds: float
    times: np.ndarray = dataclasses.field(compare=False, repr=False)

    @property
    def uniform(self) -> bool:
        """Whether every frame is shown within a quarter of a step of k / fps."""
        drift = self.times - np.arange(self.length) / self.fps
        return bool(np.abs(drift).max() <= 0.25 / self.fps)


def video_info(path: files.Path, *, lenient: bool = False) -> VideoInfo:
    """Reads the size, rate and length of a video.

    Frames are counted and their times are read by decoding all of them, once a file:
    see `video_index`. The rate is that of the header where the times of the frames
    agree with it, and else their number by their time.

    Args:
        path: The video.
        lenient: Whether a damaged video is described, with a warning, as far as it
            can be decoded.

    Raises:
        ValueError: If the file is damaged, truncated or no video; damage is named with
            its frame.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.

    Examples:
        >>> clip = np.zeros((5, 32, 48, 3), np.uint8)
        >>> jaxflow.io.write_video(folder / "black.mp4", clip, fps=10)
        >>> info = jaxflow.io.video_info(folder / "black.mp4")
        >>> info.length, info.size
        (5, (32, 48))
    """
    index = video_index.index_of(path, lenient=lenient)
    height, width = map(int, index.size)
    length = len(index.stamps)
    fps, times = _rate_and_times(index)
    return VideoInfo((height, width), fps, length, float(times[-1]) + 1 / fps, times)


def read_video(
    path: files.Path,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    lenient: bool = False,
) -> Iterator[np.ndarray]:
    """Reads the frames `start`, `start` + `stride`, ... before `stop`.

    Frame k is the k-th frame of a decode from the start, in every container. A late
    start is sought by the index of the video, which is made when it is first needed
    and takes a decode of the whole file.

    Args:
        path: The video.
        start: First frame, from 0.
        stop: Frame to stop before; None reads to the end.
        stride: Step from frame to frame.
        lenient: Whether a damaged video is read as far as it can be decoded, with a
            warning.

    Returns:
        An iterator over (H, W, 3) uint8 frames, which holds a few of them at a time;
        empty if `start` is past the end.

    Raises:
        ValueError: If the file is damaged, truncated or no video: at the call, or at
            the frame where the damage is, which is named. Also if a number is out of
            range.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.

    Examples:
        >>> clip = np.zeros((5, 32, 48, 3), np.uint8)
        >>> jaxflow.io.write_video(folder / "black.mp4", clip)
        >>> frames = jaxflow.io.read_video(folder / "black.mp4", start=3)
        >>> [frame.shape for frame in frames]
        [(32, 48, 3), (32, 48, 3)]
    """
    check_range(start, stop, stride)
    index = video_index.kept_index(path, lenient=lenient)
    if index is None and start >= _SOUGHT_FROM:
        index = video_index.index_of(path, lenient=lenient)
    if index is None:
        _check_first_frame(path, lenient)
    return _read(path, index, start, stop, stride, lenient)


def check_range(start: int, stop: int | None, stride: int) -> None:
    """Raises ValueError unless these are whole numbers of frames, `stride` above 0."""
    numbers = {"start": start, "stop": 0 if stop is None else stop, "stride": stride}
    for name, value in numbers.items():
        least = 1 if name == "stride" else 0
        try:
            good = operator.index(value) >= least
        except TypeError:
            good = False
        if not good:
            raise ValueError(
                f"`{name}` must be a whole number, at least {least}; got {value!r}"
            )


def write_video(
    path: files.Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float = 25.0,
    times: Iterable[float] | None = None,
    lossless: bool = False,
) -> None:
    """Writes a video, atomically: H.264 in 4:2:0, which every player shows.

    4:2:0 needs even sides: an odd one grows by a copy of its last row or column.
    Lossless video keeps every bit and the size, in RGB (H.264 in .mp4 and .mov, FFV1
    in .mkv), which not every player shows.

    Args:
        path: The file, which ends in .mp4, .mov or .mkv; it is replaced if it is
            there.
        frames: Pictures of one size, (H, W, 3): uint8, or float, which is clipped to
            [0, 1].
        fps: Frames a second, from 0.001 to 1000.
        times: When each frame is shown, in seconds, for a video of variable rate, such
            as `VideoInfo.times`; one a frame, each at least a millisecond after the
            one before. They count from the first. None shows frames evenly.
        lossless: Whether decoding shall give back `frames` exactly.

    Raises:
        ValueError: If there are no frames, or one has another shape or type, or the
            extension, `fps` or `times` is wrong.
        OSError: If the file cannot be written.
        ImportError: If PyAV is not installed.

    Examples:
        >>> clip = np.zeros((5, 32, 48, 3), np.uint8)
        >>> jaxflow.io.write_video(folder / "black.mp4", clip, fps=10)
        >>> jaxflow.io.video_info(folder / "black.mp4").fps
        10.0
    """
    av = video_stream.import_av()
    suffix = files.suffix(path)
    if suffix not in WRITABLE:
        raise files.fault(
            path, f"videos end in {', '.join(WRITABLE)}; this one in {suffix!r}"
        )
    if not 0.001 <= fps <= 1000:
        raise ValueError(f"`fps` must be from 0.001 to 1000; got {fps}")
    clock = None if times is None else fractions.Fraction(1, _CLOCKS[suffix])
    rate = fractions.Fraction(fps).limit_denominator(1001)
    with files.atomic_path(path) as temporary, av.open(temporary, "w") as container:
        stream, shape = None, (0, 0, 3)
        for frame, stamp in _stamped(frames, times, clock):
            if stream is None:
                shape = frame.shape
                stream = _add_stream(container, shape, rate, clock, suffix, lossless)
            if frame.shape != shape:
                raise ValueError(
                    f"`frames` must have one shape; got {shape}, then {frame.shape}"
                )
            pad = [(0, stream.height - shape[0]), (0, stream.width - shape[1]), (0, 0)]
            pixels = np.ascontiguousarray(np.pad(frame, pad, mode="edge"))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if clock is not None:
                picture.pts, picture.time_base = stamp, clock
            container.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("`frames` must not be empty")
        container.mux(stream.encode())


def _stamped(frames, times, clock) -> Iterator[tuple[np.ndarray, int]]:
    """Yields checked frames, each with its time in units of `clock`."""
    if clock is None:
        yield from ((_as_rgb8(frame), 0) for frame in frames)
        return
    first, last, pairs = None, None, itertools.zip_longest(frames, times)
    for frame, time in pairs:
        if frame is None or time is None:
            which = "more" if frame is None else "fewer"
            raise ValueError(f"`times` must be one a frame; there are {which}")
        if not math.isfinite(time) or (last is not None and time < last + 0.000999):
            raise ValueError(
                "`times` must increase by a millisecond at least; "
                f"got {time}, after {last}"
            )
        first, last = time if first is None else first, time
        yield _as_rgb8(frame), round((time - first) / clock)


def _add_stream(container, size, rate, clock, suffix: str, lossless: bool):
    """Adds the video stream of `write_video` to a container."""
    if lossless:
        codec, pixels, options = ("libx264rgb", "rgb24", {"qp": "0"})
        if suffix == ".mkv":
            codec, pixels, options = ("ffv1", "bgr0", {})
    else:
        codec, pixels, options = ("libx264", "yuv420p", {"crf": "18"})
    stream = container.add_stream(codec, rate=rate, options=options)
    if clock is not None:
        stream.time_base = stream.codec_context.time_base = clock
    even = 1 if lossless else 2
    stream.height, stream.width = (-(-side // even) * even for side in size[:2])
    stream.pix_fmt = pixels
    return stream


def _as_rgb8(frame: np.ndarray) -> np.ndarray:
    """Checks one frame: (H, W, 3) uint8."""
    frame = image.as_uint(frame)
    if frame.dtype != np.uint8 or frame.shape[-1] != 3:
        raise ValueError(
            "`frames` must be (H, W, 3) of uint8 or float; "
            f"got {frame.shape} of {frame.dtype}"
        )
    return frame


def _read(path, index, start, stop, stride, lenient) -> Iterator[np.ndarray]:
    """Yields the frames of `read_video`; what is passed over is not converted."""
    if index is not None:
        frames = video_index.frames_from(path, index, start, lenient=lenient)
        frames = itertools.islice(
            frames, None if stop is None else max(stop - start, 0)
        )
    else:
        frames = itertools.islice(_all_frames(path, lenient), start, _end(start, stop))
    for frame in itertools.islice(frames, 0, None, stride):
        yield video_stream.upright(path, frame)


def _end(start: int, stop: int | None) -> int | None:
    """Returns where a slice ends that is empty where it would end before it starts."""
    return None if stop is None else max(start, stop)


def _all_frames(path: files.Path, lenient: bool) -> Iterator[Any]:
    """Yields the decoded frames of a video."""
    with video_stream.open_video(path, lenient=lenient) as (container, stream):
        yield from video_stream.decode(path, container, stream, lenient=lenient)


def _check_first_frame(path: files.Path, lenient: bool) -> None:
    """Raises unless a video gives a frame."""
    if next(_all_frames(path, lenient), None) is None:
        raise files.fault(path, "holds no frames")


def _rate_and_times(index: video_index.Index) -> tuple[float, np.ndarray]:
    """Returns the frames a second of a video, and the times of its frames.

    Stamps that do not increase, as in an AVI with B-frames, are no times.
    """
    claimed = fractions.Fraction(*map(int, index.rate))
    stamps = index.stamps
    length = len(stamps)
    steps = np.diff(stamps)
    if (
        length < 2
        or stamps.min() == video_index.NO_STAMP
        or steps.min() <= 0
        or not index.tick[0]
    ):
        fps = float(claimed or 25)
        return fps, np.arange(length) / fps
    times = (stamps - stamps[0]) * float(fractions.Fraction(*map(int, index.tick)))
    # Half a frame of the claimed rate, or one frame in a hundred.
    slack = max(0.5, 0.01 * (length - 1))
    if claimed and abs(float(times[-1] * claimed) - (length - 1)) <= slack:
        return float(claimed), times
    return float((length - 1) / times[-1]), times
