"""Which schedule of a long video drifts less: autoregression, or hierarchy-2?

    python experiments/generation/long_video.py --runs runs/shapes --workdir runs/long

Networks of `moving_shapes.py`, one a folder of `runs`, extend the same 3 frames of
clips that no training draws, by every schedule. Two measures, by the number of the
frame:

- PSNR against the true continuation, beside holding the last given frame;
- the Fréchet distance to true videos, of pairs of neighbouring frames, so that both
  shape and motion count. The features are the first 24 principal components of true
  pairs; the pairs of 10 numbers of frames are taken together. "true" is the distance
  of as many other true videos: what chance alone gives.

Videos are kept in `workdir`, one file a schedule, and are not made again. Results are
JSON lines there. `--picture` draws the mean of the runs.

    two networks of 1500 steps, 100 frames from 3, distance in the first and the last
    fifth: autoreg 10.0 to 15.0 and 7.5 to 19.4, hierarchy-2 15.7 to 11.3 and 7.8 to 8.6
    (true 7.0 and 6.8, copy 17.9 and 18.9)
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxflow import generation, quality
from jaxflow.data import moving_shapes as shapes
from jaxflow.diffusion import long_video
from jaxflow.io import files

sys.path.append(str(pathlib.Path(__file__).parent))
import moving_shapes

SCHEMES: tuple[long_video.Scheme, ...] = ("autoreg", "hierarchy-2")
GIVEN = moving_shapes.TASKS["future"]
# Seeds of true videos for the features, and of others to compare with.
FEATURES, OTHERS = 1_000_019, 1_000_033
COMPONENTS, WINDOW = 24, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        runs: Folders of `moving_shapes.py`, with their weights.
        workdir: Folder for videos and results.
        model: Name of the network.
        kind: Clips: "shapes", "shapes3" or "glyphs".
        length: Frames of a video.
        videos: Number of videos.
        true: Number of true videos that they are compared with.
        sampling_steps: Steps of the sampler.
        seed: Of the noise.
        picture: File for a picture of the curves; None draws none.
    """

    runs: tuple[pathlib.Path, ...]
    workdir: pathlib.Path
    model: str = "flexible_16"
    kind: str = "shapes"
    length: int = 100
    videos: int = 32
    true: int = 512
    sampling_steps: int = 25
    seed: int = 0
    picture: pathlib.Path | None = None


def main(args: Args) -> None:
    """Makes the videos, measures them, and draws the curves."""
    args.workdir.mkdir(parents=True, exist_ok=True)
    target = true_videos(args, moving_shapes.HELD_OUT, args.videos)
    axes = components(true_videos(args, FEATURES, args.true))
    reference = gather(true_videos(args, FEATURES, args.true), axes)
    rows = []
    for run in args.runs:
        for scheme in SCHEMES:
            made = make(args, run, scheme, target)
            name = {"run": run.name, "scheme": scheme}
            rows.append(name | measure(made, target, axes, reference))
    held = np.broadcast_to(target[:, GIVEN - 1 : GIVEN], target.shape)
    others = true_videos(args, OTHERS, args.videos)
    rows.append({"scheme": "copy"} | measure(held, target, axes, reference))
    rows.append({"scheme": "true"} | measure(others, target, axes, reference))
    with files.atomic_path(args.workdir / "drift.jsonl") as path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        print(json.dumps(row | {"psnr": fifths(row["psnr"])}))
    if args.picture is not None:
        draw(rows, args.picture)


def true_videos(args: Args, seed: int, count: int) -> np.ndarray:
    """Draws videos, (count, length, H, W, 1) in [-1, 1]."""
    key = jax.random.key(seed)
    return np.asarray(
        shapes.clip_batch(key, kind=args.kind, batch_size=count, frames=args.length)
    )


def make(
    args: Args, run: pathlib.Path, scheme: long_video.Scheme, target: np.ndarray
) -> np.ndarray:
    """Returns the videos of a run and schedule, from the disk if they are there."""
    path = args.workdir / f"{run.name}_{scheme}.npy"
    if path.exists():
        found = np.load(path)
        if found.shape != target.shape:
            raise SystemExit(
                f"{path} holds videos {found.shape}, not {target.shape}: take another "
                "--workdir"
            )
        return found
    numbers = {"workdir": args.workdir, "model": args.model, "kind": args.kind}
    weights = run / "weights.safetensors"
    model = moving_shapes.build(moving_shapes.Args(start=weights, **numbers))
    settings = generation.Settings(steps=args.sampling_steps)
    sample = generation.clip_sampler(model, settings, process=model.process)
    most = model.config.num_frames
    stages = long_video.schedule(scheme, args.length, given=GIVEN, most=most)
    made = long_video.fill(jax.random.key(args.seed), sample, target, stages, most=most)
    made = np.clip(made, -1, 1)
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, made)
    return made


def measure(
    videos: np.ndarray, target: np.ndarray, axes: np.ndarray, reference: list
) -> dict[str, Any]:
    """Returns PSNR of every generated frame, and the distance of every window."""
    found = quality.psnr(videos, target, peak=2)[:, GIVEN:].mean(0)
    distances = [
        quality.frechet_of(own, true)
        for own, true in zip(gather(videos, axes), reference, strict=True)
    ]
    return {
        "psnr": [round(float(value), 3) for value in found],
        "frechet": [round(value, 3) for value in distances],
    }


def pairs(videos: np.ndarray) -> np.ndarray:
    """Stacks each frame and the next: (B, T - 1, 2 H W)."""
    flat = videos.reshape(*videos.shape[:2], -1)
    return np.concatenate([flat[:, :-1], flat[:, 1:]], axis=-1)


def components(videos: np.ndarray) -> np.ndarray:
    """Returns the first principal components of pairs, (2 H W, COMPONENTS)."""
    both = pairs(videos)
    covariance = quality.gather(both).covariance
    _, vectors = np.linalg.eigh(covariance)
    return vectors[:, -COMPONENTS:]


def gather(videos: np.ndarray, axes: np.ndarray) -> list[quality.Statistics]:
    """Returns the statistics of the features in every window of frames."""
    features = pairs(videos)[:, GIVEN - 1 :] @ axes
    starts = range(0, features.shape[1], WINDOW)
    return [
        quality.gather(clip[start : start + WINDOW] for clip in features)
        for start in starts
    ]


def fifths(curve: list[float]) -> list[float]:
    """Returns the means of the fifths of a curve."""
    return [round(float(part.mean()), 2) for part in np.array_split(curve, 5)]


def draw(rows: list[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws both curves of every schedule, runs averaged."""
    from matplotlib import pyplot

    colours = {"autoreg": "C3", "hierarchy-2": "C0", "copy": "C7", "true": "C2"}
    figure, both = pyplot.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
    for name, axes, label in zip(
        ("psnr", "frechet"),
        both,
        ("PSNR, dB", "Fréchet distance of pairs"),
        strict=True,
    ):
        for scheme, colour in colours.items():
            if scheme == ("true" if name == "psnr" else "copy"):
                continue
            curves = [row[name] for row in rows if row["scheme"] == scheme]
            curve = np.mean(curves, axis=0)
            frames = GIVEN + np.arange(len(curve)) * (1 if name == "psnr" else WINDOW)
            if name == "psnr":
                curve = np.convolve(curve, np.ones(9) / 9, mode="valid")
                frames = frames[4:-4]
            axes.plot(frames, curve, color=colour, label=scheme)
        axes.set(xlabel="number of the frame", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    both[1].set_ylim(bottom=0)
    pyplot.close(figure)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    moving_shapes.core.command(main, Args, __doc__)
