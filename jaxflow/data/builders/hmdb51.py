"""HMDB51 as a TFDS data set.

Kuehne et al., "HMDB: A Large Video Database for Human Motion Recognition" (2011): 6766
videos of 51 actions, in three published divisions with 70 videos of a class for
training and 30 for testing, which are the configs "1", "2" and "3"; see
https://serre.lab.brown.edu/hmdb51.html:

    hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi ...
    testTrainMulti_7030_splits/brush_hair_test_split1.txt ...

The rest of the videos of a class belong to neither split, as the authors have it.
"""

import pathlib
import re

from jaxflow.data import list_rows, lists
from jaxflow.data.builders import common, videos


class HMDB51(videos.VideoBuilder):
    """Builder of the splits "train" and "test"; classes in alphabetical order."""

    name = "hmdb51"
    BUILDER_CONFIGS = common.configs("123")
    HOMEPAGE = "https://serre.lab.brown.edu/hmdb51.html"
    CITATION = "Kuehne et al., HMDB, ICCV 2011"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack hmdb51_org.rar, with the archive of every class in it, and "
        "test_train_splits.rar in one folder."
    )

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the lists of one division, a file a class."""
        assert self.builder_config is not None
        folder = root / "hmdb51_org"
        tables = videos.find(root, "testTrainMulti_7030_splits", "test_train_splits")
        found = sorted(tables.glob(f"[!.]*_test_split{self.builder_config.name}.txt"))
        gone = videos.missing(root, [folder, tables])
        if not gone and not found:
            gone = [f"missing: {tables.name}/*_split{self.builder_config.name}.txt"]
        common.raise_report(root, gone)
        splits, names = {}, None
        for split in ("train", "test"):
            clips, names = lists.list_videos(
                found[0], names=names, part=split, videos=folder
            )
            splits[split] = [videos.Clip(p, {"label": label}) for p, label in clips]
        assert names is not None
        # The lists name those of neither split, too.
        listed = {
            folder / re.sub(r"_test_split\d\.txt$", "", table.name) / name
            for table in found
            for _, line in list_rows.read_lines(table)
            for name in [line.rpartition(" ")[0].strip()]
        }
        unused = [clip.path for clips in splits.values() for clip in clips]
        faults = videos.unlisted(root, folder, listed.union(unused))
        gone = videos.missing(root, sorted(listed.difference(unused)))
        return videos.Listing(splits, names, faults + gone)
