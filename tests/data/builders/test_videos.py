"""Tests for jaxflow.data.builders.videos."""

import pathlib

import numpy as np
import pytest

from jaxflow.data.builders import videos
from tests.data.builders import video_trees


def test_a_source_ends_and_counts_from_its_end():
    elements = [{"path": f"{n}.mp4".encode(), "label": n} for n in range(3)]
    source = videos.Videos(elements, pathlib.Path("set"), ("a", "b", "c"))
    assert [element["label"] for element in source] == [0, 1, 2]
    assert source[-1]["path"] == str(pathlib.Path("set/2.mp4"))
    with pytest.raises(IndexError):
        source[3]
    np.testing.assert_equal(elements[0]["path"], b"0.mp4")


def test_places_are_tried_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    assert videos.find(tmp_path, "a", "b") == tmp_path / "b"
    assert videos.find(tmp_path, "c", "d") == tmp_path / "c"
    assert videos.missing(tmp_path, [tmp_path / "b", tmp_path / "c"]) == ["missing: c"]


def test_videos_that_no_list_names_are_extra_and_hidden_ones_are_not(tmp_path):
    video_trees.write(tmp_path, {"v/a.mp4": "", "v/x/b.avi": "", "v/.c/c.mp4": ""})
    video_trees.write(tmp_path, {"v/._a.mp4": "", "v/notes.txt": ""})
    found = videos.unlisted(tmp_path, tmp_path / "v", [tmp_path / "v/a.mp4"])
    assert found == ["extra: v/x/b.avi"]
