"""The step compiled over a mesh of devices."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxflow import _checks, weights
from jaxflow import mesh as meshes
from jaxflow.train.state import TrainState, check_optimiser, init
from jaxflow.train.step import Batch, Loss, Metrics, separate, step_keys, train_step


class Step(NamedTuple):
    """A compiled training step.

    Attributes:
        run: (state, batch) -> (state, metrics), or (state) -> (state, metrics) if the
            step draws its own batch. The state given is used up (donated).
        mesh: The devices that it runs on.
        draws: Whether the step draws its own batch.
        record: What identifies the model, for the checkpoints of a run.
        shardings: Where each array of the state is, or one sharding for all; None is
            for whole arrays on every device.
        patience: How many steps in a row may be skipped; None if none is.
    """

    run: Callable[..., tuple[TrainState, Metrics]]
    mesh: Mesh
    draws: bool
    record: Mapping[str, Any] = types.MappingProxyType({})
    shardings: Any = None
    patience: int | None = None


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
    remat: bool = False,
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
        remat: Whether the backward pass computes parts of the model again instead of
            keeping what is inside of them: the same step in less memory, for some more
            time. RAFT's iterations, the bottlenecks of the 3-D ResNets and the
            residual blocks of the U-Nets are such parts.
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
        ValueError: If `optimiser` is no optax transformation, `mesh` has other axes,
            `accumulate` or `patience` is less than 1, or `remat` is asked of a model
            without such parts.

    Examples:
        >>> import optax
        >>> from flax import nnx
        >>> model, optimiser = nnx.Linear(1, 1, rngs=nnx.Rngs(0)), optax.sgd(0.25)
        >>> step = jaxflow.train.make_step(
        ...     model,
        ...     lambda model, x: jnp.mean((model(x) - 3 * x) ** 2),
        ...     optimiser,
        ...     draw=lambda key: jnp.ones((8, 1)),
        ... )
        >>> state, metrics = step.run(jaxflow.train.init(model, optimiser))
        >>> int(state.step), sorted(metrics)
        (1, ['grad_norm', 'loss'])
    """
    check_optimiser(optimiser)
    _checks.positive("accumulate", accumulate)
    _checks.positive("patience", patience)
    mesh = meshes.data_mesh() if mesh is None else meshes.checked(mesh)
    places: Any = meshes.everywhere(mesh)
    if shard_params:
        blank = jax.eval_shape(lambda: init(model, optimiser))
        places = meshes.state_shardings(blank, mesh)
    take = functools.partial(
        train_step,
        rebuild=separate(model, remat=remat),
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
