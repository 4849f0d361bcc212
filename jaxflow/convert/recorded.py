"""The network that weights say they are of, where this library wrote them."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxflow import models, weights


def is_ours(module: str) -> bool:
    """Tells whether a module is of this library's models, which have names."""
    return module.startswith(f"{models.__name__}.")


def kind_of(model: nnx.Module) -> str:
    """Returns what messages call a model: our file, or the class of anybody else's."""
    module = type(model).__module__
    return module.rpartition(".")[2] if is_ours(module) else type(model).__name__


def source_of(record: Mapping[str, Any], model: nnx.Module) -> str:
    """Returns what messages call the model that weights are of, or "".

    Args:
        record: Of the weights.
        model: The one that they are for; of a class of one's own the file is recorded,
            and taken to be the same class where that is the same.
    """
    module = record.get("model", "")
    if not module or is_ours(module):
        return record.get("variant") or module.rpartition(".")[2]
    same = module == type(model).__module__
    return kind_of(model) if same else f"a class of {module}"


def name_of(found: weights.Found) -> str:
    """Returns the name of the network that weights are of.

    Where its config is none of the variants', it is the first variant of its file, and
    `fields_of` tells what differs.

    Raises:
        ValueError: If the weights do not say, or are of no network of this library.
    """
    record = found.record
    for name in models.list_models() if record else ():
        if models.find(name).__name__ == record["model"]:
            return record.get("variant") or _first(name)
    if record:
        raise ValueError(
            f"{found.where} holds weights of a class of {record['model']}, which is no "
            "model of this library: build it, and fill it by `jaxflow.load_weights`"
        )
    raise ValueError(
        f"{found.where} does not say which network it is of, as weights do that this "
        "library writes: name it"
    )


def fields_of(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the fields of the config that weights record for a network of that name.

    It is {} if they are of another file, or of a variant: then it is the name that
    counts.

    Args:
        record: From `weights.record_of`, as JSON has it; or {}.
        name: Of a variant.
    """
    if not record:
        return {}
    module = models.find(name)
    if record.get("model") != module.__name__ or record.get("variant"):
        return {}
    config = module.RECORD.variants[models.current(name)]
    return {
        field: plain(value)
        for field, value in record["config"].items()
        if hasattr(config, field)
    }


def _first(name: str) -> str:
    """Returns the first variant of the file that a variant is in."""
    return next(iter(models.find(name).RECORD.variants))


def plain(value: Any) -> Any:
    """Returns a value of a config, whose lists are tuples, from JSON."""
    return tuple(map(plain, value)) if isinstance(value, list) else value
