"""Checkpoint folders of Orbax: verified by a checksum of our own, found in a run.

A folder is one checkpoint (its arrays directly in it, or one step of a training run,
which has them in ``state`` and what describes them in ``meta``), or a run: a folder of
numbered steps, or one that has such a folder called ``checkpoints``. Orbax does not
notice a flipped bit; what this library writes carries the SHA-256 of its contents.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxflow.io import files

_DAMAGED_WITHOUT = "_CHECKPOINT_METADATA"


def identity(arrays: Mapping[str, np.ndarray]) -> dict:
    """Returns the shape and type of each array, and a checksum of all contents."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    leaves = {name: [list(a.shape), str(a.dtype)] for name, a in arrays.items()}
    return {"leaves": leaves, "sha256": digest.hexdigest()}


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
    path = pathlib.Path(folder)
    marks = (_DAMAGED_WITHOUT, "_METADATA")
    return (path / "state").is_dir() or any((path / mark).exists() for mark in marks)


def steps_folder(folder: files.Path) -> pathlib.Path | None:
    """Returns the folder with the numbered steps of a run, or None if it has none."""
    for path in (pathlib.Path(folder), pathlib.Path(folder) / "checkpoints"):
        if steps_in(path):
            return path
    return None


def steps_in(folder: files.Path) -> list[int]:
    """Returns the numbers of the steps in a folder, oldest first."""
    path = pathlib.Path(folder)
    children = path.iterdir() if path.is_dir() else ()
    return sorted(
        int(child.name)
        for child in children
        if child.name.isdecimal() and child.is_dir()
    )


def preferred(folder: pathlib.Path) -> list[tuple[int, str]]:
    """Returns the steps of a run in the order in which to try them, each with why.

    First the best one by the metric that the run was told to choose by, if steps have
    it, then the others, newest first.

    Args:
        folder: What `steps_folder` returned.
    """
    steps = steps_in(folder)
    scores = {}
    for step in steps:
        name = _json(folder / str(step) / "meta" / "metadata").get("best", "loss")
        value = _json(folder / str(step) / "metrics" / "metrics").get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            scores[step] = value, f"the best by {name}, {value:.4g}"
    newest = [(step, "the newest") for step in reversed(steps)]
    newest = [newest[0], *((step, "the newest sound one") for step, _ in newest[1:])]
    if not scores:
        return newest
    best = min(scores, key=lambda step: (scores[step][0], -step))
    return [(best, scores[best][1]), *(pair for pair in newest if pair[0] != best)]


def read(folder: files.Path) -> tuple[dict[str, np.ndarray], dict]:
    """Reads one checkpoint and verifies it, if it carries a checksum of ours.

    Args:
        folder: One checkpoint, see `is_checkpoint`.

    Returns:
        Arrays by path ("params/levels/0/kernel"), and the JSON beside them: {} if
        another program wrote it.

    Raises:
        Exception: Whatever Orbax meets in ruins; ValueError if the contents do not
            match their checksum.
    """
    path = pathlib.Path(folder).absolute()
    target = path / "state" if (path / "state").is_dir() else path
    with ocp.StandardCheckpointer() as reader:
        if target != path:
            with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as texts:
                meta = texts.restore(path / "meta")
        elif not (path / _DAMAGED_WITHOUT).exists():
            raise ValueError(f"{_DAMAGED_WITHOUT} is missing")
        else:
            meta = dict(reader.metadata(path).custom_metadata or {})
        if target == path and "sha256" not in meta:
            return _numbers(flatten(reader.restore(path))), {}
        shapes = {
            name: np.empty(shape, jnp.dtype(dtype))
            for name, (shape, dtype) in meta["leaves"].items()
        }
        arrays = _numbers(flatten(reader.restore(target, nest(shapes))))
    if identity(arrays)["sha256"] != meta["sha256"]:
        raise ValueError("its contents do not match their checksum")
    return arrays, meta


def _numbers(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if leaf is not None}


def _json(path: pathlib.Path) -> dict:
    """Reads a small JSON file; {} if it is absent or torn."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
