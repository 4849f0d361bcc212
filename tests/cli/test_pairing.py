"""Tests for jaxflow.cli.pairing.

The method `brightness` says in u how bright the first frame of a pair is, and in v the
second: a page shows the right frames if they are as bright as its flow says.
"""

import base64
import io as buffers
import json
import pathlib
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxflow import cli, io
from jaxflow.cli import clips, pairing

LENGTH = 8
SIZE = (16, 24)


@pytest.fixture
def frames(tmp_path):
    """Writes eight frames, ever brighter: as a video, and as pictures by two names."""
    levels = [np.full((*SIZE, 3), 20 + 30 * t, np.uint8) for t in range(LENGTH)]
    for folder, first in (("zero", 0), ("one", 1)):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(levels, first):
            io.write_image(f"{folder}/frame_{number:04d}.png", picture)
    pytest.importorskip("av")
    io.write_video("clip.mp4", levels, lossless=True)


def estimate(source, *options):
    """Runs jaxflow flow."""
    assert cli.main(["flow", source, "-o", "flows", "-q", *options]) == 0


def shown(*words):
    """Runs jaxflow view; returns of each pair its two levels by flow and by frames."""
    assert cli.main(["view", *words, "-o", "page.html", "-q"]) == 0
    text = re.search(
        r'type="application/json">(.*?)</script>', pathlib.Path("page.html").read_text()
    )
    pairs = json.loads(text[1])["frames"]
    return [[told(pair["flow"]), seen(pair["pictures"])] for pair in pairs]


def told(packed):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    flow = np.ascontiguousarray(planes.reshape(4, -1).T).view("<f4").reshape(*SIZE, 2)
    return [round(float(level) * 255) for level in flow[0, 0]]


def seen(pictures):
    coded = [
        pictures[view].removeprefix("data:image/png;base64,")
        for view in ("frame1", "frame2")
    ]
    return [
        int(np.asarray(Image.open(buffers.BytesIO(base64.b64decode(one))))[0, 0, 0])
        for one in coded
    ]


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ("", ""),
        ("--backward", "--backward"),
        ("--stride 2", ""),
        ("--start 2", "--start 2"),
        ("--start 1 --stride 2", ""),
        ("--start 2 --stride 2", "--start 2"),
        ("--start 1 --stride 2 --backward", "--backward"),
        ("--start 3 --stride 3", "--start 3 --stride 3"),
    ],
)
def test_a_page_shows_the_frames_of_its_flow(frames, options, needed):
    check_page("clip.mp4", options.split(), needed.split())


@pytest.mark.parametrize("folder", ["zero", "one"])
def test_a_page_shows_the_pictures_of_its_flow(frames, folder):
    check_page(folder, ["--stride", "3", "--backward"], ["--backward"])


def check_page(source, options, needed):
    estimate(source, *options)
    view = ["flows", "--frame", source]
    pairs = shown(*view, *needed)
    assert len(pairs) == len(list(pathlib.Path("flows").iterdir()))
    for by_flow, by_frames in pairs:
        assert by_flow == by_frames
    # The options of the flow always do, and none of them may be left out.
    assert shown(*view, *options) == pairs
    if needed:
        assert cli.main(["view", *view, "-o", "page.html"]) == 2


def test_options_that_names_belie_are_refused(frames, fails):
    estimate("clip.mp4", "--backward")
    view = ["view", "flows", "--frame", "clip.mp4"]
    assert "flow goes forward or backward; say --backward\n" in fails(*view)
    assert "--start 0: the first flow would start from frame 0; 000001.flo has the" in (
        fails(*view, "--start", "0")
    )
    line = "000007.flo goes from frame 7 to frame 8, and clip.mp4 holds the frames 0"
    assert line in fails(*view, "--start", "1")
    line = "000001.flo goes from frame 1 to frame -1"
    assert line in fails(*view, "--backward", "--stride", "2")


def test_a_part_of_the_files_is_shown_with_its_frames(frames, fails):
    estimate("clip.mp4")
    view = ["flows/00000[2-4].flo", "--frame", "clip.mp4"]
    assert "say --start 2 (forward) or --backward" in fails("view", *view)
    for by_flow, by_frames in shown(*view, "--start", "2"):
        assert by_flow == by_frames
    # A pattern may leave files out, so its gaps are no stride.
    view = ["flows/00000[024].flo", "--frame", "clip.mp4"]
    assert "say --stride 2 if" in fails("view", *view)
    for by_flow, by_frames in shown(*view, "--stride", "1"):
        assert by_flow == by_frames
    for place in (1, 2):
        pathlib.Path(f"flows/00000{place}.flo").unlink()
    view = ["flows", "--frame", "clip.mp4"]
    line = (
        "000003.flo is 3 frames behind 000000.flo, and 000004.flo 1 behind 000003.flo"
    )
    assert line in fails("view", *view)
    for by_flow, by_frames in shown(*view, "--stride", "1"):
        assert by_flow == by_frames


