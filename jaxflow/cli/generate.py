"""``jaxflow generate``: the frames of a video that are not given."""

import argparse
import collections
import itertools
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxflow import io
from jaxflow.cli import clips, common, estimators, paths
from jaxflow.io import files, image, video

TASKS = ("future", "past", "interpolate", "unconditional", "long")
OBSERVED, MADE = (46, 160, 67), (110, 110, 110)
"""Colours of the frames around given and generated pictures of a contact sheet."""
GIF_FPS = 50
"""Most frames a second that viewers of a GIF show; a faster video is slowed down."""
LEAST_TILE = 64
"""Smallest height of a picture on a contact sheet; smaller ones are enlarged."""


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Generate the frames of a video that are not given"
    example = (
        "jaxflow generate --model flexible_16 --weights weights.safetensors --observe "
        "clip.mp4 --given 4 --task future --length 40 --output future.mp4"
    )
    add = common.add_command(commands, "generate", run, about, example).add_argument
    _add_video(add)
    _add_sampler(add)
    _add_files(add)


def _add_video(add) -> None:
    """Adds the options of the network and of the video that it completes."""
    helps = {
        "model": "the network; see jaxflow models --task generation (default: what "
        "--weights of a training run say that they are of)",
        "weights": "its weights: a file, a folder of a training run, or a published "
        "name",
        "option": "field of the network's config; may be repeated",
        "observe": "what is given: a video; or a folder or a pattern (in quotes) of "
        "pictures. It is cut to the model's size",
        "given": "use the first N frames of it, for the task past the last, for "
        "interpolate N in all from both ends (default: all)",
        "task": "which frames of the video they are: the first (future, long), the "
        "last (past) or both ends (interpolate) (default: future, or unconditional "
        "without --observe)",
        "length": "frames of the video (default: the model's)",
        "size": "height and width (default: those of --observe, or the model's)",
    }
    many = {"action": "append", "default": []}
    add("--model", metavar="NAME", help=helps["model"])
    add("--weights", metavar="FILE", help=helps["weights"])
    add("--option", metavar="NAME=VALUE", help=helps["option"], **many)
    add("--observe", metavar="CLIP", help=helps["observe"])
    add("--given", type=common.whole, metavar="N", help=helps["given"])
    add("--task", choices=TASKS, help=helps["task"])
    add("--length", type=common.whole, metavar="N", help=helps["length"])
    add("--size", type=_size, metavar="HxW", help=helps["size"])


def _add_sampler(add) -> None:
    """Adds the options of how frames are drawn."""
    helps = {
        "scheme": "how a video longer than the model takes is made (default: "
        "hierarchy-2)",
        "steps": "steps of the sampler (default: %(default)s)",
        "sampler": "how a step is taken: ddim, for which few steps do, or ddpm, which "
        "adds noise (default: ddim; ddpm if the network makes frame after frame)",
        "noise": "how much noise a step adds, 0 to 1: eta of ddim, gamma of ddpm "
        "(default: %(default)s)",
        "conditioning": "how frames are followed (default: by the network if it was "
        "trained to, else reconstruction)",
        "class": "number of the class, for a network with classes",
        "guidance": "how strongly the class counts: 1 obeys it, more exaggerates it "
        "(default: %(default)s)",
        "seed": "what the draws begin with: the same gives the same video (default: "
        "%(default)s)",
    }
    schemes = ("autoreg", "long-range", "hierarchy-2", "hierarchy-3")
    ways = ("network", "replacement", "reconstruction")
    add("--scheme", choices=schemes, help=helps["scheme"])
    add("--steps", type=common.whole, default=50, metavar="N", help=helps["steps"])
    add("--sampler", choices=("ddim", "ddpm"), help=helps["sampler"])
    add("--noise", type=float, default=0.0, metavar="X", help=helps["noise"])
    add("--conditioning", choices=ways, help=helps["conditioning"])
    add("--class", dest="of_class", type=int, metavar="N", help=helps["class"])
    add("--guidance", type=float, default=1.0, metavar="X", help=helps["guidance"])
    add("--seed", type=common.seed, default=0, metavar="N", help=helps["seed"])


