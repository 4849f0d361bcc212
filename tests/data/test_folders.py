"""Tests for jaxflow.data.folders, on small trees in the layouts of the authors."""

import ast
import pathlib

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import folders

FRAME = np.zeros((4, 6, 3), np.uint8)
FLOW = np.ones((4, 6, 2), np.float32)


def make(root, *names):
    """Writes empty frames and constant flow under the given names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "flow" in name.lower() and "img" not in name:
            io.write_flow(path, FLOW)
        else:
            io.write_image(path, FRAME)
    return root


def relative(pairs, root):
    return [
        tuple(str(path.relative_to(root)) for path in pair if path) for pair in pairs
    ]


TREES = {
    "chairs": [
        f"data/{i:05d}_{part}"
        for i in (1, 2)
        for part in ("img1.ppm", "img2.ppm", "flow.flo")
    ],
    "sintel_final": [
        *(f"training/final/{s}/frame_{i:04d}.png" for s in "ab" for i in (1, 2, 3)),
        *(f"training/flow/{s}/frame_{i:04d}.flo" for s in "ab" for i in (1, 2)),
    ],
    "kitti2012": [
        *(f"training/image_0/00000{i}_1{t}.png" for i in (0, 1) for t in (0, 1)),
        *(f"training/flow_occ/00000{i}_10.png" for i in (0, 1)),
    ],
    "kitti2015": [
        *(f"training/image_2/00000{i}_1{t}.png" for i in (0, 1) for t in (0, 1)),
        *(f"training/flow_occ/00000{i}_10.png" for i in (0, 1)),
    ],
    "hd1k": [
        *(f"hd1k_input/image_2/00000{s}_000{i}.png" for s in (0, 1) for i in (0, 1)),
        *(f"hd1k_flow_gt/flow_occ/00000{s}_000{i}.png" for s in (0, 1) for i in (0, 1)),
    ],
    "middlebury": [
        f"{part}"
        for s in ("Venus", "Urban2")
        for part in (
            f"other-data/{s}/frame10.png",
            f"other-data/{s}/frame11.png",
            f"other-gt-flow/{s}/flow10.flo",
        )
    ],
    "chairs_sdhom": [
        f"data/train/{part}"
        for i in (0, 1)
        for part in (f"t0/0000{i}.png", f"t1/0000{i}.png", f"flow/0000{i}.pfm")
    ],
}
FIRST = {
    "chairs": ("data/00001_img1.ppm", "data/00001_img2.ppm", "data/00001_flow.flo"),
    "sintel_final": (
        "training/final/a/frame_0001.png",
        "training/final/a/frame_0002.png",
        "training/flow/a/frame_0001.flo",
    ),
    "kitti2012": (
        "training/image_0/000000_10.png",
        "training/image_0/000000_11.png",
        "training/flow_occ/000000_10.png",
    ),
    "kitti2015": (
        "training/image_2/000000_10.png",
        "training/image_2/000000_11.png",
        "training/flow_occ/000000_10.png",
    ),
    "hd1k": (
        "hd1k_input/image_2/000000_0000.png",
        "hd1k_input/image_2/000000_0001.png",
        "hd1k_flow_gt/flow_occ/000000_0000.png",
    ),
    "middlebury": (
        "other-data/Urban2/frame10.png",
        "other-data/Urban2/frame11.png",
        "other-gt-flow/Urban2/flow10.flo",
    ),
    "chairs_sdhom": (
        "data/train/t0/00000.png",
        "data/train/t1/00000.png",
        "data/train/flow/00000.pfm",
    ),
}
COUNT = {"sintel_final": 4}


@pytest.mark.parametrize("layout", TREES)
def test_every_layout_finds_its_pairs_and_reads_them(tmp_path, layout):
    make(tmp_path, *TREES[layout])
    pairs = folders.list_pairs(layout, str(tmp_path))
    assert relative(pairs, tmp_path)[0] == FIRST[layout]
    assert len(pairs) == COUNT.get(layout, 2)
    data = folders.Folder(layout, tmp_path)
    assert len(data) == len(pairs)
    frame1, frame2, flow, valid = data[0]
    np.testing.assert_array_equal(frame1, FRAME)
    np.testing.assert_array_equal(frame2, FRAME)
    np.testing.assert_array_equal(flow, FLOW)
    assert valid.all()


@pytest.mark.parametrize("layout", TREES)
def test_a_missing_frame_is_named(tmp_path, layout):
    make(tmp_path, *TREES[layout])
    (tmp_path / FIRST[layout][0]).unlink()
    with pytest.raises(ValueError, match="is missing"):
        folders.list_pairs(layout, tmp_path)


def test_things_in_full_pairs_both_directions_and_both_cameras(tmp_path):
    flow, frames = "optical_flow/TRAIN/A/0000", "frames_finalpass/TRAIN/A/0000"
    for side in ("left", "right"):
        make(
            tmp_path,
            *(f"{frames}/{side}/000{i}.png" for i in (6, 7, 8)),
            *(
                f"{flow}/into_{w.lower()}/{side}/OpticalFlowInto{w}_000{i}_"
                f"{side[0].upper()}.pfm"
                for w in ("Future", "Past")
                for i in (6, 7, 8)
            ),
        )
    pairs = relative(folders.list_pairs("things_final", tmp_path), tmp_path)
    assert len(pairs) == 8
    assert pairs[1] == (
        f"{frames}/left/0007.png",
        f"{frames}/left/0008.png",
        f"{flow}/into_future/left/OpticalFlowIntoFuture_0007_L.pfm",
    )
    assert pairs[4] == (
        f"{frames}/left/0007.png",
        f"{frames}/left/0006.png",
        f"{flow}/into_past/left/OpticalFlowIntoPast_0007_L.pfm",
    )


def test_things_subset_ends_a_sequence_where_a_frame_is_missing(tmp_path):
    make(
        tmp_path,
        *(f"val/image_clean/left/000000{i}.png" for i in (0, 1, 5)),
        *(f"val/flow/left/into_future/000000{i}.flo" for i in (0, 1)),
        "val/flow/left/into_past/0000001.flo",
        "val/flow/left/into_past/0000000.flo",
    )
    pairs = folders.list_pairs("things_clean", tmp_path, split="val")
    assert relative(pairs, tmp_path) == [
        (
            "val/image_clean/left/0000000.png",
            "val/image_clean/left/0000001.png",
            "val/flow/left/into_future/0000000.flo",
        ),
        (
            "val/image_clean/left/0000001.png",
            "val/image_clean/left/0000000.png",
            "val/flow/left/into_past/0000001.flo",
        ),
    ]


def test_invalid_pixels_of_sintel_do_not_count(tmp_path):
    make(tmp_path, *TREES["sintel_final"])
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = 255
    for scene in "ab":
        folder = tmp_path / "training/invalid" / scene
        folder.mkdir(parents=True)
        for index in (1, 2):
            io.write_image(folder / f"frame_{index:04d}.png", mask)
    sample = folders.Folder("sintel_final", tmp_path)[3]
    np.testing.assert_array_equal(sample.valid, mask == 0)


def test_the_split_of_chairs_is_the_authors_list(tmp_path):
    root = make(tmp_path / "FlyingChairs_release", *TREES["chairs"])
    with pytest.raises(ValueError, match=r"FlyingChairs_train_val\.txt"):
        folders.list_pairs("chairs", root, split="val")
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n")
    for split, name in (("train", "00001"), ("val", "00002")):
        (pair,) = folders.list_pairs("chairs", root, split=split)
        assert pair.flow.name == f"{name}_flow.flo"
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n")
    with pytest.raises(ValueError, match="has 1 lines for 2 pairs"):
        folders.list_pairs("chairs", root)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("1\n3\n", "line 2 is neither 1 nor 2"), ("", "the file is empty")],
)
def test_a_split_of_chairs_that_is_none_is_one_error(tmp_path, text, fault):
    make(tmp_path, *TREES["chairs"])
    (tmp_path / "FlyingChairs_train_val.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"FlyingChairs_train_val\.txt: {fault}"):
        folders.list_pairs("chairs", tmp_path)


def test_colour_is_preferred_in_kitti_2012(tmp_path):
    make(tmp_path, *TREES["kitti2012"])
    make(tmp_path, *(n.replace("image_0", "colored_0") for n in TREES["kitti2012"]))
    pairs = folders.list_pairs("kitti2012", tmp_path)
    assert pairs[0].frame1.parent.name == "colored_0"


def test_a_limit_keeps_pairs_spread_over_the_set(tmp_path):
    make(tmp_path, *TREES["sintel_final"])
    data = folders.Folder("sintel_final", tmp_path, limit=2)
    assert [pair.flow.parent.name for pair in data.pairs] == ["a", "b"]
    assert len(folders.Folder("sintel_final", tmp_path, limit=99)) == 4
    with pytest.raises(ValueError, match="`limit`"):
        folders.Folder("sintel_final", tmp_path, limit=0)


def test_what_is_not_there_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="`layout` must be one of"):
        folders.list_pairs("imagenet", tmp_path)
    for layout in folders.LAYOUTS:
        with pytest.raises(ValueError, match="no pairs of layout"):
            folders.list_pairs(layout, tmp_path / "none")
        with pytest.raises(ValueError, match="`split` must be one of"):
            folders.list_pairs(layout, tmp_path, split="trian")


def test_different_sizes_are_named(tmp_path):
    make(tmp_path, *TREES["chairs"])
    io.write_image(tmp_path / "data/00001_img2.ppm", FRAME[:3])
    with pytest.raises(ValueError, match=r"00001_flow\.flo: is \(4, 6\)"):
        folders.Folder("chairs", tmp_path)[0]


def test_real_samples_are_found(test_data):
    flow = test_data / "data/flow"
    assert len(folders.list_pairs("chairs", flow / "chairs")) == 3
    sample = folders.Folder("middlebury", flow / "middlebury")[0]
    assert sample.frame1.shape == (388, 584, 3)
    assert sample.valid.mean() == pytest.approx(0.984, abs=1e-3)


def test_reading_data_does_not_import_jax():
    tree = ast.parse(pathlib.Path(folders.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert not any(name.name == "jax" for node in imports for name in node.names)


def test_frames_of_16_bits_are_scaled_by_their_own_type(tmp_path):
    make(tmp_path, "f1.png", "f2.png", "flow.flo")
    pair = folders.Pair(*(tmp_path / n for n in ("f1.png", "f2.png", "flow.flo")))
    assert folders.load(pair).frame1.dtype == np.uint8
    io.write_image(pair.frame1, np.full((4, 6, 3), 51, np.uint8))
    io.write_image(pair.frame2, np.full((4, 6, 3), 51 * 257, np.uint16))
    sample = folders.load(pair)
    for frame in (sample.frame1, sample.frame2):
        np.testing.assert_allclose(frame, np.full((4, 6, 3), 0.2), atol=1e-7)


@pytest.mark.parametrize("layout", TREES)
def test_what_a_mac_leaves_in_archives_is_no_flow(tmp_path, layout):
    make(tmp_path, *TREES[layout])
    expected = folders.list_pairs(layout, tmp_path)
    for path in [*tmp_path.rglob("*.*")]:
        if path.is_file():
            path.with_name(f"._{path.name}").write_text("")
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        if folder.is_dir():
            (folder / "__MACOSX").mkdir()
            for file in [*folder.iterdir()]:
                if file.is_file():
                    (folder / "__MACOSX" / file.name).write_text("")
    assert folders.list_pairs(layout, tmp_path) == expected


def test_what_is_hidden_is_read_where_the_authors_say_it(tmp_path):
    hidden = np.zeros(FRAME.shape[:2], np.uint8)
    hidden[1, 2:] = 255
    sintel = make(tmp_path / "sintel", *TREES["sintel_final"])
    pair = folders.list_pairs("sintel_final", sintel)[0]
    assert folders.read_occluded(pair) is None
    (sintel / "training/occlusions/a").mkdir(parents=True)
    io.write_image(sintel / "training/occlusions/a/frame_0001.png", hidden)
    np.testing.assert_array_equal(folders.read_occluded(pair), hidden > 0)
    kitti = make(tmp_path / "kitti", *TREES["kitti2015"])
    pair = folders.list_pairs("kitti2015", kitti)[0]
    assert folders.read_occluded(pair) is None
    (kitti / "training/flow_noc").mkdir()
    visible = kitti / "training/flow_noc" / pair.flow.name
    io.write_kitti(visible, FLOW, valid=hidden == 0)
    np.testing.assert_array_equal(folders.read_occluded(pair), hidden > 0)
    chairs = make(tmp_path / "chairs", *TREES["chairs"])
    pair = folders.list_pairs("chairs", chairs)[0]
    assert folders.read_occluded(pair) is None
    io.write_image(chairs / "data/00001_occ1.png", hidden)
    np.testing.assert_array_equal(folders.read_occluded(pair), hidden > 0)
