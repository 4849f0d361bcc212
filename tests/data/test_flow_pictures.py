"""Tests for jaxflow.data.flow_pictures."""

import numpy as np
import pytest
from PIL import Image

from jaxflow.data import flow_pictures

CODES = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 2), np.uint8)


def write(folder, names, parts, mode="L"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(names, parts, strict=True):
        Image.fromarray(np.ascontiguousarray(part)).convert(mode).save(folder / name)


def write_xy(folder, prefix="flow_", numbers=(1, 2, 3)):
    for axis in (0, 1):
        names = [f"{prefix}{'xy'[axis]}_{number:05d}.png" for number in numbers]
        write(folder, names, CODES[..., axis])


def write_uv(root, name=""):
    for axis in (0, 1):
        names = [f"frame{number:06d}.png" for number in (1, 2, 3)]
        write(root / "uv"[axis] / name, names, CODES[..., axis])


def read_all(folder, **options):
    pictures = flow_pictures.list_flow_pictures(folder, **options)
    count = len(pictures.x)
    return np.stack(
        [flow_pictures.read_flow_picture(pictures, i) for i in range(count)]
    )


@pytest.mark.parametrize("prefix", ["flow_", ""])
def test_reads_components_beside_each_other_and_no_frames(tmp_path, prefix):
    write_xy(tmp_path, prefix)
    frames = np.zeros((4, 4, 6), np.uint8)
    write(tmp_path, [f"img_{i:05d}.png" for i in range(1, 5)], frames, mode="RGB")
    np.testing.assert_array_equal(read_all(tmp_path), CODES)
    assert flow_pictures.is_flow_folder(tmp_path)


def test_reads_folders_of_components(tmp_path):
    write_uv(tmp_path / "one")
    write_uv(tmp_path / "all", "v_Dive_g01")
    np.testing.assert_array_equal(read_all(tmp_path / "one"), CODES)
    found = read_all(tmp_path / "all", name="v_Dive_g01")
    np.testing.assert_array_equal(found, CODES)
    assert flow_pictures.is_flow_folder(tmp_path / "one")
    assert not flow_pictures.is_flow_folder(tmp_path / "all" / "u" / "v_Dive_g01")


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    write_xy(tmp_path, numbers=(9, 10, 11))
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("_000", "_")))
    np.testing.assert_array_equal(read_all(tmp_path), CODES)


def test_writes_what_it_reads(tmp_path):
    count = flow_pictures.write_flow_pictures(tmp_path / "new", CODES)
    assert count == 3 and (tmp_path / "new" / "flow_y_00003.png").is_file()
    np.testing.assert_array_equal(read_all(tmp_path / "new"), CODES)
    flow_pictures.write_flow_pictures(tmp_path / "jpeg", CODES // 8, suffix=".jpg")
    close = read_all(tmp_path / "jpeg").astype(int)
    assert np.abs(close - CODES // 8).mean() < 4
    for bad in (CODES[0].astype(np.float32), CODES[0, ..., :1]):
        with pytest.raises(ValueError, match="uint8"):
            flow_pictures.write_flow_pictures(tmp_path, [bad])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: [p.unlink() for p in f.iterdir()], "no pictures of flow there"),
        (lambda f: (f / "flow_y_00002.png").unlink(), "the x of flow 2, and not its y"),
        (lambda f: (f / "flow_x_00001.png").unlink(), "the y of flow 1, and not its x"),
        (
            lambda f: [(f / f"flow_{a}_00002.png").unlink() for a in "xy"],
            "flow 1 to 3, but not number 2",
        ),
        (write_uv, "in both layouts"),
        (
            lambda f: write(f, ["flow_x_00001.bmp"], CODES[:1, ..., 0]),
            "flow_x_00001.png: keep one",
        ),
        (
            lambda f: write(f, ["flow_x_00003.png"], CODES[:1, :2, :, 0]),
            "6 x 2|6 x 4",
        ),
    ],
)
def test_what_is_not_whole_is_one_clear_error(tmp_path, break_it, message):
    write_xy(tmp_path)
    break_it(tmp_path)
    with pytest.raises(ValueError, match=message):
        flow_pictures.list_flow_pictures(tmp_path)


def test_a_picture_in_colour_is_no_component_of_flow(tmp_path):
    write_xy(tmp_path)
    colour = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "flow_y_00002.png")
    pictures = flow_pictures.list_flow_pictures(tmp_path)
    flow_pictures.read_flow_picture(pictures, 0)
    with pytest.raises(ValueError, match=r"flow_y_00002.png: is a picture in colour"):
        flow_pictures.read_flow_picture(pictures, 1)
