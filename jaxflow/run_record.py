"""The record of a training run: what it is, and when, where and by what it was begun.

It is ``run.json`` in the folder of the run. Whoever goes on in that folder has what it
is compared, so that no run is taken for another one.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxflow import __version__
from jaxflow import mesh as meshes
from jaxflow.io import files, folders

NAME = "run.json"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Weights made by other machines differ in their last bits, other weights in the first.
_TOLERANCE = 1e-3


def plain(config: Mapping[str, Any], *, argument: str = "config") -> dict[str, Any]:
    """Returns a config as JSON has it.

    Args:
        config: Values by name.
        argument: What it is called in messages.

    Raises:
        ValueError: If a value is no text, number, truth value, path, None, or list or
            mapping of those.
    """
    return {str(k): _plain(value, str(k), argument) for k, value in config.items()}


def _plain(value: Any, name: str, argument: str) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{name}.{k}", argument) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, name, argument) for entry in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    raise ValueError(
        f"`{argument}` must hold plain values; {name!r} is a {type(value).__name__}"
    )


def key_of(key: jax.Array) -> dict[str, Any]:
    """Returns a random key as plain values."""
    data = np.asarray(jax.random.key_data(key)).tolist()
    return {"kind": str(jax.random.key_impl(key)), "data": data}


def sketch(weights: Any) -> dict[str, float] | None:
    """Returns two numbers that tell one set of weights from another: see `is_near`.

    They are the Euclidean norm, and the sum with signs that seem random, of at most
    65536 numbers of each array.

    Args:
        weights: Tree of JAX's arrays.

    Returns:
        {"norm", "sum"}; None if an array is spread over processes.
    """
    total, square = 0.0, 0.0
    for leaf in jax.tree.leaves(weights):
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return None
        values = np.ravel(np.asarray(leaf))[:65536].astype(np.float64)
        numbers = np.arange(values.size, dtype=np.uint32) * np.uint32(2654435761)
        total += float(np.sum(np.where(numbers >> np.uint32(31), values, -values)))
        square += float(np.sum(values**2))
    return {"norm": square**0.5, "sum": total}


def is_near(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> bool:
    """Tells whether two sketches are of the same weights, but for rounding."""
    if one is None or other is None:
        return False
    bound = _TOLERANCE * max(one["norm"], other["norm"])
    return all(abs(one[name] - other[name]) <= bound for name in ("norm", "sum"))


def program_of(text: str, **under: Any) -> dict[str, Any] | None:
    """Returns what identifies a compiled step, and under what it can be compared.

    Args:
        text: Of the step in StableHLO.
        **under: What it depends on beside what it computes, such as the mesh.

    Returns:
        None if the text differs from process to process, because it calls Python.
    """
    if "callback" in text:
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"digest": digest, "under": plain({**under, "versions": versions()})}


class Record:
    """The record of one run; process 0 keeps it, and all processes are told.

    Args:
        folder: Of the run.
        now: What the run is, as far as it is known: "config", "model", "key" and
            "weights" (from `sketch`); None of what is not to be compared.
        defaults: See `differences`.
    """

    def __init__(
        self,
        folder: folders.Place,
        now: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] = types.MappingProxyType({}),
    ):
        self._folder = folder
        self._defaults = defaults
        self._now = {name: value for name, value in now.items() if value}
        self._before: dict[str, Any] = {}
        self._starts: list[dict[str, Any]] = []

    def compare(self) -> None:
        """Reads what was noted of the run in the folder.

        Raises:
            ValueError: If that is another run.
        """

        def compare() -> None:
            found = read(self._folder)
            self._before, self._starts = found.get("run", {}), found.get("starts", [])
            self._refuse(differences(self._before, self._now, self._defaults))
            # Should a default change, it is still known what this run was begun with.
            self._before |= {
                name: _completed(self._before[name], value, self._defaults.get(name))
                for name, value in self._now.items()
                if name in self._before
            }

        self._together(compare)

    def compare_weights(self, reached: Any) -> None:
        """Compares the weights given with those that the run began with.

        Args:
            reached: Weights of the newest checkpoint. Those are welcome, too.

        Raises:
            ValueError: If they are neither.
        """

        def compare() -> None:
            first, given = self._before.get("weights"), self._now.get("weights")
            if not first or not given or is_near(first, given):
                return
            if not is_near(given, sketch(reached)):
                self._refuse(["it began with other weights"])

        self._together(compare)

    def note_start(self, step: int) -> None:
        """Notes that the run begins, or goes on, after so many steps."""
        self._starts.append(start_of(step))
        self._write()

    def compare_program(self, program: Mapping[str, Any] | None) -> None:
        """Compares what `program_of` returned, and notes it.

        Raises:
            ValueError: If it is of another step.
        """
        if program is None:
            return
        now = {"program": program}
        self._together(lambda: self._refuse(differences(self._before, now)))
        if self._before.get("program") != program:
            self._before["program"] = program
            self._write()

    def _refuse(self, faults: list[str]) -> None:
        if faults:
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise ValueError(
                f"`workdir` {self._folder} holds another run: {'; '.join(faults[:5])}"
                f"{more}. Choose another folder, or remove {NAME} there to go on with "
                "that run nevertheless"
            )

    def _write(self) -> None:
        if jax.process_index() == 0:
            run = {**self._now, **self._before}
            write(self._folder, {"run": run, "starts": self._starts})

    def _together(self, action: Callable[[], None]) -> None:
        alone = jax.process_index() == 0
        meshes.together(action if alone else lambda: None, ValueError)


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
) -> list[str]:
    """Says how a run differs from its record, in words.

    Args:
        before: The record: "config", "model", "key", "program", as far as it goes.
        now: The same of the run. What one of the two does not have is not compared.
        defaults: Fields of "config" and "model", and what they were while there was no
            such field: a record that lacks one of them was written then.
    """
    found = []
    for name in ("config", "model"):
        if before.get(name) and now.get(name):
            known = _completed(before[name], now[name], defaults.get(name, {}))
            found += _changes(known, now[name])
    if found:
        return found
    old, new = before.get("key"), now.get("key")
    if old and new and old["kind"] == new["kind"] and old["data"] != new["data"]:
        found.append("its random key, made of `seed`, was another")
    old, new = before.get("program"), now.get("program")
    if old and new and old["under"] == new["under"] and old["digest"] != new["digest"]:
        found.append("its step (loss, data, optimiser, learning rate) was another")
    return found


def _completed(before: Any, now: Any, defaults: Any) -> Any:
    """Adds to a record the defaults of fields that were not there when it was made."""
    if not all(isinstance(each, Mapping) for each in (before, now, defaults)):
        return before
    deeper = {
        name: _completed(value, now.get(name), defaults.get(name))
        for name, value in before.items()
    }
    return {name: defaults[name] for name in now if name in defaults} | deeper


def _changes(before: Any, now: Any, name: str = "") -> list[str]:
    """Returns "`name` was ... and is ..." of each field that changed."""
    if isinstance(now, list) and now == ([] if before is None else [before]):
        return []  # The option took one value, and takes several now.
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        was, to = (str(value)[:60] for value in (before, now))
        return [] if before == now else [f"`{name}` was {was} and is {to}"]
    start = f"{name}." if name else ""
    keys = [*before, *(key for key in now if key not in before)]
    pairs = [(key, before.get(key), now.get(key)) for key in keys]
    return [line for k, old, new in pairs for line in _changes(old, new, start + k)]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    # The distribution has another name, and a checkout has none.
    own = {"python": platform.python_version(), "jaxflow": __version__}
    return own | found


def start_of(step: int) -> dict[str, Any]:
    """Returns when, where and by what a run is begun or resumed.

    Args:
        step: Number of steps that were taken before.
    """
    devices = jax.devices()
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "command": sys.argv,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "processes": jax.process_count(),
        "devices": {"kind": devices[0].device_kind, "count": len(devices)},
        "versions": versions(),
    }


def read(folder: folders.Place) -> dict[str, Any]:
    """Reads the record in the folder of a run; {} if there is none.

    One that is torn is as good as none, which is said in a warning.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found["starts"], list):
            raise TypeError("no starts")
    except (ValueError, TypeError, KeyError):
        warnings.warn(f"{path} is damaged, and begun anew", stacklevel=2)
        return {}
    return found


def write(folder: folders.Place, record: Mapping[str, Any]) -> None:
    """Writes the record, all of it or nothing.

    Raises:
        OSError: If it cannot be written.
    """
    text = files.json_text(record, indent=1) + "\n"
    if folders.is_remote(folder):
        (folder / NAME).write_text(text)
    else:
        files.write_bytes(folder / NAME, text.encode())
