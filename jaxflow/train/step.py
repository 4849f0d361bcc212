"""One step of gradient descent, a pure function of the state and a batch."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow.layers import dropout
from jaxflow.layers import remat as again
from jaxflow.train.state import TrainState

Batch = Any
Metrics = dict[str, jax.Array]
Loss = Callable[[Any, Batch], jax.Array | tuple[jax.Array, Metrics]]
Rebuild = Callable[[dict, dict, jax.Array], nnx.Module]


def separate(model: nnx.Module, *, remat: bool = False) -> Rebuild:
    """Returns a pure function from arrays to a model in training mode.

    It is the only place where training meets Flax: (params, stats, key) -> model, with
    whatever the model draws, such as its dropout, drawn from `key`: a loss calls
    ``model(x)`` and need not pass a key on.

    Args:
        model: Gives the architecture; it is not changed.
        remat: Whether the backward pass computes parts of the model again; see
            `layers.remat`.

    Raises:
        ValueError: If the model has no such part.

    Examples:
        >>> from flax import nnx
        >>> rebuild = jaxflow.train.separate(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
        >>> params = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([1.0])}
        >>> rebuild(params, {}, jax.random.key(0))(jnp.array([[3.0]])).item()
        7.0
    """
    model = nnx.merge(*nnx.split(model), copy=True)
    model.train()
    if remat:
        again.switch(model)
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
        ValueError: If `loss` returns something else, `state` was made with another
            optimiser, or the batch has no `accumulate` parts.

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> model, optimiser = nnx.Linear(1, 1, rngs=nnx.Rngs(0)), optax.sgd(0.25)
        >>> state = jaxflow.train.init(model, optimiser)
        >>> state, metrics = jaxflow.train.train_step(
        ...     state,
        ...     jnp.ones((4, 1)),
        ...     rebuild=jaxflow.train.separate(model),
        ...     loss=lambda model, x: jnp.mean((model(x) - 3 * x) ** 2),
        ...     optimiser=optimiser,
        ... )
        >>> round((state.params["kernel"][0] + state.params["bias"]).item(), 4)
        3.0
    """
    _check_optimiser(state, optimiser)
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


def _check_optimiser(
    state: TrainState, optimiser: optax.GradientTransformation
) -> None:
    """Raises if a state was made with an optimiser that keeps something else."""
    own = jax.tree.structure(jax.eval_shape(optimiser.init, state.params))
    if own != jax.tree.structure(state.opt_state):
        raise ValueError(
            "`state` was made with another optimiser than the step: give `train.init` "
            "and `train.make_step` the same"
        )


def _objective(
    params: dict, stats: dict, batch: Batch, key: jax.Array, *, rebuild, loss
) -> tuple[jax.Array, tuple[Metrics, dict]]:
    """Returns the loss; its metrics and the new statistics beside it."""
    model = rebuild(params, stats, key)
    value, extra = checked_loss(loss(model, batch))
    return value, (extra, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))


def checked_loss(found: Any) -> tuple[jax.Array, Metrics]:
    """Returns what a loss returned as a scalar and metrics, of which there may be none.

    Raises:
        ValueError: If it is no scalar, or what is beside it are no scalars by name.
    """
    parts: tuple[Any, ...] = found if isinstance(found, tuple) and found else (found,)
    value, rest = parts[0], parts[1:]
    extra = rest[0] if rest else {}
    wanted = "`loss` must return a scalar, or (scalar, {name: scalar}); got"
    if len(rest) > 1 or not isinstance(extra, Mapping):
        beside = " and ".join(_described(each) or "a scalar" for each in rest)
        raise ValueError(
            f"{wanted} a tuple, with {beside} beside the loss: name them, as in "
            "(loss, {'error': error}), or return the loss alone"
        )
    if fault := _described(value):
        advice = ": return its mean, jnp.mean(...)" if hasattr(value, "shape") else ""
        raise ValueError(f"{wanted} {fault}{advice}")
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(
            f"{wanted} a scalar of {jnp.result_type(value)}, not of floats"
        )
    for name, metric in extra.items():
        if fault := _described(metric):
            raise ValueError(
                f"each metric of a loss must be a scalar; {name!r} is {fault}"
            )
    return value, dict(extra)


def _described(value: Any) -> str:
    """Says what something is that is no scalar; "" of a scalar."""
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, float, int)):
        return f"a {type(value).__name__}"
    return f"an array of shape {jnp.shape(value)}" if jnp.ndim(value) else ""


def split_batch(batch: Batch, parts: int) -> Batch:
    """Deals a batch out to smaller ones, as cards are dealt: (B, ...) to (parts, ...).

    So that each device deals out its own examples, part i has i, i + parts, ...

    Raises:
        ValueError: If a first axis is no multiple of `parts`.

    Examples:
        >>> parts = jaxflow.train.split_batch({"label": jnp.arange(6)}, 2)
        >>> parts["label"].tolist()
        [[0, 2, 4], [1, 3, 5]]
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
    """Returns the random keys of the coming step: for its data, and for its dropout.

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> model, optimiser = nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.sgd(0.1)
        >>> one, two = (jaxflow.train.init(model, optimiser, seed=s) for s in (0, 1))
        >>> data, dropout = jaxflow.train.step_keys(one)
        >>> bool(data == dropout), bool(data == jaxflow.train.step_keys(two)[0])
        (False, False)
    """
    data, dropout = jax.random.split(jax.random.fold_in(state.key, state.step))
    return data, dropout
