"""Estimators of flow, as ``jaxflow flow`` and ``jaxflow evaluate`` are told them."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from jaxflow.cli import common, options


def add_options(add) -> None:
    """Adds the options of an estimator."""
    helps = {
        "weights": "weights of a network: files, a pattern of their names, a folder "
        "of a "
        "training run, or a published name such as pwcnet/chairs",
        "tile": "cut larger frames into tiles of this size, to save memory",
        "option": "option of the estimator, such as iterations=32, or field of its "
        "config, such as correlation=on_demand; initial_flow=FILE starts from a flow; "
        "may be repeated",
    }
    add("--weights", nargs="+", metavar="FILE", help=helps["weights"])
    add("--tile", type=common.whole, metavar="PX", help=helps["tile"])
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)
    add_precision(add)


def add_precision(add) -> None:
    """Adds the option that says how products of float32 numbers are computed."""
    about = "how exact products are: highest (default), or high or default, which are "
    about += "faster and less exact on a GPU or TPU"
    names = ("highest", "high", "default")
    add("--precision", choices=names, default="highest", help=about)


def load(
    name: str | None, weights: list[str] | None, words: Sequence[str] = ()
) -> tuple[Any, dict[str, Any]]:
    """Returns an estimator, and the options of its call.

    Args:
        name: Of a classical method, a network, or published weights; None takes the
            network that `weights` say they are of.
        weights: What `--weights` was given.
        words: What `--option` was given: keywords of the call, or fields of the config.

    Returns:
        A network with its weights, or the name of the method; and its keywords.
    """
    from jaxflow import _checks, classical, models
    from jaxflow import weights as sources

    name, weights = named(name, weights)
    if name in classical.METHODS:
        if weights:
            raise ValueError(f"--weights: {name} is a classical method and has none")
        kinds = options.of_call(classical.METHODS[name])
        return name, options.read(words, kinds, name)
    if not weights and name in sources.shipped():
        name = sources.shipped()[name]
    if name in sources.published() and not weights:
        name, weights = name.partition("/")[0], [name]
    if name not in models.list_models("flow"):
        known = [*classical.METHODS, *models.list_models("flow"), *sources.published()]
        advice = _checks.nearest(name, known, "`jaxflow models --task flow`")
        raise ValueError(f"--model: no estimator of flow is named {name!r}; {advice}")
    module = models.find(name)
    call = options.of_call(module.Model.__call__)
    kinds = options.of_config(module.RECORD.variants[name]) | call
    found = options.read(words, kinds, name)
    overrides = {key: found.pop(key) for key in list(found) if key not in call}
    return network(name, weights, overrides), found


def named(name: str | None, weights: Any) -> tuple[str, Any]:
    """Returns the name of an estimator, and its weights, which were read if need be.

    Args:
        name: What `--model` was given; None takes the network that the weights are of,
            as their own record or their published name says.
        weights: What `--weights` was given.

    Raises:
        ValueError: If they do not say it.
    """
    if name is not None:
        return name, weights
    if not weights:
        raise ValueError("--model: name one, or give --weights that say what they are")

    from jaxflow import weights as sources
    from jaxflow.convert import recorded

    source = weights[0] if len(weights) == 1 else weights
    if source in sources.published():
        return source.partition("/")[0], weights
    found = sources.read(source)
    try:
        return recorded.name_of(found), [found]
    except ValueError as error:
        raise ValueError(f"--model: {error}") from None


def check_name(name: str, task: str, kind: str) -> None:
    """Raises ValueError unless a network of a task has this name.

    Args:
        name: What `--model` was given.
        task: "flow", "video" or "generation".
        kind: What such networks are called, for the message.
    """
    from jaxflow import _checks, models

    names = models.list_models(task)
    if name not in names:
        advice = _checks.nearest(name, names, f"`jaxflow models --task {task}`")
        raise ValueError(f"--model: no {kind} is named {name!r}; {advice}")


def network(name: str, weights: Any, overrides: dict[str, Any]) -> Any:
    """Returns a network with weights from files, a folder, or published ones by name.

    Args:
        name: Of the network.
        weights: What `--weights` was given, or what `named` returned.
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


def overrides(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Returns the fields of a network's config that `--option` names."""
    from jaxflow import models

    name = models.current(name)
    kinds = options.of_config(models.find(name).RECORD.variants[name])
    return options.read(words, kinds, name)


def files_of(words: Sequence[str]) -> list[str]:
    """Returns the files that `--option` names, such as initial_flow=FILE."""
    values = [word.partition("=")[2] for word in words]
    return [value for value in values if os.path.isfile(value)]


def keywords(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the keywords of `estimate_flow` that --tile and --precision ask for."""
    found = {"precision": args.precision}
    if args.tile:
        found |= {"tile": args.tile, "overlap": min(64, args.tile // 4)}
    return found
