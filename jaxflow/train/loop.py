"""The loop over the steps of a run, which a folder keeps."""

import contextlib
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax

from jaxflow import _checks, reporting, runs, stopping
from jaxflow import mesh as meshes
from jaxflow.train.compiled import Step
from jaxflow.train.state import TrainState, strong
from jaxflow.train.step import Batch

Evaluate = Callable[[TrainState], Mapping[str, float]]


def fit(
    step: Step,
    state: TrainState,
    batches: Iterator[Batch] | None = None,
    *,
    steps: int,
    workdir: str | os.PathLike | None = None,
    log_every: int = 10,
    save_every: int = 1000,
    save_minutes: float = 10.0,
    evaluate: Evaluate | None = None,
    best: str = "loss",
    best_mode: Literal["min", "max"] = "min",
    resume: bool = True,
    config: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
    progress: bool = True,
) -> TrainState:
    """Trains until `steps` steps have been taken in all.

    With a `workdir` it resumes from the newest checkpoint there, writes one every
    `save_every` steps and at the end, and logs to `metrics.jsonl` and, if tensorboardX
    is installed, to TensorBoard files: calling it again with the same arguments goes on
    where it was stopped. `run.json` there records what the run is, and when, where and
    by what command it was begun and resumed. Another run has to have another folder:
    only one trains in a folder at a time, and what goes on there is compared with the
    record.

    Args:
        step: From `make_step`.
        state: From `init`; used up. One that was used up before is as good where
            `workdir` has a checkpoint to go on from.
        batches: An iterator of trees of NumPy arrays, unless the step draws its own.
            With several processes each gives its share. If it has `get_state` and
            `set_state` (Grain's do) its position is in the checkpoint.
        steps: Number of the last step.
        workdir: Folder for checkpoints and logs; None keeps nothing.
        log_every: Steps that each logged row averages over.
        save_every: Steps between checkpoints.
        save_minutes: A row that is logged so long after the last checkpoint is followed
            by one, which is not judged.
        evaluate: Run at each checkpoint of `save_every`; its metrics, any scalars, are
            logged with the loss. See `averaged` for the average of the weights.
        best: Metric whose best checkpoint is kept.
        best_mode: Whether the lowest ("min") or the highest ("max") is best.
        resume: Whether a checkpoint in `workdir` takes the place of `state`.
        config: What identifies the run: numbers, text, paths and so on, by name; it is
            recorded, and a run of another config does not go on in the same folder.
            Without it the weights that a run begins with are compared, and, as long as
            versions and devices are the same, the compiled step.
        defaults: What fields of `config` are where the record of a run lacks them, so
            that a run that was begun before there was such an option goes on.
        progress: Whether to show a progress bar, or, where the standard error is no
            terminal, a line every minute.

    Returns:
        The state after the last step.

    Raises:
        FloatingPointError: If loss or gradient are not finite; it names the step.
        ValueError: If a batch does not divide over the devices, or `batches` is absent,
            ends, or cannot return to the position of the checkpoint; if more than
            `steps` steps were taken already; if `workdir` is used and `resume` is
            False, or holds another run; if `state` is used up and there is no
            checkpoint; or if `best` is not among the metrics.
        OSError: If another run is at work in `workdir`, or nothing can be written
            there.
        KeyboardInterrupt: After Ctrl-C, at the end of the step, which is saved; a note
            of the error says which it is, and where.
        SystemExit: After SIGTERM, likewise; its code is 143.

    Examples:
        >>> import itertools
        >>> import optax
        >>> from flax import nnx
        >>> model, optimiser = nnx.Linear(1, 1, rngs=nnx.Rngs(0)), optax.sgd(0.25)
        >>> step = jaxflow.train.make_step(
        ...     model,
        ...     lambda model, x: jnp.mean((model(x) - 3 * x) ** 2),
        ...     optimiser,
        ... )
        >>> state = jaxflow.train.init(model, optimiser)
        >>> batches = itertools.repeat(np.ones((8, 1), np.float32))
        >>> state = jaxflow.train.fit(step, state, batches, steps=3, progress=False)
        >>> round(jaxflow.train.finish(model, state)(jnp.ones((1, 1))).item(), 3)
        3.0
    """
    _check_arguments(step, batches, log_every, save_every, best_mode)
    is_blank = meshes.is_used_up(state)
    state = meshes.blank(state) if is_blank else strong(state)
    state = meshes.place(state, step.shardings or meshes.everywhere(step.mesh))
    if step.draws and hasattr(step.run, "lower"):
        jax.eval_shape(step.run, state)  # What is wrong with it leaves no folder.
    run = runs.Run(
        workdir,
        batches=batches,
        best=best,
        best_mode=best_mode,
        record=step.record,
        config=config,
        defaults=defaults,
    )
    pace = Pace(steps, log_every, save_every, save_minutes)
    with _noting(run), stopping.Stop() as stop, run:
        state = run.start(state, steps=steps, resume=resume, is_blank=is_blank)
        taken = int(state.step)
        if step.draws:
            run.check_program(step.run, state, mesh=step.mesh)
        run.open(taken, steps=steps)
        visible = progress and jax.process_index() == 0
        with reporting.Progress(taken, steps, shown=visible) as shown:
            return _take_steps(step, state, run, stop, shown, pace, evaluate)


