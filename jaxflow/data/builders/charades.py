"""Charades as a TFDS data set.

Sigurdsson et al., "Hollywood in Homes: Crowdsourcing Data Collection for Activity
Understanding" (2016): 9848 videos with 66 500 actions of 157 classes, several at a
time; see https://prior.allenai.org/projects/charades. The authors divide it into train
and test:

    Charades_v1_480/001YG.mp4 ...           (or Charades_v1)
    Charades/Charades_v1_train.csv Charades_v1_test.csv Charades_v1_classes.txt
"""

import csv
import io as text
import pathlib
import re

import numpy as np

from jaxflow.data import list_rows
from jaxflow.data.builders import common, videos

# What the list says is rounded, and the last frames of some files are lost.
_SLACK = 1.0


class Charades(videos.VideoBuilder):
    """Builder of the one config "v1": splits "train" and "test".

    An element has ``labels``, (classes,) bool, of the whole video; and for every action
    its class in ``actions``, (N,) int32, and its ``times``, (N, 2) float32: start and
    end in seconds.
    """

    BUILDER_CONFIGS = common.configs(("v1",))
    HOMEPAGE = "https://prior.allenai.org/projects/charades"
    CITATION = "Sigurdsson et al., Hollywood in Homes, ECCV 2016"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack Charades.zip and Charades_v1_480.zip in one folder."
    )

    def fields(self) -> dict:
        """Returns the features of actions."""
        tensor = common.tfds.features.Tensor
        return {
            "labels": tensor(shape=(None,), dtype=np.bool_, encoding="bytes"),
            "actions": tensor(shape=(None,), dtype=np.int32, encoding="bytes"),
            "times": tensor(shape=(None, 2), dtype=np.float32, encoding="bytes"),
        }

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads both lists."""
        folder = videos.find(root, "Charades_v1_480", "Charades_v1")
        tables = [
            videos.find(root, f"Charades/Charades_v1_{name}", f"Charades_v1_{name}")
            for name in ("train.csv", "test.csv", "classes.txt")
        ]
        common.raise_report(root, videos.missing(root, [folder, *tables]))
        codes, names = _classes(tables[2])
        splits = {
            split: [_clip(folder, table, codes, *row) for row in _rows(table)]
            for split, table in zip(("train", "test"), tables, strict=False)
        }
        listed = [clip.path for clips in splits.values() for clip in clips]
        return videos.Listing(splits, names, videos.unlisted(root, folder, listed))


def _classes(path: pathlib.Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Reads lines such as "c000 Holding some clothes"."""
    codes, names = {}, []
    for number, line in list_rows.read_lines(path):
        found = re.fullmatch(r"(c\d+)\s+(.+)", line)
        if found is None or found[1] in codes:
            raise list_rows.fault(path, number, f"is not 'c000 Class': {line!r}")
        codes[found[1]] = len(names)
        names.append(found[2])
    return codes, tuple(names)


def _rows(path: pathlib.Path):
    """Reads the lines of a list by the names of their columns."""
    lines = csv.DictReader(text.StringIO(path.read_text("utf-8-sig")))
    lacking = {"id", "actions", "length"} - set(lines.fieldnames or ())
    if lacking:
        raise list_rows.fault(path, 1, f"has no column {sorted(lacking)[0]!r}")
    for row in lines:
        yield lines.line_num, row


def _clip(folder, path, codes, line: int, row) -> videos.Clip:
    """Reads one line: the video, its length, and "c092 11.90 21.20;c147 0.00 12.60"."""
    actions = [part.split() for part in (row["actions"] or "").split(";") if part]
    try:
        kinds = [codes[code] for code, _, _ in actions]
        times = np.array([(float(a), float(b)) for _, a, b in actions]).reshape(-1, 2)
        seconds = float(row["length"])
    except (ValueError, KeyError, TypeError):
        raise list_rows.fault(
            path, line, f"has no actions and length: {row['actions']!r}"
        ) from None
    if not np.isfinite(seconds) or any(not 0 <= a <= b for a, b in times.tolist()):
        raise list_rows.fault(
            path, line, f"has an action that ends before it starts: {row['actions']!r}"
        )
    labels = np.zeros(len(codes), bool)
    labels[kinds] = True
    fields = {
        "labels": labels,
        "actions": np.array(kinds, np.int32),
        "times": times.astype(np.float32),
    }
    return videos.Clip(folder / f"{row['id']}.mp4", fields, max(seconds - _SLACK, 0))
