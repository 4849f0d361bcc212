"""Random access to the frames of a video, exact in every container.

Frame k is the k-th frame of a decode from the start. Headers, time stamps and key-frame
flags do not tell reliably where that is, so the index of a video holds a checksum of
every frame that such a decode gives, and a frame that was sought is taken only if its
checksum is the right one. Where no place to start from gives it, the video is decoded
from its start.

An index is made once a file, and kept: in memory, and for longer videos in
``$XDG_CACHE_HOME/jaxflow/video`` (``~/.cache`` without that variable). It counts as
long as the file's length and its time of modification are the same. That folder keeps
a GiB or little more: the indices that were not used for longest are removed.
"""

import collections
import contextlib
import fractions
import hashlib
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxflow.io import files, video_stream

NO_STAMP = -(2**63)
"""The stamp of a frame that has none."""
_FORMAT = 1
_KEPT_IN_MEMORY = 256
# The index of a shorter video is made faster than it is worth a file.
_KEPT_ON_DISK_FROM = 100
_MOST_BYTES_ON_DISK = 2**30
# One index in so many has the folder looked through: it may hold 10^5 files.
_PRUNED_EVERY = 64
# Frames after a seek that may be wrong before another place is tried.
_PATIENCE = 64


class Index(NamedTuple):
    """What decoding a video from its start gives.

    Attributes:
        stamps: (N,) int64 presentation times of the frames, in units of `tick`.
        sums: (N,) uint64 checksums of their pixels.
        keys: Numbers of the frames that say that they are key frames.
        size: (height, width), upright.
        tick: Seconds a unit, as (numerator, denominator).
        rate: Frames a second that the header claims, the same; 0 if it does not say.
    """

    stamps: np.ndarray
    sums: np.ndarray
    keys: np.ndarray
    size: np.ndarray
    tick: np.ndarray
    rate: np.ndarray


_memory: collections.OrderedDict[str, Index] = collections.OrderedDict()


def index_of(path: files.Path, *, lenient: bool = False) -> Index:
    """Returns the index of a video: the one that is kept, or a new one.

    Args:
        path: The video.
        lenient: As in `video_stream.decode`.

    Raises:
        ValueError: If the file is damaged, truncated or no video, or has no frames.
        OSError: If the file cannot be opened.
        ImportError: If PyAV is not installed.
    """
    index = kept_index(path, lenient=lenient)
    if index is None:
        key = _key(path, lenient)
        index = _decode_all(path, lenient)
        # A file that was written to meanwhile has another key.
        if key == _key(path, lenient):
            _remember(key, index)
            if len(index.sums) >= _KEPT_ON_DISK_FROM:
                _store(key, index)
    return index


def kept_index(path: files.Path, *, lenient: bool = False) -> Index | None:
    """Returns the index of a video if it was made before, else None."""
    key = _key(path, lenient)
    index = _memory.get(key) or _load(key)
    if index is not None:
        _remember(key, index)
    return index


def frames_from(
    path: files.Path, index: Index, start: int, *, lenient: bool = False
) -> Iterator[Any]:
    """Yields the decoded frames of a video from number `start` on.

    Args:
        path: The video.
        index: Its index.
        start: First frame, from 0.
        lenient: As in `video_stream.decode`.

    Raises:
        ValueError: As `video_stream.decode`.
        OSError: If the file cannot be opened.
    """
    number = start
    if 0 < start < len(index.sums):
        opened = video_stream.open_video(path, lenient=lenient, threads=not lenient)
        with opened as (container, stream):
            for entry in _entries(index, start):
                for frame in _sought(container, stream, index, entry, number):
                    yield frame
                    number += 1
                if number > start:
                    break
        if number == len(index.sums):
            return
    if number < len(index.sums):
        with video_stream.open_video(path, lenient=lenient) as (container, stream):
            frames = video_stream.decode(path, container, stream, lenient=lenient)
            for position, frame in enumerate(frames):
                if position >= number:
                    yield frame


def _sought(container, stream, index: Index, entry: int, start: int) -> Iterator[Any]:
    """Yields the frames from `start` on, as long as they are proved to be right.

    None if decoding from near the frame `entry` does not lead there.
    """
    from av import error as errors

    try:
        container.seek(int(index.stamps[entry]), stream=stream)
    except (errors.FFmpegError, OverflowError):
        return
    position, lost, wanted = None, 0, start
    for frame in video_stream.decode_after_seek(container, stream):
        total = checksum(frame)
        if position is not None and _is_frame(index, position + 1, total):
            position += 1
        elif wanted > start:
            return
        else:
            position = _place(index, total, frame.pts)
        if position is None:
            lost += 1
            if lost > _PATIENCE + start - entry:
                return
        elif position > wanted:
            return
        elif position == wanted:
            wanted += 1
            yield frame


def _is_frame(index: Index, position: int, total: int) -> bool:
    """Tells whether a checksum is that of the frame at `position`."""
    return position < len(index.sums) and int(index.sums[position]) == total


def _place(index: Index, total: int, stamp: int | None) -> int | None:
    """Returns which frame has that checksum; None if not exactly one has.

    Of frames that are the same, the stamp decides.
    """
    found = np.flatnonzero(index.sums == np.uint64(total))
    if len(found) > 1 and stamp is not None:
        found = found[index.stamps[found] == stamp]
    return int(found[0]) if len(found) == 1 else None


