"""What the builders of data sets of videos have in common.

A video stays where it is: what is kept of it is its path in the folder, what it shows,
and what its frames were found to be when all of them were decoded, once.
"""

import os
import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxflow import io
from jaxflow.data import list_rows
from jaxflow.data.builders import common

tfds = common.tfds

SHORTEST = 2
"""Frames that a video has at least: one shows no motion."""


class Clip(NamedTuple):
    """What is listed of a video, before it is looked at.

    Attributes:
        path: The file, or the folder of its frames.
        fields: What it shows: the entries of the element that a data set adds.
        seconds: Its least duration.
        part: What tells this element from others of the same video.
    """

    path: pathlib.Path
    fields: dict[str, Any]
    seconds: float = 0.0
    part: str = ""


class Listing(NamedTuple):
    """What is listed of a data set.

    Attributes:
        splits: Split -> its videos.
        names: Names of the classes.
        faults: What is wrong with the tree, a line a fault.
    """

    splits: dict[str, list[Clip]]
    names: tuple[str, ...]
    faults: list[str]


class VideoBuilder(common.FolderBuilder, skip_registration=True):
    """Videos with what they show; a subclass is one data set.

    An element has ``path``, in the folder, and ``id``, as bytes; ``frames``, their
    number; ``fps``, frames a second; and ``label``, a place in `names`, or what else
    the data set says in `fields`.

    Attributes:
        MAY_LACK: Whether videos that are gone are said and left out, as where the
            authors publish addresses.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MAY_LACK: ClassVar[bool] = False
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        metadata = self.info.metadata
        assert metadata is not None
        return tuple(metadata["names"])

    def videos(self, split: str) -> "Videos":
        """Returns the videos of a split as a source for `clips.clip_loader`.

        Raises:
            ValueError: If the folder that was given is not that of the data set.
        """
        elements: Any = self.as_data_source(split)  # pyright: ignore[reportCallIssue]
        source = Videos(elements, self.root(self.folder), self.names)
        first = source[0]["path"]
        if not os.path.exists(first):
            raise ValueError(f"{self.folder}: {first} is not there any more")
        return source

    def listing(self, root: pathlib.Path) -> Listing:
        """Lists the videos of all splits, and what is wrong with the tree."""
        raise NotImplementedError

    def fields(self) -> dict[str, Any]:
        """Returns the features that elements have beside those of the class."""
        return {"label": np.int32}

    def look(self, clip: Clip) -> tuple[int, float]:
        """Returns the number of frames of a video, and its rate.

        Raises:
            ValueError: If it is damaged.
        """
        info = io.video_info(clip.path)
        return info.length, info.fps

    def list_splits(self, root: pathlib.Path) -> dict[str, list[Clip]]:
        """Lists the videos of all splits.

        Raises:
            ValueError: If files are missing or there in excess; all are reported.
        """
        splits, names, faults = self.listing(root)
        gone = {
            clip.path: f"missing: {clip.path.relative_to(root)}"
            for clips in splits.values()
            for clip in clips
            if not clip.path.exists()
        }
        every = {clip.path for clips in splits.values() for clip in clips}
        if self.MAY_LACK and len(gone) < len(every):
            splits = _without(root, splits, gone)
        else:
            faults = [*faults, *gone.values()]
        empty = [f"missing: videos of the split {n!r}" for n in splits if not splits[n]]
        common.raise_report(root, faults + empty)
        self._found = names
        self._looked: dict[pathlib.Path, tuple[int, float] | Exception] = {}
        return splits

    def _info(self) -> tfds.core.DatasetInfo:
        text, rate = tfds.features.Text(), np.float32
        features = {"path": text, "id": text, "frames": np.int32, "fps": rate}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ or "",
            features=tfds.features.FeaturesDict(features | self.fields()),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        generators = super()._split_generators(dl_manager)
        metadata = self.info.metadata
        assert metadata is not None
        metadata["names"] = list(self._found)
        return generators

    def _example(self, root: pathlib.Path, item: Clip) -> dict:
        frames, fps = self._look_once(item)
        path = item.path.relative_to(root).as_posix()
        if frames < SHORTEST:
            raise common.TooShort(f"{path}, {frames} frames")
        if frames / fps < item.seconds:
            raise common.TooShort(
                f"{path}, {frames / fps:.1f} of {item.seconds:.1f} seconds"
            )
        name = f"{path},{item.part}" if item.part else path
        return {"path": path, "id": name, "frames": frames, "fps": fps, **item.fields}

    def _look_once(self, clip: Clip) -> tuple[int, float]:
        """Looks at a video the first time, and remembers what came of it."""
        if clip.path not in self._looked:
            try:
                self._looked[clip.path] = self.look(clip)
            except (ValueError, OSError) as error:
                self._looked[clip.path] = error
        found = self._looked[clip.path]
        if isinstance(found, Exception):
            raise found
        return found


class Videos(Sequence[Mapping[str, Any]]):
    """The videos of a split: elements whose ``path`` can be opened.

    Args:
        elements: Of a `VideoBuilder`.
        folder: That their paths are relative to.
        names: Names of the classes.
    """

    def __init__(self, elements: Sequence, folder: pathlib.Path, names: Sequence[str]):
        self.elements, self.folder = elements, folder
        self.names = tuple(names)

    def __len__(self) -> int:
        """Returns the number of elements."""
        return len(self.elements)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns one element."""
        # What TFDS reads with ends with another error, and iteration would not end.
        element = dict(self.elements[range(len(self))[index]])
        element["path"] = os.fspath(self.folder / element["path"].decode())
        return element


def find(root: pathlib.Path, *places: str) -> pathlib.Path:
    """Returns the first of some places in a folder that is there, or else the first."""
    paths = [root / place for place in places]
    return next((path for path in paths if path.exists()), paths[0])


def missing(root: pathlib.Path, paths: Iterable[pathlib.Path]) -> list[str]:
    """Says which files or folders are not there."""
    gone = [path for path in dict.fromkeys(paths) if not path.exists()]
    return [f"missing: {path.relative_to(root)}" for path in gone]


def unlisted(
    root: pathlib.Path, folder: pathlib.Path, listed: Iterable[pathlib.Path]
) -> list[str]:
    """Says which videos of a folder no list names."""
    known = set(listed)
    extra = [path for path in list_rows.find_videos(folder) if path not in known]
    return [f"extra: {path.relative_to(root)}" for path in extra]


def _without(root, splits, gone: Mapping) -> dict[str, list[Clip]]:
    """Leaves out videos that are gone, and warns of them."""
    if gone:
        first = next(iter(gone.values())).partition(": ")[2]
        warnings.warn(
            f"{root}: {len(gone)} videos are not there, and are left out: {first} ...",
            stacklevel=3,
        )
    return {
        name: [clip for clip in clips if clip.path not in gone]
        for name, clips in splits.items()
    }
