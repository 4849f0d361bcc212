"""MPI-Sintel as a TFDS data set.

Butler et al., "A Naturalistic Open Source Movie for Optical Flow Evaluation" (2012):
1041 pairs of 436x1024 in 23 scenes, in two renderings; see http://sintel.is.tue.mpg.de.
The authors publish flow for their training scenes alone, which are the split "train":

    MPI-Sintel-complete/training/{clean,final}/alley_1/frame_0001.png ...
    MPI-Sintel-complete/training/flow/alley_1/frame_0001.flo ...
    MPI-Sintel-complete/training/{occlusions,invalid}/alley_1/frame_0001.png ...
"""

import pathlib

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class Sintel(base.FlowBuilder):
    """Builder with the configs "clean" and "final".

    ``valid`` is False where the authors' ``invalid`` picture is not black, and the mask
    ``occluded`` holds where frame 1 shows what frame 2 does not.
    """

    LAYOUTS = {"clean": "sintel_clean", "final": "sintel_final"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    MASKS = ("occluded",)
    HOMEPAGE = "http://sintel.is.tue.mpg.de"
    CITATION = "Butler et al., A Naturalistic Open Source Movie, ECCV 2012"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack MPI-Sintel-complete.zip, and name the folder that holds training/."
    )

    def masks(self, root: pathlib.Path, pair: folders.Pair) -> dict[str, pathlib.Path]:
        """Returns the picture of what is occluded."""
        name = pathlib.Path(pair.flow.parent.name, f"{pair.flow.stem}.png")
        return {"occluded": root / "training" / "occlusions" / name}

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Adds missing masks, and scenes with fewer flows than steps between frames."""
        assert self.builder_config is not None
        found = super().faults(root, pairs)
        if not (root / "training/invalid").is_dir():
            found.append("missing: training/invalid")
        return found + _short_scenes(root, self.builder_config.name)


def _short_scenes(root: pathlib.Path, rendering: str) -> list[str]:
    """Says which scenes of a rendering lack flow."""
    found = []
    for scene in sorted((root / "training" / rendering).glob("[!.]*")):
        frames = len(list(scene.glob("[!.]*.png")))
        flows = len(list((root / "training/flow" / scene.name).glob("[!.]*.flo")))
        if flows < max(frames - 1, 1):
            found.append(f"too short: {scene.name}, {flows} flows of {frames} frames")
    return found
