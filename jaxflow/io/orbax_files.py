"""Checkpoint folders of Orbax: verified by checksums of our own, found in a run.

A folder is one checkpoint (its arrays directly in it, or one step of a training run,
which has them in ``state`` and what describes them in ``meta``), or a run: a folder of
numbered steps, or one that has such a folder called ``checkpoints``. Orbax does not
notice a flipped bit; what this library writes carries checksums of its contents.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxflow.io import checksums, descriptions, files, folders
from jaxflow.io.descriptions import Damage as Damage

# Orbax's own description of a folder.
_MARK = "_CHECKPOINT_METADATA"
# How the storage layer begins what it says of a file that is not as it was written;
# other words (UNAVAILABLE, RESOURCE_EXHAUSTED) are of the moment.
_OF_THE_FILE = (
    *("DATA_LOSS", "OUT_OF_RANGE", "FAILED_PRECONDITION", "NOT_FOUND"),
    "INVALID_ARGUMENT",
)


def identity(arrays: Mapping[str, Any]) -> dict:
    """Returns the shape and type of each array, and the checksum of its contents.

    Args:
        arrays: NumPy arrays, whose checksums are numbers; or arrays of JAX, whose
            checksums are on their way: scalars that accelerators compute meanwhile, or
            functions that compute them, to be called in another thread.
    """
    leaves = {name: [list(a.shape), str(a.dtype)] for name, a in arrays.items()}
    sums = {name: _checksum(array) for name, array in arrays.items()}
    return {"leaves": leaves, "checksums": sums}


def _checksum(array: Any) -> Any:
    if not isinstance(array, jax.Array):
        return checksums.on_host(array)
    on_cpu = next(iter(array.sharding.device_set)).platform == "cpu"
    if on_cpu and array.is_fully_replicated:
        # A CPU computes a program where it is called, and its arrays are the host's.
        return functools.partial(checksums.on_host, np.asarray(array))
    return checksums.on_devices(array)


def nest(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Turns {"a/b": x} into {"a": {"b": x}}."""
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, leaf = name.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = array
    return nested


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Turns nested dicts and lists into {"a/b": leaf}."""
    if not isinstance(tree, (Mapping, list, tuple)):
        return {prefix.removesuffix("/"): tree}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}{key}/")
    return flat


def is_checkpoint(folder: files.Path) -> bool:
    """Tells whether a folder is one checkpoint, sound or not."""
    path = folders.folder(folder)
    marks = (_MARK, "_METADATA")
    return (path / "state").is_dir() or any((path / mark).exists() for mark in marks)


def steps_folder(folder: files.Path) -> epath.Path | None:
    """Returns the folder with the numbered steps of a run, or None if it has none."""
    for path in (folders.folder(folder), folders.folder(folder) / "checkpoints"):
        if steps_in(path):
            return path
    return None


def steps_in(folder: files.Path) -> list[int]:
    """Returns the numbers of the steps in a folder, oldest first."""
    path = folders.folder(folder)
    children = path.iterdir() if path.is_dir() else ()
    return sorted(
        int(child.name)
        for child in children
        if child.name.isdecimal() and child.is_dir()
    )


def preferred(folder: folders.Place) -> list[tuple[int, str]]:
    """Returns the steps of a run in the order in which to try them, each with why.

    First the best one by the metric that the run was told to choose by, if steps have
    it, then the others, newest first.

    Args:
        folder: What `steps_folder` returned.
    """
    steps = steps_in(folder)
    scores = {}
    sign = 1
    for step in steps:
        meta = _json(folder / str(step) / "meta" / "metadata")
        name = meta.get("best", "loss")
        sign = -1 if meta.get("best_mode") == "max" else 1
        value = _json(folder / str(step) / "metrics" / "metrics").get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            scores[step] = value, f"the best by {name}, {value:.4g}"
    newest = [(step, "the newest") for step in reversed(steps)]
    newest = [newest[0], *((step, "the newest sound one") for step, _ in newest[1:])]
    if not scores:
        return newest
    best = min(scores, key=lambda step: (sign * scores[step][0], -step))
    return [(best, scores[best][1]), *(pair for pair in newest if pair[0] != best)]


def load(folder: files.Path, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the arrays of one checkpoint of this library, not verified yet.

    Args:
        folder: One checkpoint, see `is_checkpoint`.
        targets: For every array that is in it a NumPy array or a
            `jax.ShapeDtypeStruct` with a sharding: what it is to be read as.

    Raises:
        Damage: If files are absent or are not what Orbax wrote.
        Exception: Whatever else the storage meets.
    """
    path = folders.folder(folder)
    place = path / "state" if (path / "state").is_dir() else path
    try:
        handler = ocp.StandardCheckpointHandler()
        args = ocp.args.StandardRestore(nest(targets))
        return flatten(handler.restore(place, args=args))
    except Exception as error:
        if path.is_dir() and _proves_damage(error):
            raise Damage(_first_line(error)) from error
        raise


