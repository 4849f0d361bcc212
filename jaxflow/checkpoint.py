"""Checkpoints: of a model, and of a whole training run.

On disk there are only nested dictionaries of arrays, written by Orbax, and beside them
a JSON file with the shape, type and checksum of every array: readable without this
library, and a flipped bit does not go unnoticed. Each process writes and reads the
parts of arrays that it holds. A training run keeps its newest two checkpoints and its
best one.
"""

import contextlib
import json
import logging
import math
import os
import re
import shutil
import types
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint.path import atomicity

from jaxflow import _checks, convert, restoring, weights
from jaxflow import mesh as meshes
from jaxflow.io import descriptions, folders, orbax_files, staging

PathLike = str | os.PathLike[str]


class Checkpoints:
    """The checkpoints of one training run, in one folder; use it in a `with` block.

    Saving is asynchronous: it copies the state to the host and returns; all else, the
    checksums included, is done meanwhile. Leaving the block waits for it. What is saved
    from CPUs is copied within the host, into memory that is kept until then. With
    several processes each makes the same calls. Where folders cannot be renamed, as on
    some mounted drives, a step counts once it has a file that says so.

    Args:
        directory: The folder, here or at gs://bucket/folder; it is made if need be.
        best: Name of the metric whose best step is kept.
        best_mode: "min" if lower is better, "max" if higher is.
        keep: How many of the newest steps are kept; the last but one is what a run
            falls back to when the last is damaged.
        record: What `jaxflow.weights.record_of` says of the model that is trained; each
            step keeps it, and who loads the weights has it compared.

    Raises:
        OSError: If the folder cannot be reached or made.
    """

    def __init__(
        self,
        directory: PathLike,
        *,
        best: str = "loss",
        best_mode: str = "min",
        keep: int = 2,
        record: dict | None = None,
    ):
        _checks.one_of("best_mode", best_mode, ("min", "max"))
        folders.check_target("`directory`", directory)
        self.directory = folders.folder(directory)
        self._about = {"best": best, "best_mode": best_mode, "record": record or {}}
        worst = math.inf if best_mode == "min" else -math.inf

        def rank(metrics: Mapping[str, float]) -> float:
            return metrics.get(best, worst)

        _forget_torn_metrics(self.directory)
        renames = all(meshes.gather(_can_rename_folders(self.directory)))
        policies = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=rank,
                    reverse=best_mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies,
            best_fn=rank,
            best_mode=best_mode,
            cleanup_tmp_directories=True,
            temporary_path_class=None if renames else atomicity.CommitFileTemporaryPath,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        self._staging = staging.Staging()

    def __enter__(self) -> "Checkpoints":
        logging.getLogger("absl").addFilter(_is_news)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._staging.stop()
        try:
            with _writing(self.directory):
                self._manager.close()
        except OSError as failed:
            # Whoever stops a run with Ctrl-C has to know that it was not saved.
            if not isinstance(error, Exception):
                raise
            if str(failed) != str(error):
                error.add_note(str(failed))
        finally:
            logging.getLogger("absl").removeFilter(_is_news)

    def reserve(self, state: Any) -> None:
        """Takes the memory that saving needs, in another thread, and returns.

        Without it the first save takes it, and the run waits for that.

        Args:
            state: What will be saved, or arrays of the same shapes in the same places.
        """
        self._staging.reserve(restoring.flatten(state))

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
            state: Tree of arrays and random keys, sharded or not. It may be changed or
                donated when this returns.
            data: This process's position in the data: plain JSON values and bytes.
            metrics: What `best` chooses from.

        Raises:
            RuntimeError: If Orbax declines, e.g. because a later step is there.
            OSError: If this step, or the one saved before, cannot be written.
        """
        self.wait()  # The copies are in the memory of those that were written last.
        contents = self._contents(state, data)
        with _writing(self.directory):
            saved = self._manager.save(step, args=contents, metrics=metrics)
        if not saved:
            raise RuntimeError(
                f"step {step} was not saved: {self.directory} already holds steps "
                f"{self.steps()}; remove the later ones or choose another folder"
            )

    def restore(
        self, target: Any, *, newer: Collection[str] = ()
    ) -> tuple[Any, dict] | None:
        """Returns the newest sound checkpoint, or None if there is none at all.

        One that is provably damaged (truncated, incomplete, failing its checksum) is
        moved aside into `damaged/`, with a warning, and the one before it is tried. If
        the storage or the memory fails, that is raised, and nothing is moved.

        Args:
            target: A state of the same structure; its values are not used, its
                devices and shardings are, whatever they were when it was saved.
            newer: Paths of arrays, such as "skipped", that older versions did not have:
                where they are absent, `target`'s own values stand.

        Returns:
            The state, random keys of the kind that was saved, and the `data` that this
            process saved with it.

        Raises:
            ValueError: If the checkpoint is sound but not of `target`'s structure, if
                there are checkpoints and every one is damaged, or if another number of
                processes saved positions in the data that differ.
            OSError: If the storage fails.
        """
        damaged: dict[int, Exception] = {}
        for step in reversed(self.steps()):
            path = self.directory / str(step)
            try:
                found = restoring.read_onto(path, target, newer)
            except descriptions.Damage as error:
                damaged[step] = error
                continue
            self._set_aside(damaged)
            return found
        if damaged:
            raise ValueError(
                f"every checkpoint in {self.directory} is damaged: steps "
                f"{sorted(damaged)}; remove the folder to start again"
            )
        return None

    def wait(self) -> None:
        """Waits until everything saved so far is on disk.

        Raises:
            OSError: If it cannot be written.
        """
        with _writing(self.directory):
            self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Returns the steps that are kept, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Returns the step with the best metric, or None if none has one."""
        return self._manager.best_step()

    def _contents(self, tree: Any, data: dict | None) -> ocp.args.Composite:
        """Returns what Orbax is to write: nested arrays, and what identifies them."""
        arrays = self._staging.copies(restoring.flatten(tree))
        meta = {
            **orbax_files.identity(arrays),
            **self._about,
            "keys": restoring.key_kinds(tree),
            "data": meshes.gather(restoring.plain(data or {})),
        }
        return ocp.args.Composite(
            state=ocp.args.StandardSave(orbax_files.nest(arrays)),
            meta=descriptions.Description(meta),
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
            if jax.process_index() == 0:
                shelf = self.directory / "damaged"
                shelf.mkdir(exist_ok=True)
                if (shelf / str(step)).exists():
                    (shelf / str(step)).rmtree()
                _move(path, shelf / str(step))
        if damaged:
            meshes.barrier("jaxflow:set_aside")
            self._manager.reload()


def save(directory: PathLike, model: nnx.Module) -> None:
    """Saves a model's parameters and running statistics; replaces what was there.

    Its config is recorded beside them, and compared by `restore`. Of several processes
    the first one writes, and the others wait for it.

    Args:
        directory: Folder to write, here or at gs://bucket/folder.
        model: The model.

    Raises:
        ValueError: If the folder holds something else than a checkpoint.
        OSError: If it cannot be written; what was there is kept, unless it lies in
            cloud storage.

    Examples:
        >>> from flax import nnx
        >>> model, other = (nnx.Linear(2, 1, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> jaxflow.checkpoint.save(folder / "mine", model)
        >>> jaxflow.checkpoint.restore(folder / "mine", other)
        >>> bool((other.kernel[...] == model.kernel[...]).all())
        True
    """
    folders.check_target("`directory`", directory)
    path = folders.folder(directory)
    if path.exists() and any(path.iterdir()) and not orbax_files.is_checkpoint(path):
        raise ValueError(
            f"`directory`: {path} holds something else than a checkpoint, and is not "
            "replaced; name a new folder"
        )
    parts = weights_of(model)
    arrays = restoring.flatten(parts["params"]) | restoring.flatten(parts["stats"])
    meta = {**orbax_files.identity(arrays), "record": weights.record_of(model)}
    meta = descriptions.signed(meta)
    several, options = jax.process_count() > 1, ocp.options.MultiprocessingOptions()
    if several:
        # A model is each process's own, so that the first one writes it alone.
        arrays = jax.device_get(arrays)
        options = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="model"
        )
    if jax.process_index() == 0:
        with _writing(path), _replaced(path) as place:
            with ocp.StandardCheckpointer(multiprocessing_options=options) as writer:
                nested = orbax_files.nest(arrays)
                writer.save(place, nested, force=True, custom_metadata=meta)
    if several:
        multihost_utils.sync_global_devices("a model is saved")


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
    """Returns a model's arrays as {"params": nested dict, "stats": nested dict}.

    Examples:
        >>> model = jaxflow.create_model("jaxflow_fast")
        >>> weights = jaxflow.checkpoint.weights_of(model)
        >>> sorted(weights), sorted(weights["params"])
        (['params', 'stats'], ['decoder', 'encoder'])
    """
    _, params, stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}


