"""``jaxflow classify``: the action in a video, and where it is seen."""

import argparse
import functools
import io as memory
import itertools
import json
import pathlib
from typing import Any

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import common, estimators, paths, two_stream
from jaxflow.io import files, frames, image, video

MOST_FRAMES = 8
"""Frames that a picture of a Grad-CAM shows."""


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Name the action in a video, and show where it is seen"
    example = (
        "jaxflow classify clip.mp4 --model slowfast_4x16_r50 --weights "
        "SLOWFAST_4x16_R50.pyth --labels names.txt --views 10x3 --grad-cam cam.png"
    )
    add = common.add_command(commands, "classify", run, about, example).add_argument
    clip = "a video; or a folder or a pattern (in quotes) of pictures"
    add("clip", metavar="CLIP", help=clip)
    _add_network(add)
    _add_views(add)
    estimators.add_precision(add)
    two_stream.add_options(add)
    _add_files(add)
    common.add_json(add)


def _add_network(add) -> None:
    """Adds the options of the network and of its classes."""
    helps = {
        "model": "the recognition network; see jaxflow models --task video (default: "
        "what --weights of a training run say that they are of)",
        "weights": "its weights: a file (.pth, .pyth, .pkl, .safetensors), a folder "
        "of a training "
        "run, or a published name such as slowfast_4x16_r50/kinetics400",
        "option": "field of the network's config, such as num_classes=8; may be "
        "repeated",
        "labels": "names of the classes: one a line, or JSON",
        "top": "print the K best classes (default: %(default)s)",
    }
    many = {"action": "append", "default": []}
    add("--model", metavar="NAME", help=helps["model"])
    add("--weights", metavar="FILE", help=helps["weights"])
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)
    add("--labels", metavar="FILE", help=helps["labels"])
    add("--top", type=common.whole, default=5, metavar="K", help=helps["top"])


def _add_views(add) -> None:
    """Adds the options of the views of a clip, and of how they are joined."""
    helps = {
        "views": "CLIPSxCROPS: clips in time, and 1, 3, 5 or 10 crops of each "
        "(default: 1x1; 10x3 are the usual 30)",
        "random": "look at N clips at random times and places instead",
        "placement": "where clips start (default: the model's)",
        "frames": "frames of a clip (default: the model's)",
        "stride": "frames of the video to one of a clip (default: the model's)",
        "seconds": "duration of a clip, instead of --stride",
        "fps": "rate of the frames (default: the video's)",
        "crop": "height and width of the crops (default: the model's)",
        "activation": "what makes probabilities of scores: softmax, or sigmoid for "
        "networks of several labels (default: %(default)s)",
        "combine": "how views are joined (default: %(default)s)",
        "batch": "views that run together (default: %(default)s)",
        "seed": "what the draws of --random-views begin with (default: %(default)s)",
    }
    places = ("spread", "pyslowfast", "segments", "random", "dense")
    kinds, joins = ("softmax", "sigmoid"), ("mean", "max")
    number = {"type": common.whole, "metavar": "N"}
    add("--views", type=views, default=(1, 1), metavar="CxS", help=helps["views"])
    add("--random-views", default=0, help=helps["random"], **number)
    add("--placement", choices=places, help=helps["placement"])
    add("--frames", help=helps["frames"], **number)
    add("--stride", type=common.positive, metavar="N", help=helps["stride"])
    add("--seconds", type=common.positive, metavar="S", help=helps["seconds"])
    add("--fps", type=common.rate, help=helps["fps"])
    add("--crop", type=common.whole, metavar="PX", help=helps["crop"])
    add("--activation", choices=kinds, default="softmax", help=helps["activation"])
    add("--combine", choices=joins, default="mean", help=helps["combine"])
    add("--batch-size", default=4, help=helps["batch"], **number)
    add("--seed", type=common.seed, default=0, metavar="N", help=helps["seed"])


def _add_files(add) -> None:
    """Adds the options of what is written: Grad-CAM and features."""
    helps = {
        "cam": "write where the best class is seen: a picture of frames, or a video",
        "layer": "layer that --grad-cam is of (default: the model's last map)",
        "class": "class that --grad-cam is of, by number or name (default: the best)",
        "features": "write what a layer puts out for every view, such as: --features "
        "slow.res5 res5.npy; may be repeated",
    }
    many = {"action": "append", "default": [], "nargs": 2}
    add("--grad-cam", metavar="PATH", help=helps["cam"])
    add("--cam-layer", metavar="LAYER", help=helps["layer"])
    add("--class", dest="of_class", metavar="NAME", help=helps["class"])
    add("--features", metavar=("LAYER", "FILE"), help=helps["features"], **many)


def views(text: str) -> tuple[int, int]:
    """Reads CLIPSxCROPS."""
    clips, _, crops = text.partition("x")
    if clips.isdecimal() and int(clips) > 0 and crops in ("1", "3", "5", "10"):
        return int(clips), int(crops)
    raise argparse.ArgumentTypeError(
        f"must be CLIPSxCROPS, with 1, 3, 5 or 10 crops, such as 10x3; got {text}"
    )


