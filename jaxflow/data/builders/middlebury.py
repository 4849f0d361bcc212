"""The Middlebury flow benchmark as a TFDS data set.

Baker et al., "A Database and Evaluation Methodology for Optical Flow" (2011): eight
scenes with public flow, which are the split "train"; see
https://vision.middlebury.edu/flow:

    other-data/Venus/frame10.png frame11.png ...
    other-gt-flow/Venus/flow10.flo
"""

import pathlib

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class Middlebury(base.FlowBuilder):
    """Builder of the one config "all"; ``valid`` is where the file has flow."""

    LAYOUTS = {"all": "middlebury"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    HOMEPAGE = "https://vision.middlebury.edu/flow"
    CITATION = "Baker et al., A Database for Optical Flow, IJCV 2011"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack other-color-twoframes.zip and other-gt-flow.zip in one folder, name it."
    )

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Reports files beside the pairs that are no frames of the longer sequences."""
        return [
            fault
            for fault in super().faults(root, pairs)
            if not fault.rpartition("/")[2].startswith("frame")
        ]
