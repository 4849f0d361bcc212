"""FlyingThings3D as a TFDS data set, in full or as its subset.

Mayer et al., "A Large Dataset to Train Convolutional Networks for Disparity, Optical
Flow, and Scene Flow Estimation" (2016): 540x960, both cameras and both directions of
time; see https://lmb.informatik.uni-freiburg.de/resources/datasets. The full set is
divided by its authors into TRAIN and TEST, the subset into train and val:

    frames_cleanpass/TRAIN/A/0000/left/0006.png ...
    optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm ...

    train/image_clean/left/0000000.png ...
    train/flow/left/into_future/0000000.flo ...
"""

import pathlib
import re

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class _Things(base.FlowBuilder, skip_registration=True):
    """What the full set and its subset have in common."""

    LAYOUTS = {"clean": "things_clean", "final": "things_final"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    HOMEPAGE = "https://lmb.informatik.uni-freiburg.de/resources/datasets"
    CITATION = "Mayer et al., A Large Dataset, CVPR 2016"

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Leaves out what is numbered: the frames and flow at an end have no pair."""
        return [
            fault
            for fault in super().faults(root, pairs)
            if not re.search(r"[_/]\d+(_[LR])?\.(png|flo|pfm)$", fault)
        ]


class FlyingThings3D(_Things):
    """Builder of the full set: configs "clean" and "final", splits "train", "test"."""

    SPLITS = {"train": "train", "test": "test"}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack flyingthings3d__frames_cleanpass.tar (or finalpass) and "
        "flyingthings3d__optical_flow.tar in one folder, and name it."
    )

    def list_splits(self, root: pathlib.Path) -> dict[str, list[folders.Pair]]:
        """Lists the pairs, of a folder that holds ``optical_flow``."""
        if not (root / "optical_flow").is_dir():
            common.raise_report(root, ["missing: optical_flow"])
        return super().list_splits(root)

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Adds frames that have no flow, and flow that has no frame."""
        assert self.builder_config is not None
        found = super().faults(root, pairs)
        frames_name = f"frames_{self.builder_config.name}pass"
        for flows in sorted((root / "optical_flow").glob("T*/*/*/into_*/*")):
            part, letter, scene, direction, camera = flows.parts[-5:]
            frames = root / frames_name / part / letter / scene / camera
            numbered = {path.stem for path in frames.glob("[!.]*.png")}
            flowing = {path.stem.split("_")[1] for path in flows.glob("[!.]*_*_*.pfm")}
            # The flow out of a sequence has no frame to lead to, and may be left out.
            out = {(max if direction == "into_future" else min)(numbered, default="")}
            found += [
                f"missing: {(frames / name).relative_to(root)}.png"
                for name in sorted(flowing - numbered)
            ]
            found += [
                f"missing: flow of {name} in {flows.relative_to(root)}"
                for name in sorted(numbered - flowing - out)
            ]
            if len(numbered) < 2:
                found.append(f"too short: {frames.relative_to(root)}")
        return found


class FlyingThings3DSubset(_Things):
    """Builder of the subset: configs "clean", "final", splits "train", "validation"."""

    SPLITS = {"train": "train", "validation": "val"}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack FlyingThings3D_subset_image_clean.tar (or final) and "
        "FlyingThings3D_subset_flow.tar in one folder, and name FlyingThings3D_subset."
    )

    def list_splits(self, root: pathlib.Path) -> dict[str, list[folders.Pair]]:
        """Lists the pairs, of a folder that holds ``train`` and ``val``."""
        lacking = [part for part in ("train", "val") if not (root / part).is_dir()]
        common.raise_report(root, [f"missing: {part}" for part in lacking])
        return super().list_splits(root)
