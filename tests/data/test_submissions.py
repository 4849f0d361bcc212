"""Tests for jaxflow.data.submissions."""

import struct

import numpy as np
import png
import pytest

from jaxflow import io
from jaxflow.data import submissions

SIZE = (5, 7)


def make(root, *names):
    """Writes frames whose flow by `motion` can be told."""
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        io.write_image(root / name, np.full((*SIZE, 3), 10 * level, np.uint8))
    return root


def motion(frame1, frame2):
    """A flow that tells its frames and its pixels apart."""
    flow = np.zeros((*frame1.shape[:2], 2))
    flow[..., 0] = float(frame1[0, 0, 0]) + np.arange(frame1.shape[1]) / 64
    flow[..., 1] = -float(frame2[0, 0, 0])
    return flow


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


SINTEL = [
    f"test/{part}/{scene}/frame_{number:04d}.png"
    for part in ("clean", "final")
    for scene in ("ambush_1", "wall")
    for number in (1, 2, 3)
]
KITTI = [f"{number:06d}_{end}.png" for number in (0, 1) for end in (10, 11)]


def test_sintels_tree_has_a_flow_a_pair_of_both_renderings(tmp_path):
    root = make(tmp_path / "sintel", *SINTEL)
    pairs = submissions.list_test_pairs("sintel", root)
    submissions.write_submission(pairs, tmp_path / "out", motion)
    expected = [
        f"{part}/{scene}/frame_{number:04d}.flo"
        for part in ("clean", "final")
        for scene in ("ambush_1", "wall")
        for number in (1, 2)
    ]
    assert files_in(tmp_path / "out") == expected
    raw = (tmp_path / "out" / "clean/wall/frame_0002.flo").read_bytes()
    # The tag of the format, width and height, and u, v of every pixel, by rows.
    assert struct.unpack("<fii", raw[:12]) == (202021.25, SIZE[1], SIZE[0])
    u, v = np.frombuffer(raw[12:], "<f4").reshape(*SIZE, 2)[3, 2]
    assert (u, v) == (40 + 2 / 64, -50)


@pytest.mark.parametrize(
    ("benchmark", "folder", "inner"),
    [
        ("kitti2015", "image_2", "flow/"),
        ("kitti2012", "colored_0", ""),
        ("kitti2012", "image_0", ""),
    ],
)
def test_kittis_tree_has_pictures_of_16_bits(tmp_path, benchmark, folder, inner):
    # The longer sequences lie beside the pairs.
    names = [*KITTI, "000000_09.png", "000001_12.png"]
    root = make(tmp_path / "kitti", *(f"testing/{folder}/{n}" for n in names))
    pairs = submissions.list_test_pairs(benchmark, root)
    submissions.write_submission(pairs, tmp_path / "out", motion)
    assert files_in(tmp_path / "out") == [f"{inner}{n:06d}_10.png" for n in (0, 1)]
    reader = png.Reader(filename=str(tmp_path / "out" / f"{inner}000001_10.png"))
    width, height, rows, info = reader.read()
    assert (width, height, info["bitdepth"], info["planes"]) == (*SIZE[::-1], 16, 3)
    pixel = list(rows)[1][3 * 4 : 3 * 5]
    # Frame 1 is 20 and frame 2 is 30; the third number says that the flow is known.
    assert list(pixel) == [20 * 64 + 4 + 2**15, -30 * 64 + 2**15, 1]


@pytest.mark.parametrize(
    ("benchmark", "tree", "lost"),
    [
        ("sintel", SINTEL, "test/final/wall/frame_0002.png"),
        ("kitti2015", [f"testing/image_2/{n}" for n in KITTI], None),
    ],
)
def test_a_missing_frame_is_named_before_anything_is_written(
    tmp_path, benchmark, tree, lost
):
    root = make(tmp_path, *tree)
    for path in tree:
        if lost in (None, path):
            data = (root / path).read_bytes()
            (root / path).unlink()
            # The end of a sequence cannot be told from a shorter one.
            if path not in (tree[-1], *SINTEL[2::3]) and path != "":
                with pytest.raises(ValueError, match=f"{path}: is missing"):
                    submissions.list_test_pairs(benchmark, root)
            (root / path).write_bytes(data)


def test_what_is_no_testing_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no testing part of kitti2015"):
        submissions.list_test_pairs("kitti2015", tmp_path)
    root = make(tmp_path, *(name for name in SINTEL if "/final/" not in name))
    with pytest.raises(ValueError, match="has no scenes; the server needs both"):
        submissions.list_test_pairs("sintel", root)
    with pytest.raises(ValueError, match="`benchmark`"):
        submissions.list_test_pairs("spring", root)


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (np.full((*SIZE, 2), np.nan), "NaN or infinity"),
        (np.zeros((4, 7, 2)), r"estimated flow \(4, 7, 2\)"),
    ],
)
def test_flow_that_the_server_would_refuse_is_refused(tmp_path, flow, said):
    root = make(tmp_path, *(f"testing/image_2/{name}" for name in KITTI))
    pairs = submissions.list_test_pairs("kitti2015", root)
    with pytest.raises(ValueError, match=said):
        submissions.write_submission(pairs, tmp_path / "out", lambda a, b: flow)
    assert not (tmp_path / "out").exists()
