"""``jaxflow flow``: the motion between two pictures, or along a clip."""

import argparse
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import common, estimators, paths
from jaxflow.io import files, frames, image, video
from jaxflow.io import flow as flow_files

DEFAULT_METHOD = "tvl1"
"""The estimator unless another is named: it needs no weights."""


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Estimate the motion between two pictures, or along a clip"
    example = (
        "jaxflow flow a.png b.png --model tvl1 -o flow.flo --image flow.png, "
        "or: jaxflow flow clip.mp4 -o flow.mp4"
    )
    add = common.add_command(commands, "flow", run, about, example).add_argument
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
    estimators.add_options(add)
    add("-o", "--output", metavar="PATH", help=helps["output"])
    add("--image", metavar="PATH", help=helps["image"])
    add("--format", choices=kinds, default=kinds[0], help=helps["format"])
    add("--max-flow", type=common.positive, metavar="PX", help=helps["max_flow"])
    add("--fps", type=common.positive, help=helps["fps"])
    add(
        "--batch-size",
        type=common.whole,
        default=1,
        metavar="N",
        help=helps["batch_size"],
    )


def run(args: argparse.Namespace) -> None:
    """Estimates the flow of two pictures or of a clip."""
    if len(args.frames) > 2:
        raise ValueError(
            f"FRAMES: give two pictures, or one folder, pattern or video; "
            f"got {len(args.frames)}"
        )
    (_flow_of_pair if len(args.frames) == 2 else _flow_of_clip)(args)


def _flow_of_pair(args: argparse.Namespace) -> None:
    """Writes the flow between two pictures."""
    stem = pathlib.Path(args.frames[0]).stem
    if args.output is None and args.image is None:
        args.output, args.image = f"{stem}_flow.flo", f"{stem}_flow_color.png"
    paths.check_suffix("--output", args.output, flow_files.SUFFIXES)
    paths.check_suffix("--image", args.image, image.SUFFIXES)
    frame1, frame2 = (
        common.uint8_or_float(io.read_image(path)) for path in args.frames
    )

    from jaxflow import estimate

    flow = estimate.estimate_flow(
        estimators.load(args.model, args.weights),
        frame1,
        frame2,
        **estimators.keywords(args),
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
    paths.check_suffix("--output", target, video.WRITABLE)
    paths.check_suffix("--image", args.image, ("",))

    from jaxflow import estimate

    flows = estimate.stream_flow(
        estimators.load(args.model, args.weights),
        map(common.uint8_or_float, io.read_frames(source)),
        batch_size=args.batch_size,
        **estimators.keywords(args),
    )
    total = max(len(names) - 1, 0) or None
    flows = common.progress(flows, "pair", total=total)
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
