"""Flow data sets as their authors distribute them: folders of frames and flow.

Nothing here needs JAX. A layout's function lists the pairs of a folder, `load` reads
one. The licence of each data set is its authors'.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxflow import _checks, io
from jaxflow.io import files


class Pair(NamedTuple):
    """Files of one pair of frames.

    Attributes:
        frame1: First frame.
        frame2: Second frame.
        flow: Motion from the first to the second.
        invalid: Picture that is not black where the flow must not count, or None.
    """

    frame1: pathlib.Path
    frame2: pathlib.Path
    flow: pathlib.Path
    invalid: pathlib.Path | None = None


class Sample(NamedTuple):
    """One pair of frames, read.

    Attributes:
        frame1: (H, W, 3): uint8; or, if either frame has more than 8 bits, float32 in
            [0, 1].
        frame2: (H, W, 3), of the same type.
        flow: Motion from the first to the second, (H, W, 2) float32, in pixels.
        valid: Where it is known, (H, W) bool.
    """

    frame1: np.ndarray
    frame2: np.ndarray
    flow: np.ndarray
    valid: np.ndarray


def list_pairs(
    layout: str, root: str | os.PathLike[str], *, split: str = "train"
) -> list[Pair]:
    """Lists the pairs of a data set.

    Args:
        layout: One of `LAYOUTS`.
        root: Folder of the data set, as it unpacks.
        split: "train", or "val" or "test" where the data set has flow for it.

    Returns:
        The pairs, in the order of their names.

    Raises:
        ValueError: If there is no such layout or split, nothing is found where the
            layout has it, or a frame is missing.
    """
    root = pathlib.Path(root)
    pairs = find_pairs(layout, root, split=split)
    if not pairs:
        raise ValueError(f"{root}: no pairs of layout {layout!r}, split {split!r}")
    for pair in pairs:
        for path in pair:
            if path is not None and not path.is_file():
                raise ValueError(f"{path}: is missing, in a pair of layout {layout!r}")
    return pairs


def find_pairs(
    layout: str, root: str | os.PathLike[str], *, split: str = "train"
) -> list[Pair]:
    """Lists the pairs as `list_pairs` does, be they none or their frames missing.

    Raises:
        ValueError: If there is no such layout or split.
    """
    _checks.one_of("layout", layout, sorted(LAYOUTS))
    return list(LAYOUTS[layout](pathlib.Path(root), split))


def load(pair: Pair) -> Sample:
    """Reads a pair.

    Raises:
        ValueError: If a file is damaged, or their sizes differ.
        OSError: If a file cannot be opened.
    """
    frame1, frame2 = io.read_image(pair.frame1), io.read_image(pair.frame2)
    flow, valid = io.read_flow(pair.flow)
    if pair.invalid is not None:
        valid &= io.read_image(pair.invalid)[..., 0] == 0
    if pair.flow.suffix == ".flo5":
        # Spring's flow has two rows and columns to one of the frames.
        flow, valid = flow[::2, ::2], valid[::2, ::2]
    if not frame1.shape[:2] == frame2.shape[:2] == flow.shape[:2]:
        raise ValueError(
            f"{pair.flow}: is {flow.shape[:2]}; its frames are {frame1.shape[:2]} and "
            f"{frame2.shape[:2]}"
        )
    if not frame1.dtype == frame2.dtype == np.uint8:
        frame1, frame2 = io.as_float(frame1), io.as_float(frame2)
    return Sample(frame1, frame2, flow, valid)


def read_occluded(pair: Pair) -> np.ndarray | None:
    """Reads where frame 1 shows what frame 2 does not, where the authors say it.

    Sintel has pictures that are white there (``occlusions`` beside ``flow``), and
    FlyingChairsOcc, too (``occ1.png``); KITTI has a second flow without it
    (``flow_noc`` beside ``flow_occ``).

    Args:
        pair: Of any layout.

    Returns:
        (H, W) bool; None where the files of the pair have no such file beside them.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be opened.
    """
    folder, name = pair.flow.parent, pair.flow.name
    picture = folder.parents[1] / "occlusions" / folder.name / f"{pair.flow.stem}.png"
    chairs = folder / name.replace("_flow.flo", "_occ1.png")
    if folder.name == "flow_occ" and (folder.with_name("flow_noc") / name).is_file():
        _, visible = io.read_flow(folder.with_name("flow_noc") / name)
        return ~visible
    if folder.parent.name == "flow" and picture.is_file():
        return io.read_image(picture)[..., 0] != 0
    if chairs != pair.flow and chairs.is_file():
        return io.read_image(chairs)[..., 0] != 0
    return None


class Folder(Sequence[Sample]):
    """The pairs of a data set, read when they are asked for.

    Args:
        layout: One of `LAYOUTS`.
        root: Folder of the data set, as it unpacks.
        split: "train", or "val" or "test" where the data set has flow for it.
        limit: Number of pairs to keep, spread evenly; None keeps all.
    """

    def __init__(
        self,
        layout: str,
        root: str | os.PathLike[str],
        *,
        split: str = "train",
        limit: int | None = None,
    ):
        self.pairs = list_pairs(layout, root, split=split)
        if limit is not None and limit < len(self.pairs):
            _checks.positive("limit", limit)
            self.pairs = [
                self.pairs[i * len(self.pairs) // limit] for i in range(limit)
            ]

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Reads one pair."""
        return load(self.pairs[index])