def _entries(index: Index, start: int) -> Iterator[int]:
    """Yields key frames to decode from: the last one before `start`, then earlier."""
    keys = index.keys[index.keys <= start]
    keys = keys[index.stamps[keys] != NO_STAMP]
    step = 1
    while step <= len(keys):
        yield int(keys[-step])
        step = step + 1 if step < 3 else 2 * step - 1


def checksum(frame: Any) -> int:
    """Returns 64 bits that depend on every pixel of a decoded frame."""
    shape = f"{frame.format.name} {frame.width} {frame.height} {frame.colorspace}"
    seed = zlib.crc32(f"{shape} {frame.color_range}".encode())
    planes = _rows(frame)
    if planes is None:
        planes = [np.ascontiguousarray(frame.to_ndarray(format="rgb24"))]
    first, rest = zlib.crc32(planes[0].data, seed), seed
    for plane in planes[1:]:
        rest = zlib.crc32(plane.data, rest)
    return first << 32 | rest


def _rows(frame) -> list[np.ndarray] | None:
    """Returns the planes of a frame without the padding of their rows.

    None for the rare layouts whose padding is not known.
    """
    kind, planes = frame.format, frame.planes
    if len(planes) == len(kind.components):
        widths = [p.width * -(-kind.components[0].bits // 8) for p in planes]
    elif len(planes) == 1:
        widths = [-(-frame.width * kind.padded_bits_per_pixel // 8)]
    else:
        return None
    rows = []
    for plane, width in zip(planes, widths, strict=True):
        step, height = plane.line_size, plane.height
        if step < width or plane.buffer_size < step * height:
            return None
        pixels = np.frombuffer(plane, np.uint8, step * height).reshape(height, step)
        rows.append(np.ascontiguousarray(pixels[:, :width]))
    return rows


def _decode_all(path: files.Path, lenient: bool) -> Index:
    """Makes an index by decoding a video from its start."""
    stamps, sums, keys, size = [], [], [], None
    with video_stream.open_video(path, lenient=lenient) as (container, stream):
        for frame in video_stream.decode(path, container, stream, lenient=lenient):
            if size is None:
                size = video_stream.upright(path, frame).shape[:2]
            if frame.key_frame:
                keys.append(len(sums))
            stamps.append(NO_STAMP if frame.pts is None else frame.pts)
            sums.append(checksum(frame))
        if size is None:
            raise files.fault(path, "holds no frames")
        tick, rate = _fraction(stream.time_base), _header_rate(stream)
    return Index(
        np.array(stamps, np.int64),
        np.array(sums, np.uint64),
        np.array(keys, np.int64),
        np.array(size, np.int64),
        np.array(tick.as_integer_ratio(), np.int64),
        np.array(rate.as_integer_ratio(), np.int64),
    )


def _header_rate(stream) -> fractions.Fraction:
    """Returns the frames a second that a header claims; 0 if it does not say."""
    for name in ("average_rate", "guessed_rate", "base_rate"):
        with contextlib.suppress(ArithmeticError, ValueError):
            rate = _fraction(getattr(stream, name))
            if rate > 0:
                return rate
    return fractions.Fraction(0)


def _fraction(number) -> fractions.Fraction:
    """Returns a number of FFmpeg as a fraction; 0 for None."""
    return fractions.Fraction(number or 0)


def _key(path: files.Path, lenient: bool) -> str:
    """Returns what tells an index from any other: file, state, decoder."""
    av = video_stream.import_av()
    state = os.stat(path)
    decoder = av.library_versions["libavcodec"]
    name = os.path.realpath(path)
    return f"{_FORMAT} {name} {state.st_size} {state.st_mtime_ns} {decoder} {lenient}"


def _remember(key: str, index: Index) -> None:
    """Keeps an index in memory, and drops the one not used for longest."""
    _memory[key] = index
    with contextlib.suppress(KeyError):  # another thread was faster
        _memory.move_to_end(key)
        if len(_memory) > _KEPT_IN_MEMORY:
            _memory.popitem(last=False)


def _cache_file(key: str) -> pathlib.Path:
    """Returns where the index of a key is kept on the disk."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return pathlib.Path(root) / "jaxflow" / "video" / f"{name[:40]}.npz"


def _store(key: str, index: Index) -> None:
    """Writes an index to the disk; a disk that takes nothing is no error."""
    target = _cache_file(key)
    with contextlib.suppress(OSError, ValueError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(target) as temporary:
            np.savez_compressed(temporary, **index._asdict())
        if int(target.stem, 16) % _PRUNED_EVERY == 0:
            _prune(target.parent)


def _prune(folder: pathlib.Path) -> None:
    """Removes the indices used longest ago, and what killed processes left half.

    Other processes may do the same at the same time.
    """
    found = []
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            state = entry.stat()
            found.append((state.st_mtime_ns, state.st_size, entry.path))
    kept = 0
    for _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > _MOST_BYTES_ON_DISK:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _load(key: str) -> Index | None:
    """Reads an index from the disk; None if there is none, or it is damaged."""
    file = _cache_file(key)
    try:
        with np.load(file, allow_pickle=False) as stored:
            index = Index(*(stored[name] for name in Index._fields))
    except Exception:  # zip files raise many kinds
        return None
    with contextlib.suppress(OSError):  # used now; a folder may be read-only
        os.utime(file)
    types = (np.int64, np.uint64, np.int64, np.int64, np.int64, np.int64)
    good = all(a.dtype == t and a.ndim == 1 for a, t in zip(index, types, strict=True))
    lengths = len(index.size), len(index.tick), len(index.rate)
    if not good or lengths != (2, 2, 2) or len(index.stamps) != len(index.sums):
        return None
    return index
