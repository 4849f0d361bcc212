"""What the builders of data sets of optical flow have in common.

A data set adds its layouts, the names of its splits and its masks; the files are
listed and read by `jaxflow.data.folders`, so that what comes back is what it reads.
"""

import io
import pathlib
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from PIL import Image

import jaxflow.io
from jaxflow.data import folders
from jaxflow.data.builders import common
from jaxflow.io import files, png

tfds = common.tfds


class FlowBuilder(common.FolderBuilder, skip_registration=True):
    """Pairs of frames with flow; a subclass is one data set.

    An element has ``image1`` and ``image2``, (H, W, 3) uint8; ``flow``, (H, W, 2)
    float32 in pixels from frame 1 to frame 2; ``valid``, (H, W) bool, where the flow is
    known; ``id``, the path of the flow in the folder, as bytes; and the masks of
    `MASKS`.

    Attributes:
        LAYOUTS: Layout in `jaxflow.data.folders.LAYOUTS` of each config.
        SPLITS: Split in that layout of each split here.
        MASKS: Names of further masks, each (H, W) bool.
        BACKWARD: Whether elements have ``flow_backward``, from frame 2 to frame 1.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    LAYOUTS: ClassVar[dict[str, str]] = {}
    SPLITS: ClassVar[dict[str, str]] = {"train": "train"}
    MASKS: ClassVar[tuple[str, ...]] = ()
    BACKWARD: ClassVar[bool] = False
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""

    def list_splits(self, root: pathlib.Path) -> dict[str, list[folders.Pair]]:
        """Lists the pairs of all splits.

        Raises:
            ValueError: If files are missing, too few or too many; all are reported.
        """
        assert self.builder_config is not None
        layout = self.LAYOUTS[self.builder_config.name]
        splits = {
            name: folders.find_pairs(layout, root, split=split)
            for name, split in self.SPLITS.items()
        }
        pairs = [pair for found in splits.values() for pair in found]
        common.raise_report(root, [*missing(root, pairs), *self.faults(root, pairs)])
        return splits

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Says what else is wrong with the tree, a line a fault."""
        further = [path for pair in pairs for path in self.further(root, pair)]
        lacking = [
            f"missing: {path.relative_to(root)}"
            for path in further
            if not path.is_file()
        ]
        return lacking + unused(root, pairs, further)

    def further(self, root: pathlib.Path, pair: folders.Pair) -> list[pathlib.Path]:
        """Returns the files of a pair beside its frames and flow."""
        masks = list(self.masks(root, pair).values())
        return [*masks, self.backward(root, pair)] if self.BACKWARD else masks

    def backward(self, root: pathlib.Path, pair: folders.Pair) -> pathlib.Path:
        """Returns the file of the flow from frame 2 to frame 1, of `BACKWARD`."""
        raise NotImplementedError

    def check(self, pair: folders.Pair, sample: folders.Sample) -> None:
        """Raises ValueError if a pair cannot be of this data set."""

    def masks(self, root: pathlib.Path, pair: folders.Pair) -> dict[str, pathlib.Path]:
        """Returns the files of `MASKS`."""
        return {}

    def read_mask(self, path: pathlib.Path) -> np.ndarray:
        """Reads a mask, which holds where its picture is not black."""
        return jaxflow.io.read_image(path)[..., 0] != 0

    def _info(self) -> tfds.core.DatasetInfo:
        picture = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = {
            "image1": picture,
            "image2": picture,
            "flow": tfds.features.Tensor(
                shape=(None, None, 2), dtype=np.float32, encoding="bytes"
            ),
            "id": tfds.features.Text(),
        }
        if self.BACKWARD:
            features["flow_backward"] = features["flow"]
        for name in ("valid", *self.MASKS):
            features[name] = tfds.features.Tensor(
                shape=(None, None), dtype=np.bool_, encoding="bytes"
            )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ or "",
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
        )

    def _example(self, root: pathlib.Path, item: folders.Pair) -> dict:
        pair, sample = item, folders.load(item)
        self.check(pair, sample)
        size = sample.flow.shape[:2]
        masks = {}
        for name, path in self.masks(root, pair).items():
            masks[name] = self.read_mask(path)
            if masks[name].shape != size:
                raise files.fault(path, f"is {masks[name].shape}; its flow is {size}")
        if self.BACKWARD:
            path = self.backward(root, pair)
            masks["flow_backward"], known = jaxflow.io.read_flow(path)
            if known.shape != size or not known.all():
                raise files.fault(path, f"is no dense flow of {size}, its flow's size")
        return {
            "image1": as_png(pair.frame1, sample.frame1),
            "image2": as_png(pair.frame2, sample.frame2),
            "flow": sample.flow,
            "valid": sample.valid,
            "id": pair.flow.relative_to(root).as_posix(),
            **masks,
        }


def as_png(path: pathlib.Path, image: np.ndarray) -> bytes:
    """Returns a picture as the bytes of a PNG; TFDS would need TensorFlow to make it.

    Args:
        path: Its file, whose own bytes are kept if they are a plain PNG.
        image: What has been read of it, (H, W, 3) uint8.

    Raises:
        ValueError: If it has more than 8 bits a sample.
    """
    if image.dtype != np.uint8:
        raise files.fault(path, "has more than 8 bits a sample")
    data = path.read_bytes()
    if data.startswith(b"\x89PNG") and png.orientation(path, data) == 1:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode == "RGB" and "transparency" not in picture.info:
                return data
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


def missing(root: pathlib.Path, pairs: Iterable[folders.Pair]) -> list[str]:
    """Says which files of the pairs are not there, or that no pair is listed."""
    paths = dict.fromkeys(path for pair in pairs for path in pair if path is not None)
    if not paths:
        return ["missing: no pairs are where the authors have them"]
    return [f"missing: {p.relative_to(root)}" for p in paths if not p.is_file()]


def unused(
    root: pathlib.Path,
    pairs: Iterable[folders.Pair],
    further: Iterable[pathlib.Path] = (),
) -> list[str]:
    """Says which files beside frames and flow belong to no pair; hidden ones may."""
    used = {path for pair in pairs for path in pair[:3]}
    beside = {path.parent for path in used}
    used |= set(further)
    return [
        f"extra: {path.relative_to(root)}"
        for folder in sorted(beside)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path not in used
    ]
