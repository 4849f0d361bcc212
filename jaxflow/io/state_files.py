"""State dicts in files of every format, as flat dicts of arrays.

A checkpoint holds more than weights: epochs, options, the state of an optimiser, room
that layers work in. Here only what a network may want is kept, under dotted keys.
Nothing that a file contains is ever run.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, serialization

from jaxflow.io import checksums, files, torch7, torch_files

SUFFIXES = (
    *(".pth", ".pt", ".tar", ".ckpt", ".pyth", ".pkl", ".pytorch", ".t7"),
    *(".safetensors", ".msgpack"),
)
"""Extensions that files of weights have."""

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "blobs")
_MAX_WRAPPING = 4
# The fields of a Torch7 layer that training learns; the others are room for work.
_LEARNED = ("weight", "bias", "running_mean", "running_var")
_ROOM = ("_", "grad", "output", "input", "finput", "fgrad", "buffer")


def read(path: files.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the weights in one file.

    Torch, pickle and safetensors files are told by their contents, whatever they are
    called; the other formats by their names.

    Args:
        path: Torch (.pth, .pth.tar, .pt, .ckpt, .pyth; zip and older), NumPy pickles
            (.pkl), Torch7 (.t7), safetensors or Flax msgpack (.msgpack).

    Returns:
        Key -> array, nested tables joined by dots; and the record of the model, if this
        library wrote the file: {"model", "variant", "config"}, else {}.

    Raises:
        ValueError: If the file is damaged, foreign, claims more than it holds, or
            contains anything that would have to be executed.
        OSError: If the file cannot be read.
    """
    record: dict[str, Any] = {}
    if files.suffix(path) == ".safetensors":
        saved, record = _read_safetensors(path)
    elif files.suffix(path) == ".t7":
        saved = torch7.read_t7(path)
    elif files.suffix(path) == ".msgpack":
        saved = _read_msgpack(path)
    elif _begins_as_safetensors(path):
        saved, record = _read_safetensors(path)
    else:
        saved = torch_files.read_torch(path)
    saved = _of_list(saved)
    if not isinstance(saved, Mapping):
        raise files.fault(path, f"holds one {type(saved).__name__}, not a state dict")
    arrays = only_arrays(unwrap(_flatten(unwrap(saved))))
    if not arrays:
        raise files.fault(path, "holds no arrays; save the state dict itself")
    return arrays, record


def _of_list(saved: Any) -> Any:
    """Returns the weights of [state dict, optimiser, epoch, step, averages …].

    So score_sde and what derives from it save. Averages, the last item if it has the
    names of weights, take their place, as in the loaders of that code.
    """
    if not isinstance(saved, (list, tuple)) or not saved:
        return saved
    first, last = saved[0], saved[-1]
    if not isinstance(first, Mapping):
        return saved
    first = {str(key).removeprefix("module."): value for key, value in first.items()}
    if not isinstance(last, Mapping):
        return first
    last = {str(key).removeprefix("module."): value for key, value in last.items()}
    return first | last if last.keys() <= first.keys() else first


def unwrap(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the innermost state dict of a checkpoint such as {"state_dict": …}."""
    for _ in range(_MAX_WRAPPING):
        inner = [saved.get(name) for name in _WRAPPERS]
        inner = [value for value in inner if isinstance(value, Mapping) and value]
        if not inner:
            break
        saved = inner[0]
    return saved


def only_arrays(saved: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keeps the arrays of numbers; NumPy's scalars are none."""
    arrays = {}
    for key, value in saved.items():
        if isinstance(value, nnx.Variable):
            value = value[...]
        if _is_array(value):
            array = np.asarray(value)
            if array.dtype.kind in "biufcV":
                arrays[str(key)] = array
    return arrays


def checksums_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the checksum of each array, as the header of a safetensors file keeps it.

    Args:
        arrays: Name -> array.
    """
    return json.dumps({key: checksums.on_host(array) for key, array in arrays.items()})


def _verify(path: files.Path, arrays: Mapping, sums: Mapping[str, int]) -> None:
    """Raises if arrays are not those of which the header keeps checksums."""
    for key in [*arrays, *(sums.keys() - arrays.keys())]:
        if key not in arrays or sums.get(key) != checksums.on_host(arrays[key]):
            what = f"is damaged: its contents do not match their checksum: {key}"
            raise files.fault(path, what)


def _begins_as_safetensors(path: files.Path) -> bool:
    """Tells whether a file begins with the length of a JSON table that it can hold."""
    with open(path, "rb") as file:
        start = file.read(9)
        size = file.seek(0, os.SEEK_END)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _read_safetensors(path: files.Path) -> tuple[dict[str, np.ndarray], dict]:
    """Reads arrays, and the record if this library wrote the file."""
    with open(path, "rb"):  # an absent file is an OSError that names it
        pass
    try:
        arrays = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "np") as opened:
            texts = opened.metadata() or {}
        record = {key: texts[key] for key in ("model", "variant") if key in texts}
        if "config" in texts and "model" in texts:
            record["config"] = json.loads(texts["config"])
        sums = json.loads(texts.get("checksums", "{}"))
    except Exception as error:  # safetensors' own, and what unknown types make of NumPy
        what = f"is not a safetensors file: {_line(error)}"
        raise files.fault(path, what) from error
    if isinstance(sums, dict) and sums:
        _verify(path, arrays, sums)
    return arrays, record if isinstance(record.get("config"), dict) else {}


def _read_msgpack(path: files.Path) -> Any:
    with open(path, "rb") as file:
        data = file.read()
    try:
        return serialization.msgpack_restore(data)
    except Exception as error:  # msgpack raises a family of its own
        what = f"is not a Flax msgpack file: {_line(error)}"
        raise files.fault(path, what) from error


def _flatten(saved: Mapping) -> dict[str, Any]:
    """Joins the keys of nested tables by dots; each table is visited once."""
    flat: dict[str, Any] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", saved)]
    while waiting:
        prefix, table = waiting.pop()
        if id(table) in seen:
            continue
        seen.add(id(table))
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        layer = isinstance(table, Mapping) and "__class__" in table
        for key, value in items:
            if _is_optimiser(value) or (layer and not _belongs(key, value)):
                continue
            if isinstance(value, (Mapping, list, tuple)):
                waiting.append((f"{prefix}{key}.", value))
            else:
                flat[f"{prefix}{key}"] = value
    return flat


def _belongs(key: Any, value: Any) -> bool:
    """Tells whether a field of a Torch7 layer is learned, or holds layers."""
    if isinstance(value, (Mapping, list, tuple)):
        return not str(key).startswith(_ROOM)
    return not _is_array(value) or key in _LEARNED


def _is_optimiser(table: Any) -> bool:
    return isinstance(table, Mapping) and {"param_groups", "state"} <= set(table)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, (type, np.generic))


def _line(error: BaseException) -> str:
    """Returns the first line of a message, cut to a bearable length."""
    text = str(error).strip().partition("\n")[0][:200]
    return text or type(error).__name__
