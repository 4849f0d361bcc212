"""The command line: ``jaxflow models | flow | classify | evaluate | convert | demo``.

What is asked for is checked before it is computed. Bad input ends with one line on
the standard error and exit code 2. JAX is imported by the commands that need it, so
that help is quick.
"""

import argparse
import ast
import functools
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import tqdm

from jaxflow import io, viz
from jaxflow.data import folders
from jaxflow.io import files, frames, image, video
from jaxflow.io import flow as flow_files

DEFAULT_METHOD = "tvl1"
"""What `flow` and `evaluate` use unless told: it needs no weights."""

NOTE_ON_COSTS = """
GMACs are billions of multiply-adds of convolutions and products for one clip of that
many frames and size, at which the published figure is given. What is published is
printed as its source has it; ! marks what differs by more than its last digit:"""

MOST_FRAMES = 8
"""Frames that a picture of a Grad-CAM shows."""

PROGRESS_AFTER = 0.5
"""Seconds until progress is shown, so that quick work is silent."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Words of the command line, without the program; None takes the process's.

    Returns:
        0 if it went well, 2 if the input was bad, 130 if it was interrupted.

    Raises:
        SystemExit: After --help and --version (0), and if the words make no command
            (2).
    """
    words = sys.argv[1:] if argv is None else list(argv)
    # The demo has a parser of its own.
    args = _parser().parse_args(words[:1] if words[:1] == ["demo"] else words)
    try:
        if args.command == "demo":
            from jaxflow import demo

            return demo.main(words[1:]) or 0
        args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"jaxflow {args.command}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _models(args: argparse.Namespace) -> None:
    """Prints every model: what it costs, and what others say about that."""
    from jaxflow import classical, evaluate, models

    flow = args.task != "video"
    if flow:
        names = [n for n in models.list_models(args.task) if not _is_video(n)]
        rows = {name: _describe(name) for name in _progress(names, "model")}
        if args.task in (None, "flow"):
            about = {
                "task": "flow",
                "parameters": 0,
                "multiple": 1,
                "weights": "none needed",
            }
            rows |= {name: about for name in sorted(classical.METHODS)}
        columns = ("task", "parameters", "multiple", "weights")
        print(evaluate.format_table(rows, columns=columns, title="model"))
    if args.task in (None, "video"):
        names = models.list_models("video")
        rows = {name: _describe_video(name) for name in _progress(names, "model")}
        notes = [f"  {name}: {row.pop('note')}" for name, row in rows.items()]
        columns = (
            *("task", "parameters", "published M", "GMACs", "published G"),
            *("clip", "weights"),
        )
        print("\n" if flow else "", end="")
        print(evaluate.format_table(rows, columns=columns, title="model"))
        print(NOTE_ON_COSTS)
        print("\n".join(note for note in notes if not note.endswith(": ")))


def _is_video(name: str) -> bool:
    """Tells whether a model is for video."""
    from jaxflow import models

    return models.task_of(models.find(name)) == "video"


def _describe(name: str) -> dict[str, Any]:
    """Returns a network's line of the table, without allocating its weights."""
    from jaxflow import cost, models

    model = cost.describe(name)
    policy = getattr(model, "frames", None)
    return {
        "task": models.task_of(models.find(name)),
        "parameters": cost.count_parameters(model),
        "multiple": policy.multiple if policy else None,
        "weights": _licences(name),
    }


def _describe_video(name: str) -> dict[str, Any]:
    """Returns a recognition network's line: our cost beside the published one."""
    from jaxflow import cost, models

    known = cost.published(name)
    config = models.find(name).VARIANTS[name]
    side = (known and known.crop_size) or config.crop_size
    frames = (known and known.num_frames) or config.num_frames
    parameters, products = cost.remembered_video_cost(
        name, crop_size=side, num_frames=frames
    )
    row = {
        "task": "video",
        "parameters": parameters,
        "GMACs": products / 1e9,
        "clip": f"{frames} x {side}^2",
        "weights": _licences(name),
        "note": "",
    }
    if known is None:
        return row
    figures = (
        ("published M", parameters / 1e6, known.parameters),
        ("published G", products / 1e9, known.multiply_adds),
    )
    for column, ours, printed in figures:
        if printed:
            mark = "" if cost.agrees(ours, printed) else " !"
            row[column] = printed + mark
            if mark:
                row["note"] = f"{known.reason} ({known.source})"
    return row


