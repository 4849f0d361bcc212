"""Training: a pure step, compiled once over a mesh of devices, and a short loop.

    state = train.init(model, optimiser, seed=0)
    step = train.make_step(model, loss, optimiser, draw=draw)
    state = train.fit(step, state, steps=1000, workdir="runs/one")
    train.finish(model, state)

A batch either comes out of `draw`, a function of a random key that runs inside the step
on the devices, or out of an iterator given to `fit`. Random keys derive from (seed,
step), so a run that was stopped and resumed is the same run, bit for bit. Everything
here is meant to be read and forked.
"""

import json
import math
import os
import pathlib
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from flax import nnx
from jax.sharding import Mesh

from jaxflow import checkpoint, stopping, weights
from jaxflow import mesh as meshes
from jaxflow.io import files
from jaxflow.layers import dropout
from jaxflow.mesh import data_mesh as data_mesh
from jaxflow.mesh import shard_batch as shard

Batch = Any
Metrics = dict[str, jax.Array]
Loss = Callable[[Any, Batch], jax.Array | tuple[jax.Array, Metrics]]
Rebuild = Callable[[dict, dict, jax.Array], nnx.Module]


class TrainState(NamedTuple):
    """All that changes during training, and all that a checkpoint holds.

    Attributes:
        step: Number of steps taken, int32.
        params: Parameters, as a nested dict.
        stats: Running statistics of normalisation layers, as a nested dict.
        opt_state: State of the optimiser.
        key: The run's random key; a step uses it folded with its number.
    """

    step: jax.Array
    params: dict
    stats: dict
    opt_state: Any
    key: jax.Array


class Step(NamedTuple):
    """A compiled training step.

    Attributes:
        run: (state, batch) -> (state, metrics), or (state) -> (state, metrics) if the
            step draws its own batch. The state given is used up (donated).
        mesh: The devices that it runs on.
        draws: Whether the step draws its own batch.
        record: What identifies the model, for the checkpoints of a run.
        shardings: Where each array of the state is, or one sharding for all.
    """

    run: Callable[..., tuple[TrainState, Metrics]]
    mesh: Mesh
    draws: bool
    record: Mapping[str, Any] = types.MappingProxyType({})
    shardings: Any = None


def init(
    model: nnx.Module, optimiser: optax.GradientTransformation, *, seed: int = 0
) -> TrainState:
    """Returns the state before the first step.

    Args:
        model: Gives the initial weights; they are copied.
        optimiser: Any optax transformation.
        seed: Determines everything random in the run but the initial weights.
    """
    weights = _copy(checkpoint.weights_of(model))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=weights["params"],
        stats=weights["stats"],
        opt_state=jax.jit(optimiser.init)(weights["params"]),
        key=jax.random.key(seed),
    )


def finish(model: nnx.Module, state: TrainState) -> nnx.Module:
    """Writes the trained weights into `model`, puts it in evaluation mode, returns it.

    Args:
        model: The model that was trained.
        state: The state after training.
    """
    weights = {"params": state.params, "stats": state.stats}
    leaves = jax.tree.leaves(weights)
    if any(len(leaf.sharding.device_set) > 1 for leaf in leaves):
        weights = meshes.on_host(weights)
    checkpoint.fill(model, _copy(weights))
    model.eval()
    return model


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def separate(model: nnx.Module) -> Rebuild:
    """Returns a pure function from arrays to a model in training mode.

    It is the only place where training meets Flax: (params, stats, key) -> model, with
    whatever the model draws, such as its dropout, drawn from `key`: a loss calls
    ``model(x)`` and need not pass a key on.

    Args:
        model: Gives the architecture; it is not changed.
    """
    model = nnx.merge(*nnx.split(model), copy=True)
    model.train()
    graph, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)

    def filled(state, values):
        state = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(state, values)
        return state

    def rebuild(new_params: dict, new_stats: dict, key: jax.Array) -> nnx.Module:
        states = (filled(params, new_params), filled(stats, new_stats), rest)
        fresh = nnx.merge(graph, *states, copy=True)
        dropout.seed(fresh, key)
        return fresh

    return rebuild


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    rebuild: Rebuild,
    loss: Loss,
    optimiser: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """Takes one step of gradient descent; a pure function.

    Args:
        state: The state before it.
        batch: What `loss` takes.
        rebuild: From `separate`.
        loss: (model, batch) -> scalar, or (scalar, {name: scalar}).
        optimiser: The transformation that `state` was made with.

    Returns:
        The state after it, and {"loss", "grad_norm", and what `loss` adds}.
    """
    _, key = step_keys(state)

    def objective(params):
        model = rebuild(params, state.stats, key)
        value = loss(model, batch)
        value, extra = value if isinstance(value, tuple) else (value, {})
        stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return value, (extra, stats)

    slope = jax.value_and_grad(objective, has_aux=True)
    (value, (extra, stats)), gradient = slope(state.params)
    # Adam's decay ** count mixes types, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(gradient), **extra}
    params: Any = optax.apply_updates(state.params, updates)
    after = TrainState(state.step + 1, params, stats, opt_state, state.key)
    return after, metrics


