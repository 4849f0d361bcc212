"""A moving average of the weights, kept in the state of the optimiser.

    optimiser = averaging.averaged(optax.adam(1e-3), decay=0.999)
    ...
    averaging.average_of(state.opt_state)

So it is in every checkpoint of a run, and costs no other change.
"""

from typing import Any, NamedTuple

import jax
import optax


class Averaged(NamedTuple):
    """State of `averaged`.

    Attributes:
        inner: State of the optimiser inside.
        average: The averaged parameters, in their own types.
    """

    inner: Any
    average: Any


def averaged(
    optimiser: optax.GradientTransformation, *, decay: float
) -> optax.GradientTransformation:
    """Keeps an average of the parameters that an optimiser makes.

        average <- decay average + (1 - decay) parameters

    after every step; it begins with the initial parameters.

    Args:
        optimiser: The optimiser, to be the outermost but for this.
        decay: In [0, 1); 0.999 averages over about 1000 steps.

    Raises:
        ValueError: If `decay` is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"`decay` must be in [0, 1); got {decay}")

    def init(params: Any) -> Averaged:
        copies = jax.tree.map(lambda leaf: leaf.copy(), params)
        return Averaged(optimiser.init(params), copies)

    def update(updates: Any, state: Any, params: Any = None):
        if params is None:
            raise ValueError("`params` must be given to an optimiser that averages")
        updates, inner = optimiser.update(updates, state.inner, params)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, leaf: (decay * old + (1 - decay) * leaf).astype(old.dtype),
            state.average,
            new,
        )
        return updates, Averaged(inner, average)

    return optax.GradientTransformation(init, update)


def average_of(opt_state: Any) -> Any:
    """Returns the averaged parameters in the state of an optimiser.

    Args:
        opt_state: State of `averaged`, or of what contains it.

    Raises:
        ValueError: If there is none, or more than one.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, Averaged))
    found = [leaf.average for leaf in leaves if isinstance(leaf, Averaged)]
    if len(found) != 1:
        raise ValueError(
            f"`opt_state` must hold one average of the weights; it holds {len(found)}: "
            "make the optimiser by `averaging.averaged`"
        )
    return found[0]
