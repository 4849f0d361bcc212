"""``jaxflow flow``: the motion between two pictures, or along a clip."""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import clips, common, estimators, paths
from jaxflow.io import flow as flow_files
from jaxflow.io import folders, image, video

DEFAULT_MODEL = "jaxflow_accurate"
"""The estimator unless another is named: its weights come with the package."""

SCALE_PAIRS = 16
"""Pairs of a clip, at most, that the scale of its colours is taken from."""


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Estimate the motion between two pictures, or along a clip"
    example = (
        "jaxflow flow a.png b.png --model tvl1 -o flow.flo --image flow.png, "
        "or: jaxflow flow clip.mp4 -o flow.mp4"
    )
    add = common.add_command(commands, "flow", run, about, example).add_argument
    frames = "two pictures; or one folder, pattern (in quotes) or video"
    model = f"network or classical method (default: the network {DEFAULT_MODEL}, "
    model += "which comes with jaxflow; or what --weights of a training run are of)"
    add("frames", nargs="+", metavar="FRAMES", help=frames)
    add("--model", metavar="NAME", help=model)
    estimators.add_options(add)
    _add_files(add)
    _add_pairs(add)


def _add_files(add) -> None:
    """Adds the options of what is written."""
    helps = {
        "output": "of a pair: flow as .flo, .png (KITTI) or .pfm; of a clip: a colour "
        "video (.mp4, .mov, .mkv), or a folder for flow files",
        "image": "flow in colour: a picture; of a clip, a folder of them",
        "format": "kind of the flow files of a clip (default: flo)",
        "max_flow": "length of a vector in full colour (default: the longest of a "
        "pair; of a clip, one scale for all of it, from 16 pairs spread over it, the "
        "fastest tenth of which is left out)",
        "fps": "pictures a second of the colour video (default: the clip's own times, "
        "even or not)",
    }
    kinds = [suffix[1:] for suffix in flow_files.SUFFIXES]
    add("-o", "--output", metavar="PATH", help=helps["output"])
    add("--image", metavar="PATH", help=helps["image"])
    add("--format", choices=kinds, help=helps["format"])
    add("--max-flow", type=common.positive, metavar="PX", help=helps["max_flow"])
    add("--fps", type=common.rate, help=helps["fps"])


def _add_pairs(add) -> None:
    """Adds the options of which pairs of a clip are estimated, and how."""
    helps = {
        "warm": "of a clip: start each pair from the flow of the pair before",
        "batch_size": "pairs of a clip that run together (default: %(default)s)",
        "start": "of a clip: the first frame, from 0 (default: 0)",
        "stride": "of a clip: take every N-th frame, so that a pair is N frames apart "
        "(default: 1)",
        "backward": "from the second picture to the first; of a clip, from each frame "
        "to the one before. A file has the name of the frame that the flow starts from",
    }
    number = {"type": common.whole, "metavar": "N"}
    add("--warm-start", action="store_true", help=helps["warm"])
    add("--batch-size", default=1, help=helps["batch_size"], **number)
    add("--start", type=common.place, metavar="N", help=helps["start"])
    add("--stride", help=helps["stride"], **number)
    add("--backward", action="store_true", help=helps["backward"])


def run(args: argparse.Namespace) -> None:
    """Estimates the flow of two pictures or of a clip."""
    if len(args.frames) > 2:
        raise ValueError(
            f"FRAMES: give two pictures, or one folder, pattern or video; "
            f"got {len(args.frames)}"
        )
    by_default = args.model is None and not args.weights
    if by_default:
        args.model = DEFAULT_MODEL
    (_flow_of_pair if len(args.frames) == 2 else _flow_of_clip)(args)
    if by_default and not args.quiet:
        about = "it comes with jaxflow; --model names others"
        print(f"estimated by {DEFAULT_MODEL} ({about})", file=sys.stderr)


