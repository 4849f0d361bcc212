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

import functools
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxflow import (
    _checks,
    averaging,
    checkpoint,
    reporting,
    runs,
    stopping,
    weights,
)
from jaxflow import mesh as meshes
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
        skipped: Number of them that were skipped, because loss or gradient were not
            finite, int32.
        skipped_in_a_row: Number of them since the last that was not, int32.
        key: The run's random key; a step uses it folded with its number.
    """

    step: jax.Array
    params: dict
    stats: dict
    opt_state: Any
    skipped: jax.Array
    skipped_in_a_row: jax.Array
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
        patience: How many steps in a row may be skipped; None if none is.
    """

    run: Callable[..., tuple[TrainState, Metrics]]
    mesh: Mesh
    draws: bool
    record: Mapping[str, Any] = types.MappingProxyType({})
    shardings: Any = None
    patience: int | None = None


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
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        key=jax.random.key(seed),
    )


def finish(model: nnx.Module, state: TrainState) -> nnx.Module:
    """Writes the trained weights into `model`, puts it in evaluation mode, returns it.

    Args:
        model: The model that was trained.
        state: The state after training.

    Raises:
        ValueError: If the state was used up by a later step.
    """
    if meshes.is_used_up(state):
        raise ValueError(
            "`state` was used up by the step or the `fit` that it was given to; pass "
            "the state that was returned"
        )
    weights = {"params": state.params, "stats": state.stats}
    leaves = jax.tree.leaves(weights)
    if any(len(leaf.sharding.device_set) > 1 for leaf in leaves):
        weights = meshes.on_host(weights)
    checkpoint.fill(model, _copy(weights))
    model.eval()
    return model


def averaged(state: TrainState) -> TrainState:
    """Returns the state with the average of the weights in the place of the weights.

    So that a run is judged and ended by it:

        fit(step, state, evaluate=lambda state: score(averaged(state).params), ...)
        finish(model, averaged(state))

    Args:
        state: Of a run whose optimiser is of `averaging.averaged`.

    Raises:
        ValueError: If the optimiser keeps no average, or more than one.
    """
    return state._replace(params=averaging.average_of(state.opt_state))


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
    accumulate: int = 1,
    skip_nonfinite: bool = False,
) -> tuple[TrainState, Metrics]:
    """Takes one step of gradient descent; a pure function.

    Args:
        state: The state before it.
        batch: What `loss` takes.
        rebuild: From `separate`.
        loss: (model, batch) -> scalar, or (scalar, {name: scalar}).
        optimiser: The transformation that `state` was made with.
        accumulate: Parts of the batch that the gradient is averaged over.
        skip_nonfinite: Whether a step whose loss or gradient is not finite only counts.

    Returns:
        The state after it, and {"loss", "grad_norm", and what `loss` adds}; with
        `skip_nonfinite` also "skipped" and "skipped_in_a_row".

    Raises:
        ValueError: If a metric is no scalar, or the batch has no `accumulate` parts.
    """
    _, key = step_keys(state)
    objective = functools.partial(_objective, rebuild=rebuild, loss=loss)
    slope = jax.value_and_grad(objective, has_aux=True)
    if accumulate == 1:
        (value, (extra, stats)), gradient = slope(state.params, state.stats, batch, key)
    else:
        parts = split_batch(batch, accumulate)
        keys = jax.random.split(key, accumulate)
        (value, (extra, stats)), gradient = _accumulated(
            slope, state.params, state.stats, parts, keys
        )
    # Adam's decay ** count mixes types, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(gradient), **extra}
    params: Any = optax.apply_updates(state.params, updates)
    after = state._replace(
        step=state.step + 1, params=params, stats=stats, opt_state=opt_state
    )
    return _skipping(state, after, metrics) if skip_nonfinite else (after, metrics)


def _objective(
    params: dict, stats: dict, batch: Batch, key: jax.Array, *, rebuild, loss
) -> tuple[jax.Array, tuple[Metrics, dict]]:
    """Returns the loss; its metrics and the new statistics beside it."""
    model = rebuild(params, stats, key)
    value = loss(model, batch)
    value, extra = value if isinstance(value, tuple) else (value, {})
    for name, metric in extra.items():
        if jnp.shape(metric):
            raise ValueError(
                f"each metric of a loss must be a scalar; {name!r} has shape "
                f"{jnp.shape(metric)}"
            )
    return value, (extra, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))


def split_batch(batch: Batch, parts: int) -> Batch:
    """Deals a batch out to smaller ones, as cards are dealt: (B, ...) to (parts, ...).

    So that each device deals out its own examples, part i has i, i + parts, ...

    Raises:
        ValueError: If a first axis is no multiple of `parts`.
    """

    def deal(array):
        if not array.ndim or array.shape[0] % parts:
            raise ValueError(
                f"`accumulate` is {parts}, which does not divide a batch of "
                f"{array.shape[:1]}; make the batch a multiple of it"
            )
        return jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1)

    return jax.tree.map(deal, batch)


def _accumulated(slope: Callable, params: dict, stats: dict, parts: Batch, keys):
    """Averages what `slope` returns over parts of a batch, one after the other."""

    def add(carry, part):
        stats, total = carry
        (value, (extra, stats)), gradient = slope(params, stats, *part)
        return (stats, jax.tree.map(jnp.add, total, gradient)), (value, extra)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (stats, total), found = jax.lax.scan(add, (stats, zeros), (parts, keys))
    value, extra = jax.tree.map(jnp.mean, found)
    return (value, (extra, stats)), jax.tree.map(lambda x: x / len(keys), total)


