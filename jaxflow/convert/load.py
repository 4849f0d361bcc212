"""Fill a model with weights from elsewhere, and save its own."""

import functools
import json
import os
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxflow import _checks, models, spec, weights
from jaxflow.convert import advice, matching, recorded, slots
from jaxflow.io import files, state_files

HEADS = ("load", "fresh", "match")
Head = Literal["load", "fresh", "match"]

# How clips are cut and trained on, which may be changed on purpose: a difference in
# them is a warning, in any other field of the config an error.
_OF_CLIPS = (
    *("crop_size", "num_frames", "frame_stride", "frame_rate"),
    *("head_mode", "dropout_rate"),
)
_OF_INITIAL_WEIGHTS = ("zero_init",)
# What a classifier is for, which another `head` than "load" leaves open.
_OF_CLASSIFIER = ("num_classes", "regions", "head_mode")


def convert_state_dict(
    model: nnx.Module,
    state_dict: Mapping[str, Any],
    *,
    dialect: str | None = None,
    head: Head = "load",
) -> nnx.Module:
    """Fills a model with the weights of a published checkpoint.

    A checkpoint that wraps its weights ({"state_dict": …}) is unwrapped, prefixes such
    as the "module." of torch's DataParallel are found, and counters of batches are
    dropped. Weights are cast to the model's dtypes.

    Args:
        model: Any model of `jaxflow.models`; it is changed in place.
        state_dict: Official key -> array (anything that NumPy can read).
        dialect: Name of the key table, or "jaxflow" for our own dotted paths; None
            takes the table that knows the most keys.
        head: "fresh" keeps the model's own classifier, for new classes; "match" keeps
            it if the number of classes differs; "load" loads everything. With the
            first two, weights of a network for clips may begin one for boxes.

    Returns:
        `model`.

    Raises:
        ValueError: If weights are missing, keys are not used, or shapes differ. The one
            message counts them, shows the first few and says what would fit; the model
            is untouched. Also if the dialect's weights were trained for another config
            of the model, and if a weight is NaN, infinite, an integer or a bool.

    Examples:
        >>> model = jaxflow.create_model("jaxflow_fast")
        >>> path = folder / "mine.safetensors"
        >>> jaxflow.save_weights(model, path)
        >>> state = jaxflow.convert.read_checkpoint(path)
        >>> jaxflow.convert_state_dict(model, state) is model
        True
    """
    slots.write(model, _weights_for(model, state_dict, dialect, head))
    return model


def load_weights(
    model: nnx.Module,
    path: weights.Source,
    *,
    dialect: str | None = None,
    head: Head = "load",
) -> nnx.Module:
    """Fills a model from a name, a file, several, a folder or a run.

    What this library wrote carries the config of its model, which is compared: another
    architecture is an error, and other frames, sizes or dropout a warning; a field that
    changes neither weights nor outputs (`indifferent` of the model's record) may
    differ. To load such weights nevertheless give `convert_state_dict` what
    `read_checkpoint` returns.

    Args:
        model: Any model of `jaxflow.models`; it is changed in place.
        path: Where the weights are; see `jaxflow.weights.read` for what it can be.
        dialect: As for `convert_state_dict`.
        head: As for `convert_state_dict`.

    Returns:
        `model`.

    Raises:
        ValueError: If it is no checkpoint, is damaged, or does not fit the model.
        OSError: If it is not there or cannot be read.

    Examples:
        >>> path = folder / "mine.safetensors"
        >>> jaxflow.save_weights(jaxflow.create_model("jaxflow_fast"), path)
        >>> model = jaxflow.create_model("jaxflow_fast", seed=1)
        >>> jaxflow.load_weights(model, path) is model
        True
    """
    _fill(model, weights.read(path), dialect, head)
    return model


