"""Weights from wherever they lie: a name, a file, several, a folder or a run.

`read` is the one place where checkpoints are found, verified and read; what fills
networks with them is `jaxflow.convert`. Nothing that a file contains is ever run.
"""

import dataclasses
import glob
import json
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxflow import _checks, models, spec
from jaxflow.io import download, files, folders, orbax_files, state_files

Source = files.Path | Sequence[files.Path]

OPEN_LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT")
"""Licences under which a file is downloaded without asking anyone.

Where the records of the models have them from: Apache-2.0 from README.md of
facebookresearch/SlowFast and facebookresearch/pytorchvideo, from setup.py of
open-mmlab/mmflow and open-mmlab/mmaction2, and from LICENSE.txt of piergiaj/pytorch-i3d
as others cite it; BSD-3-Clause from the licence in torchvision's wheels, and from
princeton-vl/RAFT's as OpenMMLab and others repeat it. torchvision adds that the data
that a network was trained on may bring terms of their own.
"""

SHIPPED = pathlib.Path(__file__).parent / "pretrained"
"""Folder of the weights that come with the package."""


@dataclasses.dataclass(frozen=True)
class Found:
    """The weights of one network, and what is known of them.

    Attributes:
        arrays: Key -> array; nested tables are joined by dots.
        where: The file or folder, as a message should name it.
        record: What `record_of` said when this library wrote them; {} if it did not.
        dialect: Name of the key table, if that is known beforehand.
    """

    arrays: dict[str, np.ndarray]
    where: str
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dialect: str | None = None


def read(source: Source | Found, *, cache: files.Path | None = None) -> Found:
    """Finds, verifies and reads weights, without running code that comes with them.

    Args:
        source: One of

            - a name of `published`, unless a file or folder is called so;
            - a file: torch (.pth, .pth.tar, .pt, .ckpt, .pyth; zip and older), NumPy
              pickles (.pkl), Torch7 (.t7), safetensors or Flax msgpack (.msgpack).
              All but Torch7 and msgpack are told by their contents;
            - several files, or a pattern such as ``models/modelL*_F.t7``: one
              checkpoint in pieces, whose keys get the file's name without its
              extension in front: "modelL1_F.modules.1.weight";
            - a folder that Orbax wrote, also gs://bucket/folder; of a training run the
              best step is taken, or the newest sound one, which the standard error
              says;
            - a folder of one such file, or of the pieces of one checkpoint;
            - what this function returned.
        cache: As for `pretrained`.

    Raises:
        ValueError: If it is damaged, foreign, claims more than it holds, or contains
            anything that would have to be executed; or if `source` is none of these.
        OSError: If it is not there or cannot be read.
    """
    if isinstance(source, Found):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return _read_pieces(_paths(source))
    if os.path.isdir(source):
        return _read_folder(pathlib.Path(source))
    if os.path.exists(source):
        return _read_file(source)
    name = os.fspath(source)
    if not name:
        raise ValueError("the name of the weights is empty")
    if folders.is_remote(name):
        return _read_folder(folders.folder(name))
    if name in published() or name in shipped():
        path, described = pretrained(name, cache=cache)
        found = _read_file(path)
        return dataclasses.replace(found, dialect=described.dialect)
    if glob.has_magic(name):
        paths = sorted(glob.glob(name), key=_natural)
        if not paths:
            raise FileNotFoundError(f"{name}: no file has a name of that pattern")
        return _read_file(paths[0]) if len(paths) == 1 else _read_pieces(paths)
    known = [*published(), *shipped()]
    raise FileNotFoundError(
        f"{name}: there is no such file or folder, and no published weights have that "
        f"name; {_checks.nearest(name, known, '`jaxflow.weights.published()`')}"
    )


def published() -> dict[str, spec.Weights]:
    """Returns every published checkpoint that a model of ours can read, by name."""
    modules = {models.find(name) for name in models.list_models()}
    return {
        name: described
        for module in modules
        for name, described in module.RECORD.weights.items()
    }


def shipped() -> dict[str, str]:
    """Returns the networks whose weights come with the package: variant -> name."""
    files_there = {path.name for path in SHIPPED.glob("*.safetensors")}
    return {
        name.partition("/")[0]: name
        for name, described in published().items()
        if described.file in files_there
    }


def describe(name: str) -> spec.Weights:
    """Returns what is known of published weights.

    Args:
        name: "variant/data"; or the variant alone, if its weights come with the
            package.

    Raises:
        ValueError: If no weights have that name.
    """
    _checks.text("name", name, "`jaxflow.weights.published()`")
    known = published()
    if name not in known:
        name = shipped().get(name, name)
    if name not in known:
        advice = _checks.nearest(name, known, "`jaxflow.weights.published()`")
        raise ValueError(f"no weights are named {name!r}; {advice}")
    return known[name]