def run(args: argparse.Namespace) -> None:
    """Prints the best classes of a video; writes features and a Grad-CAM."""
    targets = _targets(args)
    labels = read_labels(args.labels) if args.labels else None
    source, read = _open_clip(args.clip)
    words = [args.weights, args.labels, args.stream_weights, *args.flow_weights]
    paths.check_targets(targets, [*read, *(word for word in words if word)])

    from jaxflow import classify

    model = load_recogniser(args)
    chosen = _choose_class(args, labels, model.config.num_classes)
    model, flow = two_stream.with_flow(model, source, args)
    cam_layer = args.cam_layer or model.cam_layer
    for layer in (cam_layer, *(layer for layer, _ in args.features)):
        classify.check_layer(model, layer)

    views = functools.partial(_sample, model, source, args, flow)
    scores = classify.score_views(
        model,
        views("score"),
        activation=args.activation,
        batch_size=args.batch_size,
        precision=args.precision,
    )
    joined = scores.mean(0) if args.combine == "mean" else scores.max(0)
    _print(args, classify.top_k(joined, args.top, labels=labels))
    for layer, path in args.features:
        _write_features(args, model, views(layer), layer, path)
    if args.grad_cam:
        shown = int(np.argmax(joined)) if chosen is None else chosen
        # The view in the middle: with one crop or three, that is a centre.
        clip = next(itertools.islice(views("Grad-CAM"), len(scores) // 2, None))
        _write_cam(args, model, clip, cam_layer, shown)


def _targets(args: argparse.Namespace) -> list[paths.Target]:
    """Returns what is to be written; raises if that cannot be."""
    paths.check_suffix("--grad-cam", args.grad_cam, (*image.SUFFIXES, *video.WRITABLE))
    for _, path in args.features:
        paths.check_suffix("--features", path, (".npy",))
    features = [("--features", path) for _, path in args.features]
    return paths.given([*features, ("--grad-cam", args.grad_cam)])


def _choose_class(
    args: argparse.Namespace, labels: list[str] | None, classes: int
) -> int | None:
    """Returns the number of the class in `--class`; checks that names fit a network."""
    if labels is not None and len(labels) != classes:
        raise ValueError(
            f"--labels: {args.labels} names {len(labels)} classes; the network has "
            f"{classes}"
        )
    return _find_class(args.of_class, labels, classes)


def _print(args: argparse.Namespace, best: list[tuple[str, float]]) -> None:
    """Prints classes and scores: lines for people, or JSON."""
    if args.json:
        common.print_json([{"class": name, "score": score} for name, score in best])
        return
    for name, score in best:
        print(f"{score:.4f}  {name}")


def _write_features(
    args: argparse.Namespace, model: Any, views: Any, layer: str, path: str
) -> None:
    """Writes what a layer puts out for every view."""
    from jaxflow import classify

    features = classify.view_features(
        model, views, layer, batch_size=1, precision=args.precision
    )
    npy = memory.BytesIO()
    np.save(npy, features)
    files.write_bytes(path, npy.getbuffer())
    common.wrote(args, path)


def _sample(
    model: Any, source: Any, args: argparse.Namespace, flow: str | None, about: str
):
    """Yields the views of a clip that the options ask for, and shows progress."""
    from jaxflow import classify

    count, crops = args.views
    found = classify.sample_views(
        model,
        source,
        clips=count,
        crops=crops,
        random_views=args.random_views,
        placement=args.placement,
        num_frames=args.frames,
        stride=args.stride,
        seconds=args.seconds,
        fps=args.fps,
        crop_size=args.crop,
        seed=args.seed,
        flow=flow,
    )
    known = args.placement != "dense"
    total = (args.random_views or count * crops) if known else None
    return common.progress(found, "view", total=total, about=about, quiet=args.quiet)


def _open_clip(path: str) -> tuple[str | np.ndarray, list[pathlib.Path]]:
    """Returns a clip's path or the one frame of a picture, and what files it is."""
    if files.suffix(path) in image.READABLE and not frames.is_sequence(path):
        return io.read_image(path)[None], [pathlib.Path(path)]
    if two_stream.is_flow(path):
        return path, [*pathlib.Path(path).iterdir()]
    if frames.is_sequence(path):
        pictures = io.list_frames(path)
        frames.check_headers(pictures)
        return path, pictures
    io.video_info(path)
    return path, [pathlib.Path(path)]


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
        model,
        jnp.asarray(clip)[None],
        layer=layer,
        class_index=class_index,
        precision=args.precision,
    )
    if clip.shape[-1] == 2:
        # Flow alone is shown as red and green.
        clip = np.pad(clip, ((0, 0),) * 3 + ((0, 1),), constant_values=0.5)
    clip = clip[..., :3]
    heat = classify.overlay(clip, np.asarray(warm[0]))
    pairs = [viz.panel(pair, gap=2) for pair in zip(clip, heat, strict=True)]
    if files.suffix(args.grad_cam) in video.WRITABLE:
        io.write_video(args.grad_cam, pairs, fps=args.fps or 8.0)
    else:
        shown = np.unique(np.linspace(0, len(clip) - 1, MOST_FRAMES).astype(int))
        rows = [*clip[shown], *heat[shown]]
        io.write_image(args.grad_cam, viz.panel(rows, columns=len(shown), gap=2))
    common.wrote(args, args.grad_cam)


def load_recogniser(args: argparse.Namespace) -> Any:
    """Returns a recognition network with its weights; `args.model` names it then."""
    weights = [args.weights] if args.weights else None
    args.model, weights = estimators.named(args.model, weights)
    estimators.check_name(args.model, "video", "recognition network")
    overrides = estimators.overrides(args.model, args.option)
    if weights and getattr(args, "stream_weights", None):
        files = (args.weights, args.stream_weights)
        return two_stream.load_streams(args.model, *files, overrides)
    return estimators.network(args.model, weights, overrides)


def read_labels(path: str) -> list[str]:
    """Reads names of classes: one a line, or JSON: a list, or name <-> number."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--labels: {path} is no text in UTF-8 (byte {error.start}): give names of "
            "classes, one a line, or JSON"
        ) from None
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