def _glob(folder: pathlib.Path, pattern: str) -> Iterator[pathlib.Path]:
    """Yields what a pattern names in a folder, but for what is hidden."""
    for path in folder.glob(pattern):
        if not any(map(files.is_hidden, path.relative_to(folder).parts)):
            yield path


def _chairs(root: pathlib.Path, split: str) -> Iterator[Pair]:
    """FlyingChairs: data/00001_img1.ppm, 00001_img2.ppm, 00001_flow.flo.

    Without the authors' list of the split beside it, all pairs are "train".
    """
    folder = root / "data" if (root / "data").is_dir() else root
    flows = sorted(_glob(folder, "*_flow.flo"))
    kept = _chairs_split(root, split, len(flows))
    for flow, keep in zip(flows, kept, strict=True):
        name = flow.name.removesuffix("_flow.flo")
        if keep:
            yield Pair(folder / f"{name}_img1.ppm", folder / f"{name}_img2.ppm", flow)


def _chairs_split(root: pathlib.Path, split: str, count: int) -> list[bool]:
    """Reads which pairs belong to a split: a line each, 1 for train and 2 for val."""
    _checks.one_of("split", split, ("train", "val"))
    for name in ("FlyingChairs_train_val.txt", "chairs_split.txt"):
        for folder in (root, root.parent):
            path = folder / name
            if path.is_file():
                lines = read_chairs_split(path)
                if len(lines) != count:
                    raise ValueError(
                        f"{path}: has {len(lines)} lines for {count} pairs"
                    )
                return [line == ("1" if split == "train" else "2") for line in lines]
    if split == "val":
        raise ValueError(
            f"{root}: split 'val' needs the authors' FlyingChairs_train_val.txt there"
        )
    return [True] * count


def read_chairs_split(path: pathlib.Path) -> list[str]:
    """Reads the authors' list of FlyingChairs: "1" for training, "2" for validation.

    Raises:
        ValueError: If it is empty, or a line is neither.
    """
    lines = path.read_text(errors="replace").split()
    wrong = [n for n, line in enumerate(lines, start=1) if line not in ("1", "2")]
    if wrong or not lines:
        fault = f"line {wrong[0]} is neither 1 nor 2" if wrong else "the file is empty"
        raise ValueError(f"{path}: {fault}")
    return lines


def _things(clean_or_final: str) -> Callable[[pathlib.Path, str], Iterator[Pair]]:
    """FlyingThings3D, in full or as its subset; both cameras, both directions."""

    def pairs(root: pathlib.Path, split: str) -> Iterator[Pair]:
        if (root / "optical_flow").is_dir():
            yield from _things_full(root, split, f"frames_{clean_or_final}pass")
        else:
            yield from _things_subset(root, split, f"image_{clean_or_final}")

    return pairs


def _things_full(root: pathlib.Path, split: str, frames: str) -> Iterator[Pair]:
    """optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm."""
    _checks.one_of("split", split, ("train", "test"))
    for flow in sorted(_glob(root / "optical_flow" / split.upper(), "*/*/*/*/*.pfm")):
        part, scene, direction, camera = flow.parts[-5:-1]
        folder = root / frames / split.upper() / part / scene / camera
        yield from _step(folder, flow, int(flow.stem.split("_")[1]), 4, direction)


def _things_subset(root: pathlib.Path, split: str, frames: str) -> Iterator[Pair]:
    """train/flow/left/into_future/0000000.flo, train/image_clean/left/0000000.png."""
    _checks.one_of("split", split, ("train", "val"))
    found = _glob(root / split / "flow", "*/*/*")
    for flow in sorted(path for path in found if path.suffix in (".flo", ".pfm")):
        camera, direction = flow.parts[-3:-1]
        folder = root / split / frames / camera
        yield from _step(folder, flow, int(flow.stem), 7, direction)


def _step(
    folder: pathlib.Path, flow: pathlib.Path, index: int, digits: int, direction: str
) -> Iterator[Pair]:
    """Pairs a flow with the frames it joins; the one past an end has no partner."""
    after = index + (1 if direction == "into_future" else -1)
    frame2 = folder / f"{after:0{digits}d}.png"
    if after >= 0 and frame2.is_file():
        yield Pair(folder / f"{index:0{digits}d}.png", frame2, flow)


