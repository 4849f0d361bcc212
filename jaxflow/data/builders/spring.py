"""Spring as a TFDS data set.

Mehl et al., "Spring: A High-Resolution High-Detail Dataset and Benchmark for Scene
Flow, Optical Flow and Stereo" (2023): 47 scenes of a film, 1080x1920, of which 37 have
public flow, for both cameras and both directions of time. They are the split "train";
see https://spring-benchmark.org. Whatever of the four flows is there is used:

    spring/train/0001/frame_left/frame_left_0001.png ...
    spring/train/0001/flow_FW_left/flow_FW_left_0001.flo5 ...
    spring/train/0001/flow_BW_left/flow_BW_left_0002.flo5 ...

Flow has twice the resolution of the frames, in pixels of the frames; every second row
and column is kept. To read it takes h5py.
"""

import pathlib
import re

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class Spring(base.FlowBuilder):
    """Builder of the one config "all"; ``valid`` is where the file has flow."""

    LAYOUTS = {"all": "spring"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    HOMEPAGE = "https://spring-benchmark.org"
    CITATION = "Mehl et al., Spring, CVPR 2023"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack train_frame_left.zip and train_flow_FW_left.zip, and whatever other "
        "flow you want, in one folder, and name the folder spring."
    )

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """Returns the folder that holds ``train``."""
        inner = folder / "spring"
        return inner if (inner / "train").is_dir() else folder

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Adds gaps in the numbers of frames and flow, and scenes of one frame."""
        found = [
            fault
            for fault in super().faults(root, pairs)
            # A numbered frame is in no pair where its flow is missing, which is said.
            if not re.search(r"/frame_(left|right)_\d{4}\.png$", fault)
        ]
        for flows in sorted((root / "train").glob("[!.]*/flow_*_*")):
            _, direction, camera = flows.name.split("_")
            frames = flows.parent / f"frame_{camera}"
            there = _numbers(frames)
            if len(there) < 2:
                found.append(f"too short: {frames.relative_to(root)}")
                continue
            every = set(range(min(there), max(there) + 1))
            last = max(there) if direction == "FW" else min(there)
            for folder, lacking, suffix in (
                (frames, every - there, "png"),
                (flows, every - {last} - _numbers(flows), "flo5"),
            ):
                place = folder.relative_to(root)
                found += [
                    f"missing: {place}/{folder.name}_{n:04d}.{suffix}"
                    for n in sorted(lacking)
                ]
        return found


def _numbers(folder: pathlib.Path) -> set[int]:
    """Returns the numbers of the files in a folder."""
    stems = (path.stem.rpartition("_")[2] for path in folder.glob("[!.]*_*.*"))
    return {int(stem) for stem in stems if stem.isdecimal()}
