"""Video files, decoded and encoded by FFmpeg through PyAV.

PyAV is the optional dependency ``jaxflow[video]``, and is imported when a video is
first opened. Frames are (H, W, 3) uint8 RGB, turned upright as the file asks for.
"""

import contextlib
import dataclasses
import fractions
import itertools
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from jaxflow.io import files, image

READABLE = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv",
    ".ts", ".ogv", ".gif",
)  # fmt: skip
WRITABLE = (".mp4", ".mov", ".mkv")


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        size: (height, width) of its frames, upright.
        fps: Frames a second, on average.
        length: Number of frames; None if the file does not say (.mkv, .webm, .gif).
        seconds: Duration; None if the file does not say.
    """

    size: tuple[int, int]
    fps: float
    length: int | None
    seconds: float | None


def video_info(path: files.Path) -> VideoInfo:
    """Reads the size, rate and length of a video. Decodes one frame.

    Args:
        path: The video.

    Raises:
        ValueError: If the file is damaged, truncated or no video.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.
    """
    with _open(path) as (container, stream):
        first = next(_decode(path, container, stream), None)
        if first is None:
            raise files.fault(path, "holds no frames")
        seconds = None if container.duration is None else container.duration / 1e6
        size = _upright(first).shape[:2]
        return VideoInfo(size, float(_rate(stream)), stream.frames or None, seconds)


def read_video(
    path: files.Path, *, start: int = 0, stop: int | None = None, stride: int = 1
) -> Iterator[np.ndarray]:
    """Reads the frames `start`, `start` + `stride`, ... before `stop`.

    A late start is sought by its time in a video of constant rate, and decoded up to
    in any other.

    Args:
        path: The video.
        start: First frame, from 0.
        stop: Frame to stop before; None reads to the end.
        stride: Step from frame to frame.

    Returns:
        An iterator over (H, W, 3) uint8 frames; empty if `start` is past the end.

    Raises:
        ValueError: If the file is damaged, truncated or no video: at the call, or at
            the frame where the damage is. Also if a number is out of range.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.
    """
    if start < 0 or stride < 1:
        raise ValueError(
            "`start` must be at least 0 and `stride` at least 1; "
            f"got {start} and {stride}"
        )
    video_info(path)
    length = None if stop is None else max(stop - start, 0)
    return itertools.islice(_frames_from(path, start), 0, length, stride)


def write_video(
    path: files.Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float = 25.0,
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
        fps: Frames a second.
        lossless: Whether decoding shall give back `frames` exactly.

    Raises:
        ValueError: If there are no frames, or one has another shape or type, or the
            extension or `fps` is wrong.
        OSError: If the file cannot be written.
        ImportError: If PyAV is not installed.
    """
    av = _import_av()
    suffix = files.suffix(path)
    if suffix not in WRITABLE:
        raise files.fault(
            path, f"videos end in {', '.join(WRITABLE)}; this one in {suffix!r}"
        )
    if not fps > 0:
        raise ValueError(f"`fps` must be positive; got {fps}")
    rate = fractions.Fraction(fps).limit_denominator(1001)
    with files.atomic_path(path) as temporary, av.open(temporary, "w") as container:
        stream, shape = None, (0, 0, 3)
        for frame in map(_as_rgb8, frames):
            if stream is None:
                shape = frame.shape
                stream = _add_stream(container, shape, rate, suffix, lossless)
            if frame.shape != shape:
                raise ValueError(
                    f"`frames` must have one shape; got {shape}, then {frame.shape}"
                )
            pad = [(0, stream.height - shape[0]), (0, stream.width - shape[1]), (0, 0)]
            pixels = np.ascontiguousarray(np.pad(frame, pad, mode="edge"))
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            )
        if stream is None:
            raise ValueError("`frames` must not be empty")
        container.mux(stream.encode())


def _add_stream(container, size, rate, suffix: str, lossless: bool):
    """Adds the video stream of `write_video` to a container."""
    if lossless:
        codec, pixels, options = ("libx264rgb", "rgb24", {"qp": "0"})
        if suffix == ".mkv":
            codec, pixels, options = ("ffv1", "bgr0", {})
    else:
        codec, pixels, options = ("libx264", "yuv420p", {"crf": "18"})
    stream = container.add_stream(codec, rate=rate, options=options)
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