def _sintel(clean_or_final: str) -> Callable[[pathlib.Path, str], Iterator[Pair]]:
    """MPI-Sintel: training/{clean,flow,invalid}/alley_1/frame_0001.{png,flo}."""

    def pairs(root: pathlib.Path, split: str) -> Iterator[Pair]:
        _checks.one_of("split", split, ("train",))
        folder = root / "training"
        for flow in sorted(_glob(folder / "flow", "*/*.flo")):
            scene, index = flow.parent.name, int(flow.stem.split("_")[1])
            frames = folder / clean_or_final / scene
            invalid = folder / "invalid" / scene / f"{flow.stem}.png"
            yield Pair(
                frames / f"frame_{index:04d}.png",
                frames / f"frame_{index + 1:04d}.png",
                flow,
                invalid if (folder / "invalid").is_dir() else None,
            )

    return pairs


def _kitti(*folders: str) -> Callable[[pathlib.Path, str], Iterator[Pair]]:
    """KITTI: training/image_2/000000_10.png, 000000_11.png, flow_occ/000000_10.png."""

    def pairs(root: pathlib.Path, split: str) -> Iterator[Pair]:
        _checks.one_of("split", split, ("train",))
        training = root / "training"
        present = [training / name for name in folders if (training / name).is_dir()]
        for flow in sorted(_glob(training / "flow_occ", "*_10.png")):
            frames = present[0] if present else training / folders[0]
            yield Pair(
                frames / flow.name, frames / flow.name.replace("_10.", "_11."), flow
            )

    return pairs


def _hd1k(root: pathlib.Path, split: str) -> Iterator[Pair]:
    """HD1K: hd1k_input/image_2/000000_0000.png, hd1k_flow_gt/flow_occ/ alike."""
    _checks.one_of("split", split, ("train",))
    frames = root / "hd1k_input" / "image_2"
    for flow in sorted(_glob(root / "hd1k_flow_gt" / "flow_occ", "*_*.png")):
        sequence, _, index = flow.stem.partition("_")
        after = frames / f"{sequence}_{int(index) + 1:04d}.png"
        # The last frame of a sequence has no partner.
        if after.is_file():
            yield Pair(frames / flow.name, after, flow)


def _middlebury(root: pathlib.Path, split: str) -> Iterator[Pair]:
    """Middlebury: other-data/Venus/frame10.png, other-gt-flow/Venus/flow10.flo.

    Frames and flow may also share a folder per scene.
    """
    _checks.one_of("split", split, ("train",))
    flows = sorted(
        [*_glob(root, "other-gt-flow/*/flow10.flo"), *_glob(root, "*/flow10.flo")]
    )
    for flow in flows:
        frames = flow.parent
        if flow.parent.parent.name == "other-gt-flow":
            frames = root / "other-data" / flow.parent.name
        yield Pair(frames / "frame10.png", frames / "frame11.png", flow)


def _chairs_sdhom(root: pathlib.Path, split: str) -> Iterator[Pair]:
    """ChairsSDHom: data/train/t0/00000.png, t1/00000.png, flow/00000.pfm."""
    _checks.one_of("split", split, ("train", "test"))
    folder = (root / "data" if (root / "data").is_dir() else root) / split
    for flow in sorted(_glob(folder / "flow", "*.pfm")):
        name = f"{flow.stem}.png"
        yield Pair(folder / "t0" / name, folder / "t1" / name, flow)


def _spring(root: pathlib.Path, split: str) -> Iterator[Pair]:
    """Spring: train/0001/frame_left/frame_left_0001.png, flow_FW_left/ alike, .flo5."""
    _checks.one_of("split", split, ("train",))
    for flow in sorted(_glob(root / "train", "*/flow_*_*/flow_*_*_*.flo5")):
        _, direction, camera, number = flow.stem.split("_")
        frames = flow.parent.parent / f"frame_{camera}"
        ends = int(number), int(number) + (1 if direction == "FW" else -1)
        frame1, frame2 = (frames / f"{frames.name}_{n:04d}.png" for n in ends)
        yield Pair(frame1, frame2, flow)


LAYOUTS: dict[str, Callable[[pathlib.Path, str], Iterator[Pair]]] = {
    "chairs": _chairs,
    "things_clean": _things("clean"),
    "things_final": _things("final"),
    "sintel_clean": _sintel("clean"),
    "sintel_final": _sintel("final"),
    "kitti2012": _kitti("colored_0", "image_0"),
    "kitti2015": _kitti("image_2"),
    "hd1k": _hd1k,
    "middlebury": _middlebury,
    "chairs_sdhom": _chairs_sdhom,
    "spring": _spring,
}
"""Layout of a data set by its name: (root, split) -> its pairs."""
