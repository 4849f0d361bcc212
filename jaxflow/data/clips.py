"""Videos with labels, from folders or lists of files, as batches of clips.

Nothing here needs JAX. Decoding needs PyAV and the loader needs Grain, both of which
are extras.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxflow import _checks, io
from jaxflow.data import list_parts, lists, loaders

Placement = Literal["spread", "pyslowfast", "segments", "random", "dense"]
PLACEMENTS = ("spread", "pyslowfast", "segments", "random", "dense")
TARGET_FPS = 30.0
"""Frames a second that the steps between the frames of a clip count in, usually."""
# Videos that cannot be decoded, one behind the other, before the loader gives up.
_PATIENCE = 10


class Videos(Sequence[Mapping[str, Any]]):
    """Labelled videos as a data source: elements name them, the loader decodes.

    Videos of a list that are not there are left out, with a warning.

    Attributes:
        videos: Files and labels.
        names: Names of the classes.

    Args:
        root: Folder or list; see `lists.list_videos`.
        **options: Of `lists.list_videos`: the vocabulary that `names` shall be, and
            what the list leaves open.

    Raises:
        ValueError: As `lists.list_videos`.
        FileNotFoundError: If no video is there.
    """

    def __init__(self, root: str | os.PathLike[str], **options: Any):
        listed, self.names = lists.list_videos(root, **options)
        self.videos = lists.present(root, listed)

    def __len__(self) -> int:
        """Returns the number of videos."""
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns ``path`` and ``label`` of one video."""
        path, label = self.videos[index]
        return {"path": path, "label": np.int32(label)}


