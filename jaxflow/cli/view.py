"""``jaxflow view``: a page to look at flow files with."""

import argparse
import itertools
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxflow import io
from jaxflow.cli import common, paths
from jaxflow.io import files
from jaxflow.io import frames as sequences

MOST_BYTES = 2**29
"""Of numbers that a page may hold: a browser takes no more."""


class Flows(NamedTuple):
    """Flow files of one size.

    Attributes:
        files: Where they were.
        flow: (T, H, W, 2).
        valid: (T, H, W).
    """

    files: list[pathlib.Path]
    flow: np.ndarray
    valid: np.ndarray


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Write a page to look at flow: values under the cursor, arrows, errors"
    example = "jaxflow view flow.flo --frame a.png b.png --truth truth.flo"
    add = common.add_command(commands, "view", run, about, example).add_argument
    helps = {
        "flow": "a flow file; of a clip, a folder or a pattern (in quotes) of them",
        "frame": "the picture that the flow starts from, or both pictures; of a clip, "
        "one folder, pattern or video",
        "truth": "the true flow, as a file or files like those of the flow",
        "output": "the page (default: its name from that of the flow, and _view.html)",
        "max_flow": "length of a vector in full colour (default: the longest; of a "
        "clip, without its fastest tenth)",
        "fps": "pairs a second when a clip is played (default: %(default)s)",
    }
    add("flow", metavar="FLOW", help=helps["flow"])
    add("--frame", nargs="+", default=[], metavar="PATH", help=helps["frame"])
    add("--truth", metavar="PATH", help=helps["truth"])
    add("-o", "--output", metavar="PATH", help=helps["output"])
    add("--max-flow", type=common.positive, metavar="PX", help=helps["max_flow"])
    add("--fps", type=common.rate, default=5.0, help=helps["fps"])


def run(args: argparse.Namespace) -> None:
    """Writes the page."""
    if len(args.frame) > 2:
        raise ValueError(
            f"--frame: give one picture or two, or one clip; got {len(args.frame)}"
        )
    if args.output is None:
        args.output = f"{pathlib.Path(os.path.abspath(args.flow)).stem}_view.html"
    paths.check_suffix("--output", args.output, (".html", ".htm"))
    paths.check_file("--output", args.output)
    flows = _read_flows("FLOW", args.flow)
    truth = None if args.truth is None else _read_flows("--truth", args.truth)
    if truth is not None and truth.flow.shape != flows.flow.shape:
        raise ValueError(
            f"--truth: must hold as many files of the same size as FLOW, "
            f"{_describe(flows.flow)}; got {_describe(truth.flow)}"
        )
    read = [*flows.files, *(truth.files if truth else ()), *args.frame]
    paths.check_targets([("--output", args.output)], read)
    frames = _read_frames(args.frame, flows.flow)

    from jaxflow import viewer

    page = viewer.render(
        flows.flow,
        valid=flows.valid,
        frames=frames,
        target=None if truth is None else truth.flow,
        target_valid=None if truth is None else truth.valid,
        names=[file.name for file in flows.files],
        title=os.path.basename(os.path.abspath(args.flow)),
        max_flow=args.max_flow,
        fps=args.fps,
    )
    files.write_bytes(args.output, page.encode())
    common.wrote(args, args.output)


def _read_flows(option: str, path: str) -> Flows:
    """Reads one flow file, or those of a clip."""
    listed = sequences.is_sequence(path)
    found = sequences.list_flows(path) if listed else [pathlib.Path(path)]
    flows, valids = [], []
    for file in found:
        flow, valid = io.read_flow(file)
        if flows and flow.shape != flows[0].shape:
            raise ValueError(
                f"{file}: is {_describe(flow)}, where {found[0]} is "
                f"{_describe(flows[0])}: the pairs of a clip have one size"
            )
        flows.append(flow)
        valids.append(valid)
        if len(found) * flow.nbytes > MOST_BYTES:
            raise ValueError(
                f"{option}: {len(found)} files of {_describe(flow)} are too much for "
                f"one page; choose at most {max(1, MOST_BYTES // flow.nbytes)} by a "
                "pattern"
            )
    return Flows(found, np.stack(flows), np.stack(valids))


def _read_frames(given: list[str], flow: np.ndarray) -> list[np.ndarray]:
    """Reads the pictures of the pairs: of each the first, or one more than pairs."""
    if not given:
        return []
    count = len(flow)
    if len(given) == 2:
        if count > 1:
            raise ValueError(
                f"--frame: {count} pairs take a folder, a pattern or a video; got two"
            )
        frames = [io.read_image(path) for path in given]
    else:
        frames = list(itertools.islice(io.read_frames(given[0]), count + 2))
        # A clip that goes on behind the flow is none of it.
        if count == 1 and len(frames) > 2:
            frames = frames[:2]
        if len(frames) not in (count, count + 1):
            more = "more" if len(frames) > count + 1 else str(len(frames))
            raise ValueError(
                f"--frame: {given[0]} must hold {count} or {count + 1} pictures for "
                f"{count} flow files; it holds {more}"
            )
    for frame in frames:
        if frame.shape[:2] != flow.shape[1:3]:
            raise ValueError(
                f"--frame: pictures must have the size of the flow, {_describe(flow)}; "
                f"got {frame.shape[1]} x {frame.shape[0]}"
            )
    return frames


def _describe(flow: np.ndarray) -> str:
    """Says how many flows of which size there are."""
    size = f"{flow.shape[-2]} x {flow.shape[-3]}"
    return size if flow.ndim == 3 else f"{len(flow)} of {size}"
