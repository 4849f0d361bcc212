"""Dropout, and where its random numbers come from: an explicit key or a training step.

There is one story for all models. A call in training mode takes a key,
``model(clip, key=key)``. Inside `jaxflow.train` none is passed: each step seeds the
model with a key of its own, from which every layer draws something else. A call that
has neither is an error. In evaluation mode nothing is dropped, whatever is passed.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class Dropout(nnx.Module):
    """Zeroes a share of its input in training, and scales up the rest.

        y = x m / (1 - rate),    m ~ Bernoulli(1 - rate), independent

    Srivastava et al., "Dropout" (JMLR 2014), with the scale in training instead of
    evaluation. A new layer is in evaluation mode.

    Args:
        rate: Share of the values that are zeroed, in [0, 1).

    Raises:
        ValueError: If the rate is out of range.
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise ValueError(f"`dropout_rate` must be in [0, 1); got {rate!r}")
        self.rate = rate
        self.deterministic = True
        self.rngs: nnx.Rngs | None = nnx.data(None)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Drops values of `x`, of any shape.

        Args:
            x: Features.
            key: Random key; None draws one from what `seed` has given.

        Raises:
            ValueError: In training, if there is neither a key nor a seed.
        """
        if self.deterministic or self.rate == 0:
            return x
        if key is None:
            if self.rngs is None:
                raise ValueError(
                    "dropout in training needs random numbers: pass `key=` to the "
                    "model, train it with jaxflow.train, which gives each step a key, "
                    "or call model.eval()"
                )
            key = self.rngs.dropout()
        keep = jax.random.bernoulli(key, 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)


def split(key: jax.Array | None, count: int) -> list[jax.Array | None]:
    """Returns a key for each of several layers, or None for each if there is none.

    Args:
        key: Random key, or None.
        count: How many.
    """
    return [None] * count if key is None else list(jax.random.split(key, count))


def seed(model: nnx.Module, key: jax.Array) -> None:
    """Gives every layer that draws random numbers a stream of its own, in place.

    The layers are those of this file and Flax's: `nnx.Dropout`, with or without a
    stream, and whatever holds an `nnx.RngStream`.

    Args:
        model: Any model; usually a copy that lives for one step.
        key: Random key, from which all streams derive.
    """
    nodes = [node for _, node in nnx.iter_graph(model)]
    for index, node in enumerate(nodes):
        own = jax.random.fold_in(key, index)
        if isinstance(node, nnx.RngStream):
            # New variables: the old key may be of another generator.
            node.key = nnx.RngKey(own, tag=node.tag)
            node.count = nnx.RngCount(jnp.zeros((), jnp.uint32), tag=node.tag)
        elif isinstance(node, Dropout):
            node.rngs = nnx.Rngs(dropout=own)
        elif isinstance(node, nnx.Dropout) and node.rngs is None:
            node.rngs = nnx.RngStream(own, tag="dropout")