@contextlib.contextmanager
def _noting(run: runs.Run) -> Iterator[None]:
    """Adds to what stops the process which step was saved."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        if run.saved:
            stop.add_note(f"step {run.saved} is saved in {run.folder}")
        raise


class Pace(NamedTuple):
    """When a run logs, saves and ends; see `fit`."""

    steps: int
    log_every: int
    save_every: int
    save_minutes: float

    def saves(self, number: int) -> bool:
        """Tells whether a step is followed by a checkpoint that is judged."""
        return number % self.save_every == 0 or number == self.steps

    def logs(self, number: int) -> bool:
        """Tells whether a step is followed by a row of the log."""
        return self.saves(number) or number % self.log_every == 0


def _take_steps(
    step: Step,
    state: TrainState,
    run: runs.Run,
    stop: stopping.Stop,
    shown: reporting.Progress,
    pace: Pace,
    evaluate: Evaluate | None,
) -> TrainState:
    """Takes the steps that are left, and returns the state after the last."""
    window = reporting.Window(step.patience)
    alone = jax.process_count() == 1
    begin = int(state.step) + 1
    for number in range(begin, pace.steps + 1):
        batch = _next(step, run, first=number == begin)
        if batch is None:
            run.settle(number - 1, state, window)
            raise ValueError(
                f"`batches` ended before step {number} of {pace.steps}; repeat the "
                "data, or give fewer `steps`"
            )
        if number == begin:
            _compare(step, run, state, batch, is_judged=evaluate is not None)
        state, metrics = step.run(state, *batch)
        window.add(metrics)
        shown.step()
        if pace.logs(number):
            row = window.close(number)
            shown.show(number, row)
            _keep(run, number, state, row, evaluate, pace)
        # Several processes must stop after one and the same step.
        if alone or window.is_empty:
            _leave_if_told(stop, run, number, state, window)
    return state


def _check_arguments(
    step: Step, batches: Any, log_every: int, save_every: int, best_mode: str
) -> None:
    """Refuses what `fit` cannot do."""
    if step.draws == (batches is not None):
        raise ValueError(
            "`batches` must be given exactly if the step draws none itself"
        )
    if batches is not None and not hasattr(batches, "__next__"):
        raise ValueError(
            f"`batches` must be an iterator, such as iter(loader); got a "
            f"{type(batches).__name__}"
        )
    _checks.positive("log_every", log_every)
    _checks.positive("save_every", save_every)
    _checks.one_of("best_mode", best_mode, ("min", "max"))


def _next(step: Step, run: runs.Run, *, first: bool) -> tuple | None:
    """Returns what a step takes beside the state; None if there is no more."""
    if step.draws:
        return ()
    batch = run.next_batch(first=first)
    return None if batch is None else (meshes.shard_batch(batch, step.mesh),)


def _compare(
    step: Step, run: runs.Run, state: TrainState, batch: tuple, *, is_judged: bool
) -> None:
    """Compares the run with its folder, as soon as there is a batch to do it with."""
    if not is_judged:
        run.check_best(jax.eval_shape(step.run, state, *batch)[1])
    if not step.draws:
        run.check_program(step.run, state, *batch, mesh=step.mesh)


def _keep(
    run: runs.Run,
    number: int,
    state: TrainState,
    row: reporting.Row,
    evaluate: Evaluate | None,
    pace: Pace,
) -> None:
    """Logs a row, and saves where it is time to; `evaluate` adds to the row."""
    saves = pace.saves(number)
    if saves and evaluate is not None:
        row |= run.judge(evaluate, number, state)
    run.log(number, row)
    if saves or run.overdue(pace.save_minutes):
        run.save(number, state, row if saves else None)


def _leave_if_told(
    stop: stopping.Stop,
    run: runs.Run,
    number: int,
    state: TrainState,
    window: reporting.Window,
) -> None:
    """Saves and leaves if this process or another was sent a signal."""
    signals = [found for found in meshes.gather(stop.signal) if found]
    if signals:
        stop.signal = signals[0]
        run.settle(number, state, window)
        stop.leave()
