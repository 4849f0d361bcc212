"""The folder of a training run: its checkpoints, its logs, and what it refuses.

It is the part of `jaxflow.train.fit` that touches the disk.
"""

import json
import math
import os
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jaxflow import checkpoint, reporting
from jaxflow import mesh as meshes
from jaxflow.io import files, folders

Row = reporting.Row


class Run:
    """The folder of one training run; use it in a `with` block.

    Args:
        workdir: The folder; None keeps nothing.
        batches: Where batches come from; its position is in the checkpoints.
        best: Metric whose best checkpoint is kept.
        best_mode: Whether "min" or "max" is best.
        record: What identifies the model.
    """

    def __init__(
        self,
        workdir: str | os.PathLike | None,
        *,
        batches: Iterator | None = None,
        best: str = "loss",
        best_mode: str = "min",
        record: Mapping[str, Any] = types.MappingProxyType({}),
    ):
        if workdir is not None:
            folders.check_target("`workdir`", workdir)
        self.folder = None if workdir is None else folders.folder(workdir)
        self._batches: Any = batches
        self._ranking: Any = {"best": best, "best_mode": best_mode}
        self._record = dict(record)
        self._checkpoints: checkpoint.Checkpoints | None = None
        self._saved: int | None = None
        self._saved_at = time.monotonic()
        self._board: Any = None

    def __enter__(self) -> "Run":
        if self.folder is not None:
            self._checkpoints = checkpoint.Checkpoints(
                self.folder / "checkpoints", record=self._record, **self._ranking
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._checkpoints is not None:
            self._checkpoints.__exit__(kind, error, trace)
        if self._board is not None:
            self._board.close()

    def start(self, state: Any, *, steps: int, resume: bool) -> Any:
        """Returns the state to go on from, and opens the logs.

        Args:
            state: The state given; its `step` is the number of steps taken.
            steps: Number of the last step.
            resume: Whether the newest state that was saved takes its place.

        Raises:
            ValueError: If something is known to fail later, or nothing is left to do
                because more steps were taken already.
        """
        self._check(None if resume else int(state.step))
        if resume:
            state = self._resume(state)
        taken = int(state.step)
        if taken > steps:
            raise ValueError(
                f"`steps` is {steps}, but {self.folder or 'the state'} has taken "
                f"{taken} already; give more steps, or another `workdir`"
            )
        self._open_logs(taken)
        return state

    def check_best(self, names: Mapping[str, Any]) -> None:
        """Refuses a `best` that is not among the metrics.

        Raises:
            ValueError: If it is not, and the run keeps checkpoints.
        """
        best = self._ranking["best"]
        if self._checkpoints is not None and best not in names:
            raise ValueError(
                f"`best` is {best!r}, which is not among the metrics {sorted(names)}"
            )

    def log(self, step: int, row: Row) -> None:
        """Writes one row of metrics."""
        if self.folder is None or jax.process_index() != 0:
            return
        with self._path.open("a") as file:
            file.write(files.json_text({"step": step, **row}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def save(self, step: int, state: Any, row: Row | None = None) -> None:
        """Saves a checkpoint, unless this step has one.

        Without a row, or if what ranks it is not finite, it is no candidate for the
        best.

        Raises:
            ValueError: If the row lacks what ranks it; the step is saved then.
        """
        if self._checkpoints is None or step in (0, self._saved):
            return
        ranked = row is not None and math.isfinite(row.get(self._ranking["best"], 0))
        if row is not None and self._ranking["best"] not in row:
            self.save(step, state)
            self._checkpoints.wait()
            self.check_best(row)
        data = {}
        if hasattr(self._batches, "get_state"):
            data["position"] = self._batches.get_state()
        self._checkpoints.save(step, state, data=data, metrics=row if ranked else None)
        self._saved, self._saved_at = step, time.monotonic()

    def settle(self, step: int, state: Any, window: reporting.Window) -> None:
        """Logs and saves what was done since the last time, before the run ends.

        Raises:
            FloatingPointError: If the newest steps were not finite; nothing is saved.
        """
        row = window.close(step)
        if row:
            self.log(step, row)
        self.save(step, state)

    def overdue(self, minutes: float) -> bool:
        """Tells whether the last checkpoint, or the beginning, is so long ago."""
        ago = time.monotonic() - self._saved_at
        return any(meshes.gather(ago > 60 * minutes))

    def judge(
        self, evaluate: Callable[[Any], Mapping[str, Any]], step: int, state: Any
    ) -> Row:
        """Returns what `evaluate` finds, as numbers; if it fails the state is saved."""
        try:
            return {name: float(value) for name, value in evaluate(state).items()}
        except BaseException:
            self.save(step, state)
            raise

    def _check(self, start: int | None) -> None:
        """Refuses what is known to fail later, before anything is computed."""
        if self._checkpoints is None:
            return
        kept = self._checkpoints.steps()
        if start is not None and kept and start < kept[-1]:
            raise ValueError(
                f"`workdir` {self.folder} holds steps {kept}, later than the state's "
                f"{start}; resume them, or choose another folder"
            )
        if self._batches is not None and not hasattr(self._batches, "get_state"):
            warnings.warn(
                "`batches` has no get_state and set_state, so this run cannot be "
                "resumed; a Grain iterator has them",
                stacklevel=4,
            )

    def _resume(self, state: Any) -> Any:
        """Returns the newest state that was saved, or the one given."""
        found = (
            None
            if self._checkpoints is None
            else self._checkpoints.restore(state, newer=reporting.COUNTS)
        )
        if found is None:
            return state
        state, data = found
        self._saved = int(state.step)
        if self._batches is not None:
            if not hasattr(self._batches, "set_state") or "position" not in data:
                raise ValueError(
                    "`batches` cannot return to where the checkpoint left it: it "
                    "has no get_state and set_state; use a Grain iterator"
                )
            self._batches.set_state(data["position"])
        return state

    def _open_logs(self, step: int) -> None:
        """Opens the logs; forgets what an interrupted run wrote after `step`."""
        if self.folder is None or jax.process_index() != 0:
            return
        self._path = self.folder / "metrics.jsonl"
        rows = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [row for row in rows if _step_of(row) <= step]
        self._path.write_text("".join(f"{row}\n" for row in kept))
        try:
            import tensorboardX
        except ImportError:
            return
        folder = str(self.folder / "tensorboard")
        self._board = tensorboardX.SummaryWriter(folder, purge_step=step + 1)


def _step_of(row: str) -> float:
    """Returns the step of a logged row; of one that is torn, infinity."""
    try:
        return json.loads(row)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