def place_of(name: str, *, cache: files.Path | None = None) -> pathlib.Path:
    """Returns where published weights are kept, whether they are there or not.

    Args:
        name: As for `describe`.
        cache: As for `pretrained`.
    """
    within = SHIPPED / describe(name).file
    if within.is_file():
        return within
    default = pathlib.Path.home() / ".cache" / "jaxflow"
    folder = pathlib.Path(cache or os.environ.get("JAXFLOW_CACHE") or default)
    return folder / describe(name).file


def pretrained(
    name: str, *, path: files.Path | None = None, cache: files.Path | None = None
) -> tuple[pathlib.Path, spec.Weights]:
    """Finds a published checkpoint, downloads it if its licence permits, verifies it.

    Where its authors publish a checksum, or the first digits of one, the file must have
    it. Where they do not, a warning says so, the SHA-256 of the first use is kept in
    ``FILE.sha256`` beside it in the cache, and the file must not change from then on.

    Args:
        name: "variant/data", e.g. "raft_large/chairs_things"; or as for `describe`.
        path: The file, wherever it is; None looks for it in the cache.
        cache: Folder that holds the file under its authors' name; None for
            `$JAXFLOW_CACHE`, or else `~/.cache/jaxflow`.

    Returns:
        Path of the file, and its description, licence included.

    Raises:
        ValueError: If no weights have that name, or the file is not the published one.
        FileNotFoundError: If the file is not there and may not be fetched, or not by a
            program; the message says who offers it and where to put it.
        OSError: If the download fails; the next call goes on with it.
    """
    described = describe(name)
    place = pathlib.Path(path) if path else place_of(name, cache=cache)
    if not place.is_file():
        if path or not described.url or described.licence not in OPEN_LICENCES:
            raise FileNotFoundError(_advice(name, described, place))
        _fetch(name, described, place)
    _verify(name, described, place, remember=not path)
    return place, described


def record_of(model: nnx.Module) -> dict[str, Any]:
    """Returns what identifies a model: {"model", "variant", "config"}, plain JSON.

    Args:
        model: Any model; without a dataclass as `config` it has no record: {}.
    """
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return {}
    variants = spec.record_of(model).variants
    names = [name for name, value in variants.items() if value == config]
    fields = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {
        "model": type(model).__module__,
        "variant": names[0] if names else "",
        "config": fields,
    }