def _add_files(add) -> None:
    """Adds the options of what is written."""
    helps = {
        "output": "the video: .mp4, .mov, .mkv or .gif",
        "sheet": "a picture of all frames; given ones have a green frame",
        "fps": "frames a second (default: those of --observe, or 8)",
    }
    add("-o", "--output", required=True, metavar="PATH", help=helps["output"])
    add("--sheet", metavar="PATH", help=helps["sheet"])
    add("--fps", type=common.rate, help=helps["fps"])


def _size(text: str) -> tuple[int, int]:
    """Reads HxW."""
    height, _, width = text.partition("x")
    if height.isdecimal() and width.isdecimal() and int(height) and int(width):
        return int(height), int(width)
    raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, as 64x64; got {text}")


def run(args: argparse.Namespace) -> None:
    """Writes a video of given and generated frames."""
    paths.check_suffix("--output", args.output, (*video.WRITABLE, ".gif"))
    paths.check_suffix("--sheet", args.sheet, image.SUFFIXES)
    targets = paths.given([("--output", args.output), ("--sheet", args.sheet)])
    _check_words(args)
    clip = clips.look(args.observe) if args.observe else None
    sources = [*(clip.files if clip else []), *([args.weights] if args.weights else [])]
    paths.check_targets(targets, sources)

    from jaxflow import generation

    weights = [args.weights] if args.weights else None
    args.model, weights = estimators.named(args.model, weights)
    estimators.check_name(args.model, "generation", "generation network")
    overrides = estimators.overrides(args.model, args.option)
    model = estimators.network(args.model, weights, overrides)
    frames = None if clip is None else _read(args, clip, model)
    task = "future" if args.task in (None, "long") else args.task
    made = _make(args, model, frames, task)
    observed = np.zeros(len(made), bool)
    if frames is not None:
        observed = generation.places(task, len(made), len(frames))
    fps = args.fps or (clip.fps if clip else 8.0)
    _write_video(args.output, _rgb(made), fps)
    common.wrote(args, args.output)
    if args.sheet:
        io.write_image(args.sheet, contact_sheet(_rgb(made), observed))
        common.wrote(args, args.sheet)


def _make(
    args: argparse.Namespace, model: Any, frames: np.ndarray | None, task: str
) -> np.ndarray:
    """Generates the video that the options ask for; shows progress."""
    from jaxflow import generation

    settings = generation.default_settings(model, conditional=frames is not None)
    settings = settings._replace(
        steps=args.steps,
        sampler=args.sampler or settings.sampler,
        noise=args.noise,
        scale=args.guidance,
        conditioning=args.conditioning or settings.conditioning,
    )
    length = args.length
    if length is None:
        length = getattr(model.config, "num_frames", None)
    with common.meter("stage", quiet=args.quiet) as progress:
        return generation.generate(
            model,
            frames,
            observed=None if frames is None else task,
            length=length,
            size=args.size,
            scheme=args.scheme,
            condition=args.of_class,
            settings=settings,
            seed=args.seed,
            progress=progress,
        )


def _check_words(args: argparse.Namespace) -> None:
    """Raises if the options do not fit each other."""
    given = args.observe is not None
    if given and args.task == "unconditional":
        raise ValueError("--task unconditional takes nothing to --observe")
    if not given and args.task not in (None, "unconditional"):
        raise ValueError(f"--task {args.task} needs frames: --observe CLIP")
    if not given and args.given:
        raise ValueError("--given needs --observe CLIP")
    if args.guidance != 1 and args.of_class is None:
        raise ValueError("--guidance needs a --class to exaggerate")
    if args.fps and args.fps > GIF_FPS and files.suffix(args.output) == ".gif":
        raise ValueError(f"--fps {args.fps:g}: a GIF shows at most {GIF_FPS} a second")
    if args.task == "long" and not args.length:
        raise ValueError("--task long needs the --length of the video")


