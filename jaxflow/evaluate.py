"""A data set in, a table of errors or accuracies out."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxflow import class_metrics, estimate, metrics
from jaxflow.layers import precision as precisions
from jaxflow.tables import COLUMNS as COLUMNS
from jaxflow.tables import format_csv as format_csv
from jaxflow.tables import format_markdown as format_markdown
from jaxflow.tables import format_table as format_table

Estimator = Callable[[np.ndarray, np.ndarray], Any]
Pair = Sequence[np.ndarray]
Watch = Callable[[Pair, np.ndarray, dict[str, float]], None]

VIDEO_COLUMNS = ("videos", "damaged", "top1", "top5", "mean_class", "map", "seconds")
"""Columns that `evaluate_video` may give."""

# The order of the numbers, which a compiled function forgets.
_ORDER = (
    "epe", "matched", "unmatched", "s0-10", "s10-40", "s40+", "1px", "3px", "5px",
    "fl_all", "fl_noc", "wauc", "angular",
)  # fmt: skip
_BINS = ("s0-10", "s10-40", "s40+")


def evaluate_flow(
    estimator: nnx.Module | str | Estimator,
    dataset: Iterable[Pair],
    *,
    precision: precisions.Precision = "highest",
    watch: Watch | None = None,
) -> dict[str, float]:
    """Measures an estimator of flow on a data set.

    As the benchmarks do: the endpoint error is averaged over the counted pixels of
    each pair, and then over pairs; every other number is over all counted pixels of
    the data set. On dense flow of one size there is no difference.

    Args:
        estimator: What `jaxflow.estimate_flow` takes: a flow network, or a name. Or a
            function of two frames, (H, W, 3), that returns their flow, (H, W, 2).
        dataset: Of (frame1, frame2, flow, valid): frames (H, W, 3), true flow (H, W,
            2) in pixels, and where it is known, (H, W). E.g. a
            `jaxflow.data.folders.Folder`. A fifth array says where the point of frame
            1 is hidden in frame 2, (H, W); all pairs have it, or none.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.
        watch: Is called with each pair, its estimated flow and its row of numbers.

    Returns:
        "pairs", their number; what `jaxflow.metrics.summary` returns; and "seconds"
        a pair, the median over the pairs whose size was seen before, so that no
        compilation counts (if there are none, the last pair is run again). NaN where
        no pixel counts.

    Raises:
        ValueError: If the data set is empty, the estimator returns another shape, or
            `precision` is given for a function, which has its own; or if some pairs say
            what is hidden and others do not.

    Examples:
        >>> y, x = np.mgrid[:64, :96]
        >>> frame = 0.5 + 0.2 * np.sin(x / 3) + 0.2 * np.cos(y / 4)
        >>> frame1 = np.repeat(frame[..., None], 3, axis=-1)
        >>> flow = np.broadcast_to([1.0, 0.0], (64, 96, 2))
        >>> pair = frame1, np.roll(frame1, 1, axis=1), flow, np.ones((64, 96), bool)
        >>> table = jaxflow.evaluate.evaluate_flow("lucas_kanade", [pair])
        >>> table["pairs"], table["epe"] < 0.2
        (1, True)
    """
    estimator = _function(estimator, precision)
    rows, weights, seconds, sizes = [], [], [], []
    again = None
    for pair in dataset:
        frame1, frame2, target, valid, *occluded = pair
        again = functools.partial(_timed, estimator, frame1, frame2)
        flow, elapsed = again()
        seconds.append(elapsed)
        if flow.shape != target.shape:
            raise ValueError(
                f"`estimator` must return flow of {target.shape}; got {flow.shape}"
            )
        sizes.append(target.shape)
        row = _summary(flow, target, valid, *occluded)
        rows.append({name: float(value) for name, value in row.items()})
        weights.append(_counts(target, valid, *occluded))
        if watch is not None:
            watch(pair, flow, rows[-1])
    if again is None:
        raise ValueError("`dataset` must not be empty")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("`dataset` must say of all pairs what is hidden, or of none")
    table: dict[str, float] = {"pairs": len(rows)}
    for name in sorted(rows[0], key=_ORDER.index):
        values = np.array([row[name] for row in rows])
        share = np.array([weight.get(name, weight["all"]) for weight in weights])
        # A pair without a counted pixel says nothing.
        counted = share > 0
        share = np.ones_like(share) if name == "epe" else share
        table[name] = _mean(values[counted], share[counted])
    warm = [t for i, t in enumerate(seconds) if sizes[i] in sizes[:i]]
    return table | {"seconds": float(np.median(warm or again()[1]))}


def evaluate_video(
    score: Callable[[Any], np.ndarray],
    dataset: Iterable[tuple[Any, int | Sequence[int]]],
    *,
    several: bool = False,
    watch: Callable[[Any, Any, np.ndarray | Exception], None] | None = None,
) -> dict[str, float]:
    """Measures a recognition network on labelled videos.

    Args:
        score: Video -> scores of its classes, (classes,), the higher the likelier, as
            `jaxflow.classify_video` with all its options gives them.
        dataset: Of (video, label): whatever `score` takes, and the number of its class,
            from 0. With `several` the numbers of all its classes.
        several: Whether a video may show several classes.
        watch: Is called with each video, its label, and its scores or the error why
            there are none.

    Returns:
        "videos" that were scored, and "damaged" ones, that could not be decoded and
        count nowhere else. "top1", "top5" and "mean_class", of
        `jaxflow.class_metrics`, or with `several` "map"; all in per cent. "seconds" a
        video, the median of all but the first, which compiles.

    Raises:
        ValueError: If there is no video, or none that can be scored.

    Examples:
        >>> scores = {"a.mp4": np.array([0.9, 0.1]), "b.mp4": np.array([0.8, 0.2])}
        >>> found = jaxflow.evaluate.evaluate_video(
        ...     scores.__getitem__, [("a.mp4", 0), ("b.mp4", 1)]
        ... )
        >>> found["top1"]
        50.0
    """
    scores, labels, seconds, damaged = [], [], [], []
    for video, label in dataset:
        start = time.perf_counter()
        try:
            found: Any = np.asarray(score(video), np.float32)
        except (ValueError, OSError) as error:
            found = error
            damaged.append(error)
        else:
            scores.append(found)
            labels.append(label)
            seconds.append(time.perf_counter() - start)
        if watch is not None:
            watch(video, label, found)
    if not scores:
        if damaged:
            raise ValueError(
                f"none of {len(damaged)} videos can be scored: {damaged[0]}"
            )
        raise ValueError("`dataset` must not be empty")
    table: dict[str, float] = {"videos": len(scores), "damaged": len(damaged)}
    numbers = _accuracies(np.stack(scores), labels, several)
    table |= {name: 100 * value for name, value in numbers.items()}
    return table | {"seconds": float(np.median(seconds[1:] or seconds))}


def _accuracies(scores: np.ndarray, labels: list, several: bool) -> dict[str, float]:
    """Returns how well scores fit the labels, as shares."""
    if not several:
        numbers = np.array(labels)
        return {
            "top1": class_metrics.top_k_accuracy(scores, numbers),
            "top5": class_metrics.top_k_accuracy(scores, numbers, k=5),
            "mean_class": class_metrics.mean_class_accuracy(scores, numbers),
        }
    shown = np.zeros(scores.shape, bool)
    for row, classes in zip(shown, labels, strict=True):
        row[list(classes)] = True
    return {"map": class_metrics.mean_average_precision(scores, shown)}


def _function(estimator: Any, precision: precisions.Precision) -> Estimator:
    """Returns an estimator as a function of two frames."""
    if isinstance(estimator, nnx.Module | str):
        return functools.partial(estimate.estimate_flow, estimator, precision=precision)
    precisions.of_products(precision)
    if precision != "highest":
        raise ValueError(
            "`precision` is for networks and names; a function computes as it does: "
            f"give it {precision!r} itself"
        )
    return estimator


def _timed(estimator: Estimator, frame1, frame2) -> tuple[np.ndarray, float]:
    """Returns the flow of two frames, and the seconds that it took."""
    start = time.perf_counter()
    flow = np.asarray(estimator(frame1, frame2))
    return flow, time.perf_counter() - start


_jitted_summary = jax.jit(metrics.summary)


def _summary(flow, target, valid, occluded=None) -> dict:
    """Computes the metrics of one pair."""
    return jax.device_get(_jitted_summary(flow, target, valid=valid, occluded=occluded))


def _counts(target, valid, occluded=None) -> dict[str, int]:
    """Counts the pixels that the metrics of one pair are averaged over."""
    counted = np.asarray(valid, bool)
    speed = np.hypot(*np.moveaxis(target[counted].astype(np.float32), -1, 0))
    place = np.searchsorted(metrics.SPEEDS, speed, side="right")
    bins = np.bincount(place, minlength=len(_BINS))
    counts = {"all": int(counted.sum()), **dict(zip(_BINS, bins.tolist(), strict=True))}
    if occluded is not None:
        hidden = int((counted & np.asarray(occluded, bool)).sum())
        seen = counts["all"] - hidden
        counts |= {"matched": seen, "fl_noc": seen, "unmatched": hidden}
    return counts


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted mean; NaN of nothing."""
    return float(np.average(values, weights=weights)) if values.size else float("nan")
