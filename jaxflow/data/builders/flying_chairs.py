"""FlyingChairs and FlyingChairsOcc as TFDS data sets.

Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional Networks" (2015):
22 872 pairs of 384x512, chairs rendered over photographs, with dense flow; see
https://lmb.informatik.uni-freiburg.de/resources/datasets. Hur and Roth, "Iterative
Residual Refinement" (2019), rendered them again with flow both ways and occlusions, of
the same pairs in the same order; see https://github.com/visinf/irr:

    FlyingChairs_release/data/00001_img1.ppm 00001_img2.ppm 00001_flow.flo ...
    FlyingChairs_release/FlyingChairs_train_val.txt

    FlyingChairsOcc/data/00001_img1.ppm 00001_img2.ppm 00001_flow.flo 00001_flow_b.flo
    FlyingChairsOcc/data/00001_occ1.png 00001_occ2.png ...

Two divisions into 22 232 pairs for training and 640 for validation are published, with
35 validation pairs in common. The configs are named "a", the file that the authors
offer for download (and that later code bases copied), and "b", the list in their Caffe
release. Either file holds a line a pair: 1 for training, 2 for validation. FlyingChairs
Occ is divided by "a", too, whose file is then put beside ``data``.
"""

import hashlib
import pathlib

from jaxflow.data import folders
from jaxflow.data.builders import base, common
from jaxflow.io import files

_SPLIT_FILES = {
    "a": ("FlyingChairs_train_val.txt", "chairs_split.txt"),
    "b": ("FlyingChairs_release_test_train_split.list",),
}
_PAIRS = 22_872
# Only of split "a" is the checksum known, and only its beginning.
_CHECKSUM_A = "4f1312f8"


class _Chairs(base.FlowBuilder, skip_registration=True):
    """What both renderings have in common."""

    FOLDERS = ("FlyingChairs_release",)
    HOMEPAGE = "https://lmb.informatik.uni-freiburg.de/resources/datasets"

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """Returns the folder that holds ``data``: `folder`, or one named inside it."""
        for root in (folder, *(folder / name for name in self.FOLDERS)):
            if (root / "data").is_dir():
                return root
        raise ValueError(
            f"{folder}: neither data/ nor {self.FOLDERS[0]}/data/ is there; "
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def list_splits(self, root: pathlib.Path) -> dict[str, list[folders.Pair]]:
        """Lists the pairs that the split file speaks of."""
        assert self.builder_config is not None
        lines = read_split(root, self.builder_config.name)
        pairs = [_pair(root, number) for number in range(1, len(lines) + 1)]
        found = [*base.missing(root, pairs), *self.faults(root, pairs)]
        common.raise_report(root, found)
        return {
            name: [p for p, line in zip(pairs, lines, strict=True) if line == label]
            for name, label in (("train", "1"), ("validation", "2"))
        }

    def check(self, pair: folders.Pair, sample: folders.Sample) -> None:
        """Raises ValueError at flow that is not dense, as these sets have it."""
        if not sample.valid.all():
            raise files.fault(pair.flow, "holds unknown flow")


class FlyingChairs(_Chairs):
    """Builder with the configs "a" and "b": splits "train" and "validation"."""

    VERSION = common.tfds.core.Version("2.0.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.0.0": "First release.",
        "2.0.0": "`id` is the path of the flow; `valid` is there.",
    }
    LAYOUTS = {"a": "chairs", "b": "chairs"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    CITATION = "Dosovitskiy et al., FlowNet, ICCV 2015"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get FlyingChairs.zip and FlyingChairs_train_val.txt from the Computer Vision "
        "Group of the University of Freiburg, unpack the first and put the second "
        "inside FlyingChairs_release."
    )


class FlyingChairsOcc(_Chairs):
    """Builder of the one config "a": splits "train" and "validation".

    Elements have ``flow_backward``, from frame 2 to frame 1, and the masks ``occluded``
    and ``occluded_backward``: what is in frame 1 and not in frame 2, and conversely.
    """

    FOLDERS = ("FlyingChairsOcc",)
    LAYOUTS = {"a": "chairs"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    MASKS = ("occluded", "occluded_backward")
    BACKWARD = True
    CITATION = "Hur and Roth, Iterative Residual Refinement, CVPR 2019"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get FlyingChairsOcc.tar.gz from the authors of IRR, unpack it, and put "
        "FlyingChairs_train_val.txt of the University of Freiburg beside its data/."
    )

    def masks(self, root: pathlib.Path, pair: folders.Pair) -> dict[str, pathlib.Path]:
        """Returns the pictures of what is occluded."""
        name = pair.flow.name.removesuffix("_flow.flo")
        return {
            "occluded": pair.flow.with_name(f"{name}_occ1.png"),
            "occluded_backward": pair.flow.with_name(f"{name}_occ2.png"),
        }

    def backward(self, root: pathlib.Path, pair: folders.Pair) -> pathlib.Path:
        """Returns the file of the flow from frame 2 to frame 1."""
        return pair.flow.with_name(pair.flow.name.replace("_flow.", "_flow_b."))


def read_split(root: pathlib.Path, split: str) -> list[str]:
    """Reads a published division: "1" for training and "2" for validation, a pair.

    Args:
        root: The folder that holds ``data``.
        split: "a" or "b".

    Raises:
        ValueError: If the file is missing, or is not the published one.
    """
    names = _SPLIT_FILES[split]
    places = (root, root.parent, root / "data")
    found = [f / name for f in places for name in names if (f / name).is_file()]
    if not found:
        raise ValueError(f"{root}: the split file {names[0]} is not there")
    lines = folders.read_chairs_split(found[0])
    checksum = hashlib.md5("\n".join(lines).encode()).hexdigest()
    whole = len(lines) == _PAIRS
    if whole and split == "a" and not checksum.startswith(_CHECKSUM_A):
        raise ValueError(
            f"{found[0]}: not the published split, its MD5 begins with {checksum[:8]}, "
            f"not {_CHECKSUM_A}"
        )
    return lines


def _pair(root: pathlib.Path, number: int) -> folders.Pair:
    """Returns the files of one pair."""
    names = (f"{number:05d}_{end}" for end in ("img1.ppm", "img2.ppm", "flow.flo"))
    return folders.Pair(*(root / "data" / name for name in names))