def _read(args: argparse.Namespace, clip: clips.Clip, model: Any) -> np.ndarray:
    """Returns the frames that are given, in the model's size and channels."""
    frames = _chosen(io.read_frames(clip.source), args)
    shown = np.stack([_fitted(frame, args.size, model.multiple) for frame in frames])
    if model.config.channels == 1:
        # Luma of ITU-R 601.
        shown = shown @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return np.clip(shown, 0, 1)


def _chosen(frames: Iterable[np.ndarray], args: argparse.Namespace) -> list[np.ndarray]:
    """Returns the frames that a task is given; others of a long film are not kept."""
    count = args.given
    frames = (np.asarray(common.uint8_or_float(frame)) for frame in frames)
    if count is None:
        return list(frames)
    last = {"past": count, "interpolate": count // 2}.get(args.task, 0)
    chosen = list(itertools.islice(frames, count - last))
    end = collections.deque(frames, maxlen=last) if last else ()
    if (found := len(chosen) + len(end)) < count:
        raise ValueError(f"--given {count}: {args.observe} has {found} frames")
    return [*chosen, *end]


def _fitted(frame: np.ndarray, size, multiple: int) -> np.ndarray:
    """Crops a picture at its centre to a size's shape and brings it to that size."""
    import jax.numpy as jnp

    from jaxflow import ops

    if frame.dtype == np.uint8:
        frame = frame / np.float32(255)
    frame = frame.astype(np.float32)
    height, width = frame.shape[:2]
    if size is None:
        size = height - height % multiple, width - width % multiple
        inner = size
    else:
        scale = min(height / size[0], width / size[1])
        inner = max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    if min(size) < 1:
        raise ValueError(
            f"--observe: frames of {width}x{height} are too small: the model takes "
            f"multiples of {multiple}"
        )
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    frame = frame[top : top + inner[0], left : left + inner[1]]
    if size == inner:
        return frame
    return np.asarray(ops.resize(jnp.asarray(frame), size))


def _rgb(video: np.ndarray) -> np.ndarray:
    """Brings a video in [0, 1] to RGB of 8 bits."""
    if video.shape[-1] not in (1, 3):
        video = video[..., :1]
    shown = np.round(255 * np.clip(video, 0, 1)).astype(np.uint8)
    return np.broadcast_to(shown, (*shown.shape[:-1], 3))


def _write_video(path: str, frames: np.ndarray, fps: float) -> None:
    """Writes a video or a GIF, whole or not at all."""
    if files.suffix(path) != ".gif":
        io.write_video(path, list(frames), fps=fps)
        return
    from PIL import Image

    first, *rest = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    milliseconds = round(1000 / min(fps, GIF_FPS))
    with files.atomic_path(pathlib.Path(path)) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=milliseconds,
            loop=0,
        )


def contact_sheet(frames: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Lays all frames of a video out on one picture.

    Args:
        frames: (T, H, W, 3) uint8.
        observed: (T,) bool; these have a green frame, others a grey one.

    Returns:
        (H', W', 3) uint8, from left to right and from top to bottom.
    """
    zoom = -(-LEAST_TILE // frames.shape[1])
    tiles = frames.repeat(zoom, 1).repeat(zoom, 2)
    columns = min(len(tiles), 2 * math.ceil(math.sqrt(len(tiles) / 2)))
    rows = -(-len(tiles) // columns)
    border, gap = 3, 2
    height, width = tiles.shape[1] + 2 * border + gap, tiles.shape[2] + 2 * border + gap
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for number, (tile, given) in enumerate(zip(tiles, observed, strict=True)):
        top, left = number // columns * height, number % columns * width
        area = sheet[top : top + height - gap, left : left + width - gap]
        area[:] = OBSERVED if given else MADE
        area[border:-border, border:-border] = tile
    return sheet