def _flow_of_pair(args: argparse.Namespace) -> None:
    """Writes the flow between two pictures."""
    if args.backward:
        args.frames = args.frames[::-1]
    stem = pathlib.Path(args.frames[0]).stem
    if args.output is None and args.image is None:
        args.output, args.image = f"{stem}_flow.flo", f"{stem}_flow_color.png"
    paths.check_suffix("--output", args.output, flow_files.SUFFIXES)
    paths.check_suffix("--image", args.image, image.SUFFIXES)
    _refuse_options_of_clips(args)
    targets = _given(args)
    for option, path in targets:
        paths.check_file(option, path)
    paths.check_targets(targets, [*args.frames, *_read_besides(args)])
    frame1, frame2 = (
        common.uint8_or_float(io.read_image(path)) for path in args.frames
    )
    if frame1.shape != frame2.shape:
        sizes = [f"{x.shape[1]} x {x.shape[0]}" for x in (frame1, frame2)]
        raise ValueError(f"FRAMES: must have one size; got {' and '.join(sizes)}")

    from jaxflow import estimate

    estimator, options = estimators.load(args.model, args.weights, args.option)
    flow = estimate.estimate_flow(
        estimator, frame1, frame2, options=options, **estimators.keywords(args)
    )
    if args.output is not None:
        io.write_flow(args.output, flow)
        common.wrote(args, args.output)
    if args.image is not None:
        io.write_image(args.image, viz.flow_to_image(flow, max_flow=args.max_flow))
        common.wrote(args, args.image)


def _flow_of_clip(args: argparse.Namespace) -> None:
    """Writes the flow between the frames of a folder, a pattern or a video."""
    target, folder = _video_or_folder(args.output)
    if args.format is not None and folder is None:
        raise ValueError("--format: is of flow files; name a folder for them by -o")
    if args.fps is not None and target is None:
        raise ValueError("--fps: is of a video; name one by -o, such as -o flow.mp4")
    if args.image is not None and not paths.is_folder("--image", args.image):
        raise ValueError(f"--image: must be a folder; got {args.image!r}")
    _check_places(target, folder, args.image)
    if args.backward and args.warm_start:
        raise ValueError("--warm-start: carries a flow forward; leave --backward out")
    clip = clips.look(args.frames[0]).part(args.start or 0, args.stride or 1)
    if args.output is None and args.image is None:
        target = args.output = f"{clip.stem}_flow.mp4"
        _check_places(target)
    if len(clip.names) < 2:
        raise ValueError(f"{clip.source}: {_too_few(args)}")
    _check_results(args, clip, target, folder)
    estimator, options = estimators.load(args.model, args.weights, args.option)
    for option, path in (("--output", folder), ("--image", args.image)):
        if path is not None:
            paths.make_folder(option, path)

    keywords = {"options": options, **estimators.keywords(args)}
    flows, scale = _flows_and_scale(args, clip, estimator, keywords)
    flows = common.progress(flows, "pair", total=len(clip.names) - 1, quiet=args.quiet)
    pictures = _write_each(flows, _names(args, clip), folder, scale, args)
    if target:
        io.write_video(
            target, pictures, fps=args.fps or clip.fps, times=_times(args, clip)
        )
    else:
        for _ in pictures:
            pass
    for _, path in _given(args):
        common.wrote(args, path)


def _too_few(args: argparse.Namespace) -> str:
    """Says why a clip has no pair of frames."""
    if args.start is None and args.stride is None:
        return "holds fewer than two frames, and flow is from one to the next"
    return (
        f"--start {args.start or 0} and --stride {args.stride or 1} leave fewer than "
        "two of its frames; give smaller ones"
    )


def _names(args: argparse.Namespace, clip: clips.Clip) -> list[str]:
    """Returns the name of the frame that each flow of a clip starts from."""
    return clip.names[1:] if args.backward else clip.names[:-1]


def _video_or_folder(output: str | None) -> tuple[str | None, str | None]:
    """Returns the video that `--output` names, or else the folder."""
    if output is None:
        return None, None
    if paths.is_folder("--output", output, allowed=video.WRITABLE):
        return None, output
    return output, None


def _check_places(
    target: str | None, folder: str | None = None, pictures: str | None = None
) -> None:
    """Raises unless the results of a clip can be written where they shall go."""
    if target is not None:
        paths.check_file("--output", target)
    for option, path in (("--output", folder), ("--image", pictures)):
        if path is not None:
            folders.check_target(option, path)


