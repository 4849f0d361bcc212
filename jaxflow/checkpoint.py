"""Checkpoints: of a model, and of a whole training run.

On disk there are only nested dictionaries of arrays, written by Orbax, and beside them
a JSON file with the shape and type of every array and one SHA-256 of their contents:
readable without this library, and a flipped bit does not go unnoticed. A training run
keeps its newest two checkpoints and its best one.
"""

import os
import pathlib
import shutil
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from jaxflow import convert, weights
from jaxflow.io import orbax_files

PathLike = str | os.PathLike[str]


class Checkpoints:
    """The checkpoints of one training run, in one folder; use it in a `with` block.

    Saving is asynchronous: it copies the state to the host and returns. Leaving the
    block waits for it.

    Args:
        directory: The folder; it is made if need be.
        best: Name of the metric, lower is better, whose best step is kept.
        keep: How many of the newest steps are kept; the last but one is what a run
            falls back to when the last is damaged.
        record: What `jaxflow.weights.record_of` says of the model that is trained; each
            step keeps it, and who loads the weights has it compared.
    """

    def __init__(
        self,
        directory: PathLike,
        *,
        best: str = "loss",
        keep: int = 2,
        record: dict | None = None,
    ):
        self.directory = pathlib.Path(directory).absolute()
        self._about = {"best": best, "record": record or {}}
        policies = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics[best],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies,
            best_fn=lambda metrics: metrics[best],
            best_mode="min",
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._manager.close()

    def save(
        self,
        step: int,
        state: Any,
        *,
        data: dict | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Saves a training state.

        Args:
            step: Its number; later than every step saved before.
            state: Tree of arrays and random keys.
            data: Position in the data, as plain JSON values.
            metrics: What `best` chooses from.

        Raises:
            RuntimeError: If Orbax declines, e.g. because a later step is there.
        """
        saved = self._manager.save(
            step, args=self._contents(state, data), metrics=metrics
        )
        if not saved:
            raise RuntimeError(
                f"step {step} was not saved: {self.directory} already holds steps "
                f"{self.steps()}; remove the later ones or choose another folder"
            )

    def restore(self, target: Any) -> tuple[Any, dict] | None:
        """Returns the newest sound checkpoint, or None if there is none at all.

        A damaged one (truncated, incomplete, failing its checksum) is moved aside
        into `damaged/`, with a warning, and the one before it is tried.

        Args:
            target: A state of the same structure; its values are not used, its
                devices and shardings are.

        Returns:
            The state and the `data` saved with it.

        Raises:
            ValueError: If the checkpoint is sound but not of `target`'s structure, or
                if there are checkpoints and every one is damaged.
        """
        damaged: dict[int, Exception] = {}
        for step in reversed(self.steps()):
            path = self.directory / str(step)
            try:
                arrays, meta = orbax_files.read(path)
            except Exception as error:  # whatever the storage layer meets in ruins
                damaged[step] = error
                continue
            _check_fits(_flatten(target), arrays, str(path))
            state = _unflatten(target, arrays)
            self._set_aside(damaged)
            return state, meta["data"]
        if damaged:
            raise ValueError(
                f"every checkpoint in {self.directory} is damaged: steps "
                f"{sorted(damaged)}; remove the folder to start again"
            )
        return None

    def wait(self) -> None:
        """Waits until everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Returns the steps that are kept, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Returns the step with the best metric, or None if none has one."""
        return self._manager.best_step()

    def _contents(self, tree: Any, data: dict | None) -> ocp.args.Composite:
        """Returns what Orbax is to write: nested arrays, and what identifies them."""
        arrays = _flatten(tree)
        meta = {**orbax_files.identity(arrays), **self._about, "data": data or {}}
        return ocp.args.Composite(
            state=ocp.args.StandardSave(orbax_files.nest(arrays)),
            meta=ocp.args.JsonSave(meta),
        )

    def _set_aside(self, damaged: dict[int, Exception]) -> None:
        """Moves steps away: Orbax saves only what is later than all it can see."""
        for step, error in damaged.items():
            path = self.directory / str(step)
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            warnings.warn(
                f"checkpoint {path} is damaged ({reason}); falling back to the one "
                "before it",
                stacklevel=3,
            )
            shelf = self.directory / "damaged"
            shelf.mkdir(exist_ok=True)
            shutil.rmtree(shelf / str(step), ignore_errors=True)
            path.rename(shelf / str(step))
        if damaged:
            self._manager.reload()


def save(directory: PathLike, model: nnx.Module) -> None:
    """Saves a model's parameters and running statistics; replaces what was there.

    Its config is recorded beside them, and compared by `restore`.

    Args:
        directory: Folder to write.
        model: The model.
    """
    path = pathlib.Path(directory).absolute()
    parts = weights_of(model)
    arrays = _flatten(parts["params"]) | _flatten(parts["stats"])
    meta = {**orbax_files.identity(arrays), "record": weights.record_of(model)}
    with ocp.StandardCheckpointer() as writer:
        nested = orbax_files.nest(arrays)
        writer.save(path, nested, force=True, custom_metadata=meta)


def restore(directory: PathLike, model: nnx.Module) -> None:
    """Fills a model from what `save` or a training run wrote.

    It is `jaxflow.load_weights` for what this library wrote.

    Args:
        directory: Folder written by `save`, one step of a training run, or the run's
            whole folder, of which the best step is taken, or the newest sound one,
            which the standard error says.
        model: A model of the same architecture.

    Raises:
        FileNotFoundError: If there is no checkpoint in `directory`.
        ValueError: If it is damaged or does not fit; the message says where.
    """
    convert.load_weights(model, directory, dialect=convert.OWN_DIALECT)


def weights_of(model: nnx.Module) -> dict[str, dict]:
    """Returns a model's arrays as {"params": nested dict, "stats": nested dict}."""
    _, params, stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}


def fill(model: nnx.Module, values: dict[str, dict]) -> None:
    """Writes what `weights_of` returned into a model.

    Args:
        model: A model of the same architecture.
        values: Its arrays.
    """
    for kind, part in ((nnx.Param, "params"), (nnx.BatchStat, "stats")):
        state = nnx.state(model, kind)
        nnx.replace_by_pure_dict(state, values[part])
        nnx.update(model, state)


def _flatten(tree: Any) -> dict[str, np.ndarray]:
    """Returns {path: array on the host}; a random key becomes its raw data."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.array(_raw(leaf)) for path, leaf in leaves}


def _unflatten(target: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Puts arrays by path into the structure, and onto the devices, of `target`."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(target)
    return tree.unflatten([_place(arrays[_name(path)], leaf) for path, leaf in leaves])


def _check_fits(
    expected: dict[str, np.ndarray], found: dict[str, np.ndarray], where: str
) -> None:
    """Raises one ValueError that lists what is missing, unwanted or misshapen."""
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is not wanted" for name in found if name not in expected]
    for name in sorted(expected.keys() & found.keys()):
        have, want = (f"{x[name].dtype}{x[name].shape}" for x in (found, expected))
        if have != want:
            faults.append(f"{name} is {have}, not {want}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"{where} does not fit: {'; '.join(faults[:5])}{more}")


def _place(array: np.ndarray, leaf: Any) -> Any:
    """Puts an array where `leaf` is; wraps it if `leaf` is a random key."""
    placed: Any = jnp.asarray(array)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        placed = jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf))
    return jax.device_put(placed, getattr(leaf, "sharding", None))


def _raw(leaf: Any) -> Any:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