def load_model(
    name: str | None,
    path: weights.Source | weights.Found,
    *,
    dialect: str | None = None,
    head: Head = "load",
    seed: int = 0,
    **overrides: Any,
) -> nnx.Module:
    """Builds a model that begins with weights, without drawing those first.

    Weights that this library wrote carry the config of their model. If that is no
    published variant's, such as the width of one's own run, the model has it, too.

    Args:
        name: One of `models.list_models()`; None takes the network that the weights
            say they are of.
        path: Where the weights are; see `jaxflow.weights.read` for what it can be.
        dialect: As for `convert_state_dict`.
        head: As for `convert_state_dict`.
        seed: Of what the weights leave open, such as a fresh classifier.
        **overrides: Fields of the config to replace; and the `dtype` that the network
            computes in, see `jaxflow.create_model`.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: If there is no such model or field, the weights do not say what they
            are of, or as `load_weights`.
        OSError: As `load_weights`.

    Examples:
        >>> path = folder / "mine.safetensors"
        >>> jaxflow.save_weights(jaxflow.create_model("jaxflow_fast"), path)
        >>> type(jaxflow.load_model(None, path)).__module__
        'jaxflow.models.flow.scale_shared'
    """
    _checks.seed("seed", seed)
    found = weights.read(path)
    name = recorded.name_of(found) if name is None else name
    kept = () if head == "load" else _OF_CLASSIFIER
    fields = recorded.fields_of(found.record, name).items()
    overrides = {field: x for field, x in fields if field not in kept} | overrides
    model = models.describe(name, **overrides)
    _fill(model, found, dialect, head)
    left = slots.unfilled(model)
    if any(not _is_random_state(leaf) for leaf in left.values()):
        drawn = models.create_model(name, seed=seed, **overrides)
        values = slots.weight_slots(drawn)
        slots.write(model, {p: values[p].variable[...] for p in left if p in values})
        left = slots.unfilled(model)
    slots.write(model, {path: _random_state(leaf, seed) for path, leaf in left.items()})
    return model


def load_pretrained(
    name: str,
    *,
    path: files.Path | None = None,
    cache: files.Path | None = None,
    head: Head = "load",
    **overrides: Any,
) -> nnx.Module:
    """Builds a network with published weights, which are downloaded if they may be.

    Args:
        name: "variant/data", e.g. "raft_large/chairs_things";
            `jaxflow.weights.published()` lists all. Of a network whose weights come
            with the package, such as "jaxflow_fast", the variant alone.
        path: The file, wherever it is; None looks for it in the cache, and downloads it
            if its licence permits.
        cache: Folder that holds the file under its authors' name; None for
            `$JAXFLOW_CACHE`, or else `~/.cache/jaxflow`.
        head: As for `convert_state_dict`.
        **overrides: Fields of the variant's config to replace; and the `dtype` that the
            network computes in, see `jaxflow.create_model`.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: If no weights have that name, or the file is not the published one.
        FileNotFoundError: If the file is not there and cannot be fetched; the message
            says who offers it and where to put it.
        OSError: If the download fails; the next call goes on with it.

    Examples:
        >>> model = jaxflow.load_pretrained("jaxflow_fast")
    """
    place, described = weights.pretrained(name, path=path, cache=cache)
    variant = name.partition("/")[0]
    config = {**described.config, **overrides}
    return load_model(variant, place, dialect=described.dialect, head=head, **config)


@functools.cache
def shipped_model(name: str) -> nnx.Module:
    """Returns a network whose weights come with the package; the same one every time.

    Args:
        name: One of `jaxflow.weights.shipped()`.

    Raises:
        ValueError: If no such network comes with it, or its file is damaged.
    """
    return load_pretrained(name)


