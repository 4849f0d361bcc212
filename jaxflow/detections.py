"""How well boxes with actions were found: average precision over frames, as AVA's.

The rules are those of the official evaluation of AVA, which are PASCAL VOC's:

- In each frame and class, detections are taken from the surest on. One is right if the
  true box that it overlaps most, by intersection over union, is overlapped enough and
  was not yet found by another.
- The precision of a class, over its detections in all frames from the surest on, is
  made never to rise with recall; its area over recall is the average precision.
- Classes without a true box do not count in the mean; those without a detection are 0.
- Frames without a true box count: every detection there is wrong.

Nothing here needs JAX; numbers are float64.
"""

import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from jaxflow import _checks


class Labelled(Protocol):
    """A box with a class, such as `jaxflow.data.ava.Box`."""

    @property
    def video(self) -> str:
        """Name of the video."""
        ...

    @property
    def second(self) -> float:
        """When; only its whole part counts."""
        ...

    @property
    def corners(self) -> Sequence[float]:
        """x1, y1, x2, y2, in any unit that is the same everywhere."""
        ...

    @property
    def action(self) -> int | None:
        """The class."""
        ...

    @property
    def score(self) -> float:
        """How sure it is."""
        ...


class FrameMAP(NamedTuple):
    """Average precision over frames.

    Attributes:
        mean: Over the classes that have a true box; NaN if none has.
        by_class: Class -> average precision; NaN for one without a true box.
    """

    mean: float
    by_class: dict[int, float]


def frame_map(
    truth: Iterable[Labelled],
    detections: Iterable[Labelled],
    *,
    classes: Collection[int] | None = None,
    excluded: Collection[tuple[str, int]] = (),
    threshold: float = 0.5,
    most: int | None = 50,
) -> FrameMAP:
    """Measures detections in frames against the truth, as AVA does.

    What is equally sure is taken in an order that decides the result. It is the one of
    the official program: inside a frame, that in which a binary heap keeps rows of
    (score, class, y1, x1, y2, x2); over all frames, the reverse of that in which the
    frames first occur in `detections`. The sorting that it calls leaves equal numbers
    in order if they are 16 at most.

    Args:
        truth: Boxes that are there.
        detections: Boxes that were found, with their scores. One without area counts
            nowhere but among the `most`.
        classes: Which classes count; the rows of others are left out. None: all that
            occur. AVA counts 60 of its 80.
        excluded: Frames that do not count, (video, second).
        threshold: Least overlap of a detection that is right.
        most: In every frame, only so many of the surest detections of all classes
            count: 50 in the official program, None (all) in PySlowFast.

    Returns:
        The mean and the average precision of every class.

    Raises:
        ValueError: If a row has no class, a score is NaN, `threshold` is not in (0, 1],
            or `most` is not positive.

    Examples:
        >>> from jaxflow.data import ava
        >>> true = ava.Box("a", 1, (0.1, 0.1, 0.5, 0.5), 1)
        >>> near = true._replace(corners=(0.1, 0.1, 0.5, 0.6), score=0.9)
        >>> far = true._replace(corners=(0.5, 0.5, 0.9, 0.9), score=0.8)
        >>> jaxflow.detections.frame_map([true], [near, far])
        FrameMAP(mean=1.0, by_class={1: 1.0})
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be above 0 and at most 1; got {threshold}")
    if most is not None:
        _checks.positive("most", most)
    truth, detections = list(truth), list(detections)
    if classes is None:
        classes = {
            row.action for row in [*truth, *detections] if row.action is not None
        }
    wanted, hidden = set(classes), {(video, int(at)) for video, at in excluded}
    true = _by_frame("truth", truth, wanted, hidden, None)
    found = _by_frame("detections", detections, wanted, hidden, most)
    by_class = {
        number: _class_precision(true, found, number, threshold)
        for number in sorted(wanted)
    }
    known = [value for value in by_class.values() if not np.isnan(value)]
    return FrameMAP(float(np.mean(known)) if known else float("nan"), by_class)


def intersection_over_union(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns how much boxes overlap: common area by the area of both together.

    Args:
        boxes: Corners (x1, y1, x2, y2), or (y1, x1, y2, x2), (N, 4).
        others: The same, (M, 4).

    Returns:
        (N, M) float64 in [0, 1]; 0 where neither has an area.

    Examples:
        >>> box = np.array([[0, 0, 2, 2]])
        >>> jaxflow.detections.intersection_over_union(box, box + 1).round(3)
        array([[0.143]])
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.maximum(high - low, 0).prod(-1)
    area, other = ((b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others))
    union = area[:, None] + other[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _by_frame(name, rows, classes, excluded, most) -> dict[tuple[str, int], np.ndarray]:
    """Sorts rows into frames: (N, 6) of class, y1, x1, y2, x2, score, surest first."""
    heaps: dict[tuple[str, int], list[tuple]] = {}
    for number, row in enumerate(rows):
        if row.action is None or not np.isfinite([row.score, *row.corners]).all():
            raise ValueError(
                f"row {number} of `{name}` must have a class, and finite corners and a "
                f"score; got {row}"
            )
        if row.action not in classes:
            continue
        x1, y1, x2, y2 = map(float, row.corners)
        entry = (float(row.score), row.action, y1, x1, y2, x2)
        heap = heaps.setdefault((row.video, int(row.second)), [])
        if most is None or len(heap) < most:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    return {
        frame: np.array(
            [(*entry[1:], entry[0]) for entry in sorted(heap, key=lambda e: -e[0])]
        )
        for frame, heap in heaps.items()
        if frame not in excluded
    }


def _class_precision(true, found, number, threshold) -> float:
    """Returns the average precision of one class."""
    of_class = {frame: rows[rows[:, 0] == number] for frame, rows in true.items()}
    positives = sum(map(len, of_class.values()))
    nothing = np.zeros((0, 6))
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for frame, rows in found.items():
        rows = rows[rows[:, 0] == number]
        rows = rows[(rows[:, 1] < rows[:, 3]) & (rows[:, 2] < rows[:, 4])]
        scores.append(rows[:, 5])
        right.append(_matched(rows, of_class.get(frame, nothing), threshold))
    return _area(np.concatenate(scores), np.concatenate(right), positives)


def _matched(rows: np.ndarray, true: np.ndarray, threshold: float) -> np.ndarray:
    """Tells which detections of a frame find a true box that none before them did."""
    right = np.zeros(len(rows), bool)
    if not len(true):
        return right
    overlaps = intersection_over_union(rows[:, 1:5], true[:, 1:5])
    taken = np.zeros(len(true), bool)
    for index, overlap in enumerate(overlaps):
        best = int(np.argmax(overlap))
        right[index] = overlap[best] >= threshold and not taken[best]
        taken[best] |= right[index]
    return right


def _area(scores: np.ndarray, right: np.ndarray, positives: int) -> float:
    """Returns the area under precision, made monotone, over recall (PASCAL VOC 2010).

        AP = sum_i (r_i - r_{i-1}) max_{j >= i} p_j

    Args:
        scores: How sure each detection is, (N,); of equal ones the last comes first.
        right: Which are right, (N,) bool.
        positives: How many there are to find.

    Returns:
        A number in [0, 1]; NaN if there is nothing to find.
    """
    if not positives:
        return float("nan")
    if not len(scores):
        return 0.0
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")[::-1]
    hits = np.cumsum(np.asarray(right, np.int64)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(hits / positives, prepend=0.0)
    return float(np.sum(gained * precision))
