"""The folder of a training run: its checkpoints, its logs, and what it refuses.

It is the part of `jaxflow.train.fit` that touches the disk.
"""

import contextlib
import functools
import json
import math
import os
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jaxflow import checkpoint, reporting, restoring, run_record, weights
from jaxflow import mesh as meshes
from jaxflow.io import files, folders, locks

Row = reporting.Row


class Run:
    """The folder of one training run; use it in a `with` block.

    Attributes:
        saved: The newest step that it holds, as far as is known; None if it is none.

    Args:
        workdir: The folder; None keeps nothing.
        batches: Where batches come from; its position is in the checkpoints.
        best: Metric whose best checkpoint is kept.
        best_mode: Whether "min" or "max" is best.
        record: What identifies the model.
        config: What identifies the run, as plain values; see `jaxflow.train.fit`.
        defaults: What fields of `config` are where a record lacks them; likewise.

    Raises:
        ValueError: If `config` or `defaults` hold something else.
    """

    def __init__(
        self,
        workdir: str | os.PathLike | None,
        *,
        batches: Iterator | None = None,
        best: str = "loss",
        best_mode: str = "min",
        record: Mapping[str, Any] = types.MappingProxyType({}),
        config: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] = types.MappingProxyType({}),
    ):
        if workdir is not None:
            folders.check_target("`workdir`", workdir)
        self.folder = None if workdir is None else folders.folder(workdir)
        self._config = None if config is None else run_record.plain(config)
        self._defaults = {
            "config": run_record.plain(defaults, argument="defaults"),
            "model": {"config": weights.default_config(record)},
        }
        self._batches: Any = batches
        self._ranking: Any = {"best": best, "best_mode": best_mode}
        self._record = dict(record)
        self._checkpoints: checkpoint.Checkpoints | None = None
        self.saved: int | None = None
        self._saved_at = time.monotonic()
        self._board: reporting.Board | None = None
        self._kept: run_record.Record | None = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Run":
        if self.folder is not None:
            with contextlib.ExitStack() as entered:
                meshes.together(lambda: self._lock(entered), OSError)
                self._checkpoints = entered.enter_context(
                    checkpoint.Checkpoints(
                        self.folder / "checkpoints",
                        record=self._record,
                        **self._ranking,
                    )
                )
                self._exit = entered.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._exit.callback(self._board.close)
        self._exit.__exit__(kind, error, trace)

    def _lock(self, entered: contextlib.ExitStack) -> None:
        """Keeps other runs out of the folder until this one ends."""
        assert self.folder is not None
        if jax.process_index() != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not entered.enter_context(locks.held(self.folder / "run.lock")):
            _say(
                f"{self.folder}: there are no locks on this storage; start no second "
                "run in this folder"
            )

    def start(
        self, state: Any, *, steps: int, resume: bool = True, is_blank: bool = False
    ) -> Any:
        """Returns the state to go on from.

        Args:
            state: The state given; its `step` is the number of steps taken.
            steps: Number of the last step.
            resume: Whether the newest state that was saved takes its place.
            is_blank: Whether the state given was used up, and has no values.

        Raises:
            ValueError: If something is known to fail later; if nothing is left to do
                because more steps were taken already; if the folder is that of another
                run; or if there is no state.
        """
        self._check(None if resume else int(state.step))
        if self.folder is not None:
            self._kept = run_record.Record(
                self.folder, self._about(state, is_blank), defaults=self._defaults
            )
        found = self._resume(state) if resume else None
        if found is None and is_blank:
            raise ValueError(
                "`state` was used up by the step or the `fit` that it was given to, "
                f"and there is no checkpoint in {self.folder or '`workdir`, None,'} "
                "to go on from; pass the state that was returned, or make one with "
                "`train.init`"
            )
        state = state if found is None else found
        taken = int(state.step)
        if taken > steps:
            raise ValueError(
                f"`steps` is {steps}, but {self.folder or 'the state'} has taken "
                f"{taken} already; give more steps, or another `workdir`"
            )
        if self._checkpoints is not None and taken < steps:
            self._checkpoints.reserve(state)
        return state

    def open(self, taken: int, *, steps: int) -> None:
        """Opens the logs, notes the start, and says where it is unless at step 0.

        Args:
            taken: Steps taken before; what the logs have of later ones is forgotten.
            steps: Number of the last step.
        """
        if taken == steps:
            _say(
                f"{self.folder or 'the state'}: all {steps} steps were taken before; "
                "nothing is trained"
            )
        elif self.saved is not None:
            _say(f"{self.folder}: goes on from step {taken}")
        self._open_logs(taken)
        if self._kept is not None:
            self._kept.note_start(taken)

    def check_program(self, step: Callable, *given: Any, mesh: Any) -> None:
        """Refuses a compiled step that is another than the run's.

        A run that has a `config` is judged by that alone.

        Args:
            step: The compiled step.
            *given: What it is given.
            mesh: The devices that it runs on.

        Raises:
            ValueError: If it is another, by the same versions on the same devices.
        """
        if not hasattr(step, "lower"):
            return  # Somebody's own function that calls compiled ones.
        if self._kept is not None and self._config is None:
            text = step.lower(*given).as_text()  # type: ignore[attr-defined]
            devices = f"{mesh.devices.flat[0].device_kind} {dict(mesh.shape)}"
            self._kept.compare_program(run_record.program_of(text, devices=devices))

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
        try:
            with self._path.open("a") as file:
                file.write(files.json_text({"step": step, **row}) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if self._board is not None:
            self._board.add(step, row)

    def save(self, step: int, state: Any, row: Row | None = None) -> None:
        """Saves a checkpoint, unless this step has one.

        Without a row, or if what ranks it is not finite, it is no candidate for the
        best.

        Raises:
            ValueError: If the row lacks what ranks it; the step is saved then.
        """
        if self._checkpoints is None or step in (0, self.saved):
            return
        ranked = row is not None and math.isfinite(row.get(self._ranking["best"], 0))
        if row is not None and self._ranking["best"] not in row:
            self.save(step, state)
            self._checkpoints.wait()
            self.check_best(row)
        data = {}
        if hasattr(self._batches, "get_state"):
            data["position"] = self._position()
        self._checkpoints.save(step, state, data=data, metrics=row if ranked else None)
        self.saved, self._saved_at = step, time.monotonic()

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
        if self._batches is None:
            return
        if hasattr(self._batches, "get_state"):
            self._position()
        else:
            warnings.warn(
                "`batches` has no get_state and set_state, so this run cannot be "
                "resumed; a Grain iterator has them",
                stacklevel=4,
            )

    def _resume(self, state: Any) -> Any:
        """Returns the newest state that this run saved; None if there is none."""
        if self._checkpoints is None or not self._checkpoints.steps():
            return None
        assert self._kept is not None
        self._kept.compare()
        found = self._checkpoints.restore(state, newer=reporting.COUNTS)
        assert found is not None
        state, data = found
        self._kept.compare_weights(state.params)
        self.saved = int(state.step)
        if self._batches is not None:
            meshes.together(lambda: self._place_batches(data), ValueError)
        return state

    def _about(self, state: Any, is_blank: bool) -> dict[str, Any]:
        """Returns what the run is, as far as its state tells."""
        about = {"config": self._config, "model": self._record}
        if is_blank or int(state.step):
            return about
        about["key"] = run_record.key_of(state.key)
        if self._config is None:
            about["weights"] = run_record.sketch(state.params)
        return about

    def _position(self) -> Any:
        """Returns where the batches are.

        Raises:
            ValueError: If that cannot be kept in a checkpoint.
        """
        position = self._batches.get_state()
        try:
            json.dumps(restoring.plain(position))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`batches`: what get_state returns must be plain values, which JSON "
                f"can hold: {error}"
            ) from None
        return position

    def _place_batches(self, data: Mapping[str, Any]) -> None:
        """Returns the batches to where the checkpoint left them."""
        if not hasattr(self._batches, "set_state") or "position" not in data:
            raise ValueError(
                "`batches` cannot return to where the checkpoint left it: it "
                "has no get_state and set_state; use a Grain iterator"
            )
        saved, own = (
            _count_workers(position)
            for position in (data["position"], self._batches.get_state())
        )
        if saved != own:  # Grain would go on, with other elements.
            raise self._misplaced(ValueError(f"{saved} workers then, {own} now"))
        try:
            self._batches.set_state(data["position"])
        except Exception as error:  # each iterator has errors of its own
            raise self._misplaced(error) from error

    def next_batch(self, *, first: bool) -> Any:
        """Returns the next batch; None if there is no more.

        Args:
            first: Whether it is the first that is taken. Some iterators notice only
                then that the position that they were given is not one of theirs.

        Raises:
            ValueError: If they do.
        """
        try:
            return next(self._batches, None)
        except (LookupError, TypeError, AttributeError) as error:
            if first and self.saved is not None:
                raise self._misplaced(error) from error
            raise

    def _misplaced(self, error: Exception) -> ValueError:
        what = f"{type(error).__name__}: {error}".strip().split("\n")[0][:200]
        return ValueError(
            f"`batches` cannot return to where step {self.saved} left it ({what}); "
            "give the data, batch size and number of workers that it was saved with"
        )

    def _open_logs(self, step: int) -> None:
        """Opens the logs; forgets what an interrupted run wrote after `step`."""
        if self.folder is None or jax.process_index() != 0:
            return
        self._path = self.folder / "metrics.jsonl"
        found = self._path.read_bytes() if self._path.exists() else b""
        rows = found.decode(errors="replace").splitlines()
        kept = "".join(f"{row}\n" for row in rows if _step_of(row) <= step).encode()
        if kept != found:
            write = self._path.write_bytes
            if not folders.is_remote(self._path):
                write = functools.partial(files.write_bytes, self._path)
            write(kept)
        self._board = reporting.Board(self.folder / "tensorboard", step=step)


def _count_workers(position: Any) -> int:
    """Returns how many worker processes a position of Grain's is of; else 0."""
    ended = position.get("exhausted") if isinstance(position, Mapping) else None
    return len(ended) if hasattr(ended, "__len__") else 0  # type: ignore[arg-type]


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


def _step_of(row: str) -> float:
    """Returns the step of a logged row; of one that is torn, infinity."""
    try:
        return json.loads(row)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