def _import_av():
    """Imports PyAV, or says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'video needs PyAV: run `pip install "jaxflow[video]"`'
        ) from error
    return av


@contextlib.contextmanager
def _open(path: files.Path):
    """Opens a video for reading: (container, its first video stream)."""
    av = _import_av()
    from av import error as errors

    _check_length(path)
    # FFmpeg refuses to allocate frames of more pixels than this.
    limit = {"max_pixels": str(Image.MAX_IMAGE_PIXELS or 2**31 - 1)}
    try:
        container = av.open(os.fspath(path), options=limit)
    except (errors.FFmpegError, EOFError) as error:
        raise files.fault(path, f"no readable video: {_reason(error)}") from None
    with container:
        if not container.streams.video:
            raise files.fault(path, "holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.options = limit
        yield container, stream


def _frames_from(path: files.Path, start: int) -> Iterator[np.ndarray]:
    """Yields the frames from number `start` on."""
    first = _first_time(path) if start else None
    with _open(path) as (container, stream):
        frames = _decode(path, container, stream)
        if first is None:
            frames = itertools.islice(frames, start, None)
        else:
            step = _ticks(stream)
            container.seek(first + round(start * step), stream=stream)
            # Half a step of slack: time stamps are rounded to the time base.
            wanted = first + (start - fractions.Fraction(1, 2)) * step
            frames = itertools.dropwhile(lambda frame: frame.pts < wanted, frames)
        for frame in frames:
            yield _upright(frame)


def _first_time(path: files.Path) -> int | None:
    """Returns the time stamp of frame 0; None if time stamps cannot be trusted.

    They are where the first frames follow each other at the rate of the stream; in
    an AVI with B-frames they do not even increase.
    """
    with _open(path) as (container, stream):
        frames = _decode(path, container, stream)
        times = [frame.pts for frame in itertools.islice(frames, 12)]
        if not times or None in times:
            return None
        step = _ticks(stream)
        drift = [time - times[0] - i * step for i, time in enumerate(times)]
        return times[0] if max(map(abs, drift)) <= 1 else None


def _decode(path: files.Path, container, stream) -> Iterator:
    """Yields decoded frames; turns damage into one error."""
    from av import error as errors

    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise files.fault(path, "is truncated or damaged: a packet is cut off")
            yield from packet.decode()
    except (errors.FFmpegError, EOFError) as error:
        raise files.fault(path, f"is damaged: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Returns what FFmpeg says, without its number and its file name."""
    return str(getattr(error, "strerror", None) or error)


def _upright(frame) -> np.ndarray:
    """Converts a frame to (H, W, 3) uint8 RGB, turned as its file asks for."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = getattr(frame, "rotation", 0) // 90
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _rate(stream) -> fractions.Fraction:
    """Returns the frames a second of a stream; 25 if it does not say."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return fractions.Fraction(rate or 25)


def _ticks(stream) -> fractions.Fraction:
    """Returns the time from frame to frame, in units of the stream's clock."""
    return 1 / (_rate(stream) * fractions.Fraction(stream.time_base))


def _check_length(path: files.Path) -> None:
    """Raises if a container claims more bytes than its file has.

    FFmpeg plays what is left of such a file, and is silent about the rest.
    """
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            claimed = 8 + int.from_bytes(head[4:8], "little")
            claimed = 0 if claimed >= 2**32 else claimed
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            claimed = _matroska_length(head)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            claimed = _mp4_length(file, size)
        else:
            return
    if claimed > size:
        raise files.fault(
            path, f"is truncated: it claims {claimed} bytes, and has {size}"
        )


def _matroska_length(head: bytes) -> int:
    """Returns where the segment of a Matroska file claims to end; 0 if unknown."""
    length, start = _matroska_number(head, 4)
    segment = start + length
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _matroska_number(head, segment + 4)
    return start + length if length else 0


def _matroska_number(head: bytes, start: int) -> tuple[int, int]:
    """Reads a variable-length number: (its value, 0 if unknown; where it ends)."""
    if start >= len(head) or head[start] == 0:
        return 0, start
    width = 9 - head[start].bit_length()
    value = int.from_bytes(head[start : start + width], "big")
    value -= 1 << (7 * width)
    return (0 if value == (1 << (7 * width)) - 1 else value), start + width


def _mp4_length(file, size: int) -> int:
    """Returns where the last top-level box of an MP4 file claims to end."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return start + 8
        length, name = struct.unpack(">I4s", head[:8])
        if not name.isalnum():  # what follows the boxes is not one
            return start
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end of the file
            return size
        start += length
    return start
