"""Clips with boxes of people as batches, to train networks that score boxes.

    people at a moment of a film -> the clip around it, and a fixed number of boxes

An element is what ``videos("train")`` of `jaxflow.data.builders.ava.AVA` gives: the
``path`` of a film, ``time`` in seconds, ``boxes`` (N, 4) as parts of the frame, and
``labels`` (N, classes) of what each person does. Nothing here needs JAX.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxflow import _checks, io
from jaxflow.data import clips, loaders


def box_loader(
    source: Sequence[Mapping[str, Any]],
    *,
    people: int = 16,
    batch_size: int = 8,
    num_frames: int = 32,
    stride: float = 2,
    rate: float | None = clips.TARGET_FPS,
    size: int = 224,
    short_side: tuple[int, int] = (256, 320),
    flip: bool = True,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    uint8: bool = False,
):
    """Makes a loader of clips around moments with boxes, which can be resumed.

    Clips are resized, cropped and mirrored as by `clips.clip_loader`, and the boxes
    with them. A box is cut off at the border; one of which nothing is left is left
    out. A film that cannot be decoded gives a warning, and another element takes its
    place.

    Args:
        source: Elements as the module tells.
        people: Boxes of a clip. Where there are fewer, rows are empty; where there are
            more, so many are drawn.
        batch_size: See `clips.clip_loader`, as for the rest.
        num_frames: Frames of a clip; number num_frames / 2, from 0, is the one nearest
            to the moment. What the film does not have, its first and last frame fill.
        stride: See there.
        rate: See there.
        size: See there.
        short_side: See there.
        flip: See there.
        seed: See there.
        shuffle: See there.
        epochs: See there.
        shard: See there.
        workers: See there.
        uint8: See there.

    Returns:
        A `grain.IterDataset` of dicts: ``clip`` (B, T, size, size, 3) float32 in
        [0, 1], or uint8; ``boxes`` (B, people, 4) float32: x1, y1, x2, y2 in pixels of
        the clip; ``there`` (B, people) bool, which of them are boxes; ``labels`` (B,
        people, classes) bool.

    Raises:
        ValueError: If a number is out of range, or the shard has fewer elements than a
            batch.
        ImportError: If Grain is not installed.
    """
    numbers = {"people": people, "num_frames": num_frames, "stride": stride}
    for name, value in (numbers | {"size": size, "rate": rate or 1}).items():
        _checks.positive(name, value)
    if not size <= short_side[0] <= short_side[1]:
        raise ValueError(
            f"`short_side` must be a range that starts at `size` {size} or above; got "
            f"{short_side}"
        )

    def prepare(element, rng):
        def decode(each):
            frames = read_around(
                each["path"], float(each["time"]), num_frames, stride, rate=rate
            )
            return frames, each["boxes"], each["labels"]

        frames, boxes, labels = clips.decodable(source, element, rng, decode)
        side = int(rng.integers(short_side[0], short_side[1] + 1))
        height, width = frames.shape[1:3]
        window = clips.draw_window(height, width, side, size, rng=rng)
        clip, corners = clips.cut(frames, window), in_window(boxes, window)
        if flip and rng.random() < 0.5:
            clip, corners = clip[:, :, ::-1], mirrored(corners, size)
        clip = loaders.to_uint8(clip) if uint8 else np.ascontiguousarray(clip)
        return {"clip": clip, **padded(corners, labels, people, rng)}

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


def read_around(
    path: str | os.PathLike[str],
    second: float,
    num_frames: int,
    stride: float,
    *,
    rate: float | None = clips.TARGET_FPS,
) -> np.ndarray:
    """Decodes the clip around a moment of a film, as `jaxflow.views.clips_around`.

    Args:
        path: The file.
        second: The moment, in seconds from the start.
        num_frames: Frames of the clip.
        stride: Steps between them.
        rate: Frames a second that `stride` counts in; None: the film's own.

    Returns:
        (T, H, W, 3) uint8. Frame T // 2 is the one nearest to the moment; before the
        start and behind the end of the film its first and last frame repeat.

    Raises:
        ValueError: If the file is damaged or no video, or the moment is not in it.
        OSError: If the file cannot be opened.
    """
    info = io.video_info(path)
    if not 0 <= second <= info.seconds:
        raise ValueError(
            f"{path}: lasts {info.seconds:.1f} seconds; the moment is {second:g}"
        )
    middle = (info.times[1:] + info.times[:-1]) / 2
    centre = int(np.searchsorted(middle, second, side="right"))
    step = stride * info.fps / (rate or info.fps)
    offsets = np.arange(num_frames) * step - np.floor(num_frames * step / 2)
    wanted = np.floor(centre + offsets + 1e-6).astype(np.int64)
    return clips.read_frames(path, np.clip(wanted, 0, info.length - 1))


def in_window(boxes: np.ndarray, window: clips.Window) -> np.ndarray:
    """Returns boxes in pixels of a window, cut off at its border.

    As in PySlowFast the last pixel's number is the border.

    Args:
        boxes: x1, y1, x2, y2 as parts of the frame, (N, 4).
        window: From `clips.draw_window`.

    Returns:
        (N, 4) float32.
    """
    sides = np.array([window.width, window.height] * 2, np.float32)
    corner = np.array([window.left, window.top] * 2, np.float32)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.clip(boxes * sides[None] - corner[None], 0, window.size - 1)


def mirrored(boxes: np.ndarray, size: int) -> np.ndarray:
    """Mirrors boxes left to right, as PySlowFast: x becomes size - 1 - x.

    Args:
        boxes: x1, y1, x2, y2 in pixels, (N, 4).
        size: Width of the clip.
    """
    x1, y1, x2, y2 = boxes.T
    return np.stack([size - 1 - x2, y1, size - 1 - x1, y2], axis=-1)


def padded(
    corners: np.ndarray,
    labels: np.ndarray,
    people: int,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Brings boxes to one number; those without area are left out.

    Args:
        corners: x1, y1, x2, y2, (N, 4).
        labels: What each person does, (N, classes).
        people: How many rows there shall be.
        rng: Decides which boxes are taken if there are more; None takes the first.

    Returns:
        ``boxes`` (people, 4) float32, ``labels`` (people, classes) bool and ``there``
        (people,) bool; rows that are no box are 0.
    """
    kept = np.flatnonzero((corners[:, :2] < corners[:, 2:]).all(axis=1))
    if len(kept) > people:
        kept = kept if rng is None else np.sort(rng.permutation(kept)[:people])
        kept = kept[:people]
    found = {
        "boxes": np.zeros((people, 4), np.float32),
        "labels": np.zeros((people, np.shape(labels)[1]), bool),
        "there": np.arange(people) < len(kept),
    }
    found["boxes"][: len(kept)] = corners[kept]
    found["labels"][: len(kept)] = np.asarray(labels)[kept]
    return found
