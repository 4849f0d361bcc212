"""What changes during training: made from a model, and written back into it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxflow import _checks, averaging, checkpoint
from jaxflow import mesh as meshes


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


def init(
    model: nnx.Module, optimiser: optax.GradientTransformation, *, seed: int = 0
) -> TrainState:
    """Returns the state before the first step.

    Args:
        model: Gives the initial weights; they are copied.
        optimiser: Any optax transformation.
        seed: Determines everything random in the run but the initial weights.

    Raises:
        ValueError: If `optimiser` is no optax transformation, or `seed` no integer.

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> state = jaxflow.train.init(model, optax.adam(1e-3))
        >>> int(state.step), sorted(state.params)
        (0, ['bias', 'kernel'])
    """
    check_optimiser(optimiser)
    if not isinstance(seed, jax.Array):  # which may be traced
        _checks.seed("seed", seed)
    weights = strong(_copy(checkpoint.weights_of(model)))
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=weights["params"],
        stats=weights["stats"],
        opt_state=jax.jit(optimiser.init)(weights["params"]),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        key=jax.random.key(seed),
    )
    return strong(state)


def strong(tree: Any) -> Any:
    """Returns the same arrays, of types that do not give way in promotion.

    ``jnp.array(10.0)`` is weakly typed. A step with such a weight is another program
    than the step after it, or after a checkpoint, which knows strong types alone.

    Args:
        tree: Of arrays.

    Examples:
        >>> from jaxflow.train import state
        >>> weight = jnp.array(10.0)
        >>> weight.weak_type, state.strong(weight).weak_type
        (True, False)
    """

    def convert(leaf):
        is_weak = getattr(leaf, "weak_type", False)
        return jnp.asarray(leaf, leaf.dtype) if is_weak else leaf

    return jax.tree.map(convert, tree)


def check_optimiser(optimiser: Any) -> None:
    """Refuses what is no transformation of gradients, such as Flax's `nnx.Optimizer`.

    Raises:
        ValueError: It says what to give instead.
    """
    if isinstance(optimiser, nnx.Optimizer):
        raise ValueError(
            "`optimiser` must be an optax transformation; got an nnx.Optimizer, which "
            "keeps a state of its own: give the transformation that it was made with, "
            "its `tx`"
        )
    if not all(callable(getattr(optimiser, name, None)) for name in ("init", "update")):
        raise ValueError(
            "`optimiser` must be an optax transformation, such as optax.adam(1e-3); "
            f"got {optimiser!r:.60}"
        )


def finish(model: nnx.Module, state: TrainState) -> nnx.Module:
    """Writes the trained weights into `model`, puts it in evaluation mode, returns it.

    Args:
        model: The model that was trained.
        state: The state after training.

    Raises:
        ValueError: If the state was used up by a later step.

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> state = jaxflow.train.init(model, optax.sgd(0.1))
        >>> state.params["bias"] = jnp.array([3.0])  # as if it had been trained
        >>> jaxflow.train.finish(model, state).bias[...].tolist()
        [3.0]
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

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> optimiser = jaxflow.averaging.averaged(optax.sgd(0.1), decay=0.9)
        >>> state = jaxflow.train.init(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optimiser)
        >>> sorted(jaxflow.train.averaged(state).params)
        ['bias', 'kernel']
    """
    return state._replace(params=averaging.average_of(state.opt_state))


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)
