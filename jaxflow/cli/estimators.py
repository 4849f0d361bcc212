"""Estimators of flow, as ``jaxflow flow`` and ``jaxflow evaluate`` are told them."""

import argparse
import os
from typing import Any

from jaxflow.cli import common


def add_options(add) -> None:
    """Adds the options of an estimator."""
    helps = {
        "weights": "of a network: files, a folder of a training run, or a published "
        "name such as pwcnet/chairs",
        "tile": "cut larger frames into tiles of this size, to save memory",
        "option": "option of the estimator, such as iterations=32; may be repeated",
    }
    add("--weights", nargs="+", metavar="FILE", help=helps["weights"])
    add("--tile", type=common.whole, metavar="PX", help=helps["tile"])
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)


def load(name: str, weights: list[str] | None) -> Any:
    """Returns a network with its weights, or the name of a classical method."""
    from jaxflow import checkpoint, classical, models

    if name in classical.METHODS:
        if weights:
            raise ValueError(f"--weights: {name} is a classical method and has none")
        return name
    if name in checkpoint.published() and not weights:
        return checkpoint.load_pretrained(name)
    if name not in models.list_models("flow"):
        raise ValueError(
            f"--model: no estimator of flow is named {name!r}; the classical methods "
            f"are {', '.join(sorted(classical.METHODS))}, the networks "
            f"{', '.join(models.list_models('flow'))}"
        )
    if not weights:
        known = [key for key in checkpoint.published() if key.startswith(f"{name}/")]
        raise ValueError(
            f"--weights: {name} is a network and needs a file of weights"
            + (f", or the name of published ones: {', '.join(known)}" if known else "")
        )
    model = models.create_model(name)
    fill(model, weights)
    return model


def fill(model: Any, weights: list[str]) -> None:
    """Fills a model from files, from a folder, or from published weights by name."""
    from jaxflow import checkpoint, convert

    first = weights[0]
    if not os.path.exists(first) and first in checkpoint.published():
        path, _ = checkpoint.pretrained(first)
        convert.load_weights(model, path)
    elif os.path.isdir(first):
        checkpoint.restore(first, model)
    else:
        convert.load_weights(model, first if len(weights) == 1 else weights)


def keywords(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the keywords of `estimate_flow` that the options ask for."""
    keywords = {"tile": args.tile, "options": common.parse_options(args)}
    if args.tile:
        keywords["overlap"] = min(64, args.tile // 4)
    return keywords
