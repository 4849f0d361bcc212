"""Long-term feature banks: what a whole video shows, once every so often.

Wu et al., "Long-Term Feature Banks for Detailed Video Understanding" (CVPR 2019),
Sec. 3.2. `compute_bank` reads a video once and keeps no more of it than a few clips, so
that its memory does not grow with the video but for the features themselves; `window`
cuts out what `models.video.long_term` sees beside a clip.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, splitting, views
from jaxflow.data import ava
from jaxflow.layers import box_head
from jaxflow.layers import precision as precisions


class Bank(NamedTuple):
    """Features of a video by time: N moments, K features at each, C channels.

    Attributes:
        seconds: The moments, in order, (N,).
        features: (N, K, C) float32; 0 where nothing is.
        valid: Where something is, (N, K) bool.
    """

    seconds: np.ndarray
    features: np.ndarray
    valid: np.ndarray


def compute_bank(
    model: nnx.Module,
    video: views.Video,
    *,
    rate: float = 1.0,
    boxes: Iterable[ava.Box] | None = None,
    most: int = 5,
    num_frames: int | None = None,
    stride: float | None = None,
    fps: float | None = None,
    short_side: int | None = None,
    batch_size: int = 1,
    precision: precisions.Precision = "highest",
) -> Bank:
    """Computes the bank of a video in one pass.

    A feature is the mean of the last maps of the clip around a moment; or, with boxes,
    the largest cell of each box in them, as `layers.box_head` has it.

    Args:
        model: A network whose `features` gives its last map or maps. It runs in
            evaluation mode, and is not changed.
        video: See `jaxflow.classify_video`.
        rate: Moments a second, in the middle of their part of the video; at least one.
        boxes: People of this video; the moments are then theirs, and `rate` does not
            count. For networks that score boxes.
        most: Boxes that count at a moment, the surest; boxes that are the same count
            once.
        num_frames: See `views.clips_around`, as for the three below.
        stride: See there.
        fps: See there.
        short_side: See there.
        batch_size: Moments that go through the network at once.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Returns:
        The bank: K is 1, or `most` with boxes.

    Raises:
        ValueError: If a number is not positive, the model has no `features` or scores
            no boxes, there are no boxes, or as `views.clips_around`.
    """
    for name, value in (("rate", rate), ("most", most), ("batch_size", batch_size)):
        _checks.positive(name, value)
    network: Any = views.check_network(model)
    if not callable(getattr(network, "features", None)):
        raise ValueError("`model` must have a method `features`, which gives its maps")
    regions = getattr(getattr(network, "config", None), "regions", "none")
    if boxes is None:
        lasts = views.duration(video, fps=fps)
        count = max(1, round(lasts * rate))
        people = {(i + 0.5) * lasts / count: np.zeros((1, 4)) for i in range(count)}
        regions, most = "none", 1
    elif regions == "none":
        raise ValueError("`boxes` must be None: `model` scores no boxes")
    else:
        people = _people(boxes, most)
    clips = views.clips_around(
        network,
        video,
        list(people),
        num_frames=num_frames,
        stride=stride,
        fps=fps,
        short_side=short_side,
    )
    features, valid = [], []
    known = splitting.split(network)
    corners = iter(people.values())
    for batch, count in views.batches(clips, batch_size):
        rows = np.full((batch_size, most, 5), -1.0, np.float32)
        for index in range(count):
            own = next(corners)
            sides = np.tile(np.array(batch.shape[3:1:-1]), 2)
            rows[index, : len(own), 0] = index
            rows[index, : len(own), 1:] = np.clip(own * sides, 0, sides - 1)
        with precisions.of_products(precision):
            out = _pooled(*known, regions, batch, jnp.asarray(rows).reshape(-1, 5))
        features.append(np.asarray(out).reshape(batch_size, most, -1)[:count])
        valid.append(rows[:count, :, 0] >= 0)
    return Bank(np.array(list(people)), np.concatenate(features), np.concatenate(valid))


def window(
    bank: Bank, second: float, *, moments: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts out what a bank holds around a moment: always as many entries.

    Args:
        bank: Of N moments and K features at each.
        second: The moment, in seconds.
        moments: Moments that are cut out: half of them before the nearest one. Those
            that are not in the video do not count.

    Returns:
        Features (M, C), M = moments x K; which count, (M,) bool; and the seconds of
        each from the moment, (M,) float32, 0 where none counts.

    Raises:
        ValueError: If `moments` is not positive.
    """
    _checks.positive("moments", moments)
    nearest = int(np.abs(bank.seconds - second).argmin())
    wanted = nearest - moments // 2 + np.arange(moments)
    there = (wanted >= 0) & (wanted < len(bank.seconds))
    taken = np.where(there, wanted, 0)
    valid = bank.valid[taken] & there[:, None]
    features = np.where(valid[..., None], bank.features[taken], 0)
    times = np.where(valid, (bank.seconds[taken] - second)[:, None], 0)
    flat = features.reshape(-1, features.shape[-1])
    return flat, valid.reshape(-1), times.reshape(-1).astype(np.float32)


def _people(boxes: Iterable[ava.Box], most: int) -> dict[float, np.ndarray]:
    """Groups boxes by time, the surest first: second -> (at most `most`, 4)."""
    found: dict[float, dict[tuple, None]] = {}
    for box in sorted(boxes, key=lambda box: (box.second, -box.score)):
        found.setdefault(float(box.second), {})[tuple(box.corners)] = None
    if not found:
        raise ValueError("`boxes` must not be empty")
    return {second: np.array(list(rows)[:most]) for second, rows in found.items()}


@functools.partial(jax.jit, static_argnums=(0, 2))
def _pooled(structure, leaves, regions, clip, rows):
    """Returns the features of a batch of clips, or of rows of boxes, (N, C)."""
    model = structure.model(leaves)
    model.eval()
    maps = model.features(clip)
    maps = maps if isinstance(maps, tuple) else (maps,)
    if regions == "none":
        means = [
            jnp.mean(each.astype(jnp.float32), axis=tuple(range(1, each.ndim - 1)))
            for each in maps
        ]
        return jnp.concatenate(means, axis=-1)
    owners = box_head.owners_of(rows, clip.shape[0])
    return box_head.pool(maps, rows[:, 1:], owners, aligned=regions == "aligned")
