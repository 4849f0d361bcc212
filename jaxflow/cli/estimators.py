"""Estimators of flow, as ``jaxflow flow`` and ``jaxflow evaluate`` are told them."""

import argparse
from typing import Any

from jaxflow.cli import common


def add_options(add) -> None:
    """Adds the options of an estimator."""
    helps = {
        "weights": "of a network: files, a pattern of their names, a folder of a "
        "training run, or a published name such as pwcnet/chairs",
        "tile": "cut larger frames into tiles of this size, to save memory",
        "option": "option of the estimator, such as iterations=32; may be repeated",
    }
    add("--weights", nargs="+", metavar="FILE", help=helps["weights"])
    add("--tile", type=common.whole, metavar="PX", help=helps["tile"])
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)


def load(name: str, weights: list[str] | None) -> Any:
    """Returns a network with its weights, or the name of a classical method."""
    from jaxflow import classical, convert, models
    from jaxflow import weights as sources

    if name in classical.METHODS:
        if weights:
            raise ValueError(f"--weights: {name} is a classical method and has none")
        return name
    if name in sources.published() and not weights:
        return convert.load_pretrained(name)
    if name not in models.list_models("flow"):
        raise ValueError(
            f"--model: no estimator of flow is named {name!r}; the classical methods "
            f"are {', '.join(sorted(classical.METHODS))}, the networks "
            f"{', '.join(models.list_models('flow'))}"
        )
    return network(name, weights, {})


def network(name: str, weights: list[str] | None, overrides: dict[str, Any]) -> Any:
    """Returns a network with weights from files, a folder, or published ones by name.

    Args:
        name: Of the network.
        weights: What `--weights` was given.
        overrides: Fields of its config.
    """
    from jaxflow import convert
    from jaxflow import weights as sources

    if not weights:
        known = [key for key in sources.published() if key.startswith(f"{name}/")]
        raise ValueError(
            f"--weights: {name} needs a file of weights"
            + (f", or the name of published ones: {', '.join(known)}" if known else "")
        )
    source = weights[0] if len(weights) == 1 else weights
    return convert.load_model(name, source, **overrides)


def keywords(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the keywords of `estimate_flow` that the options ask for."""
    keywords = {"tile": args.tile, "options": common.parse_options(args)}
    if args.tile:
        keywords["overlap"] = min(64, args.tile // 4)
    return keywords