def fill(model: nnx.Module, values: dict[str, dict]) -> None:
    """Writes what `weights_of` returned into a model.

    Args:
        model: A model of the same architecture.
        values: Its arrays.

    Examples:
        >>> from flax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> values = jaxflow.checkpoint.weights_of(model)
        >>> ones = jax.tree.map(jnp.ones_like, values)
        >>> jaxflow.checkpoint.fill(model, ones)
        >>> model.kernel[...].tolist()
        [[1.0], [1.0]]
    """
    for kind, part in ((nnx.Param, "params"), (nnx.BatchStat, "stats")):
        state = nnx.state(model, kind)
        nnx.replace_by_pure_dict(state, values[part])
        nnx.update(model, state)


def _forget_torn_metrics(directory: epath.Path) -> None:
    """Removes files of metrics that are no metrics: the arrays beside them may be."""
    for step in orbax_files.steps_in(directory) if jax.process_index() == 0 else ():
        place = directory / str(step) / "metrics"
        if not (place / "metrics").exists():
            continue
        try:
            rows = json.loads((place / "metrics").read_bytes())
            torn = not isinstance(rows, dict)
        except ValueError:
            torn = True
        if torn:
            warnings.warn(
                f"{place}: torn, and removed; step {step} is not ranked", stacklevel=3
            )
            place.rmtree()