def default_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a model's config that have a default, as `record_of` does.

    Args:
        record: Of a model of this process, from `record_of`.
    """
    module = sys.modules.get(record.get("model", ""))
    kind = getattr(module, "Config", None)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    found = {
        field.name: field.default
        for field in fields
        if field.default is not dataclasses.MISSING
    }
    return json.loads(json.dumps(found, default=str))


def _advice(name: str, described: spec.Weights, place: pathlib.Path) -> str:
    """Returns the message that says how to get a file that is not fetched."""
    offer = f"its authors offer it: {described.source}; licence: {described.licence}"
    if described.licence not in OPEN_LICENCES:
        offer += ", whose terms are for you to accept, so it is not downloaded"
    return f"{name}: put {place.name} into {place.parent} ({offer})"


def _fetch(name: str, described: spec.Weights, place: pathlib.Path) -> None:
    """Downloads a published file, and says so."""
    _say(f"{name}: fetching {described.url} ({described.licence}) into {place.parent}")
    try:
        download.fetch(
            described.url,
            place,
            sha256="" if described.member else described.sha256,
            member=described.member,
        )
    except OSError as error:
        raise OSError(f"{error}. Or {_advice(name, described, place)}") from error


def _verify(
    name: str, described: spec.Weights, place: pathlib.Path, *, remember: bool
) -> None:
    """Compares a file with the published checksum, or with that of its first use."""
    found = download.sha256(place)
    if described.sha256:
        if not found.startswith(described.sha256):
            raise ValueError(
                f"{place} is not {name}: its SHA-256 is {found}, published is "
                f"{described.sha256}"
            )
        return
    note = place.with_name(f"{place.name}.sha256")
    if remember and note.is_file():
        first = note.read_text(encoding="utf-8").split(maxsplit=1)[:1]
        if first != [found]:
            raise ValueError(
                f"{place} is not what it was when {name} was first used: its SHA-256 "
                f"is {found}, noted is {''.join(first)}; remove {note} if you replaced "
                "the file yourself"
            )
        return
    warnings.warn(
        f"{name} is not verified: its authors publish no checksum; the SHA-256 of "
        f"{place} is {found}",
        stacklevel=4,
    )
    if remember:
        files.write_bytes(note, f"{found}  {place.name}\n".encode())


def _paths(source: Any) -> list[files.Path]:
    """Returns several paths as a list; raises if they are something else."""
    if isinstance(source, Mapping):
        raise ValueError(
            "weights are read from a name, a file, several or a folder; this is a "
            "state dict, which `jaxflow.convert_state_dict` takes"
        )
    if isinstance(source, (list, tuple)):
        if all(isinstance(path, (str, os.PathLike)) for path in source):
            return list(source)
    raise ValueError(
        "weights are read from a name, a file, several or a folder; got "
        f"{type(source).__name__}"
    )


def _read_pieces(paths: Sequence[files.Path]) -> Found:
    """Reads one checkpoint that lies in several files."""
    if len(paths) == 1:
        return read(paths[0])
    if not paths:
        raise ValueError("no file of weights is given")
    arrays = {
        f"{pathlib.Path(path).stem}.{key}": value
        for path in paths
        for key, value in _read_file(path).arrays.items()
    }
    return Found(arrays, f"{os.fspath(paths[0])} and {len(paths) - 1} more")


def _read_folder(folder: folders.Place) -> Found:
    """Reads a checkpoint of Orbax, a run, or the files in a folder."""
    if orbax_files.is_checkpoint(folder):
        try:
            return _read_orbax(folder)
        except orbax_files.Damage as error:
            what = f"checkpoint {folder} is damaged: {_line(error)}"
            raise ValueError(what) from error
    steps = orbax_files.steps_folder(folder)
    if steps is not None:
        return _read_run(folder, steps)
    runs = sorted(
        child.name
        for child in folder.iterdir()
        if child.is_dir() and orbax_files.steps_folder(child) is not None
    )
    if len(runs) == 1:
        raise ValueError(f"{folder} holds the run {runs[0]}; name {folder / runs[0]}")
    if runs:
        raise ValueError(
            f"{folder} holds several runs: {', '.join(runs)}; name one, e.g. "
            f"{folder / runs[-1]}"
        )
    return _read_files_of(folder)


def _read_run(folder: folders.Place, steps: folders.Place) -> Found:
    """Reads the best step of a run, or else the newest sound one, and says which."""
    damaged = []
    for step, why in orbax_files.preferred(steps):
        try:
            found = _read_orbax(steps / str(step))
        except orbax_files.Damage as error:
            warnings.warn(
                f"step {step} of {folder} is damaged ({_line(error)}) and passed over",
                stacklevel=4,
            )
            damaged.append(step)
            continue
        _say(f"{folder}: took step {step}, {why}")
        return found
    raise ValueError(
        f"every checkpoint in {folder} is damaged: steps {sorted(damaged)}"
    )


def _read_orbax(folder: folders.Place) -> Found:
    """Reads one checkpoint of Orbax: a model's, or what is one in a training state."""
    arrays, meta = orbax_files.read(folder)
    parts = {name.partition("/")[0] for name in arrays}
    if "params" in parts:
        kept = [
            name.partition("/")
            for name in arrays
            if name.startswith(("params/", "stats/", "batch_stats/"))
        ]
        arrays = {rest: arrays[f"{part}/{rest}"] for part, _, rest in kept}
    dotted = {name.replace("/", "."): value for name, value in arrays.items()}
    return Found(dotted, str(folder), meta.get("record") or {})


def _read_files_of(folder: folders.Place) -> Found:
    """Reads the one checkpoint that lies in a folder, in one file or in pieces."""
    groups: dict[str, list[folders.Place]] = {}
    for path in sorted(folder.iterdir(), key=_natural):
        hidden = path.name.startswith(".")
        if path.is_file() and not hidden and files.suffix(path) in state_files.SUFFIXES:
            in_pieces = files.suffix(path) == ".t7"
            # A level is one piece: modelL1_F.t7, modelL2_F.t7 and so on.
            name = re.sub(r"\d+", "*", path.name, count=1) if in_pieces else path.name
            groups.setdefault(name, []).append(path)
    if not groups:
        raise FileNotFoundError(f"there is no checkpoint in {folder}")
    if len(groups) > 1:
        names = ", ".join(list(groups)[:8]) + (", ..." if len(groups) > 8 else "")
        raise ValueError(
            f"{folder} holds {len(groups)} checkpoints: {names}; name one of them, "
            f"e.g. {folder / next(iter(groups))}"
        )
    return _read_pieces(list(*groups.values()))


def _read_file(path: files.Path) -> Found:
    """Reads one file, or a folder among the pieces."""
    if os.path.isdir(path):
        return _read_folder(pathlib.Path(path))
    arrays, record = state_files.read(path)
    return Found(arrays, os.fspath(path), record)


def _natural(path: files.Path) -> list:
    """Sorts model2 before model10."""
    pieces = re.split(r"(\d+)", os.fspath(path))
    return [int(piece) if piece.isdecimal() else piece for piece in pieces]


def _line(error: BaseException) -> str:
    """Returns the first line of a message, cut to a bearable length."""
    text = str(error).strip().partition("\n")[0][:200]
    return text or type(error).__name__


def _say(text: str) -> None:
    print(text, file=sys.stderr)
