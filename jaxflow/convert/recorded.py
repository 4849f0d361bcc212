"""The network that weights say they are of, where this library wrote them."""

from collections.abc import Mapping
from typing import Any

from jaxflow import models, weights


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
        field: _plain(value)
        for field, value in record["config"].items()
        if hasattr(config, field)
    }


def _first(name: str) -> str:
    """Returns the first variant of the file that a variant is in."""
    return next(iter(models.find(name).RECORD.variants))


def _plain(value: Any) -> Any:
    """Returns a value of a config, whose lists are tuples, from JSON."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value
