"""A data set in, a table of errors out."""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxflow import estimate, metrics
from jaxflow.layers import precision as precisions

Estimator = Callable[[np.ndarray, np.ndarray], Any]
Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

COLUMNS = ("pairs", "epe", "1px", "3px", "5px", "fl_all", "seconds")
"""Columns of `format_table` that are shown if no others are asked for."""

_BINS = ("s0-10", "s10-40", "s40+")


def evaluate_flow(
    estimator: nnx.Module | str | Estimator,
    dataset: Iterable[Pair],
    *,
    precision: precisions.Precision = "highest",
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
            `jaxflow.data.folders.Folder`.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Returns:
        "pairs", their number; what `jaxflow.metrics.summary` returns; and "seconds"
        a pair, the median over the pairs whose size was seen before, so that no
        compilation counts (if there are none, the last pair is run again). NaN where
        no pixel counts.

    Raises:
        ValueError: If the data set is empty, the estimator returns another shape, or
            `precision` is given for a function, which has its own.
    """
    estimator = _function(estimator, precision)
    rows, weights, seconds, sizes = [], [], [], []
    again = None
    for frame1, frame2, target, valid in dataset:
        again = functools.partial(_timed, estimator, frame1, frame2)
        flow, elapsed = again()
        seconds.append(elapsed)
        if flow.shape != target.shape:
            raise ValueError(
                f"`estimator` must return flow of {target.shape}; got {flow.shape}"
            )
        sizes.append(target.shape)
        row = _summary(flow, target, valid)
        rows.append({name: float(value) for name, value in row.items()})
        weights.append(_counts(target, valid))
    if again is None:
        raise ValueError("`dataset` must not be empty")
    table: dict[str, float] = {"pairs": len(rows)}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        share = np.array([weight.get(name, weight["all"]) for weight in weights])
        # A pair without a counted pixel says nothing.
        counted = share > 0
        share = np.ones_like(share) if name == "epe" else share
        table[name] = _mean(values[counted], share[counted])
    warm = [t for i, t in enumerate(seconds) if sizes[i] in sizes[:i]]
    return table | {"seconds": float(np.median(warm or again()[1]))}


def format_table(
    rows: Mapping[str, Mapping[str, Any]],
    *,
    columns: Iterable[str] = COLUMNS,
    title: str = "",
) -> str:
    """Lays out results as text: a line for each, numbers aligned on the right.

    Args:
        rows: Name of a line -> column -> value. A column that is missing is "-".
        columns: Columns to show, in this order.
        title: Head of the column of names.

    Returns:
        Lines, joined, without a line break at the end.
    """
    columns = tuple(columns)
    cells = [(title, *columns)] + [
        (name, *(_format(column, row.get(column)) for column in columns))
        for name, row in rows.items()
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    numeric = [
        all(isinstance(row.get(c), (int, float, type(None))) for row in rows.values())
        for c in columns
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, (False, *numeric), strict=True)
        ).rstrip()
        for line in cells
    )


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


def _summary(flow: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict:
    """Computes the metrics of one pair."""
    return jax.device_get(_jitted_summary(flow, target, valid=valid))


def _counts(target: np.ndarray, valid: np.ndarray) -> dict[str, int]:
    """Counts the pixels that the metrics of one pair are averaged over."""
    counted = np.asarray(valid, bool)
    speed = np.hypot(*np.moveaxis(target[counted].astype(np.float32), -1, 0))
    place = np.searchsorted(metrics.SPEEDS, speed, side="right")
    bins = np.bincount(place, minlength=len(_BINS))
    return {"all": int(counted.sum()), **dict(zip(_BINS, bins.tolist(), strict=True))}


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted mean; NaN of nothing."""
    return float(np.average(values, weights=weights)) if values.size else float("nan")


def _format(column: str, value: Any) -> str:
    """Writes one number as its column needs it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