class Parts(Sequence[Mapping[str, Any]]):
    """Parts of videos with their classes as a data source for `clip_loader`.

    Those of videos that are not there are left out, with a warning.

    Attributes:
        parts: What is listed.
        names: Names of the classes.

    Args:
        root: List; see `list_parts.list_parts`.
        **options: Of `list_parts.list_parts`.

    Raises:
        ValueError: As `list_parts.list_parts`.
        FileNotFoundError: If no video is there.
    """

    def __init__(self, root: str | os.PathLike[str], **options: Any):
        listed, self.names = list_parts.list_parts(root, **options)
        self.parts = lists.present(root, listed)

    def __len__(self) -> int:
        """Returns the number of parts."""
        return len(self.parts)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns ``path``, ``labels`` (classes,) bool, ``start`` and ``end``."""
        path, labels, start, end = self.parts[index]
        shown = np.zeros(len(self.names), bool)
        shown[list(labels)] = True
        return {"path": path, "labels": shown, "start": start, "end": end}


def clip_loader(
    source: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 8,
    num_frames: int = 8,
    stride: float = 8,
    rate: float | None = TARGET_FPS,
    size: int = 224,
    short_side: tuple[int, int] = (256, 320),
    flip: bool = True,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    damaged: Literal["replace", "raise"] = "replace",
    uint8: bool = False,
):
    """Makes a loader of random clips for training, which can be resumed.

    From each video one clip at a random time, resized to a random size, cropped at a
    random place and mirrored half of the time; all follow from `seed` alone. A video
    that cannot be decoded gives a warning, and another one takes its place, unless
    `damaged` says otherwise.

    Args:
        source: `Videos`, or any sequence of elements with ``path`` and ``label`` or
            ``labels``; and, where the path is a folder of pictures, ``fps``; and, where
            only a part counts, ``start`` and ``end`` in seconds. E.g. `Parts`, or what
            ``videos("train")`` of a builder of `jaxflow.data.builders` gives.
        batch_size: Clips in a batch, of this process. What is left over is dropped.
        num_frames: Frames of a clip.
        stride: Steps between them.
        rate: Frames a second that `stride` counts in: a video of another rate is
            sampled at the same times. None: the video's own.
        size: Height and width of a clip, in pixels.
        short_side: Least and greatest length that a video's shorter side is resized to.
        flip: Whether clips are mirrored; motion to the left and to the right must then
            be of one class.
        seed: Decides order, times, places and mirroring.
        shuffle: Whether to shuffle; each epoch has its own order.
        epochs: How many times to go through the source; None never ends.
        shard: This process and the number of processes; each sees its own videos.
        workers: Processes that decode; 0 decodes in this one.
        damaged: What happens at a video that cannot be decoded: "replace" takes another
            one, ten times in a row at most; "raise" stops.
        uint8: Whether clips are rounded to uint8, a quarter of the bytes on the way to
            the device, as `augment_clips.augment_batch` takes them.

    Returns:
        A `grain.IterDataset` of dicts: ``clip`` (B, T, size, size, 3) float32 in
        [0, 1], or uint8, and ``label`` (B,) int32; or, of elements with ``labels``,
        those.

    Raises:
        ValueError: If a number is out of range, or the shard has fewer videos than a
            batch.
        ImportError: If Grain is not installed.
    """
    sizes = {"batch_size": batch_size, "num_frames": num_frames, "stride": stride}
    if rate is not None:
        sizes["rate"] = rate
    for name, value in (sizes | {"size": size}).items():
        _checks.positive(name, value)
    _checks.one_of("damaged", damaged, ("replace", "raise"))
    patience = _PATIENCE if damaged == "replace" else 0
    if not size <= short_side[0] <= short_side[1]:
        raise ValueError(
            f"`short_side` must be a range that starts at `size` {size} or above; got "
            f"{short_side}"
        )

    def prepare(element, rng):
        def decode(each):
            return _decode(each, num_frames, stride, rate, rng)

        frames, shown = decodable(source, element, rng, decode, patience=patience)
        side = int(rng.integers(short_side[0], short_side[1] + 1))
        clip = resized_crop(frames, side, size, rng=rng)
        if flip and rng.random() < 0.5:
            clip = clip[:, :, ::-1]
        clip = loaders.to_uint8(clip) if uint8 else np.ascontiguousarray(clip)
        return {"clip": clip, **shown}

    return loaders.batches(
        source,
        prepare,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        epochs=epochs,
        shard=shard,
        workers=workers,
    )


def clip_indices(
    length: int,
    num_frames: int,
    stride: float,
    *,
    clips: int = 1,
    placement: Placement = "spread",
    run: int = 1,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Chooses the frames of clips.

    A clip spans num_frames x stride frames, sampled evenly and rounded down. Where the
    video is shorter, its last frame repeats.

    Args:
        length: Frames of the video.
        num_frames: Frames of a clip.
        stride: Frames of the video to one of a clip; any positive number.
        clips: Number of clips; "dense" ignores it.
        placement: Where they start. "spread": from the first possible place to the
            last, evenly; one clip is in the middle. "pyslowfast": the same, but of n
            clips none starts in the last n-th, as its decoder does. "random": anywhere.
            "dense": one behind the other until the end. "segments": `stride` does not
            count; the video is cut into `num_frames` / `run` equal segments, each of
            which gives `run` frames, those in its middle if there is one clip (Wang et
            al., "Temporal Segment Networks", ECCV 2016).
        run: For "segments": consecutive frames of each segment.
        generator: Source of the random places.

    Returns:
        (clips, num_frames) integers.

    Raises:
        ValueError: If a number is not positive or the placement unknown, or segments
            of `run` frames do not fill `num_frames`.
    """
    _checks.one_of("placement", placement, PLACEMENTS)
    numbers = {"length": length, "num_frames": num_frames, "stride": stride}
    for name, value in (numbers | {"clips": clips, "run": run}).items():
        _checks.positive(name, value)
    if placement == "segments":
        return _segments(length, num_frames, run, clips)
    span = num_frames * stride
    room = max(length - span, 0)
    if placement == "dense":
        starts = np.arange(max(1, int(np.ceil(length / span)))) * span
    elif placement == "random":
        generator = generator or np.random.default_rng(0)
        starts = generator.uniform(0, room, clips)
    elif placement == "pyslowfast":
        starts = room * np.arange(clips) / clips
    else:
        starts = np.array([room / 2]) if clips == 1 else np.linspace(0, room, clips)
    offsets = np.linspace(0, span - 1, num_frames) if num_frames > 1 else np.zeros(1)
    frames = starts[:, None] + np.maximum(offsets, 0)
    return np.clip(np.floor(frames + 1e-6), 0, length - 1).astype(np.int64)


