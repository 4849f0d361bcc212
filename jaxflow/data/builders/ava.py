"""AVA (actions) as a TFDS data set.

Gu et al., "AVA: A Video Dataset of Spatio-temporally Localized Atomic Visual Actions"
(2018): people in 299 films, boxed once a second in minutes 15 to 30, with up to 80
actions each; see https://research.google.com/ava. Annotations of the testing part are
not published. The configs are the versions "2.2" and "2.1":

    trainval/-5KQ66BBWC4.mkv ...                  (or videos)
    annotations/ava_train_v2.2.csv ava_val_v2.2.csv   (or beside the folder)
    annotations/ava_train_excluded_timestamps_v2.2.csv ava_val_excluded_...
    annotations/ava_action_list_v2.2.pbtxt
    annotations/ava_file_names_test_v2.1.txt      (if films of testing are there, too)

Films are YouTube's, so what is missing is said and left out.
"""

import pathlib

import numpy as np

from jaxflow.data import ava, list_rows
from jaxflow.data.builders import common, videos


class AVA(videos.VideoBuilder):
    """Builder of the splits "train" and "validation": an element a second of a film.

    An element has ``time``, in seconds from the start of the film; ``boxes``, (N, 4)
    float32: left, top, right, bottom as parts of the frame; ``labels``, (N, classes)
    bool; and ``persons``, (N,) int32. Seconds that the authors exclude are left out.
    """

    BUILDER_CONFIGS = common.configs(("2.2", "2.1"))
    MAY_LACK = True
    HOMEPAGE = "https://research.google.com/ava"
    CITATION = "Gu et al., AVA, CVPR 2018"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the films into trainval/ and unpack ava_v2.2.zip into annotations/."
    )

    def fields(self) -> dict:
        """Returns the features of people and what they do."""
        tensor = common.tfds.features.Tensor
        return {
            "time": np.float32,
            "boxes": tensor(shape=(None, 4), dtype=np.float32, encoding="bytes"),
            "labels": tensor(shape=(None, None), dtype=np.bool_, encoding="bytes"),
            "persons": tensor(shape=(None,), dtype=np.int32, encoding="bytes"),
        }

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the annotations."""
        assert self.builder_config is not None
        version = f"v{self.builder_config.name}"
        folder = videos.find(root, "trainval", "videos")

        def table(name: str) -> pathlib.Path:
            return videos.find(root, f"annotations/ava_{name}", f"ava_{name}")

        classes = table(f"action_list_{version}.pbtxt")
        boxes = [table(f"{part}_{version}.csv") for part in ("train", "val")]
        excluded = [
            table(f"{part}_excluded_timestamps_{version}.csv")
            for part in ("train", "val")
        ]
        common.raise_report(
            root, videos.missing(root, [folder, classes, *boxes, *excluded])
        )
        names = ava.read_label_map(classes)
        places = {number: place for place, number in enumerate(names)}
        there = {path.stem: path for path in list_rows.find_videos(folder)}
        splits = {
            split: _clips(
                folder, there, boxes[i], ava.read_exclusions(excluded[i]), places
            )
            for i, split in enumerate(("train", "validation"))
        }
        listed = [clip.path for clips in splits.values() for clip in clips]
        tested = table("file_names_test_v2.1.txt")
        if tested.is_file():
            listed += [folder / name for _, name in list_rows.read_lines(tested)]
        return videos.Listing(
            splits, tuple(names.values()), videos.unlisted(root, folder, listed)
        )


def _clips(folder, there, path, excluded, places) -> list[videos.Clip]:
    """Reads lines film,second,left,top,right,bottom,action,person."""
    seconds: dict[tuple[str, int], dict[tuple, list[int]]] = {}
    for number, line in list_rows.read_lines(path):
        box = ava.read_row(path, number, line)
        whole = box.second.is_integer() and box.score.is_integer()
        known = box.action is None or box.action in places
        if line.count(",") != 7 or not whole or not known:
            raise list_rows.fault(
                path, number, f"is no box with an action and a person: {line!r}"
            )
        if min(box.corners) < 0 or max(box.corners) > 1:
            raise list_rows.fault(
                path, number, f"has a box outside the frame: {line!r}"
            )
        moment = box.video, int(box.second)
        if moment not in excluded:
            people = seconds.setdefault(moment, {})
            labels = people.setdefault((*box.corners, int(box.score)), [])
            labels += [] if box.action is None else [places[box.action]]
    return [
        _clip(there.get(film, folder / f"{film}.mp4"), second, people, len(places))
        for (film, second), people in seconds.items()
    ]


def _clip(path, second: int, people: dict, classes: int) -> videos.Clip:
    """Joins the people of one second."""
    labels = np.zeros((len(people), classes), bool)
    for row, actions in enumerate(people.values()):
        labels[row, actions] = True
    numbers = np.array(list(people), np.float64)
    fields = {
        "time": float(second),
        "boxes": numbers[:, :4].astype(np.float32),
        "labels": labels,
        "persons": numbers[:, 4].astype(np.int32),
    }
    return videos.Clip(path, fields, seconds=second, part=f"{second:04d}")
