"""``jaxflow view``: a page to look at flow files with.

Of a clip, the name of a flow file decides which frame it starts from, as
`jaxflow.cli.pairing` says; the page calls each pair by its file and its frames.
"""

import argparse
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxflow import io
from jaxflow.cli import clips, common, pairing, paths
from jaxflow.io import files, image
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


class Shown(NamedTuple):
    """The pictures of the pairs.

    Attributes:
        names: What each pair is called.
        frames: The first of each pair; if there is no `second`, the next is the second.
        second: The second of each pair, or none.
    """

    names: list[str]
    frames: list[np.ndarray]
    second: list[np.ndarray]


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Write a page to look at flow: values under the cursor, arrows, errors"
    example = "jaxflow view flow.flo --frame a.png b.png --truth truth.flo"
    add = common.add_command(commands, "view", run, about, example).add_argument
    helps = {
        "flow": "a flow file; of a clip, a folder or a pattern (in quotes) of them",
        "frame": "the picture that the flow starts from, or both pictures; of a clip, "
        "one folder, pattern or video: a flow file starts from the picture of its "
        "name, or from the frame of its number (from 0)",
        "start": "of a clip: the first frame of the part that has flow, from 0, as it "
        "was for jaxflow flow; needed where names do not tell",
        "stride": "of a clip: a pair is N frames apart (default: as the names of the "
        "flow files are)",
        "backward": "the flow goes from the second picture to the first; of a clip, "
        "from each frame to the one before",
        "truth": "the true flow, as a file or files like those of the flow, in the "
        "same order",
        "output": "the page to write (default: its name from that of the flow, and "
        "_view.html)",
        "max_flow": "length of a vector in full colour (default: the longest; of a "
        "clip, without its fastest tenth)",
        "fps": "pairs a second when a clip is played (default: %(default)s)",
    }
    add("flow", metavar="FLOW", help=helps["flow"])
    add("--frame", nargs="+", default=[], metavar="PATH", help=helps["frame"])
    add("--start", type=common.place, metavar="N", help=helps["start"])
    add("--stride", type=common.whole, metavar="N", help=helps["stride"])
    add("--backward", action="store_true", help=helps["backward"])
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
    if truth is not None:
        _check_truth(flows, truth)
    read = [*flows.files, *(truth.files if truth else ()), *args.frame]
    paths.check_targets([("--output", args.output)], read)
    shown = _read_frames(args, flows)

    from jaxflow import viewer

    page = viewer.render(
        flows.flow,
        valid=flows.valid,
        frames=shown.frames,
        second_frames=shown.second,
        target=None if truth is None else truth.flow,
        target_valid=None if truth is None else truth.valid,
        names=shown.names,
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


def _check_truth(flows: Flows, truth: Flows) -> None:
    """Raises unless there is one true flow, of the same size, a flow file.

    They are paired in order: files that have names in common must have all of them.
    """
    if truth.flow.shape != flows.flow.shape:
        raise ValueError(
            f"--truth: must hold as many files of the same size as FLOW, "
            f"{_describe(flows.flow)}; got {_describe(truth.flow)}"
        )
    ours, theirs = ([file.stem for file in each.files] for each in (flows, truth))
    if ours != theirs and set(ours) & set(theirs):
        odd = next(t for t, name in enumerate(ours) if name != theirs[t])
        raise ValueError(
            f"--truth: {truth.files[odd].name} would be the truth of "
            f"{flows.files[odd].name}; choose files of the same names by a pattern"
        )


def _read_frames(args: argparse.Namespace, flows: Flows) -> Shown:
    """Reads the pictures of the pairs.

    Raises:
        ValueError: If they are not those of the flow, or it is not told which are.
    """
    names = [file.name for file in flows.files]
    pictures = len(args.frame) == 2 or _is_picture(args.frame)
    asked = {"--start": args.start, "--stride": args.stride}
    given = [option for option, value in asked.items() if value is not None]
    if given and (pictures or not args.frame):
        raise ValueError(f"{given[0]}: is of a clip; --frame names none")
    if args.backward and (not args.frame or (len(args.frame) == 1 and pictures)):
        raise ValueError("--backward: is of two pictures or a clip; --frame names none")
    if not args.frame:
        return Shown(names, [], [])
    if not pictures:
        shown = _read_clip(args, flows)
    elif len(names) > 1:
        raise ValueError(
            f"--frame: {len(names)} pairs take a folder, a pattern or a video; got "
            f"{'two pictures' if len(args.frame) == 2 else 'one picture'}"
        )
    else:
        order = args.frame[::-1] if args.backward else args.frame
        shown = Shown(names, [io.read_image(path) for path in order], [])
    for frame in (*shown.frames, *shown.second):
        if frame.shape[:2] != flows.flow.shape[1:3]:
            raise ValueError(
                "--frame: pictures must have the size of the flow, "
                f"{_describe(flows.flow[0])}; got {frame.shape[1]} x {frame.shape[0]}"
            )
    return shown


def _is_picture(given: list[str]) -> bool:
    """Tells whether one picture is given, rather than a clip."""
    return (
        len(given) == 1
        and not sequences.is_sequence(given[0])
        and files.suffix(given[0]) in image.READABLE
    )


def _read_clip(args: argparse.Namespace, flows: Flows) -> Shown:
    """Reads the frames of a clip that flows are between, each once."""
    clip = clips.look(args.frame[0])
    pattern = not os.path.isdir(args.flow)
    told = pairing.Told(args.start, args.stride, args.backward, pattern)
    pairs = pairing.pair_up(flows.files, clip, told)
    names = [
        pairing.caption(file, pair, clip)
        for file, pair in zip(flows.files, pairs, strict=True)
    ]
    wanted = {place for pair in pairs for place in pair if place is not None}
    start, stop = min(wanted), max(wanted) + 1
    frames = {
        place: frame
        for place, frame in enumerate(clip.read(start, stop - start), start)
        if place in wanted
    }
    seconds = [frames[pair.second] for pair in pairs if pair.second is not None]
    return Shown(names, [frames[pair.first] for pair in pairs], seconds)


def _describe(flow: np.ndarray) -> str:
    """Says how many flows of which size, width x height, there are."""
    size = f"{flow.shape[-2]} x {flow.shape[-3]} pixels"
    if flow.ndim == 3:
        return size
    return f"{len(flow)} {'file' if len(flow) == 1 else 'files'} of {size}"