def _segments(length: int, num_frames: int, run: int, clips: int) -> np.ndarray:
    """Chooses `run` frames in a row in each segment: (clips, num_frames)."""
    if num_frames % run:
        raise ValueError(
            f"`num_frames` must be a multiple of {run}, the frames of a segment; got "
            f"{num_frames}"
        )
    count = num_frames // run
    phase = (np.arange(clips)[:, None] + 0.5) / clips
    middle = np.floor(length * (np.arange(count) + phase) / count).astype(np.int64)
    starts = np.clip(middle - run // 2, 0, max(length - run, 0))
    frames = starts[..., None] + np.arange(run)
    return np.minimum(frames, length - 1).reshape(clips, num_frames)


def read_clip(
    path: str | os.PathLike[str],
    num_frames: int,
    stride: float,
    *,
    rate: float | None = TARGET_FPS,
    fps: float | None = None,
    span: tuple[float, float] = (0.0, math.inf),
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Decodes one clip of a video, or of a folder of pictures.

    Its frames are counted by decoding, once a file; see `io.video_info`.

    Args:
        path: The file or folder.
        num_frames: Frames of the clip.
        stride: Steps between them.
        rate: Frames a second that `stride` counts in; None: the video's own.
        fps: Frames a second of the pictures of a folder. None: those that `rate` says.
        span: Start and end, in seconds, of the part that counts: the frames that are
            shown from the one until before the other, and at least one.
        generator: Decides when it starts; None takes the middle.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        ValueError: If the file is damaged or no video, a number not positive, or the
            video ends before the part starts.
        OSError: If the file cannot be opened.
    """
    numbers = {"num_frames": num_frames, "stride": stride}
    for name, value in (numbers | ({} if rate is None else {"rate": rate})).items():
        _checks.positive(name, value)
    if os.path.isdir(path):
        pictures = io.list_frames(path)
        length, fps = len(pictures), fps or rate or TARGET_FPS
    else:
        pictures, info = None, io.video_info(path)
        length, fps = info.length, info.fps
    begin, end = _frames_of(path, span, fps, length)
    (wanted,) = clip_indices(
        end - begin,
        num_frames,
        stride * fps / (rate or fps),
        placement="spread" if generator is None else "random",
        generator=generator,
    )
    wanted += begin
    if pictures is not None:
        return np.stack([io.read_image(pictures[index]) for index in wanted.tolist()])
    return read_frames(path, wanted)


def read_frames(
    path: str | os.PathLike[str], wanted: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Decodes some frames of a video.

    Args:
        path: The file.
        wanted: Their numbers, from 0, in rising order; one may be there several times.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        ValueError: If the file is damaged or no video.
        OSError: If the file cannot be opened.
    """
    numbers = [int(index) for index in wanted]
    first, needed = numbers[0], set(numbers)
    stream = io.read_video(path, start=first, stop=numbers[-1] + 1)
    kept = {i: frame for i, frame in enumerate(stream, start=first) if i in needed}
    return np.stack([kept[index] for index in numbers])


def _frames_of(path, span, fps: float, length: int) -> tuple[int, int]:
    """Returns the first frame of a part, and the one behind its last."""
    # A time that is a frame's but for rounding is that frame's.
    begin = math.ceil(span[0] * fps - 1e-6)
    end = length if math.isinf(span[1]) else math.ceil(span[1] * fps - 1e-6)
    if begin >= length:
        raise ValueError(
            f"{path}: has {length / fps:.1f} seconds; its part starts at {span[0]:g}"
        )
    return begin, max(begin + 1, min(end, length))


class Window(NamedTuple):
    """What is kept of frames that are resized.

    Attributes:
        height: Of the resized frames, in pixels.
        width: Likewise.
        top: First row that is kept.
        left: First column that is kept.
        size: Height and width of what is kept.
    """

    height: int
    width: int
    top: int
    left: int
    size: int


def draw_window(
    height: int,
    width: int,
    short_side: int,
    size: int,
    *,
    rng: np.random.Generator | None = None,
) -> Window:
    """Draws where a square is cropped from frames that are resized.

    Args:
        height: Of the frames, in pixels.
        width: Likewise.
        short_side: Length that their shorter side is resized to.
        size: Height and width of the square.
        rng: Decides its place; None takes the middle.

    Raises:
        ValueError: If the square is larger than the resized frames.
    """
    if short_side < size:
        raise ValueError(f"`short_side` must be at least `size` {size}; {short_side=}")
    shorter = min(height, width)
    tall, wide = (max(size, old * short_side // shorter) for old in (height, width))
    if rng is None:
        return Window(tall, wide, -(-(tall - size) // 2), -(-(wide - size) // 2), size)
    top = int(rng.integers(tall - size + 1))
    return Window(tall, wide, top, int(rng.integers(wide - size + 1)), size)


def resized_crop(
    frames: np.ndarray,
    short_side: int,
    size: int,
    *,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Resizes frames by their shorter side and crops a square.

    Bilinear without smoothing, as PySlowFast does and as `ops.resize`; only what is
    kept is computed.

    Args:
        frames: (T, H, W, 3) uint8 or uint16, or float in [0, 1].
        short_side: Length of the shorter side, in pixels.
        size: Height and width of the square.
        rng: Decides its place; None takes the middle.

    Returns:
        (T, size, size, 3) float32 in [0, 1].

    Raises:
        ValueError: If the square is larger than the resized frames.
    """
    height, width = frames.shape[1:3]
    return cut(frames, draw_window(height, width, short_side, size, rng=rng))


def cut(frames: np.ndarray, window: Window) -> np.ndarray:
    """Resizes frames and keeps a window of them; see `resized_crop`.

    Args:
        frames: (T, H, W, 3) uint8 or uint16, or float in [0, 1].
        window: From `draw_window`.

    Returns:
        (T, size, size, 3) float32 in [0, 1].
    """
    result = io.as_float(frames, name="frames")
    sides = ((1, window.height, window.top), (2, window.width, window.left))
    for axis, new, start in sides:
        old = frames.shape[axis]
        place = (np.arange(start, start + window.size) + 0.5) * (old / new) - 0.5
        place = np.clip(place, 0, old - 1)
        low = np.floor(place).astype(np.int64)
        share = (place - low).astype(np.float32)
        share = share.reshape([-1 if i == axis else 1 for i in range(4)])
        one = result.take(low, axis)
        two = result.take(np.minimum(low + 1, old - 1), axis)
        result = one + share * (two - one)
    return result


def decodable(
    source: Sequence[Mapping[str, Any]],
    element: Mapping[str, Any],
    rng: np.random.Generator,
    decode: Callable[[Mapping[str, Any]], Any],
    *,
    patience: int = _PATIENCE,
) -> Any:
    """Decodes an element of a source, or else another one, with a warning.

    Args:
        source: Where others are.
        element: The first to try.
        rng: Decides which others are.
        decode: What is done to an element.
        patience: Elements that are tried; 0 tries this one and lets it raise.

    Returns:
        What `decode` does.

    Raises:
        ValueError: If so many in a row cannot be decoded.
    """
    if not patience:
        return decode(element)
    reason: Exception | None = None
    for _ in range(patience):
        try:
            return decode(element)
        except (ValueError, OSError) as error:
            warnings.warn(f"{error}; another video takes its place", stacklevel=2)
            reason = error
            element = source[int(rng.integers(len(source)))]
    raise ValueError(f"{patience} videos in a row cannot be decoded: {reason}")


def _decode(element, num_frames, stride, rate, rng):
    """Decodes a clip of `element`: frames, and its label or labels."""
    fps = element.get("fps")
    span = element.get("start", 0.0), element.get("end", math.inf)
    frames = read_clip(
        element["path"],
        num_frames,
        stride,
        rate=rate,
        fps=fps,
        span=span,
        generator=rng,
    )
    if "labels" in element:
        return frames, {"labels": np.asarray(element["labels"])}
    return frames, {"label": np.int32(element["label"])}
