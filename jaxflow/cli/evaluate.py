"""``jaxflow evaluate``: the errors of estimators of flow, and of recognition."""

import argparse
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxflow.cli import common, estimators, evaluate_video, paths, worst
from jaxflow.data import folders
from jaxflow.io import files


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Measure estimators of flow, or recognition networks, on data sets"
    example = (
        "jaxflow evaluate flow --model zero --model tvl1 --data sintel_clean=SINTEL"
    )
    add = common.add_command(commands, "evaluate", run, about, example).add_argument
    helps = {
        "model": "what is measured: a network, published weights in the cache such as "
        "pwcnet/chairs, a classical method, or zero; may be repeated",
        "task": "what is measured: flow, or video for the classes of videos",
        "data": f"what it is measured on, may be repeated; of flow, NAME is one of "
        f"{', '.join(folders.LAYOUTS)}"
        "; of video, DIR is a folder of a folder a class, or a list of videos and "
        "their labels, and NAME is a name for the table",
        "split": "part of the data: train, val or test (default: train of flow, test "
        "of video)",
        "limit": "take N pairs or videos only, spread evenly",
        "all": "every estimator with weights at hand, zero flow included, with its "
        "time, memory and parameters; on scenes drawn here without --data",
        "worst": "draw the N pairs of each data set with the largest errors, into "
        "--pictures: frame, true flow, estimate, error; or frames of the N videos "
        "whose true class has the lowest score",
        "pictures": "folder that these pictures go into",
        "output": "write the numbers, too, as JSON (.json), a table of Markdown (.md) "
        "or comma-separated values (.csv)",
    }
    many = {"action": "append", "default": []}
    add("task", choices=["flow", "video"], help=helps["task"])
    add("--model", metavar="NAME[=FILE]", help=helps["model"], **many)
    add("--all", action="store_true", help=helps["all"])
    estimators.add_options(add)
    add("--data", metavar="NAME=DIR", help=helps["data"], **many)
    add("--split", help=helps["split"])
    add("--limit", type=common.whole, metavar="N", help=helps["limit"])
    add("--worst", type=common.whole, metavar="N", help=helps["worst"])
    add("--pictures", metavar="DIR", help=helps["pictures"])
    add("-o", "--output", metavar="FILE", help=helps["output"])
    common.add_json(add)
    evaluate_video.add_options(add)


def run(args: argparse.Namespace) -> None:
    """Prints a table of errors for every data set."""
    if args.all == bool(args.model):
        raise ValueError("--model: name the estimators, or give --all")
    if args.weights and (args.all or len(args.model) > 1):
        raise ValueError(
            "--weights: there are several models; give each its own, --model NAME=FILE"
        )
    if (args.worst is None) != (args.pictures is None):
        raise ValueError("--worst and --pictures: give both, or neither")
    check_output(args)
    if args.task == "video":
        tables = evaluate_video.measure(args)
    else:
        tables = measure(args)
    if args.output:
        _write(args.output, tables)
        common.wrote(args, args.output)


def check_output(args: argparse.Namespace) -> None:
    """Raises unless the numbers can be written where they shall be."""
    if args.output:
        paths.check_file("--output", args.output)
        roots = [word.partition("=")[2] for word in args.data]
        weights = [word.partition("=")[2] for word in args.model]
        options = estimators.files_of(args.option)
        read = filter(None, (*roots, *weights, *(args.weights or ()), *options))
        paths.check_targets([("--output", args.output)], read)
        paths.check_suffix("--output", args.output, (".json", ".md", ".csv"))


def measure(args: argparse.Namespace) -> dict[str, dict]:
    """Prints and returns the errors of estimators of flow."""
    evaluate_video.refuse(args)
    if not (args.all or args.data):
        raise ValueError("--data: give NAME=DIR, or --all for scenes drawn here")
    data: list[tuple[str, Any]] = [_load_data(word, args) for word in args.data]
    if args.pictures:
        paths.make_folder("--pictures", args.pictures)

    from jaxflow import evaluate

    data = data or [("scenes", _scenes(args.limit or 8))]
    words = _at_hand() if args.all else args.model
    loaded = (load_model(word, args) for word in words)
    if not args.all:  # What is at hand is known to be good, and may be large.
        loaded = list(loaded)
    tables: dict[str, dict] = {name: {} for name, _ in data}
    for word, (model, options) in zip(words, loaded, strict=True):
        keywords = {"options": options, **estimators.keywords(args)}
        estimator = functools.partial(estimate_pair, model, keywords)
        for name, dataset in data:
            bar = common.progress(
                dataset, "pair", about=f"{word} on {name}", quiet=args.quiet
            )
            seen = worst.Worst(args.worst or 0)
            row = evaluate.evaluate_flow(estimator, bar, watch=seen.add)
            if args.pictures:
                for path in seen.write(args.pictures, f"{name}_{word}"):
                    common.wrote(args, path)
            if args.all:
                row |= _costs(model, keywords, *next(iter(dataset))[:2])
            tables[name][word] = row
    if args.json:
        common.print_json(tables)
    else:
        for name, rows in tables.items():
            print(evaluate.format_table(rows, columns=_columns(args, rows), title=name))
    return tables


def _columns(args: argparse.Namespace, rows: dict[str, dict]) -> tuple[str, ...]:
    """Returns the columns to print: what is matched only where it is known."""
    from jaxflow import evaluate

    more = ("matched", "unmatched")
    known = any(more[0] in row for row in rows.values())
    first, second, *rest = evaluate.COLUMNS
    sizes = ("parameters", "MiB") * args.all
    return (*sizes, first, second, *(more * known), *rest)


def _write(path: str, tables: dict[str, dict]) -> None:
    """Writes the numbers in the format that the name of the file asks for."""
    from jaxflow import evaluate

    tables = common.shortened(tables)
    if files.suffix(path) == ".csv":
        text = evaluate.format_csv(tables)
    elif files.suffix(path) == ".md":
        text = evaluate.format_markdown(tables)
    else:
        text = files.json_text(tables, indent=2)
    files.write_bytes(path, text.encode())


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


class _Pairs(Sequence):
    """The pairs of a folder, with what is hidden where the authors say it."""

    def __init__(self, folder: folders.Folder):
        self.folder = folder
        self.known = folders.read_occluded(folder.pairs[0]) is not None

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index):
        if not self.known:
            return self.folder[index]
        pair = self.folder.pairs[index]
        occluded = folders.read_occluded(pair)
        if occluded is None:
            raise files.fault(
                pair.flow, "has no picture of what is hidden, which other pairs have"
            )
        return (*self.folder[index], occluded)


def _load_data(word: str, args: argparse.Namespace) -> tuple[str, _Pairs]:
    """Opens a data set that is given as NAME=DIR."""
    name, equals, root = word.partition("=")
    if not equals or name not in folders.LAYOUTS:
        raise ValueError(
            f"--data: give NAME=DIR, NAME one of {', '.join(folders.LAYOUTS)}; "
            f"got {word!r}"
        )
    folder = folders.Folder(name, root, split=args.split or "train", limit=args.limit)
    return name, _Pairs(folder)


def load_model(word: str, args: argparse.Namespace) -> tuple[Any, dict]:
    """Returns the estimator that is given as NAME or NAME=FILE, and its options.

    None is zero flow.
    """
    name, _, path = word.partition("=")
    if name == "zero":
        return None, {}
    return estimators.load(name, [path] if path else args.weights, args.option)


def estimate_pair(
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