def _refuse_options_of_clips(args: argparse.Namespace) -> None:
    """Raises if an option is given that would be without effect on a pair."""
    if args.warm_start:
        raise ValueError("--warm-start: is for clips; two pictures have no pair before")
    if args.fps is not None:
        raise ValueError("--fps: is for videos; the flow of two pictures is none")
    for option, value in (("--start", args.start), ("--stride", args.stride)):
        if value is not None:
            raise ValueError(f"{option}: is for clips; two pictures are one pair")
    if args.format is not None:
        raise ValueError(
            f"--format: is for clips; name the file of a pair: -o flow.{args.format}"
        )


def _format(args: argparse.Namespace) -> str:
    """Returns the extension of the flow files of a clip."""
    return args.format or flow_files.SUFFIXES[0][1:]


def _read_besides(args: argparse.Namespace) -> list[str]:
    """Returns what is read besides the frames."""
    return [*(args.weights or ()), *estimators.files_of(args.option)]


def _given(args: argparse.Namespace) -> list[paths.Target]:
    """Returns where results go, as the options say."""
    options = (("--output", args.output), ("--image", args.image))
    return [(option, path) for option, path in options if path is not None]


def _check_results(
    args: argparse.Namespace, clip: clips.Clip, target: str | None, folder: str | None
) -> None:
    """Raises if a result cannot be written, or would overwrite something."""
    places = {"--output": folder, "--image": args.image}
    kinds = {"--output": _format(args), "--image": "png"}
    folders = [(option, path) for option, path in places.items() if path is not None]
    paths.check_folders(folders, clip.pictures)
    targets = [
        (option, os.path.join(path, f"{name}.{kinds[option]}"))
        for option, path in folders
        for name in _names(args, clip)
    ]
    if target is not None:
        targets.append(("--output", target))
    paths.check_targets(targets, [*clip.files, *_read_besides(args)])


def _times(args: argparse.Namespace, clip: clips.Clip) -> np.ndarray | None:
    """Returns when each picture of flow is shown, if that is uneven."""
    if args.fps is not None or clip.times is None:
        return None
    times = clip.times[1:] if args.backward else clip.times[:-1]
    if np.diff(times).min(initial=1.0) < 0.001:
        print(
            f"jaxflow flow: {clip.source}: frames are less than a millisecond apart; "
            "the video shows them evenly",
            file=sys.stderr,
        )
        return None
    return times


def _flows_and_scale(
    args: argparse.Namespace, clip: clips.Clip, estimator: Any, keywords: dict
) -> tuple[Iterable[np.ndarray], float]:
    """Returns the flow of every pair, and one scale of colours for all of them.

    A short clip is estimated as a whole first. Of a longer one, pairs spread over it
    are estimated before the rest.
    """
    from jaxflow import estimate

    flows = estimate.stream_flow(
        estimator,
        map(common.uint8_or_float, clip.read()),
        batch_size=args.batch_size,
        warm_start=args.warm_start,
        backward=args.backward,
        **keywords,
    )
    if args.max_flow:
        return flows, args.max_flow
    count = len(clip.names) - 1
    if count <= SCALE_PAIRS:
        kept = list(flows)
        return kept, viz.clip_scale([viz.max_speed(flow) for flow in kept])
    chosen = np.linspace(0, count - 1, SCALE_PAIRS).round().astype(int)
    chosen = common.progress(chosen, "pair", about="scale", quiet=args.quiet)
    speeds = []
    for start in chosen:
        pair = list(map(common.uint8_or_float, clip.read(int(start), 2)))
        one, two = pair[::-1] if args.backward else pair
        flow = estimate.estimate_flow(estimator, one, two, **keywords)
        speeds.append(viz.max_speed(flow))
    return flows, viz.clip_scale(speeds)


def _write_each(
    flows: Iterable[np.ndarray],
    names: list[str],
    flow_folder: str | None,
    scale: float,
    args: argparse.Namespace,
) -> Iterator[np.ndarray]:
    """Writes every flow where it shall go; yields its picture."""
    for flow, name in zip(flows, names, strict=False):
        if flow_folder:
            io.write_flow(os.path.join(flow_folder, f"{name}.{_format(args)}"), flow)
        picture = viz.flow_to_image(flow, max_flow=scale)
        if args.image:
            io.write_image(os.path.join(args.image, f"{name}.png"), picture)
        yield picture