def _skipping(
    before: TrainState, after: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """Returns `after`, or `before` but for its counts if the step was not finite."""
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
    counts = {
        "skipped": before.skipped + jnp.where(finite, 0, 1),
        "skipped_in_a_row": jnp.where(finite, 0, before.skipped_in_a_row + 1),
    }
    return kept._replace(step=after.step, **counts), {**metrics, **counts}


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
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    patience: int = 10,
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
        accumulate: Number of parts that a batch is split into, which go through the
            model one after the other: memory for one part, and the mean of their
            gradients, which is the gradient of the batch if the loss is a mean over
            its examples. Batch normalisation normalises each part by itself and moves
            its running statistics once a part. Metrics are means over the parts.
        skip_nonfinite: Whether a step whose loss or gradient is not finite changes
            neither weights, nor statistics, nor the optimiser, and is only counted, in
            the state and in the metrics "skipped" and "skipped_in_a_row". Without it
            `fit` stops at the first.
        patience: Number of steps skipped in a row at which `fit` stops.

    Returns:
        The step. The first axis of each array of a batch must be a multiple of
        `accumulate` times the number of devices along "data"; that is a ValueError when
        it runs.

    Raises:
        ValueError: If `mesh` has other axes, or `accumulate` or `patience` is less than
            1.
    """
    _checks.positive("accumulate", accumulate)
    _checks.positive("patience", patience)
    mesh = data_mesh() if mesh is None else meshes.checked(mesh)
    places: Any = meshes.everywhere(mesh)
    if shard_params:
        blank = jax.eval_shape(lambda: init(model, optimiser))
        places = meshes.state_shardings(blank, mesh)
    take = functools.partial(
        train_step,
        rebuild=separate(model),
        loss=loss,
        optimiser=optimiser,
        accumulate=accumulate,
        skip_nonfinite=skip_nonfinite,
    )

    def given(state: TrainState, batch: Batch):
        if augment is not None:
            batch = augment(step_keys(state)[0], batch)
        return take(state, meshes.constrain_batch(batch, mesh))

    def drawn(state: TrainState):
        batch = draw(step_keys(state)[0])  # type: ignore[misc]
        return take(state, meshes.constrain_batch(batch, mesh))

    run = jax.jit(
        given if draw is None else drawn,
        in_shardings=(places, None) if draw is None else (places,),
        out_shardings=(places, meshes.everywhere(mesh)),
        donate_argnums=0,
    )
    record = weights.record_of(model)
    return Step(
        run=run,
        mesh=mesh,
        draws=draw is not None,
        record=record,
        shardings=places,
        patience=patience if skip_nonfinite else None,
    )


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
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    best: str = "loss",
    best_mode: Literal["min", "max"] = "min",
    resume: bool = True,
    config: Mapping[str, Any] | None = None,
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
        KeyboardInterrupt: After Ctrl-C, at the end of the step, which is saved.
        SystemExit: After SIGTERM, likewise; its code is 143.
    """
    _check_arguments(step, batches, log_every, save_every, best_mode)
    is_blank = meshes.is_used_up(state)
    state = meshes.blank(state) if is_blank else state
    state = meshes.place(state, step.shardings)
    run = runs.Run(
        workdir,
        batches=batches,
        best=best,
        best_mode=best_mode,
        record=step.record,
        config=config,
    )
    with run, stopping.Stop() as stop:
        state = run.start(state, steps=steps, resume=resume, is_blank=is_blank)
        taken = int(state.step)
        if step.draws:
            run.check_program(step.run, state, mesh=step.mesh)
        run.open(taken, steps=steps)
        window = reporting.Window(step.patience)
        alone = jax.process_count() == 1
        visible = progress and jax.process_index() == 0
        with reporting.Progress(taken, steps, shown=visible) as shown:
            for number in range(taken + 1, steps + 1):
                first = number == taken + 1
                batch = _next(step, run, first=first)
                if batch is None:
                    run.settle(number - 1, state, window)
                    raise ValueError(
                        f"`batches` ended before step {number} of {steps}; repeat the "
                        "data, or give fewer `steps`"
                    )
                if first and evaluate is None:
                    run.check_best(jax.eval_shape(step.run, state, *batch)[1])
                if first and not step.draws:
                    run.check_program(step.run, state, *batch, mesh=step.mesh)
                state, metrics = step.run(state, *batch)
                window.add(metrics)
                shown.step()
                saves = number % save_every == 0 or number == steps
                if saves or number % log_every == 0:
                    row = window.close(number)
                    shown.show(number, row)
                    if saves and evaluate is not None:
                        row |= run.judge(evaluate, number, state)
                    run.log(number, row)
                    if saves or run.overdue(save_minutes):
                        run.save(number, state, row if saves else None)
                # Several processes must stop after one and the same step.
                if alone or window.is_empty:
                    signals = [found for found in meshes.gather(stop.signal) if found]
                    if signals:
                        stop.signal = signals[0]
                        run.settle(number, state, window)
                        stop.leave()
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
    return None if batch is None else (shard(batch, step.mesh),)
