"""How good are generated videos? One answer from each side of this library.

    python experiments/generation/measure.py --made made --true held_out \\
        --network r3d_18 --weights r3d_18.pth --flow jaxflow_fast

Prints a JSON line:

    frechet       squared Fréchet distance of what a recognition network sees in both
                  folders; only with --network. It is called after that network, and is
                  no FVD, which needs the published I3D and its protocol
    consistency   how far each frame is from the next one brought back along the flow,
                  of the made videos and of the true ones: flicker
    psnr, ssim    of videos that have the same name in both folders: PSNR of all frames
                  together, SSIM frame by frame

Videos are read one after the other, and only statistics are kept.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import tyro
from flax import nnx

import jaxflow
from jaxflow import convert, io, quality
from jaxflow.cli import common
from jaxflow.data import clips, list_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        made: Folder of generated videos, at any depth.
        true: Folder of true videos.
        network: Recognition network whose features are compared; None compares none.
        weights: Its weights; see `jaxflow.load_model`.
        flow: Classical method, or network whose weights come with the package.
        most: Videos of each folder that are looked at; 0 is all.
    """

    made: pathlib.Path
    true: pathlib.Path
    network: str | None = None
    weights: pathlib.Path | None = None
    flow: str = "tvl1"
    most: int = 0


def main(args: Args) -> dict[str, float]:
    """Measures, and prints a line."""
    if (args.network is None) != (args.weights is None):
        raise SystemExit("--network and --weights: give both or neither")
    made, true = (find(folder, args.most) for folder in (args.made, args.true))
    row: dict[str, float] = {"made": len(made), "true": len(true)}
    if args.network is not None and args.weights is not None:
        see = features(convert.load_model(args.network, args.weights))
        seen = [quality.gather(map(see, paths)) for paths in (made, true)]
        row[f"frechet_{args.network}"] = quality.frechet_of(*seen)
    for name, paths in (("made", made), ("true", true)):
        found = np.concatenate([consistency(path, args.flow) for path in paths])
        row[f"consistency_{name}"] = float(np.nanmean(found))
    row |= compare(made, true, args)
    print(json.dumps(row))
    return row


def find(folder: pathlib.Path, most: int) -> list[pathlib.Path]:
    """Returns the videos of a folder."""
    paths = list_rows.find_videos(folder)
    if not paths:
        raise SystemExit(f"{folder}: holds no videos")
    return paths[: most or None]


def features(model: nnx.Module) -> Callable[[pathlib.Path], np.ndarray]:
    """Returns what maps a video to the features of its middle, (1, D).

    Args:
        model: A recognition network with `features`; maps of them are averaged.
    """
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, clip):
        network = nnx.merge(graph, state)
        found = network.features(clip)
        return found.reshape(1, -1, found.shape[-1]).mean(1)

    config = model.config

    def see(path: pathlib.Path) -> np.ndarray:
        stride = getattr(config, "frame_stride", 1)
        clip = clips.read_clip(path, config.num_frames, stride, rate=None)
        clip = clips.resized_crop(clip, config.crop_size, config.crop_size)
        return np.asarray(run(state, clip[None]))

    return see


def consistency(path: pathlib.Path, flow: str) -> np.ndarray:
    """Returns the temporal consistency of each pair of frames."""
    frames = read(path)
    both = jaxflow.estimate_both_ways(flow, frames[:-1], frames[1:])
    return quality.temporal_consistency(frames, both.forward, both.backward)


def compare(
    made: Sequence[pathlib.Path], true: Sequence[pathlib.Path], args: Args
) -> dict[str, float]:
    """Returns PSNR and SSIM of the videos whose names are in both folders."""
    scores = [
        (quality.psnr(tall(one), tall(two)), quality.ssim(one, two).mean())
        for one, two in matched(made, true, args)
    ]
    if not scores:
        return {}
    psnr, ssim = np.mean(scores, axis=0)
    return {"matched": len(scores), "psnr": float(psnr), "ssim": float(ssim)}


def tall(video: np.ndarray) -> np.ndarray:
    """Stacks the frames, so that given ones, which are equal, have a finite part."""
    return video.reshape(-1, *video.shape[2:])


def matched(made, true, args: Args) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives the frames of made and true videos of one name, whatever the suffix."""
    by_name = {path.relative_to(args.true).with_suffix(""): path for path in true}
    for path in made:
        other = by_name.get(path.relative_to(args.made).with_suffix(""))
        if other is None:
            continue
        one, two = read(path), read(other)
        if one.shape != two.shape:
            raise SystemExit(f"{path}: is {one.shape}, but {other} is {two.shape}")
        yield one, two


def read(path: pathlib.Path) -> np.ndarray:
    """Returns the frames of a video, (T, H, W, 3) in [0, 1]."""
    frames = np.stack([np.asarray(frame) for frame in io.read_video(path)])
    return io.as_float(frames, name="frames")


if __name__ == "__main__":
    with common.quiet_if_unread():
        main(tyro.cli(Args))