def save_weights(model: nnx.Module, path: files.Path) -> None:
    """Writes a model's weights as safetensors, under our dotted paths.

    The header records the model's file, variant and config, which `load_weights`
    compares, and a checksum of each array, which every reading verifies. The file
    appears whole or not at all.

    Args:
        model: Any model of `jaxflow.models`.
        path: Where to write; it ends in .safetensors.

    Raises:
        ValueError: If it has another extension.
        OSError: If the file cannot be written.

    Examples:
        >>> model = jaxflow.create_model("jaxflow_fast")
        >>> jaxflow.save_weights(model, folder / "mine.safetensors")
    """
    if files.suffix(path) != ".safetensors":
        what = "weights are written as safetensors, so the name must end in"
        raise files.fault(path, f"{what} .safetensors; got {files.suffix(path)!r}")
    arrays = {
        path: np.array(jax.device_get(slot.variable[...]), order="C")
        for path, slot in slots.weight_slots(model).items()
    }
    record = weights.record_of(model)
    metadata = {"format": slots.OWN_DIALECT, "model": type(model).__module__}
    metadata["checksums"] = state_files.checksums_of(arrays)
    if record:
        config = json.dumps(record["config"])
        metadata |= {"variant": record["variant"], "config": config}
    with files.atomic_path(path) as temporary:
        try:
            safetensors.numpy.save_file(arrays, temporary, metadata=metadata)
        except safetensors.SafetensorError as error:
            # It is no OSError, and says: "I/O error: No space left on device".
            what = str(error).rpartition("I/O error: ")[2]
            raise OSError(f"{os.fspath(path)}: cannot be written: {what}") from error


def read_checkpoint(path: weights.Source) -> dict[str, np.ndarray]:
    """Reads the weights of a checkpoint as a flat dict, without running its code.

    Args:
        path: Where they are; see `jaxflow.weights.read` for what it can be.

    Returns:
        Key -> array. Nested tables are joined by dots; everything that is no array
        (epochs, options) and the state of optimisers is left out.

    Raises:
        ValueError: If it is damaged, foreign, claims more than it holds, or contains
            anything that would have to be executed.
        OSError: If it is not there or cannot be read.
    """
    return weights.read(path).arrays


def _weights_for(
    model: nnx.Module, state_dict: Mapping[str, Any], dialect: str | None, head: Head
) -> dict[str, jax.Array]:
    """Returns our path -> weight in our layout; raises if anything does not fit."""
    _checks.one_of("head", head, HEADS)
    state = state_files.only_arrays(state_files.unwrap(state_dict))
    tables = slots.key_tables(model)
    if dialect is not None and dialect not in tables:
        raise ValueError(f"`dialect` must be one of {sorted(tables)}; got {dialect!r}")
    names = [dialect] if dialect is not None else list(tables)
    classifier = set() if head == "load" else matching.head_paths(model)
    if head == "fresh" and not classifier:
        raise ValueError("head='fresh': the model has no classes, and so no classifier")
    skip = classifier if head == "fresh" else set()
    plan = matching.best_plan(model, state, names, skip=skip)
    if head == "match" and plan.misshapen and plan.misshapen.keys() <= classifier:
        plan = matching.best_plan(model, state, names, skip=classifier)
    if plan.faults():
        kind = recorded.kind_of(model)
        what = f"does not fit {kind} (read as {plan.dialect!r}): {plan.explain()}"
        hint = advice.what_fits(plan, model, state)
        raise ValueError(f"the state dict {what}" + (f". {hint}" if hint else ""))
    matching.check_config(model, plan.dialect)
    for path, (slot, array) in plan.found.items():
        matching.check_numbers(path, array, slot.variable.dtype)
    return {path: slot.converted(array) for path, (slot, array) in plan.found.items()}


def _fill(
    model: nnx.Module, found: weights.Found, dialect: str | None, head: Head
) -> None:
    """Fills a model with weights, whose record is compared; raises if they misfit."""
    try:
        values = _weights_for(model, found.arrays, dialect or found.dialect, head)
    except ValueError as error:
        source = recorded.source_of(found.record, model)
        saved = f". It was saved from {source}" if source else ""
        hard, _ = _differences(found, model, head)
        saved += f" with {_way_out(found, model, hard)}" if saved and hard else ""
        raise ValueError(f"{found.where}: {error}{saved}") from None
    _compare(found, model, head)
    slots.write(model, values)


