"""A training state as named arrays, and back onto whatever devices there are now.

A state is a tree; on disk it is {path: array}, and a random key is its raw data, whose
kind is written beside it. The devices, the mesh and the number of processes may all be
others than when it was saved.
"""

import base64
import functools
import json
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxflow import mesh as meshes
from jaxflow.io import descriptions, orbax_files


def read_onto(
    path: epath.Path, target: Any, newer: Collection[str] = ()
) -> tuple[Any, dict]:
    """Reads and verifies one step onto the devices of `target`.

    Args:
        path: The step's folder.
        target: A state; see `checkpoint.Checkpoints.restore`.
        newer: Paths of arrays whose values are `target`'s where they are absent.

    Raises:
        descriptions.Damage: If it is damaged, in all processes if it is in one.
    """
    damage = descriptions.Damage
    meta = meshes.together(functools.partial(descriptions.read, path), damage)
    if "leaves" not in meta:
        raise damage("state is missing")
    kinds = key_kinds(target) | meta.get("keys", {})
    every = _named(target)
    kept = {name: every[name] for name in newer if name not in meta["leaves"]}
    leaves = {name: leaf for name, leaf in every.items() if name not in kept}
    _check_fits(leaves, kinds, meta["leaves"], str(path))
    if "checksums" in meta:
        targets = {
            name: jax.ShapeDtypeStruct(
                meta["leaves"][name][0], meta["leaves"][name][1], sharding=_where(leaf)
            )
            for name, leaf in leaves.items()
        }
        read = functools.partial(orbax_files.load, path, targets)
        arrays = meshes.together(read, damage)
        orbax_files.verify(arrays, meta)
    else:
        read = functools.partial(orbax_files.read, path)
        arrays, _ = meshes.together(read, damage)
        where = {name: _where(leaf) for name, leaf in leaves.items()}
        arrays = meshes.place({name: arrays[name] for name in where}, where)
    for name, kind in kinds.items():
        arrays[name] = jax.random.wrap_key_data(arrays[name], impl=kind)
    _, tree = jax.tree.flatten(target)
    state = tree.unflatten([(arrays | kept)[name] for name in every])
    return state, own_data(meta["data"], path)


def own_data(saved: Any, path: epath.Path) -> dict:
    """Returns this process's position in the data."""
    if isinstance(saved, dict):
        return saved
    saved = [json.loads(json.dumps(entry), object_hook=_bytes) for entry in saved]
    if len(saved) == jax.process_count():
        return saved[jax.process_index()]
    if any(entry != saved[0] for entry in saved):
        raise ValueError(
            f"{path}: {len(saved)} processes were at different positions in the data, "
            f"which {jax.process_count()} cannot take over; resume with {len(saved)} "
            "processes"
        )
    return saved[0]


def plain(value: Any) -> Any:
    """Returns a position in the data as JSON values; bytes as text."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def _bytes(entry: dict) -> Any:
    return base64.b64decode(entry["base64"]) if [*entry] == ["base64"] else entry


def _named(tree: Any) -> dict[str, Any]:
    """Returns {path: leaf}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def flatten(tree: Any) -> dict[str, jax.Array]:
    """Returns {path: array where it is}; a random key becomes its raw data."""
    return {name: _raw(leaf) for name, leaf in _named(tree).items()}


def _raw(leaf: Any) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_kinds(tree: Any) -> dict[str, str]:
    """Returns {path: "threefry2x32" or another kind} of the random keys in a tree."""
    return {
        name: str(jax.random.key_impl(leaf))
        for name, leaf in _named(tree).items()
        if _is_key(leaf)
    }


def _where(leaf: Any) -> jax.sharding.Sharding:
    """Returns the sharding of an array, or of a random key's raw data."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.random.key_data(leaf).sharding if _is_key(leaf) else sharding


def _check_fits(
    target: dict[str, Any],
    kinds: dict[str, str],
    found: dict[str, tuple[list[int], str]],
    where: str,
) -> None:
    """Raises one ValueError that lists what is missing, unwanted or misshapen."""
    faults = [f"{name} is missing" for name in target if name not in found]
    faults += [f"{name} is not wanted" for name in found if name not in target]
    for name in sorted(target.keys() & found.keys()):
        leaf = target[name]
        if name in kinds:
            leaf = jax.eval_shape(lambda kind=kinds[name]: _raw_key(kind))
            leaf = jax.ShapeDtypeStruct((*target[name].shape, *leaf.shape), leaf.dtype)
        have = f"{found[name][1]}{tuple(found[name][0])}"
        want = f"{leaf.dtype}{tuple(leaf.shape)}"
        if have != want:
            faults.append(f"{name} is {have}, not {want}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"{where} does not fit: {'; '.join(faults[:5])}{more}")


def _raw_key(kind: str) -> jax.Array:
    return jax.random.key_data(jax.random.key(0, impl=kind))