def _licences(name: str) -> str:
    """Returns the licences of a network's published weights."""
    from jaxflow import models

    published = getattr(models.find(name), "WEIGHTS", {})
    licences = {w.licence for key, w in published.items() if key.startswith(f"{name}/")}
    return "; ".join(sorted(licences)) or "none published"


def _flow(args: argparse.Namespace) -> None:
    """Estimates the flow of two pictures or of a clip."""
    if len(args.frames) > 2:
        raise ValueError(
            f"FRAMES: give two pictures, or one folder, pattern or video; "
            f"got {len(args.frames)}"
        )
    run = _flow_of_pair if len(args.frames) == 2 else _flow_of_clip
    run(args)


def _flow_of_pair(args: argparse.Namespace) -> None:
    """Writes the flow between two pictures."""
    stem = pathlib.Path(args.frames[0]).stem
    if args.output is None and args.image is None:
        args.output, args.image = f"{stem}_flow.flo", f"{stem}_flow_color.png"
    _check_suffix("--output", args.output, flow_files.SUFFIXES)
    _check_suffix("--image", args.image, image.SUFFIXES)
    frame1, frame2 = (_uint8_or_float(io.read_image(path)) for path in args.frames)

    from jaxflow import estimate

    flow = estimate.estimate_flow(
        _load_estimator(args.model, args.weights), frame1, frame2, **_keywords(args)
    )
    if args.output is not None:
        io.write_flow(args.output, flow)
        print(f"wrote {args.output}")
    if args.image is not None:
        io.write_image(args.image, viz.flow_to_image(flow, max_flow=args.max_flow))
        print(f"wrote {args.image}")


def _flow_of_clip(args: argparse.Namespace) -> None:
    """Writes the flow between the frames of a folder, a pattern or a video."""
    source = args.frames[0]
    names, fps = _sequence(source)
    if args.output is None and args.image is None:
        args.output = f"{pathlib.Path(os.path.abspath(source)).stem}_flow.mp4"
    target = args.output if args.output and files.suffix(args.output) else None
    _check_suffix("--output", target, video.WRITABLE)
    _check_suffix("--image", args.image, ("",))

    from jaxflow import estimate

    flows = estimate.stream_flow(
        _load_estimator(args.model, args.weights),
        map(_uint8_or_float, io.read_frames(source)),
        batch_size=args.batch_size,
        **_keywords(args),
    )
    total = max(len(names) - 1, 0) or None
    flows = _progress(flows, "pair", total=total)
    pictures = _write_each(flows, names, None if target else args.output, args)
    if target:
        io.write_video(target, pictures, fps=args.fps or fps)
    else:
        for _ in pictures:
            pass
    for path in filter(None, (args.output, args.image)):
        print(f"wrote {path}")


def _write_each(
    flows, names: list[str], flow_folder: str | None, args: argparse.Namespace
) -> Iterator[np.ndarray]:
    """Writes every flow where it shall go; yields its picture.

    The scale of the colours never falls along the clip, so that they do not flicker.
    """
    for folder in filter(None, (flow_folder, args.image)):
        os.makedirs(folder, exist_ok=True)
    longest, index = 0.0, -1
    for index, flow in enumerate(flows):
        name = names[index] if index < len(names) else f"{index:06d}"
        if flow_folder:
            io.write_flow(os.path.join(flow_folder, f"{name}.{args.format}"), flow)
        longest = max(longest, viz.max_speed(flow))
        picture = viz.flow_to_image(flow, max_flow=args.max_flow or longest or 1.0)
        if args.image:
            io.write_image(os.path.join(args.image, f"{name}.png"), picture)
        yield picture
    if index < 0:
        raise ValueError(f"{args.frames[0]}: holds fewer than two frames")