@contextlib.contextmanager
def _replaced(folder: epath.Path) -> Iterator[epath.Path]:
    """Lends a folder that takes the place of another when the block succeeds.

    Several processes cannot choose a name each, and clouds cannot rename: they write
    over the old one.
    """
    here = not folders.is_remote(folder) and jax.process_count() == 1
    if not here or not folder.exists():
        yield folder
        return
    new, old = (folder.with_name(f".{uuid.uuid4().hex}") for _ in range(2))
    try:
        yield new
        folder.rename(old)
        new.rename(folder)
    finally:
        for leftover in (new, old):
            if leftover.exists():
                leftover.rmtree()


def _can_rename_folders(directory: epath.Path) -> bool:
    """Tries it; storage in the cloud has a way of its own."""
    if folders.is_remote(directory) or jax.process_index() != 0:
        return True
    directory.mkdir(parents=True, exist_ok=True)
    probe = directory / f".{uuid.uuid4().hex}"
    renamed = directory / f"{probe.name}-renamed"
    probe.mkdir()
    try:
        probe.rename(renamed)
    except OSError:
        return False
    finally:
        for path in (probe, renamed):
            if path.exists():
                path.rmdir()
    return True


def _move(path: epath.Path, target: epath.Path) -> None:
    try:
        path.rename(target)
    except OSError:  # storage that cannot rename folders
        shutil.copytree(path, target)
        path.rmtree()


def _is_news(record: logging.LogRecord) -> bool:
    """Drops what Orbax logs of errors that it raises, and of steps without metrics."""
    unranked = "did not provide metrics" in str(record.msg)
    return not ("orbax" in record.pathname and (record.exc_info or unranked))


@contextlib.contextmanager
def _writing(folder: epath.Path) -> Iterator[None]:
    """Turns whatever the storage raises into one line."""
    try:
        yield
    except (TypeError, MemoryError):
        raise
    except Exception as error:
        # The storage layer has the one type for all it meets, and begins with a code.
        if isinstance(error, ValueError) and not orbax_files.is_of_storage(error):
            raise
        what = str(error).strip().split("\n")[0] or type(error).__name__
        # Of the storage layer's long story the end tells what the system said.
        told = re.search(r": ([^:]+) \[os_error_code", what)
        what = told[1] if told else what[:300]
        raise OSError(f"{folder}: a checkpoint could not be written: {what}") from error
