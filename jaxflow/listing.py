"""What ``jaxflow models`` lists: read from tables, so that no network is imported.

Two files hold it: ``costs.json`` what networks cost (see `cost`), ``listing.json`` the
rest, with a digest of what each model's file says about its variants. Where a digest
does not fit, the networks are asked themselves.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any

from jaxflow.io import files

COSTS = pathlib.Path(__file__).with_name("costs.json")
TABLE = pathlib.Path(__file__).with_name("listing.json")
"""What else is listed; ``jaxflow models --measure`` writes both."""

_MODELS = pathlib.Path(__file__).with_name("models")
_SAYS = re.compile(
    r"^(?:VARIANTS|PUBLISHED|WEIGHTS|RECORD|_[A-Z])\b.*\n(?:(?:[ )}\]].*)?\n)*", re.M
)
_COSTS = ("parameters", "multiple", "multiply_adds", "num_frames", "crop_size")

Rows = dict[str, dict[str, Any]]


def rows(task: str | None = None) -> Rows:
    """Returns what is known of networks, and of methods without weights, by name.

    Args:
        task: "flow", "video" or "generation"; None lists all of them.
    """
    found = read()
    if found is None:
        found = ask()
    return {name: row for name, row in found.items() if task in (None, row["task"])}


def read() -> Rows | None:
    """Reads the tables; None where one is missing, or older than the models' files."""
    try:
        costs, table = (json.loads(path.read_text()) for path in (COSTS, TABLE))
    except FileNotFoundError:
        return None
    known = table["networks"]
    if table["digests"] != digests() or not known.keys() <= costs.keys():
        return None
    whole = {name: _row(row, costs[name]) for name, row in known.items()}
    return whole | {name: _method() for name in table["methods"]}


def ask() -> Rows:
    """Asks the networks themselves, which imports all of them."""
    from jaxflow import cost, models

    found = {}
    for name in models.list_models():
        found[name] = _row(_says(name), dataclasses.asdict(cost.listed(name)))
    return found | {name: _method() for name in _methods()}


def write() -> None:
    """Writes the table of what is listed beside costs, a line for each entry.

    Raises:
        OSError: If the package's folder cannot be written to.
    """
    from jaxflow import models

    parts = {
        "digests": digests(),
        "methods": dict.fromkeys(_methods(), True),
        "networks": {name: _says(name) for name in models.list_models()},
    }
    text = []
    for part, entries in parts.items():
        lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items())
        text.append(f"{json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n}")
    files.write_bytes(TABLE, ("{\n" + ",\n".join(text) + "\n}\n").encode())


def digests() -> dict[str, str]:
    """Returns a digest of what each model's file says about its variants."""
    found = {}
    for path in sorted(_MODELS.glob("*/*.py")):
        said = _SAYS.findall(path.read_text(encoding="utf-8"))
        says = "\n".join(part.rstrip() for part in said)
        if "RECORD" in says:
            name = f"{path.parent.name}/{path.stem}"
            found[name] = hashlib.sha256(says.encode()).hexdigest()[:16]
    return found


def _says(name: str) -> dict[str, Any]:
    """Returns what a network's own file says about it."""
    from jaxflow import models

    module = models.find(name)
    known = module.RECORD.published.get(name)
    published = module.RECORD.weights.items()
    licences = {w.licence for key, w in published if key.startswith(f"{name}/")}
    return {
        "task": models.task_of(module),
        "published": None if known is None else dataclasses.asdict(known),
        "weights": "; ".join(sorted(licences)) or "none published",
    }


def _row(says: dict[str, Any], costs: dict[str, Any]) -> dict[str, Any]:
    """Joins what a file says of a network with what it costs."""
    return {
        "task": says["task"],
        **{field: costs.get(field) for field in _COSTS},
        "published": says["published"],
        "weights": says["weights"],
    }


def _methods() -> list[str]:
    """Returns the methods without weights."""
    from jaxflow import classical

    return sorted(classical.METHODS)


def _method() -> dict[str, Any]:
    return {"task": "flow", "parameters": 0, "multiple": 1, "weights": "none needed"}
