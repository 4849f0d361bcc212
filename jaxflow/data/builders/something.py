"""Something-Something V2 and Jester as TFDS data sets.

Goyal et al., "The Something Something Video Database" (2017): 220 847 videos of 174
actions with objects. Materzynska et al., "The Jester Dataset" (2019): 148 092 videos of
27 gestures, as folders of pictures at 12 frames a second. Labels of the testing parts
are not published; see https://www.qualcomm.com/developer/software/
something-something-v-2-dataset and .../jester-dataset:

    20bn-something-something-v2/1.webm ...
    labels/train.json validation.json labels.json
        (or something-something-v2-train.json ...)

    20bn-jester-v1/1/00001.jpg ...
    jester-v1-train.csv jester-v1-validation.csv jester-v1-labels.csv
"""

import json
import pathlib

from jaxflow import io
from jaxflow.data import list_rows, lists
from jaxflow.data.builders import common, videos
from jaxflow.io import files

_SPLITS = ("train", "validation")
JESTER_FPS = 12.0
"""Frames a second of Jester, as its authors say."""


class SomethingSomething(videos.VideoBuilder):
    """Builder of the one config "v2"; ``label`` is that of labels.json."""

    BUILDER_CONFIGS = common.configs(("v2",))
    HOMEPAGE = (
        "https://www.qualcomm.com/developer/software/something-something-v-2-dataset"
    )
    CITATION = "Goyal et al., The Something Something Video Database, ICCV 2017"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Join and unpack 20bn-something-something-v2-00 to -19, and put labels/ beside."
    )

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the lists, whose classes are numbered in a file of their own."""
        folder = root / "20bn-something-something-v2"
        tables = {
            name: videos.find(
                root,
                f"labels/{name}.json",
                f"something-something-v2-{name}.json",
                f"labels/something-something-v2-{name}.json",
            )
            for name in (*_SPLITS, "labels", "test")
        }
        needed = [folder, *(tables[name] for name in (*_SPLITS, "labels"))]
        common.raise_report(root, videos.missing(root, needed))
        splits, names = {}, None
        for split in _SPLITS:
            found, names = lists.list_videos(tables[split], names=names, videos=folder)
            splits[split] = [videos.Clip(p, {"label": label}) for p, label in found]
        assert names is not None
        listed = {clip.path for clips in splits.values() for clip in clips}
        if tables["test"].is_file():
            test = json.loads(tables["test"].read_text("utf-8-sig"))
            listed |= {folder / f"{entry['id']}.webm" for entry in test}
        return videos.Listing(splits, names, videos.unlisted(root, folder, listed))


class Jester(videos.VideoBuilder):
    """Builder of the one config "v1"; ``path`` is a folder of pictures."""

    BUILDER_CONFIGS = common.configs(("v1",))
    HOMEPAGE = "https://www.qualcomm.com/developer/software/jester-dataset"
    CITATION = "Materzynska et al., The Jester Dataset, ICCV Workshops 2019"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Join and unpack 20bn-jester-v1-00 to -22, and put jester-v1-*.csv beside."
    )

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the lists, whose classes are in the order of a file of their own."""
        folder = root / "20bn-jester-v1"
        tables = {n: root / f"jester-v1-{n}.csv" for n in (*_SPLITS, "labels", "test")}
        needed = [folder, *(tables[name] for name in (*_SPLITS, "labels"))]
        common.raise_report(root, videos.missing(root, needed))
        splits, names = {}, None
        for split in _SPLITS:
            found, names = lists.list_videos(tables[split], names=names, videos=folder)
            splits[split] = [videos.Clip(p, {"label": label}) for p, label in found]
        assert names is not None
        listed = {clip.path for clips in splits.values() for clip in clips}
        if tables["test"].is_file():
            lines = list_rows.read_lines(tables["test"])
            listed |= {folder / line.partition(";")[0].strip() for _, line in lines}
        faults = [
            f"extra: {path.relative_to(root)}"
            for path in sorted(folder.glob("[!.]*"))
            if path not in listed
        ]
        return videos.Listing(splits, names, faults)

    def look(self, clip: videos.Clip) -> tuple[int, float]:
        """Reads all pictures of a folder, which are numbered from 1."""
        pictures = io.list_frames(clip.path)
        names = [path.stem for path in pictures]
        if names != [f"{number:05d}" for number in range(1, 1 + len(names))]:
            raise files.fault(clip.path, "has frames that are not 00001, 00002 ...")
        for _ in io.read_frames(clip.path):
            pass
        return len(pictures), JESTER_FPS
