"""The frames of a video file, one after the other, as FFmpeg decodes them.

PyAV is the optional dependency of the extra ``video``, and is imported when a video is
first opened.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from jaxflow import _checks
from jaxflow.io import files, matroska, video_container

# Every size up to 4K is believed; a larger one needs a byte for so many pixels.
_BELIEVED_PIXELS = 4096 * 2304
_PIXELS_A_BYTE = 4096
# These conceal damage without a mark unless they are told to stop.
_EXPLODE = ("mjpeg", "mpeg1video", "mpeg2video")
# These mark what they conceal, but too late where threads decode the next frames.
_MARK = ("h264", "mpeg4")
# A recording in these may begin in the middle of what frames are predicted from.
_BROADCAST = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc")
_PICTURE_CODECS = ("mjpeg", "png", "bmp", "tiff", "webp", "gif")
_DISPOSITIONS = ("attached_pic", "timed_thumbnails")


def import_av() -> Any:
    """Imports PyAV, or says how to get it."""
    try:
        import av
    except ImportError as error:
        hint = _checks.install_line("video")
        raise ImportError(f"video needs PyAV: run `{hint}`") from error
    return av


@contextlib.contextmanager
def open_video(
    path: files.Path, *, lenient: bool = False, threads: bool = False
) -> Iterator[tuple[Any, Any]]:
    """Opens a video for reading.

    The stream is the first one that moves: a cover picture is none.

    Args:
        path: The video. Whatever its name, it is a file, never an address.
        lenient: Whether a truncated file is opened too, with a warning.
        threads: Whether threads decode even where damage is then not told reliably.

    Returns:
        A context that gives the container and the video stream.

    Raises:
        ValueError: If the file is truncated or no video.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.
    """
    av = import_av()
    try:
        video_container.check_length(path)
    except ValueError as error:
        _refuse(error, lenient)
    if os.path.isfile(path) and not os.path.getsize(path):
        raise files.fault(path, "is empty")
    # FFmpeg refuses to allocate frames of more pixels than this.
    limit = {"max_pixels": str(_most_pixels(path))}
    with _named(path, "no readable video"):
        container = av.open(
            "file:" + os.path.abspath(path),
            options=limit | {"protocol_whitelist": "file"},
            **_metadata(av),
        )
    with container:
        stream = _moving_stream(path, container)
        name = stream.codec_context.name
        explode = {"err_detect": "explode"} if name in _EXPLODE else {}
        stream.codec_context.options = limit | ({} if lenient else explode)
        one = not threads and (lenient or name in _MARK)
        stream.thread_type = "NONE" if one else "AUTO"
        yield container, stream


def decode(
    path: files.Path, container: Any, stream: Any, *, lenient: bool = False
) -> Iterator[Any]:
    """Yields the frames of a stream, in the order in which they are shown.

    FFmpeg leaves out what of a Matroska file makes no sense, so such files are verified
    beside it (see `matroska`). Damage that only changes pixels cannot be known where
    neither the container nor the codec has checksums, as in WebM.

    Args:
        path: The video, for messages.
        container: What `open_video` gave.
        stream: What `open_video` gave.
        lenient: Whether what is damaged is kept as far as it can be decoded, with one
            warning.

    Raises:
        ValueError: At the frame that is damaged, or has another size than the first.
    """
    number, size, told = 0, None, False
    headless = container.format.name in _BROADCAST
    for frame, damage in _verified(path, container, stream):
        if frame is not None:
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                damage = damage or (
                    f"is {frame.width} x {frame.height}; the frames before it are "
                    f"{size[0]} x {size[1]}"
                )
        if damage and not told and not (headless and size is None):
            _refuse(files.fault(path, f"is damaged: frame {number} {damage}"), lenient)
            told = True
        if frame is not None and size == (frame.width, frame.height):
            yield frame
            number += 1


def decode_after_seek(container: Any, stream: Any) -> Iterator[Any]:
    """Yields what can be decoded, right or wrong, from where a container stands."""
    for frame, _ in _decoded(container.demux(stream)):
        if frame is not None:
            yield frame


def upright(path: files.Path, frame: Any) -> np.ndarray:
    """Converts a frame to (H, W, 3) uint8 RGB, turned as its file asks for."""
    with _named(path, "holds a frame that is no picture"):
        pixels = frame.to_ndarray(format="rgb24")
        turns = getattr(frame, "rotation", 0) // 90
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _verified(path, container, stream) -> Iterator[tuple[Any, str | None]]:
    """Yields what `_decoded` does, and what of a Matroska file FFmpeg leaves out."""
    packets = container.demux(stream)
    if not container.format.name.startswith("matroska"):
        yield from _decoded(packets)
        return
    found: list[str] = []
    with open(path, "rb") as file:
        walk = matroska.Walk(file, os.stat(path).st_size)
        for item in _decoded(_walked(packets, walk, found)):
            if found:
                yield None, found.pop()
            yield item
    if found:
        yield None, found.pop()


def _walked(packets, walk: matroska.Walk, found: list[str]) -> Iterator[Any]:
    """Yields packets, and walks through their file beside them while it is sound."""
    count, sound = 0, True
    for packet in packets:
        if sound and packet.pos is not None:
            sound = _step(walk.to, packet.pos, found)
        count += packet.size > 0 or packet.pts is not None
        yield packet
    if sound and _step(walk.to, walk.size, found) and walk.frames not in (None, count):
        found.append(
            f"or one before it is left out: the file holds {walk.frames} blocks of "
            f"pictures, of which FFmpeg gives {count}"
        )


def _step(walk: Callable[[int], None], position: int, found: list[str]) -> bool:
    """Walks on; notes damage, and tells whether there was none."""
    try:
        walk(position)
    except matroska.Damage as damage:
        found.append(f"is where the file {damage}")
    return not found


def _decoded(packets: Iterator[Any]) -> Iterator[tuple[Any, str | None]]:
    """Yields (frame or None, what is damaged there or None)."""
    from av import error as errors

    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (errors.FFmpegError, EOFError, UnicodeError) as error:
            yield None, _reason(error)
            return
        damage = "is cut off or damaged" if packet.is_corrupt else None
        try:
            frames = packet.decode()
        except (errors.FFmpegError, EOFError) as error:
            # Theora repeats a frame by an empty packet, which gives none.
            if packet.size or not isinstance(error, errors.ArgumentError):
                yield None, _reason(error)
            continue
        if damage and not frames:
            yield None, damage
        for frame in frames:
            yield frame, damage or ("was concealed" if frame.is_corrupt else None)


def _moving_stream(path: files.Path, container: Any) -> Any:
    """Returns the first video stream that is no attached picture.

    Matroska cannot mark a cover, so a stream of pictures is passed over where there is
    another one.
    """
    moving = []
    for stream in container.streams.video:
        disposition = stream.disposition
        kinds = (getattr(type(disposition), name, 0) for name in _DISPOSITIONS)
        if stream.codec_context is not None and not any(disposition & k for k in kinds):
            moving.append(stream)
    if not moving:
        raise files.fault(path, "holds no video stream")
    films = (s for s in moving if s.codec_context.name not in _PICTURE_CODECS)
    return next(films, moving[0])


def _metadata(av: Any) -> dict[str, str]:
    """Returns the keyword of `av.open` that lets titles be in no known encoding.

    PyAV has none from 19 on, and lets them be.
    """
    old = int(av.__version__.partition(".")[0]) < 19
    return {"metadata_errors": "replace"} if old else {}


def _most_pixels(path: files.Path) -> int:
    """Returns how many pixels a frame of a file of that length can have."""
    limit = Image.MAX_IMAGE_PIXELS or 2**31 - 1
    believed = max(_BELIEVED_PIXELS, _PIXELS_A_BYTE * os.stat(path).st_size)
    return min(limit, believed)


def _refuse(error: ValueError, lenient: bool) -> None:
    """Raises an error, or makes a warning of it."""
    if not lenient:
        raise error from None
    warnings.warn(f"{error}; what can be decoded is kept", stacklevel=4)


@contextlib.contextmanager
def _named(path: files.Path, what: str) -> Iterator[None]:
    """Turns what FFmpeg raises into one error that names the file."""
    from av import error as errors

    try:
        yield
    except (errors.FFmpegError, EOFError, ValueError, ArithmeticError) as error:
        raise files.fault(path, f"{what}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Returns what FFmpeg says, without its number and its file name."""
    return str(getattr(error, "strerror", None) or error)