def step_keys(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """Returns the random keys of the coming step: for its data, and for its dropout."""
    data, dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
    return data, dropout


def make_step(
    model: nnx.Module,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    *,
    draw: Callable[[jax.Array], Batch] | None = None,
    augment: Callable[[jax.Array, Batch], Batch] | None = None,
    mesh: Mesh | None = None,
    shard_params: bool = False,
) -> Step:
    """Compiles `train_step`: state donated, batch split over the mesh.

    Args:
        model: Gives the architecture.
        loss: (model, batch) -> scalar, or (scalar, {name: scalar}). Means over the
            batch are over all devices, those of batch normalisation included.
        optimiser: The transformation that the state was made with.
        draw: Random key -> batch, run inside the step; None if batches are given.
        augment: (random key, batch) -> batch, run inside the step on given batches.
        mesh: From `data_mesh`; None takes every device, of all processes. With an axis
            "height" the rows of pictures, arrays of four axes or more, are split too.
        shard_params: Whether each device keeps a part of the weights and of the
            optimiser's state, as `jaxflow.mesh.state_shardings` says, instead of all.

    Returns:
        The step. The first axis of each array of a batch must be a multiple of the
        number of devices along "data"; that is a ValueError when it runs.

    Raises:
        ValueError: If `mesh` has other axes.
    """
    mesh = data_mesh() if mesh is None else meshes.checked(mesh)
    places: Any = meshes.everywhere(mesh)
    if shard_params:
        blank = jax.eval_shape(lambda: init(model, optimiser))
        places = meshes.state_shardings(blank, mesh)
    parts: dict[str, Any] = {"loss": loss, "optimiser": optimiser}
    parts["rebuild"] = separate(model)

    def given(state: TrainState, batch: Batch):
        if augment is not None:
            batch = augment(step_keys(state)[0], batch)
        batch = meshes.constrain_batch(batch, mesh)
        return train_step(state, batch, **parts)

    def drawn(state: TrainState):
        batch = draw(step_keys(state)[0])  # type: ignore[misc]
        batch = meshes.constrain_batch(batch, mesh)
        return train_step(state, batch, **parts)

    run = jax.jit(
        given if draw is None else drawn,
        in_shardings=(places, None) if draw is None else (places,),
        out_shardings=(places, meshes.everywhere(mesh)),
        donate_argnums=0,
    )
    return Step(run, mesh, draw is not None, weights.record_of(model), places)


def fit(
    step: Step,
    state: TrainState,
    batches: Iterator[Batch] | None = None,
    *,
    steps: int,
    workdir: str | os.PathLike | None = None,
    log_every: int = 10,
    save_every: int = 1000,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    best: str = "loss",
    resume: bool = True,
    progress: bool = True,
) -> TrainState:
    """Trains until `steps` steps have been taken in all.

    With a `workdir` it resumes from the newest checkpoint there, writes one every
    `save_every` steps and at the end, and logs to `metrics.jsonl` and, if tensorboardX
    is installed, to TensorBoard files: calling it again with the same arguments goes on
    where it was stopped.

    Args:
        step: From `make_step`.
        state: From `init`; used up.
        batches: An iterator of trees of NumPy arrays, unless the step draws its own.
            With several processes each gives its share. If it has `get_state` and
            `set_state` (Grain's do) its position is in the checkpoint.
        steps: Number of the last step.
        workdir: Folder for checkpoints and logs; None keeps nothing.
        log_every: Steps that each logged row averages over.
        save_every: Steps between checkpoints.
        evaluate: Run at each checkpoint; its metrics are logged with the loss.
        best: Metric, lower is better, whose best checkpoint is kept.
        resume: Whether a checkpoint in `workdir` takes the place of `state`.
        progress: Whether to show a progress bar.

    Returns:
        The state after the last step.

    Raises:
        FloatingPointError: If loss or gradient are not finite; it names the step.
        ValueError: If a batch does not divide over the devices, or `batches` is absent,
            ends, or cannot return to the position of the checkpoint; if more than
            `steps` steps were taken already; if `workdir` is used and `resume` is
            False; or if `best` is not among the metrics.
        KeyboardInterrupt: After Ctrl-C, at the end of the step, which is saved.
        SystemExit: After SIGTERM, likewise; its code is 143.
    """
    if step.draws == (batches is not None):
        raise ValueError(
            "`batches` must be given exactly if the step draws none itself"
        )
    state = meshes.place(state, step.shardings)
    alone = jax.process_count() == 1
    shown = progress and jax.process_index() == 0
    with _Run(workdir, best, step.record) as run, stopping.Stop() as stop:
        run.check(batches, None if resume else int(state.step))
        if resume:
            state = run.resume(state, batches)
        start = int(state.step)
        if start > steps:
            raise ValueError(
                f"`steps` is {steps}, but {workdir or 'the state'} has taken {start} "
                "already; give more steps, or another `workdir`"
            )
        run.open_logs(start)
        window: list[Metrics] = []
        began = time.perf_counter()
        bar = tqdm.tqdm(total=steps, initial=start, disable=not shown, unit="step")
        for number in range(start + 1, steps + 1):
            if batches is None:
                state, metrics = step.run(state)
            else:
                batch = next(batches, None)
                if batch is None:
                    run.save(number - 1, state, batches)
                    raise ValueError(
                        f"`batches` ended before step {number} of {steps}; repeat the "
                        "data, or give fewer `steps`"
                    )
                state, metrics = step.run(state, shard(batch, step.mesh))
            window.append(metrics)
            bar.update()
            saves = number % save_every == 0 or number == steps
            if number % log_every == 0 or saves:
                row = _mean_of_finite(window, number)
                seconds = time.perf_counter() - began
                row["steps_per_second"] = len(window) / seconds
                bar.set_postfix(loss=f"{row['loss']:.4g}")
                if saves and evaluate is not None:
                    row |= run.judge(evaluate, number, state, batches)
                run.log(number, row)
                if saves:
                    run.save(number, state, batches, row)
                window, began = [], time.perf_counter()
            # Several processes must stop after one and the same step.
            if alone or not window:
                signals = [found for found in meshes.gather(stop.signal) if found]
                if signals:
                    stop.signal = signals[0]
                    run.save(number, state, batches)
                    stop.leave()
        bar.close()
    return state


def _mean_of_finite(window: list[Metrics], last: int) -> dict[str, float]:
    """Fetches the metrics of the newest steps and averages them.

    Raises:
        FloatingPointError: If a loss or a gradient is not finite; it names the step.
    """
    rows = jax.device_get(window)
    for number, row in enumerate(rows, start=last - len(rows) + 1):
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row[name]):
                raise FloatingPointError(
                    f"{name} is {row[name]} at step {number}; training stopped. Lower "
                    "the learning rate or clip the gradients"
                )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class _Run:
    """The folder of one training run: checkpoints, a JSONL file, TensorBoard files."""

    def __init__(
        self,
        workdir: str | os.PathLike | None,
        best: str,
        record: Mapping[str, Any],
    ):
        self.folder = None if workdir is None else pathlib.Path(workdir)
        self.best = best
        self.record = record
        self.checkpoints: checkpoint.Checkpoints | None = None
        self.saved: int | None = None
        self.board: Any = None

    def __enter__(self) -> "_Run":
        if self.folder is not None:
            path = self.folder / "checkpoints"
            self.checkpoints = checkpoint.Checkpoints(
                path, best=self.best, record=dict(self.record)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self.checkpoints is not None:
            self.checkpoints.__exit__(kind, error, trace)
        if self.board is not None:
            self.board.close()

    def check(self, batches: Iterator | None, start: int | None) -> None:
        """Refuses what is known to fail later, before anything is computed."""
        if self.folder is None or self.checkpoints is None:
            return
        kept = self.checkpoints.steps()
        if start is not None and kept and start < kept[-1]:
            raise ValueError(
                f"`workdir` {self.folder} holds steps {kept}, later than the state's "
                f"{start}; resume them, or choose another folder"
            )
        if batches is not None and not hasattr(batches, "get_state"):
            warnings.warn(
                "`batches` has no get_state and set_state, so this run cannot be "
                "resumed; a Grain iterator has them",
                stacklevel=3,
            )

    def resume(self, state: TrainState, batches: Iterator | None) -> TrainState:
        """Returns the newest state that was saved, or the one given."""
        found = None if self.checkpoints is None else self.checkpoints.restore(state)
        if found is not None:
            state, data = found
            self.saved = int(state.step)
            if batches is not None:
                if not hasattr(batches, "set_state") or "position" not in data:
                    raise ValueError(
                        "`batches` cannot return to where the checkpoint left it: it "
                        "has no get_state and set_state; use a Grain iterator"
                    )
                batches.set_state(data["position"])  # type: ignore[attr-defined]
        return state

    def open_logs(self, step: int) -> None:
        """Opens the logs; forgets what an interrupted run wrote after `step`."""
        if self.folder is None or jax.process_index() != 0:
            return
        self.path = self.folder / "metrics.jsonl"
        rows = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [row for row in rows if _step_of(row) <= step]
        self.path.write_text("".join(f"{row}\n" for row in kept))
        try:
            import tensorboardX
        except ImportError:
            return
        folder = str(self.folder / "tensorboard")
        self.board = tensorboardX.SummaryWriter(folder, purge_step=step + 1)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Writes one row of metrics."""
        if self.folder is None or jax.process_index() != 0:
            return
        with self.path.open("a") as file:
            file.write(files.json_text({"step": step, **row}) + "\n")
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, step)

    def save(
        self,
        step: int,
        state: TrainState,
        batches: Iterator | None,
        row: Mapping[str, float] | None = None,
    ) -> None:
        """Saves a checkpoint, unless this step has one; without a row, unranked."""
        if self.checkpoints is None or step in (0, self.saved):
            return
        if row is not None and self.best not in row:
            self.save(step, state, batches)
            self.checkpoints.wait()
            raise ValueError(
                f"`best` is {self.best!r}, which is not among the metrics "
                f"{sorted(row)}; step {step} was saved"
            )
        data = {}
        if hasattr(batches, "get_state"):
            data["position"] = batches.get_state()  # type: ignore[union-attr]
        metrics = None if row is None else dict(row)
        self.checkpoints.save(step, state, data=data, metrics=metrics)
        self.saved = step

    def judge(
        self,
        evaluate: Callable[[TrainState], Mapping[str, Any]],
        step: int,
        state: TrainState,
        batches: Iterator | None,
    ) -> dict[str, float]:
        """Returns what `evaluate` finds, as numbers; if it fails the state is saved."""
        try:
            return {name: float(value) for name, value in evaluate(state).items()}
        except BaseException:
            self.save(step, state, batches)
            raise


def _step_of(row: str) -> float:
    """Returns the step of a logged row; of one that is torn, infinity."""
    try:
        return json.loads(row)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