def verify(arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Compares arrays with the checksums in their description.

    Raises:
        Damage: If they differ.
    """
    if "checksums" in meta:
        found = descriptions.signed(identity(arrays))["checksums"]
        wrong = [name for name in found if found[name] != meta["checksums"].get(name)]
        if wrong:
            raise Damage(
                f"its contents do not match their checksum: {', '.join(wrong[:3])}"
            )
    elif _first_checksum(arrays) != meta["sha256"]:
        raise Damage("its contents do not match their checksum")


def _first_checksum(arrays: Mapping[str, Any]) -> str:
    """The one SHA-256 of all contents that the first checkpoints carry."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _proves_damage(error: BaseException) -> bool:
    """Tells whether an error can only come of the files, not of the moment."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_proves_damage, error.exceptions))
    if type(error) is Exception and error.__cause__ is not None:
        return _proves_damage(error.__cause__)
    if isinstance(error, OSError):
        return isinstance(error, (FileNotFoundError, NotADirectoryError))
    # The last three are what Orbax meets in JSON that is not what it wrote.
    kinds = (ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError)
    if not isinstance(error, kinds):
        return False
    return not is_of_storage(error) or str(error).startswith(_OF_THE_FILE)


def is_of_storage(error: BaseException) -> bool:
    """Tells whether an error comes of the storage layer, by its message."""
    return re.match(r"[A-Z_]{5,}:", str(error)) is not None


def _first_line(error: BaseException) -> str:
    if type(error) is Exception and error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def read(folder: files.Path) -> tuple[dict[str, np.ndarray], dict]:
    """Reads one checkpoint and verifies it, if it carries checksums of ours.

    Args:
        folder: One checkpoint, see `is_checkpoint`.

    Returns:
        Arrays by path ("params/levels/0/kernel"), and the JSON beside them: {} if
        another program wrote it.

    Raises:
        Damage: If it is not what was written.
        Exception: Whatever else the storage meets.
    """
    meta = descriptions.read(folder)
    if not meta:
        return _numbers(_foreign(folders.folder(folder))), {}
    targets = {
        name: np.empty(shape, jnp.dtype(dtype))
        for name, (shape, dtype) in meta["leaves"].items()
    }
    arrays = _numbers(load(folder, targets))
    verify(arrays, meta)
    return arrays, meta


def _foreign(path: epath.Path) -> dict[str, Any]:
    """Reads arrays that another program wrote."""
    try:
        with ocp.StandardCheckpointer() as reader:
            return flatten(reader.restore(path))
    except Exception as error:
        if path.is_dir() and _proves_damage(error):
            raise Damage(_first_line(error)) from error
        raise


def _numbers(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if leaf is not None}


def _json(path: folders.Place) -> dict:
    """Reads a small JSON file; {} if it is absent or torn."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
