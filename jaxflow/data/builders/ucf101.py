"""UCF101 as a TFDS data set.

Soomro et al., "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild"
(2012): 13 320 videos of 240x320 at 25 frames a second, in three published divisions
into training and testing, which are the configs "1", "2" and "3"; see
https://www.crcv.ucf.edu/data/UCF101.php:

    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...
    ucfTrainTestlist/classInd.txt trainlist01.txt testlist01.txt ...
"""

import pathlib

from jaxflow.data import lists
from jaxflow.data.builders import common, videos


class UCF101(videos.VideoBuilder):
    """Builder of the splits "train" and "test"; classes as in classInd.txt."""

    name = "ucf101"
    BUILDER_CONFIGS = common.configs("123")
    HOMEPAGE = "https://www.crcv.ucf.edu/data/UCF101.php"
    CITATION = "Soomro et al., UCF101, CRCV-TR-12-01"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip in one folder."
    )

    def listing(self, root: pathlib.Path) -> videos.Listing:
        """Reads the lists of one division."""
        assert self.builder_config is not None
        folder, tables = root / "UCF-101", root / "ucfTrainTestlist"
        paths = {
            split: tables / f"{split}list0{self.builder_config.name}.txt"
            for split in ("train", "test")
        }
        common.raise_report(
            root,
            videos.missing(root, [folder, tables / "classInd.txt", *paths.values()]),
        )
        splits, names = {}, None
        for split, path in paths.items():
            found, names = lists.list_videos(path, names=names, videos=folder)
            splits[split] = [videos.Clip(p, {"label": label}) for p, label in found]
        assert names is not None
        listed = [clip.path for clips in splits.values() for clip in clips]
        return videos.Listing(splits, names, videos.unlisted(root, folder, listed))