def _sequence(source: str) -> tuple[list[str], float]:
    """Returns the names of a clip's frames, as far as they are known, and its rate."""
    if frames.is_sequence(source):
        return [path.stem for path in io.list_frames(source)], 25.0
    if files.suffix(source) in image.SUFFIXES:
        raise ValueError(
            f"{source}: is one picture; give two, or a folder, a pattern or a video"
        )
    info = io.video_info(source)
    return [f"{index:06d}" for index in range(info.length or 0)], info.fps


def _classify(args: argparse.Namespace) -> None:
    """Prints the best classes of a video; writes features and a Grad-CAM."""
    _check_suffix("--grad-cam", args.grad_cam, (*image.SUFFIXES, *video.WRITABLE))
    for _, path in args.features:
        _check_suffix("--features", path, (".npy",))
    for path in filter(None, (args.grad_cam, *(path for _, path in args.features))):
        _check_folder(path)
    labels = _read_labels(args.labels) if args.labels else None
    source = _open_clip(args.clip)

    from jaxflow import classify

    model = _load_recogniser(args)
    classes = model.config.num_classes
    if labels is not None and len(labels) != classes:
        raise ValueError(
            f"--labels: {args.labels} names {len(labels)} classes; the network has "
            f"{classes}"
        )
    chosen = _find_class(args.of_class, labels, classes)
    cam_layer = args.cam_layer or model.cam_layer
    for layer in (cam_layer, *(layer for layer, _ in args.features)):
        classify.check_layer(model, layer)

    views = functools.partial(_sample, model, source, args)
    scores = classify.score_views(
        model, views("score"), activation=args.activation, batch_size=args.batch_size
    )
    joined = scores.mean(0) if args.combine == "mean" else scores.max(0)
    for name, score in classify.top_k(joined, args.top, labels=labels):
        print(f"{score:.4f}  {name}")
    for layer, path in args.features:
        features = classify.view_features(model, views(layer), layer, batch_size=1)
        with files.atomic_path(path) as temporary:
            np.save(temporary, features)
        print(f"wrote {path}")
    if args.grad_cam:
        best = int(np.argmax(joined)) if chosen is None else chosen
        # The view in the middle: with one crop or three, that is a centre.
        clip = next(itertools.islice(views("Grad-CAM"), len(scores) // 2, None))
        _write_cam(args, model, clip, cam_layer, best)


def _sample(model: Any, source: Any, args: argparse.Namespace, about: str):
    """Yields the views of a clip that the options ask for, and shows progress."""
    from jaxflow import classify

    clips, crops = args.views
    found = classify.sample_views(
        model,
        source,
        clips=clips,
        crops=crops,
        random_views=args.random_views,
        placement=args.placement,
        num_frames=args.frames,
        stride=args.stride,
        seconds=args.seconds,
        fps=args.fps,
        crop_size=args.crop,
        seed=args.seed,
    )
    known = args.placement != "dense"
    total = (args.random_views or clips * crops) if known else None
    return _progress(found, "view", total=total, about=about)


def _open_clip(path: str) -> str | np.ndarray:
    """Returns a clip's path, after a look at it; or the one frame of a picture."""
    if files.suffix(path) in image.SUFFIXES and not frames.is_sequence(path):
        return io.read_image(path)[None]
    if frames.is_sequence(path):
        io.list_frames(path)
    else:
        io.video_info(path)
    return path


def _write_cam(
    args: argparse.Namespace,
    model: Any,
    clip: np.ndarray,
    layer: str,
    class_index: int,
) -> None:
    """Writes a Grad-CAM: frames above frames with heat, or a video of both."""
    import jax.numpy as jnp

    from jaxflow import classify

    warm = classify.grad_cam(
        model, jnp.asarray(clip)[None], layer=layer, class_index=class_index
    )
    heat = classify.overlay(clip, np.asarray(warm[0]))
    pairs = [viz.panel(pair, gap=2) for pair in zip(clip, heat, strict=True)]
    if files.suffix(args.grad_cam) in video.WRITABLE:
        io.write_video(args.grad_cam, pairs, fps=args.fps or 8.0)
    else:
        shown = np.unique(np.linspace(0, len(clip) - 1, MOST_FRAMES).astype(int))
        rows = [*clip[shown], *heat[shown]]
        io.write_image(args.grad_cam, viz.panel(rows, columns=len(shown), gap=2))
    print(f"wrote {args.grad_cam}")


def _load_recogniser(args: argparse.Namespace) -> Any:
    """Returns a recognition network with its weights."""
    from jaxflow import checkpoint, models

    names = models.list_models("video")
    if args.model not in names:
        raise ValueError(
            f"--model: no recognition network is named {args.model!r}; there are "
            f"{', '.join(names)}"
        )
    if not args.weights:
        known = [k for k in checkpoint.published() if k.startswith(f"{args.model}/")]
        raise ValueError(
            f"--weights: {args.model} needs a file of weights"
            + (f", or the name of published ones: {', '.join(known)}" if known else "")
        )
    model = models.create_model(args.model, **_options(args))
    _load_into(model, [args.weights])
    return model


def _read_labels(path: str) -> list[str]:
    """Reads names of classes: one a line, or JSON: a list, or name <-> number."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if files.suffix(path) != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        names = json.loads(text)
        if isinstance(names, dict):
            if all(str(number).isdecimal() for number in names.values()):
                # As the published list of Kinetics, with quotes inside the names.
                names = {number: name for name, number in names.items()}
            numbers = {int(number): name for number, name in names.items()}
            names = [numbers[index] for index in range(len(numbers))]
        return [str(name).strip('"') for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: must be a JSON list of names, or an object of names and 0, 1, ..."
        ) from None


def _find_class(word: str | None, labels: list[str] | None, classes: int) -> int | None:
    """Returns the number of a class that is given by number or by name."""
    if word is None:
        return None
    if labels is not None and word in labels:
        return labels.index(word)
    if word.isdecimal() and int(word) < classes:
        return int(word)
    raise ValueError(
        f"--class: must be a name in --labels, or a number below {classes}; got "
        f"{word!r}"
    )


def _evaluate(args: argparse.Namespace) -> None:
    """Prints a table of errors for every data set."""
    if args.all == bool(args.model):
        raise ValueError("--model: name the estimators, or give --all")
    if args.weights and (args.all or len(args.model) > 1):
        raise ValueError(
            "--weights: there are several models; give each its own, --model NAME=FILE"
        )
    if not (args.all or args.data):
        raise ValueError("--data: give NAME=DIR, or --all for scenes drawn here")
    data: list[tuple[str, Any]] = [_load_data(word, args) for word in args.data]

    from jaxflow import evaluate

    data = data or [("scenes", _scenes(args.limit or 8))]
    words, keywords = _at_hand() if args.all else args.model, _keywords(args)
    loaded = (_load_for_evaluation(word, args.weights) for word in words)
    if not args.all:  # What is at hand is known to be good, and may be large.
        loaded = list(loaded)
    tables: dict[str, dict] = {name: {} for name, _ in data}
    for word, model in zip(words, loaded, strict=True):
        run = functools.partial(_estimate, model, keywords)
        for name, dataset in data:
            bar = _progress(dataset, "pair", about=f"{word} on {name}")
            row = evaluate.evaluate_flow(run, bar)
            if args.all:
                row |= _costs(model, keywords, *next(iter(dataset))[:2])
            tables[name][word] = row
    columns = ("parameters", "MiB") * args.all + evaluate.COLUMNS
    for name, rows in tables.items():
        print(evaluate.format_table(rows, columns=columns, title=name))
    if args.output:
        files.write_bytes(args.output, json.dumps(tables, indent=2).encode())
        print(f"wrote {args.output}")


def _at_hand() -> list[str]:
    """Returns every estimator that can run here: published weights if they are here."""
    from jaxflow import checkpoint, classical, models

    words = ["zero", *sorted(classical.METHODS)]
    for name in sorted(checkpoint.published()):
        if name.partition("/")[0] in models.list_models("flow"):
            try:
                checkpoint.pretrained(name)
            except FileNotFoundError:
                continue
            words.append(name)
    return words


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


def _load_for_evaluation(word: str, weights: list[str] | None) -> Any:
    """Returns the estimator that is given as NAME or NAME=FILE; None is zero flow."""
    name, _, path = word.partition("=")
    return (
        None if name == "zero" else _load_estimator(name, [path] if path else weights)
    )


def _estimate(
    model: Any, keywords: dict[str, Any], frame1: np.ndarray, frame2: np.ndarray
) -> np.ndarray:
    """Returns the flow of two frames of a data set."""
    if model is None:
        return np.zeros((*frame1.shape[:2], 2), np.float32)

    from jaxflow import estimate

    one, two = _uint8_or_float(frame1), _uint8_or_float(frame2)
    return estimate.estimate_flow(model, one, two, **keywords)


def _costs(
    model: Any, keywords: dict[str, Any], frame1: np.ndarray, frame2: np.ndarray
) -> dict[str, Any]:
    """Returns the size of an estimator, and the memory that frames of a size need."""
    if model is None:
        return {"parameters": 0, "MiB": 0.0}

    from jaxflow import cost, estimate

    seen = np.s_[: keywords["tile"], : keywords["tile"]]
    one, two = (_uint8_or_float(frame[seen]) for frame in (frame1, frame2))
    need = estimate.memory_of_flow(model, one, two, options=keywords["options"])
    count = 0 if isinstance(model, str) else cost.count_parameters(model)
    return {"parameters": count, "MiB": need / 2**20}


def _convert(args: argparse.Namespace) -> None:
    """Writes a published checkpoint as safetensors."""
    _check_suffix("--output", args.output, (".safetensors",))

    from jaxflow import convert, models

    model = models.create_model(args.model)
    _load_into(model, args.files)
    convert.save_weights(model, args.output)
    print(f"wrote {args.output}")


def _load_estimator(name: str, weights: list[str] | None) -> Any:
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
    _load_into(model, weights)
    return model


def _load_into(model: Any, weights: list[str]) -> None:
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


def _keywords(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the keywords of `estimate_flow` that the options ask for."""
    keywords = {"tile": args.tile, "options": _options(args)}
    if args.tile:
        keywords["overlap"] = min(64, args.tile // 4)
    return keywords


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what is given as --option NAME=VALUE."""
    options = {}
    for word in args.option:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--option: give NAME=VALUE; got {word!r}")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


def _progress(items, unit: str, *, total: int | None = None, about: str | None = None):
    """Shows progress on the standard error, once there is something to wait for."""
    return tqdm.tqdm(
        items, total=total, unit=unit, desc=about, delay=PROGRESS_AFTER, file=sys.stderr
    )


def _uint8_or_float(frame: np.ndarray) -> np.ndarray:
    """Brings a picture of 16 bits to float in [0, 1]; leaves others as they are."""
    if frame.dtype == np.uint16:
        return frame.astype(np.float32) / np.float32(65535)
    return frame


def _check_suffix(option: str, path: str | None, allowed: Sequence[str]) -> None:
    """Raises unless a path ends as it should, before anything is computed."""
    if path is not None and files.suffix(path) not in allowed:
        wanted = "a folder" if allowed == ("",) else f"a file in {', '.join(allowed)}"
        if allowed == video.WRITABLE:
            wanted += ", or a folder"
        raise ValueError(f"{option}: must be {wanted}; got {path!r}")


def _check_folder(path: str) -> None:
    """Raises unless the folder of a file to write is there."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"{path}: there is no folder {folder}")


def _one_line(error: BaseException) -> str:
    """Returns the message of an error on one line, with the file it is about."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = _Parser(
        prog="jaxflow",
        description="Motion and video understanding in JAX.",
        epilog="example: jaxflow flow frame1.png frame2.png --image flow.png",
    )
    version = f"%(prog)s {importlib.metadata.version('jaxflow')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (_add_models, _add_flow, _add_classify, _add_evaluate, _add_convert)
    for add in adders:
        add(commands)
    about = "train, restore, measure and show, in minutes, offline"
    commands.add_parser("demo", help=about, add_help=False)
    return parser


def _add(commands, name: str, run, about: str, example: str) -> argparse.ArgumentParser:
    """Adds one command."""
    parser = commands.add_parser(
        name, help=about, description=f"{about}.", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def _add_models(commands) -> None:
    example = "jaxflow models --task flow"
    parser = _add(commands, "models", _models, "List what there is", example)
    tasks = ("flow", "video", "generation")
    parser.add_argument("--task", choices=tasks, help="only the models of one task")


def _add_flow(commands) -> None:
    about = "Estimate the motion between two pictures, or along a clip"
    example = (
        "jaxflow flow a.png b.png --model tvl1 -o flow.flo --image flow.png, "
        "or: jaxflow flow clip.mp4 -o flow.mp4"
    )
    add = _add(commands, "flow", _flow, about, example).add_argument
    helps = {
        "frames": "two pictures; or one folder, pattern (in quotes) or video",
        "model": "network or classical method (default: %(default)s)",
        "output": "of a pair: flow as .flo, .png (KITTI) or .pfm; of a clip: a colour "
        "video (.mp4, .mov, .mkv), or a folder for flow files",
        "image": "flow in colour: a picture; of a clip, a folder of them",
        "format": "of the flow files of a clip (default: %(default)s)",
        "max_flow": "length of a vector in full colour (default: the longest so far)",
        "fps": "of the colour video (default: the clip's)",
        "batch_size": "pairs of a clip that run together (default: %(default)s)",
    }
    kinds = [suffix[1:] for suffix in flow_files.SUFFIXES]
    add("frames", nargs="+", metavar="FRAMES", help=helps["frames"])
    add("--model", default=DEFAULT_METHOD, metavar="NAME", help=helps["model"])
    _add_estimator(add)
    add("-o", "--output", metavar="PATH", help=helps["output"])
    add("--image", metavar="PATH", help=helps["image"])
    add("--format", choices=kinds, default=kinds[0], help=helps["format"])
    add("--max-flow", type=_positive, metavar="PX", help=helps["max_flow"])
    add("--fps", type=_positive, help=helps["fps"])
    add("--batch-size", type=_whole, default=1, metavar="N", help=helps["batch_size"])


def _add_classify(commands) -> None:
    about = "Name the action in a video, and show where it is seen"
    example = (
        "jaxflow classify clip.mp4 --model slowfast_4x16_r50 --weights "
        "SLOWFAST_4x16_R50.pyth --labels names.txt --views 10x3 --grad-cam cam.png"
    )
    add = _add(commands, "classify", _classify, about, example).add_argument
    helps = {
        "clip": "a video; or a folder or a pattern (in quotes) of pictures",
        "model": "see jaxflow models --task video",
        "weights": "a file (.pth, .pyth, .pkl, .safetensors), a folder of a training "
        "run, or a published name such as slowfast_4x16_r50/kinetics400",
        "option": "field of the network's config, such as num_classes=8; may be "
        "repeated",
        "labels": "names of the classes: one a line, or JSON",
        "top": "print the K best classes (default: %(default)s)",
        "views": "CLIPSxCROPS: clips in time, and 1, 3, 5 or 10 crops of each "
        "(default: 1x1; 10x3 are the usual 30)",
        "random": "N clips at random times and places instead",
        "placement": "where clips start (default: the model's)",
        "frames": "frames of a clip (default: the model's)",
        "stride": "frames of the video to one of a clip (default: the model's)",
        "seconds": "duration of a clip, instead of --stride",
        "fps": "rate of the frames (default: the video's)",
        "crop": "height and width of the crops (default: the model's)",
        "activation": "softmax, or sigmoid for networks of several labels",
        "combine": "how views are joined (default: %(default)s)",
        "batch": "views that run together (default: %(default)s)",
        "seed": "of the random views",
        "cam": "where the best class is seen: a picture of frames, or a video",
        "layer": "of --grad-cam (default: the model's last map)",
        "class": "of --grad-cam: number or name (default: the best)",
        "features": "write what a layer puts out for every view, such as: --features "
        "slow.res5 res5.npy; may be repeated",
    }
    add("clip", metavar="CLIP", help=helps["clip"])
    add("--model", required=True, metavar="NAME", help=helps["model"])
    add("--weights", metavar="FILE", help=helps["weights"])
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)
    add("--labels", metavar="FILE", help=helps["labels"])
    add("--top", type=_whole, default=5, metavar="K", help=helps["top"])
    add("--views", type=_views, default=(1, 1), metavar="CxS", help=helps["views"])
    add("--random-views", type=_whole, default=0, metavar="N", help=helps["random"])
    places = ("spread", "pyslowfast", "segments", "random", "dense")
    add("--placement", choices=places, help=helps["placement"])
    add("--frames", type=_whole, metavar="N", help=helps["frames"])
    add("--stride", type=_positive, metavar="N", help=helps["stride"])
    add("--seconds", type=_positive, metavar="S", help=helps["seconds"])
    add("--fps", type=_positive, help=helps["fps"])
    add("--crop", type=_whole, metavar="PX", help=helps["crop"])
    kinds = ("softmax", "sigmoid")
    add("--activation", choices=kinds, default="softmax", help=helps["activation"])
    joins = ("mean", "max")
    add("--combine", choices=joins, default="mean", help=helps["combine"])
    add("--batch-size", type=_whole, default=4, metavar="N", help=helps["batch"])
    add("--seed", type=int, default=0, metavar="N", help=helps["seed"])
    add("--grad-cam", metavar="PATH", help=helps["cam"])
    add("--cam-layer", metavar="LAYER", help=helps["layer"])
    add("--class", dest="of_class", metavar="NAME", help=helps["class"])
    pair = ("LAYER", "FILE")
    add("--features", nargs=2, metavar=pair, help=helps["features"], **many)


def _add_evaluate(commands) -> None:
    about = "Measure estimators of flow on data sets"
    example = (
        "jaxflow evaluate flow --model zero --model tvl1 --data sintel_clean=SINTEL"
    )
    add = _add(commands, "evaluate", _evaluate, about, example).add_argument
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
    _add_estimator(add)
    add("--data", metavar="NAME=DIR", help=helps["data"], **many)
    add("--split", default="train", help=helps["split"])
    add("--limit", type=_whole, metavar="N", help=helps["limit"])
    add("-o", "--output", metavar="FILE", help=helps["output"])


def _add_convert(commands) -> None:
    about = "Turn a published checkpoint into safetensors, without running its code"
    example = "jaxflow convert pwc_net.pth.tar --model pwcnet -o pwcnet.safetensors"
    add = _add(commands, "convert", _convert, about, example).add_argument
    pieces = "the checkpoint; several files if its authors cut it into pieces"
    add("files", nargs="+", metavar="FILE", help=pieces)
    add("--model", required=True, metavar="NAME", help="see jaxflow models")
    add("-o", "--output", required=True, metavar="FILE", help="ends in .safetensors")


def _add_estimator(add) -> None:
    """Adds the options of an estimator."""
    helps = {
        "weights": "of a network: files, a folder of a training run, or a published "
        "name such as pwcnet/chairs",
        "tile": "cut larger frames into tiles of this size, to save memory",
        "option": "option of the estimator, such as iterations=32; may be repeated",
    }
    add("--weights", nargs="+", metavar="FILE", help=helps["weights"])
    add("--tile", type=_whole, metavar="PX", help=helps["tile"])
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)


def _views(text: str) -> tuple[int, int]:
    """Reads CLIPSxCROPS."""
    clips, _, crops = text.partition("x")
    if clips.isdecimal() and int(clips) > 0 and crops in ("1", "3", "5", "10"):
        return int(clips), int(crops)
    raise argparse.ArgumentTypeError(
        f"must be CLIPSxCROPS, with 1, 3, 5 or 10 crops, such as 10x3; got {text}"
    )


def _positive(text: str) -> float:
    """Reads a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text}")
    return value


def _whole(text: str) -> int:
    """Reads a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
