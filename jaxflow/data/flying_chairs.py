"""FlyingChairs as a TFDS data set, prepared without TensorFlow.

Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional Networks" (2015):
22 872 pairs of 384x512, chairs rendered over photographs, with dense flow. For research
use only; it is read from the folder that its authors distribute, and never downloaded:

    FlyingChairs_release/data/00001_img1.ppm 00001_img2.ppm 00001_flow.flo ...
    FlyingChairs_release/FlyingChairs_train_val.txt

Two divisions into 22 232 pairs for training and 640 for validation are published, with
35 validation pairs in common. The configs are named "a", the file that the authors
offer for download (and that later code bases copied), and "b", the list in their Caffe
release. Either file holds a line a pair: 1 for training, 2 for validation.

    builder = flying_chairs.prepare("FlyingChairs_release", "tensorflow_datasets")
    pairs = builder.as_data_source("train")
"""

import hashlib
import io
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

import jaxflow.io
from jaxflow import _checks
from jaxflow.data import folders

try:
    import tensorflow_datasets as tfds
except Exception as error:
    raise _checks.cannot_import("TensorFlow Datasets", "data", error) from error

_SPLIT_FILES = {
    "a": ("FlyingChairs_train_val.txt", "chairs_split.txt"),
    "b": ("FlyingChairs_release_test_train_split.list",),
}
_PAIRS = 22_872
# Only of split "a" is the checksum known, and only its beginning.
_CHECKSUM_A = "4f1312f8"
_NAMES = ("img1.ppm", "img2.ppm", "flow.flo")


def prepare(
    folder: str | pathlib.Path, data_dir: str | pathlib.Path, *, split: str = "a"
) -> "FlyingChairs":
    """Converts the folder that the authors distribute, unless that has been done.

    Args:
        folder: ``FlyingChairs_release``, or the folder that holds it.
        data_dir: Where TFDS keeps what it prepares; about 15 GB for the whole set.
        split: Which published division, "a" or "b".

    Returns:
        The builder; ``builder.as_data_source("train")`` reads.

    Raises:
        ValueError: If `split` is not known; or the folder or its split file is missing;
            or a pair is missing, damaged or of differing sizes.
    """
    if split not in _SPLIT_FILES:
        raise ValueError(f'`split` must be "a" or "b"; got {split!r}')
    builder = FlyingChairs(
        config=split, data_dir=str(data_dir), file_format="array_record"
    )
    if not builder.data_path.exists():
        # TFDS would say the same by an assertion, after making folders of its own.
        find_root(folder)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(folder))
        )
    return builder


class FlyingChairs(tfds.core.GeneratorBasedBuilder):
    """Builder of the splits "train" and "validation"; see the module.

    An element has ``image1`` and ``image2``, (H, W, 3) uint8; ``flow``, (H, W, 2)
    float32 in pixels from frame 1 to frame 2; and ``id``, the number in the file names.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name, description=f"Split by {files[0]}.")
        for name, files in _SPLIT_FILES.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get FlyingChairs.zip and FlyingChairs_train_val.txt from the Computer Vision "
        "Group of the University of Freiburg, unpack the first and put the second "
        "inside FlyingChairs_release."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        picture = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pairs of synthetic frames with dense optical flow.",
            features=tfds.features.FeaturesDict(
                {
                    "image1": picture,
                    "image2": picture,
                    "flow": tfds.features.Tensor(
                        shape=(None, None, 2), dtype=np.float32, encoding="bytes"
                    ),
                    "id": np.int32,
                }
            ),
            homepage="https://lmb.informatik.uni-freiburg.de/resources/datasets/",
            citation="Dosovitskiy et al., FlowNet, ICCV 2015",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        assert self.builder_config is not None
        root = find_root(os.fspath(dl_manager.manual_dir))
        labels = read_split(root, self.builder_config.name)
        _check_complete(root, len(labels))
        return {
            name: self._generate_examples(root, np.flatnonzero(labels == label) + 1)
            for name, label in (("train", 1), ("validation", 2))
        }

    def _generate_examples(self, root: pathlib.Path, ids: np.ndarray) -> Iterator:
        for number in ids.tolist():
            yield number, read_pair(root, number)


def find_root(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds ``data``: `folder`, or one named inside it.

    Raises:
        ValueError: If there is none.
    """
    folder = pathlib.Path(folder)
    for root in (folder, folder / "FlyingChairs_release"):
        if (root / "data").is_dir():
            return root
    raise ValueError(
        f"{folder}: neither data/ nor FlyingChairs_release/data/ is there; "
        f"{FlyingChairs.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )


def read_split(root: pathlib.Path, split: str) -> np.ndarray:
    """Reads a published division: (N,), 1 for training and 2 for validation.

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
    return np.array([int(line) for line in lines], np.int32)


def read_pair(root: pathlib.Path, number: int) -> dict:
    """Reads one pair as an example: PNG bytes twice, and flow.

    Args:
        root: The folder that holds ``data``.
        number: From 1.

    Raises:
        ValueError: If a file is damaged, or the three differ in size.
    """
    paths = [root / "data" / f"{number:05d}_{name}" for name in _NAMES]
    images = [jaxflow.io.read_image(path) for path in paths[:2]]
    flow, known = jaxflow.io.read_flo(paths[2])
    for path, image in zip(paths, images, strict=False):
        if image.dtype != np.uint8:
            raise ValueError(f"{path}: has more than 8 bits a sample")
        if image.shape[:2] != flow.shape[:2]:
            raise ValueError(
                f"{path}: its size is {image.shape[:2]}, and its flow's "
                f"{flow.shape[:2]}"
            )
    if not known.all():
        raise ValueError(f"{paths[2]}: holds unknown flow")
    first, second = map(_png, images)
    return {"image1": first, "image2": second, "flow": flow, "id": number}


def _png(image: np.ndarray) -> bytes:
    """Compresses a picture; TFDS would need TensorFlow to do it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


def _check_complete(root: pathlib.Path, pairs: int) -> None:
    """Raises ValueError unless there are exactly the files that the split speaks of."""
    present = {path.name for path in (root / "data").iterdir()}
    wanted = [f"{n:05d}_{name}" for n in range(1, pairs + 1) for name in _NAMES]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ValueError(
            f"{root / 'data'}: {len(missing)} of {len(wanted)} files are missing; the "
            f"first is {missing[0]}"
        )
    if f"{pairs + 1:05d}_{_NAMES[0]}" in present:
        raise ValueError(
            f"{root / 'data'}: has more pairs than the {pairs} of the split file"
        )
