"""Parts of a network that the backward pass computes again, to save memory.

Between the forward and the backward pass of training a network keeps what is inside of
all its parts. A part that is computed again keeps what goes into it only (Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", arXiv 2016): the gradient is the same,
and each such part runs forward twice. Modules that can have an attribute `remat`, False
unless `switch` has set it: the iterations of RAFT, the bottlenecks of 3-D ResNets and
the residual blocks of the U-Nets.
"""

from typing import Any

import jax
from flax import nnx


def call(module: nnx.Module, *args: Any, remat: bool, **kwargs: Any) -> Any:
    """Calls a module, and with `remat` marks it to be computed again.

    What it changes in itself, such as running statistics, is changed once.

    Args:
        module: Any module.
        *args: Trees of arrays.
        remat: Whether the backward pass computes it again.
        **kwargs: Likewise.
    """
    if not remat:
        return module(*args, **kwargs)
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    @jax.checkpoint
    def run(params, rest, args, kwargs):
        copy = nnx.merge(graph, params, rest, copy=True)
        result = copy(*args, **kwargs)
        return result, nnx.split(copy, nnx.Param, ...)[2]

    result, rest = run(params, rest, args, kwargs)
    nnx.update(module, rest)
    return result


def switch(model: nnx.Module) -> None:
    """Marks all parts of a model that can be computed again, in place.

    Raises:
        ValueError: If it has none.
    """
    able = [node for _, node in nnx.iter_graph(model) if hasattr(node, "remat")]
    if not able:
        name = type(model).__module__.rpartition(".")[2]
        raise ValueError(
            f"`remat`: no part of {name} can be computed again; RAFT, the 3-D ResNets "
            "and the U-Nets have such parts, and `accumulate` saves memory in any model"
        )
    for node in able:
        node.remat = True  # type: ignore[attr-defined]
