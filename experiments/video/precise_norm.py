"""Statistics of normalisations, measured anew with the trained weights ("precise BN").

Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021), Sec. 3: the running averages
of training are of weights that changed meanwhile. Here each statistic is the mean of
those of whole batches, as PySlowFast takes it.
"""

from typing import Any

import jax
from flax import nnx
from recipe import core

from jaxflow import checkpoint, train
from jaxflow.layers import norm


def measure_statistics(model: nnx.Module, data: core.Data, count: int) -> None:
    """Replaces running statistics by means over batches, with the weights as they are.

    Args:
        model: The trained model.
        data: Where batches come from.
        count: How many.
    """
    graph, state = nnx.split(model)
    whole = nnx.merge(graph, state, copy=True)
    for _, node in nnx.iter_graph(whole):
        if isinstance(node, norm.BatchNorm):
            node.momentum = 1.0
    rebuild = train.separate(whole)
    weights = checkpoint.weights_of(whole)

    @jax.jit
    def statistics(clip):
        seen = rebuild(weights["params"], weights["stats"], jax.random.key(0))
        seen(clip)
        return nnx.to_pure_dict(nnx.state(seen, nnx.BatchStat))

    total: Any = None
    for number in range(count):
        if data.draw is not None:
            batch = data.draw(jax.random.fold_in(jax.random.key(1), number))
        else:
            batch = next(data.batches)
            if data.augment is not None:
                batch = data.augment(
                    jax.random.fold_in(jax.random.key(1), number), batch
                )
        new = statistics(batch["clip"])
        total = new if total is None else jax.tree.map(lambda a, b: a + b, total, new)
    mean = jax.tree.map(lambda array: array / count, total)
    checkpoint.fill(model, {"params": weights["params"], "stats": mean})