def test_one_file_of_a_clip_needs_its_pair(frames, fails):
    estimate("clip.mp4")
    view = ["flows/000003.flo", "--frame", "clip.mp4"]
    line = "say --stride 1 if they are neighbours, and --start 3 or --backward"
    assert line in fails("view", *view)
    ((by_flow, by_frames),) = shown(*view, "--stride", "1", "--start", "3")
    assert by_flow == by_frames
    pathlib.Path("flows/000003.flo").rename("some.flo")
    view[0] = "some.flo"
    assert "and --start N, the first frame" in fails("view", *view)
    assert shown(*view, "--stride", "1", "--start", "3") == [[by_flow, by_frames]]


def of(names, clip, **options):
    """Returns the pairs of flows of such names, as tuples."""
    files = [pathlib.Path(f"{name}.flo") for name in names]
    return [tuple(p) for p in pairing.pair_up(files, clip, pairing.Told(**options))]


def pictures(*names):
    paths = [pathlib.Path(f"{name}.png") for name in names]
    return clips.Clip("folder", paths, list(names), 25.0, None)


def numbered(name, first, count):
    return [name.format(t) for t in range(first, first + count)]


FORWARD = [(0, 1), (1, 2), (2, 3)]
BACKWARD = [(1, 0), (2, 1), (3, 2)]
VIDEO = clips.Clip("clip.mp4", [], numbered("{:06d}", 0, 4), 25.0, None)


def test_data_sets_are_read_as_they_are_named():
    sintel = pictures(*numbered("frame_{:04d}", 1, 4))
    assert of(numbered("frame_{:04d}", 1, 3), sintel) == FORWARD
    left = pictures(*numbered("frame_left_{:04d}", 1, 4))
    assert of(numbered("flow_FW_left_{:04d}", 1, 3), left) == FORWARD
    behind = numbered("flow_BW_left_{:04d}", 2, 3)
    assert of(behind, left, backward=True) == BACKWARD
    with pytest.raises(ValueError, match="say --backward or --start 0"):
        of(behind, left)
    # Each frame of FlyingThings has a flow; the last goes to one that is not there.
    things = pictures(*numbered("{:04d}", 6, 3))
    names = numbered("OpticalFlowIntoFuture_{:04d}_L", 6, 3)
    assert of(names, things) == [(0, None), (1, None), (2, None)]
    # KITTI has two frames a scene.
    scenes = [f"{scene:06d}_{time}" for scene in range(3) for time in (10, 11)]
    kitti = pictures(*scenes)
    with pytest.raises(ValueError, match=r"say --stride 2 if .* or --stride 1 if"):
        of(scenes[::2], kitti)
    assert of(scenes[::2], kitti, stride=1) == [(0, 1), (2, 3), (4, 5)]
    middlebury = pictures("frame10", "frame11")
    assert of(["flow10"], middlebury) == [(0, 1)]


def test_the_flow_of_a_pair_starts_from_the_picture_it_is_named_by():
    couple = pictures("a", "b")
    assert of(["a_flow"], couple) == of(["flow"], couple) == [(0, 1)]
    assert of(["b_flow"], couple, backward=True) == [(1, 0)]
    with pytest.raises(ValueError, match="say --backward"):
        of(["b_flow"], couple)


def test_numbers_that_count_from_another_frame_need_a_start():
    names = numbered("frame_{:04d}", 1, 3)
    for clip in (VIDEO, pictures("a", "b", "c", "d")):
        with pytest.raises(ValueError, match=r"--backward or --start 0 \(if names"):
            of(names, clip)
        assert of(names, clip, start=0) == FORWARD
        assert of(names, clip, backward=True) == BACKWARD
        assert of(numbered("frame_{:04d}", 0, 3), clip) == FORWARD
    with pytest.raises(ValueError, match=r"say --start 0 \(if names"):
        of(numbered("frame_{:04d}", 1, 4), VIDEO)
    with pytest.raises(ValueError, match=r"000004\.flo starts from frame 4, and clip"):
        of(numbered("{:06d}", 2, 3), VIDEO)
    # Of a video, while the pictures that were made of it count from 1.
    ours = numbered("{:06d}", 1, 3)
    theirs = pictures(*numbered("{:04d}", 1, 4))
    assert of(numbered("{:06d}", 0, 3), theirs) == FORWARD
    assert of(ours, theirs, backward=True) == BACKWARD
    with pytest.raises(ValueError, match="say --backward"):
        of(ours, theirs)


def test_names_without_numbers_are_taken_in_order():
    clip = pictures("p", "q", "r", "s")
    assert of("abc", clip) == FORWARD
    assert of("abc", clip, backward=True) == BACKWARD
    assert of("abcd", clip) == [(t, None) for t in range(4)]
    assert of("ab", clip, start=1) == [(1, 2), (2, 3)]
    assert of("a", clip, stride=2, start=1) == [(1, 3)]
    with pytest.raises(ValueError, match=r"must hold 2 or 3 frames for 2 .* holds 4"):
        of("ab", clip)
    with pytest.raises(ValueError, match="must hold 5 frames"):
        of("abcd", clip, backward=True)


def test_pairs_are_called_by_their_frames():
    file = pathlib.Path("flows/000002.flo")
    assert pairing.caption(file, pairing.Pair(2, 1), VIDEO) == (
        "000002.flo: frame 2 to frame 1"
    )
    one = pairing.Pair(0, None)
    assert pairing.caption(file, one, pictures("a")) == "000002.flo: a.png"