def _differences(
    found: weights.Found, model: nnx.Module, head: Head
) -> tuple[list[str], list[str]]:
    """Returns which fields of the recorded config make another network, or clips."""
    own = weights.record_of(model)
    if not found.record or not own or found.record["model"] != own["model"]:
        return [], []
    theirs, ours = found.record["config"], own["config"]
    indifferent = spec.record_of(model).indifferent
    differ = [
        field
        for field in ours
        if field in theirs
        and theirs[field] != ours[field]
        and field not in (*_OF_INITIAL_WEIGHTS, *indifferent)
        and not (field in _OF_CLASSIFIER and head != "load")
    ]
    hard = [field for field in differ if field not in _OF_CLIPS]
    return hard, [field for field in differ if field in _OF_CLIPS]


def _pairs(found: weights.Found, model: nnx.Module, fields: list[str]) -> str:
    """Names fields with their two values, the first few of many."""
    theirs, ours = found.record["config"], weights.record_of(model)["config"]
    shown = fields[: matching.SHOWN]
    pairs = ", ".join(f"{f}={theirs[f]!r} ({f}={ours[f]!r} here)" for f in shown)
    return pairs + (", ..." if len(fields) > len(shown) else "")


def _way_out(found: weights.Found, model: nnx.Module, fields: list[str]) -> str:
    """Names fields that differ, and says how to make the model that fits."""
    variant, config = found.record.get("variant"), found.record["config"]
    if not recorded.is_ours(found.record["model"]):
        values = {field: recorded.plain(config[field]) for field in fields}
        told = ", ".join(f"{field}={value!r}" for field, value in values.items())
        kind = recorded.kind_of(model)
        return f"{_pairs(found, model, fields)}; build {kind} with {told}"
    what = f"create {variant}, or " if variant else ""
    told = " ".join(f"--option {field}={_word(config[field])}" for field in fields)
    return (
        f"{_pairs(found, model, fields)}; {what}let `jaxflow.load_model(None, path)` "
        f"make the model; on the command line, {told}"
    )


def _word(value: Any) -> str:
    """Returns a value of a config as one word of the command line."""
    return repr(value).replace(" ", "").strip("'")


def _compare(found: weights.Found, model: nnx.Module, head: Head) -> None:
    """Compares the recorded model with the one to fill.

    Raises:
        ValueError: If they are of another architecture; it names the fields.
    """
    own = weights.record_of(model)
    if not found.record or not own:
        return
    name, here = found.record["model"], own["model"]
    if name != here:
        what = f"not of {recorded.kind_of(model)}"
        if recorded.is_ours(name):
            theirs = name.rpartition(".")[2]
            raise ValueError(f"{found.where}: the weights are of {theirs}, {what}")
        raise ValueError(
            f"{found.where}: the weights are of a class of {name}, {what}; if it is "
            "the same, fill it by `jaxflow.convert_state_dict(model, "
            "jaxflow.convert.read_checkpoint(path))`"
        )
    hard, soft = _differences(found, model, head)
    if hard:
        raise ValueError(
            f"{found.where}: the weights were saved from another config: "
            f"{_way_out(found, model, hard)}"
        )
    if soft:
        what = f"{found.where}: the weights were saved from a model with "
        warnings.warn(what + _pairs(found, model, soft), stacklevel=4)


def _is_random_state(leaf: jax.ShapeDtypeStruct) -> bool:
    """Tells whether a leaf is part of a random stream: a key, or its counter."""
    return not jnp.issubdtype(leaf.dtype, jnp.floating)


def _random_state(leaf: jax.ShapeDtypeStruct, seed: int) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(seed), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)
