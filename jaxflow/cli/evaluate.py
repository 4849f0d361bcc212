"""``jaxflow evaluate``: the errors of estimators on data sets."""

import argparse
import functools
from typing import Any

import numpy as np

from jaxflow.cli import common, estimators, paths
from jaxflow.data import folders
from jaxflow.io import files


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Measure estimators of flow on data sets"
    example = (
        "jaxflow evaluate flow --model zero --model tvl1 --data sintel_clean=SINTEL"
    )
    add = common.add_command(commands, "evaluate", run, about, example).add_argument
    helps = {
        "model": "may be repeated; a network, published weights in the cache such as "
        "pwcnet/chairs, a classical method, or zero",
        "data": f"may be repeated; NAME is one of {', '.join(folders.LAYOUTS)}",
        "split": "train (default), val or test",
        "limit": "N pairs only, spread evenly",
        "all": "every estimator with weights at hand, zero flow included, with its "
        "time, memory and parameters; on scenes drawn here without --data",
        "output": "write the numbers as JSON, too",
    }
    many = {"action": "append", "default": []}
    add("task", choices=["flow"], help="what is measured")
    add("--model", metavar="NAME[=FILE]", help=helps["model"], **many)
    add("--all", action="store_true", help=helps["all"])
    estimators.add_options(add)
    add("--data", metavar="NAME=DIR", help=helps["data"], **many)
    add("--split", default="train", help=helps["split"])
    add("--limit", type=common.whole, metavar="N", help=helps["limit"])
    add("-o", "--output", metavar="FILE", help=helps["output"])


def run(args: argparse.Namespace) -> None:
    """Prints a table of errors for every data set."""
    if args.all == bool(args.model):
        raise ValueError("--model: name the estimators, or give --all")
    if args.weights and (args.all or len(args.model) > 1):
        raise ValueError(
            "--weights: there are several models; give each its own, --model NAME=FILE"
        )
    if not (args.all or args.data):
        raise ValueError("--data: give NAME=DIR, or --all for scenes drawn here")
    if args.output:
        paths.check_file("--output", args.output)
        roots = [word.partition("=")[2] for word in args.data]
        weights = [word.partition("=")[2] for word in args.model]
        options = estimators.files_of(args.option)
        read = filter(None, (*roots, *weights, *(args.weights or ()), *options))
        paths.check_targets([("--output", args.output)], read)
    data: list[tuple[str, Any]] = [_load_data(word, args) for word in args.data]

    from jaxflow import evaluate

    data = data or [("scenes", _scenes(args.limit or 8))]
    words = _at_hand() if args.all else args.model
    loaded = (_load_for_evaluation(word, args) for word in words)
    if not args.all:  # What is at hand is known to be good, and may be large.
        loaded = list(loaded)
    tables: dict[str, dict] = {name: {} for name, _ in data}
    for word, (model, options) in zip(words, loaded, strict=True):
        keywords = {"options": options, **estimators.keywords(args)}
        estimator = functools.partial(_estimate, model, keywords)
        for name, dataset in data:
            bar = common.progress(
                dataset, "pair", about=f"{word} on {name}", quiet=args.quiet
            )
            row = evaluate.evaluate_flow(estimator, bar)
            if args.all:
                row |= _costs(model, keywords, *next(iter(dataset))[:2])
            tables[name][word] = row
    columns = ("parameters", "MiB") * args.all + evaluate.COLUMNS
    for name, rows in tables.items():
        print(evaluate.format_table(rows, columns=columns, title=name))
    if args.output:
        files.write_bytes(args.output, files.json_text(tables, indent=2).encode())
        common.wrote(args, args.output)


def _at_hand() -> list[str]:
    """Returns every estimator that can run here: published weights if they are here."""
    from jaxflow import classical, models, weights

    known = sorted(weights.published())
    networks = models.list_models("flow")
    here = [name for name in known if name.partition("/")[0] in networks]
    here = [name for name in here if weights.place_of(name).is_file()]
    return ["zero", *sorted(classical.METHODS), *here]


def _scenes(count: int) -> list[tuple[np.ndarray, ...]]:
    """Draws pairs like those of FlyingChairs, with their flow."""
    import jax

    from jaxflow.data import synthetic

    draw = jax.jit(functools.partial(synthetic.flow_pair, size=(256, 320)))
    pairs = []
    for index in range(count):
        scene = jax.device_get(draw(jax.random.key(index)))
        frames = (np.rint(255 * scene[f"image{i}"]).astype(np.uint8) for i in (1, 2))
        flow = scene["flow"]
        pairs.append((*frames, flow, np.ones(flow.shape[:2], bool)))
    return pairs


def _load_data(word: str, args: argparse.Namespace) -> tuple[str, folders.Folder]:
    """Opens a data set that is given as NAME=DIR."""
    name, equals, root = word.partition("=")
    if not equals or name not in folders.LAYOUTS:
        raise ValueError(
            f"--data: give NAME=DIR, NAME one of {', '.join(folders.LAYOUTS)}; "
            f"got {word!r}"
        )
    return name, folders.Folder(name, root, split=args.split, limit=args.limit)


def _load_for_evaluation(word: str, args: argparse.Namespace) -> tuple[Any, dict]:
    """Returns the estimator that is given as NAME or NAME=FILE, and its options.

    None is zero flow.
    """
    name, _, path = word.partition("=")
    if name == "zero":
        return None, {}
    return estimators.load(name, [path] if path else args.weights, args.option)


def _estimate(
    model: Any, keywords: dict[str, Any], frame1: np.ndarray, frame2: np.ndarray
) -> np.ndarray:
    """Returns the flow of two frames of a data set."""
    if model is None:
        return np.zeros((*frame1.shape[:2], 2), np.float32)

    from jaxflow import estimate

    one, two = common.uint8_or_float(frame1), common.uint8_or_float(frame2)
    return estimate.estimate_flow(model, one, two, **keywords)


def _costs(
    model: Any, keywords: dict[str, Any], frame1: np.ndarray, frame2: np.ndarray
) -> dict[str, Any]:
    """Returns the size of an estimator, and the memory that frames of a size need."""
    if model is None:
        return {"parameters": 0, "MiB": 0.0}

    from jaxflow import cost, estimate

    seen = np.s_[: keywords.get("tile"), : keywords.get("tile")]
    one, two = (common.uint8_or_float(frame[seen]) for frame in (frame1, frame2))
    need = estimate.memory_of_flow(model, one, two, options=keywords["options"])
    count = 0 if isinstance(model, str) else cost.count_parameters(model)
    return {"parameters": count, "MiB": need / 2**20}
