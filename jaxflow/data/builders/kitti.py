"""KITTI 2012 and 2015 as TFDS data sets.

Geiger et al., "Are we ready for Autonomous Driving?" (2012): 194 pairs of a static
scene; Menze and Geiger, "Object Scene Flow for Autonomous Vehicles" (2015): 200 pairs
with moving cars. Flow is sparse, from a laser scanner. The authors publish it for their
training pairs alone, which are the split "train"; see
https://www.cvlibs.net/datasets/kitti:

    training/image_2/000000_10.png 000000_11.png       (2012: colored_0 or image_0)
    training/flow_occ/000000_10.png
    training/flow_noc/000000_10.png
"""

import pathlib

import numpy as np

from jaxflow import io
from jaxflow.data import folders
from jaxflow.data.builders import base, common


class Kitti(base.FlowBuilder):
    """Builder with the configs "2015" and "2012".

    ``flow`` and ``valid`` are those of ``flow_occ``. The mask ``visible`` holds where
    ``flow_noc`` has flow: where frame 2 still shows the point.
    """

    LAYOUTS = {"2015": "kitti2015", "2012": "kitti2012"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    MASKS = ("visible",)
    HOMEPAGE = "https://www.cvlibs.net/datasets/kitti"
    CITATION = "Menze and Geiger, Object Scene Flow, CVPR 2015"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack data_scene_flow.zip (2015) or data_stereo_flow.zip (2012), name the "
        "folder that holds training/."
    )

    def masks(self, root: pathlib.Path, pair: folders.Pair) -> dict[str, pathlib.Path]:
        """Returns the flow of what is visible in both frames."""
        return {"visible": root / "training" / "flow_noc" / pair.flow.name}

    def read_mask(self, path: pathlib.Path) -> np.ndarray:
        """Reads where a file has flow."""
        return io.read_flow(path)[1]

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Leaves out the frames 00 to 20 of the longer sequences."""
        found = super().faults(root, pairs)
        return [
            fault
            for fault in found
            if not fault.startswith("extra") or _in_pair(fault.rpartition("/")[2])
        ]


def _in_pair(name: str) -> bool:
    """Tells whether a file is no frame of the longer sequences."""
    stem, _, number = name.removesuffix(".png").partition("_")
    return not (stem.isdecimal() and number.isdecimal()) or number in ("10", "11")
