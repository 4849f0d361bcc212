"""ChairsSDHom as a TFDS data set.

Ilg et al., "FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks"
(2017): chairs like those of FlyingChairs that move little, 384x512, some over
homogeneous ground. The authors divide it into train and test; see
https://lmb.informatik.uni-freiburg.de/resources/datasets:

    ChairsSDHom/data/train/t0/00000.png ...
    ChairsSDHom/data/train/t1/00000.png ...
    ChairsSDHom/data/train/flow/00000.pfm ...

Flow that is NaN, as in one file of the training set, is not valid.
"""

import pathlib

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class ChairsSDHom(base.FlowBuilder):
    """Builder of the one config "all": splits "train" and "test"."""

    LAYOUTS = {"all": "chairs_sdhom"}  # noqa: RUF012
    SPLITS = {"train": "train", "test": "test"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    HOMEPAGE = "https://lmb.informatik.uni-freiburg.de/resources/datasets"
    CITATION = "Ilg et al., FlowNet 2.0, CVPR 2017"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack ChairsSDHom.tar.gz, and name the folder that holds data/."
    )

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """Returns the folder that holds ``train`` and ``test``."""
        places = (folder, folder / "data", folder / "ChairsSDHom" / "data")
        return next((p for p in places if (p / "train").is_dir()), folder)

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Adds missing splits, and the flow that frames lack."""
        found = super().faults(root, pairs)
        for split in self.SPLITS.values():
            folder = root / split
            if not folder.is_dir():
                found.append(f"missing: {split}")
            flows = {path.stem for path in folder.glob("flow/[!.]*.pfm")}
            for frame in sorted(folder.glob("t0/[!.]*.png")):
                if frame.stem not in flows:
                    found.append(f"missing: {split}/flow/{frame.stem}.pfm")
                    beside = {f"extra: {split}/{t}/{frame.name}" for t in ("t0", "t1")}
                    found = [fault for fault in found if fault not in beside]
        return found
