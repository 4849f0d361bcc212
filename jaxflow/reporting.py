"""What a training run says of itself: rows of metrics, and how far it is."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm

Row = dict[str, float]

COUNTS = ("skipped", "skipped_in_a_row")
"""Metrics of a step that count the steps before it."""


class Window:
    """The metrics of the newest steps, which stay on the device until they are read.

    Args:
        patience: How many steps in a row may be skipped; None if none is.
    """

    def __init__(self, patience: int | None = None):
        self._patience = patience
        self._clear()

    def _clear(self) -> None:
        self._metrics: list[Mapping[str, Any]] = []
        self._began = time.perf_counter()

    @property
    def is_empty(self) -> bool:
        """Whether there was no step since the last time."""
        return not self._metrics

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of one step."""
        self._metrics.append(metrics)

    def close(self, last: int) -> Row:
        """Returns the means over the steps, and the steps a second; begins anew.

        Of no steps at all it returns {}.

        Steps that were skipped do not count in the means; what counts steps is taken
        from the last.

        Args:
            last: Number of the last step.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite in a step that was
                not skipped, or too many in a row were; it names the step.
        """
        rows = jax.device_get(self._metrics)
        if not rows:
            return {}
        for number, row in enumerate(rows, start=last - len(rows) + 1):
            self._check(number, row)
        taken = [row for row in rows if not _faults(row)]
        found = {name: _mean([row[name] for row in taken]) for name in rows[-1]}
        found |= {name: float(rows[-1][name]) for name in COUNTS if name in found}
        found["steps_per_second"] = len(rows) / (time.perf_counter() - self._began)
        self._clear()
        return found

    def _check(self, number: int, row: Mapping[str, Any]) -> None:
        faults = _faults(row)
        if self._patience is None and faults:
            raise FloatingPointError(
                f"{faults[0]} is {row[faults[0]]} at step {number}; training stopped. "
                "Lower the learning rate or clip the gradients"
            )
        if self._patience and row["skipped_in_a_row"] >= self._patience:
            raise FloatingPointError(
                f"loss or grad_norm was not finite {self._patience} times in a row, up "
                f"to step {number}; training stopped. Lower the learning rate or clip "
                "the gradients"
            )


class Board:
    """TensorBoard's files of a run, for those who look at them: no run ends by them.

    If they cannot be written, the standard error says so once, and they end there.
    Without tensorboardX there are none.

    Args:
        folder: Where they are.
        step: Number of steps taken before; what was written of later ones is hidden.
    """

    def __init__(self, folder: str | os.PathLike, *, step: int):
        self._folder, self._writer = os.fspath(folder), None
        try:
            import tensorboardX
        except ImportError:
            return
        with self._or_none():
            self._writer: Any = tensorboardX.SummaryWriter(
                self._folder, purge_step=step + 1
            )

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Writes a row of metrics."""
        if self._writer is None:
            return
        # What writes is a thread. If it has ended, the queue before it fills up, and
        # whoever adds to it waits forever.
        events = getattr(self._writer.file_writer, "event_writer", None)
        thread = getattr(events, "_worker", None)
        with self._or_none():
            if thread is not None and not thread.is_alive():
                raise OSError("the thread that writes them has ended")
            for name, value in row.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            with self._or_none():
                self._writer.close()

    @contextlib.contextmanager
    def _or_none(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            print(f"{self._folder}: no more is written: {error}", file=sys.stderr)


class Progress:
    """Shows steps and loss on the standard error; use it in a `with` block.

    On a terminal and in a notebook it is a bar. Elsewhere a bar would fill a log file,
    and there is a line at most every `seconds`, and one at the end.

    Args:
        start: Steps taken before.
        steps: Number of the last step.
        shown: Whether to show anything.
        seconds: Between two lines.
    """

    def __init__(
        self, start: int, steps: int, *, shown: bool = True, seconds: float = 60.0
    ):
        as_bar = shown and _has_screen()
        self._bar = tqdm.tqdm(
            total=steps, initial=start, disable=not as_bar, unit="step"
        )
        self._lines = shown and not as_bar
        self._steps, self._seconds = steps, seconds
        self._last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self) -> None:
        """Counts one step."""
        self._bar.update()

    def show(self, number: int, row: Mapping[str, float]) -> None:
        """Shows the means of the newest steps.

        Args:
            number: Of the last step.
            row: With `loss` and `steps_per_second`.
        """
        self._bar.set_postfix(loss=f"{row['loss']:.4g}")
        now = time.monotonic()
        if self._lines and (now - self._last > self._seconds or number == self._steps):
            self._last = now
            print(
                f"step {number} of {self._steps}, loss {row['loss']:.4g}, "
                f"{row['steps_per_second']:.3g} steps a second",
                file=sys.stderr,
                flush=True,
            )


def _faults(row: Mapping[str, Any]) -> list[str]:
    return [name for name in ("loss", "grad_norm") if not math.isfinite(row[name])]


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan


def _has_screen() -> bool:
    """Tells whether the standard error can move its cursor: a terminal, a notebook."""
    return sys.stderr.isatty() or "ipykernel" in type(sys.stderr).__module__
