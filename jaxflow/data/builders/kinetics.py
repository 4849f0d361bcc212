"""Kinetics-400, -600 and -700 as TFDS data sets.

Kay et al., "The Kinetics Human Action Video Dataset" (2017): addresses of videos, with
the ten seconds that show an action; see https://deepmind.com/research/open-source/
kinetics and https://github.com/cvdfoundation/kinetics-dataset. Many are gone, so what
is missing is said and left out. Config "csv" has the authors' lists:

    annotations/train.csv val.csv test.csv       (or beside the folders)
    train/-3B32lodo2M_000059_000069.mp4 ...      (or in folders of classes)

Config "folders" has a folder a class, as many tools unpack it:

    train/abseiling/0347ZoDXyP0_000095_000105.mp4 ...
    val/abseiling/...
"""

import pathlib

from jaxflow.data import list_rows, lists
from jaxflow.data.builders import common, videos

_LISTS = {
    "train": ("train.csv",),
    "validation": ("val.csv", "validate.csv", "validation.csv"),
    "test": ("test.csv",),
}
_PARTS: dict[str, lists.Part] = {"train": "train", "validation": "val", "test": "test"}
_FOLDERS = {
    "train": ("train", "train_256"),
    "validation": ("val", "val_256", "validate", "validation"),
    "test": ("test", "test_256"),
}


class Kinetics(videos.VideoBuilder):
    """Builder with the configs "csv" and "folders".

    Its splits are "train" and "validation"; and with lists "test", where its videos are
    there and its list has labels. The classes are those of training, in alphabetical
    order.
    """

    BUILDER_CONFIGS = common.configs(("csv", "folders"))
    MAY_LACK = True
    HOMEPAGE = "https://github.com/cvdfoundation/kinetics-dataset"
    CITATION = "Kay et al., The Kinetics Human Action Video Dataset, 2017"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Name the folder that holds train/ and val/, and the csv files of the authors."
    )

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the lists, or the folders."""
        assert self.builder_config is not None
        if self.builder_config.name == "csv":
            return _of_lists(root)
        places = {s: videos.find(root, *_FOLDERS[s]) for s in ("train", "validation")}
        common.raise_report(root, videos.missing(root, places.values()))
        splits, names = {}, None
        for split, place in places.items():
            found, names = lists.list_videos(place, names=names)
            splits[split] = [videos.Clip(p, {"label": label}) for p, label in found]
        assert names is not None
        return videos.Listing(splits, names, [])


def _has_labels(table: pathlib.Path) -> bool:
    """Tells whether a list is there and has a column of labels."""
    if not table.is_file():
        return False
    return any(
        "label" in line.split(",") for _, line in list_rows.read_lines(table)[:1]
    )


def _is_there(root: pathlib.Path, split: str) -> bool:
    """Tells whether the folder of a split is there, or all videos are in one."""
    places = [videos.find(root, *_FOLDERS[name]) for name in (split, "train")]
    return places[0].is_dir() or not places[1].is_dir()


def _of_lists(root: pathlib.Path) -> videos.Listing:
    """Reads the authors' lists, and finds the videos that are there."""
    tables = {
        split: videos.find(
            root, *(f"{p}{n}" for n in names for p in ("annotations/", ""))
        )
        for split, names in _LISTS.items()
    }
    labelled = ["train", "validation"]
    if _has_labels(tables["test"]) and _is_there(root, "test"):
        labelled.append("test")
    common.raise_report(root, videos.missing(root, [tables[s] for s in labelled]))
    splits, names, places = {}, None, set()
    for split in labelled:
        place = videos.find(root, *_FOLDERS[split], ".")
        places.add(place)
        found, names = lists.list_videos(
            tables[split], names=names, part=_PARTS[split], videos=place
        )
        splits[split] = [videos.Clip(p, {"label": label}) for p, label in found]
    assert names is not None
    listed = {clip.path for clips in splits.values() for clip in clips}
    faults = [
        fault
        for place in sorted(places)
        if place != root
        for fault in videos.unlisted(root, place, listed)
    ]
    return videos.Listing(splits, names, faults)
