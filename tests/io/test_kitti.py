"""Tests for jaxflow.io.kitti."""

import cv2
import numpy as np
import pytest

from jaxflow import io


def test_the_code_is_the_published_one(tmp_path):
    flow = np.array([[[0.0, 1.0], [-2.5, 1 / 64], [-512, 511.99], [7, 7]]])
    valid = np.array([[True, True, True, False]])
    io.write_kitti(tmp_path / "f.png", flow, valid=valid)
    # OpenCV gives the channels backwards: valid, v, u.
    coded = cv2.imread(str(tmp_path / "f.png"), cv2.IMREAD_UNCHANGED)[0]
    zero = 2**15
    np.testing.assert_array_equal(
        coded,
        [[1, zero + 64, zero], [1, zero + 1, zero - 160], [1, 65535, 0], [0, 0, 0]],
    )


def test_values_are_rounded_to_the_nearest_64th_and_clipped(tmp_path, rng):
    flow = rng.uniform(-600, 600, (20, 30, 2)).astype(np.float32)
    io.write_kitti(tmp_path / "f.png", flow)
    read, valid = io.read_kitti(tmp_path / "f.png")
    assert valid.all()
    clipped = np.clip(flow, -512, 65535 / 64 - 512)
    # Half a step, and the rounding of 64 u + 2^15 in float32.
    np.testing.assert_allclose(read, clipped, atol=1 / 128 + 1e-3)


def test_unknown_flow_is_0_and_masked(tmp_path, rng):
    flow = rng.normal(size=(5, 7, 2))
    flow[2, 3, 0] = np.nan
    valid = rng.uniform(size=(5, 7)) > 0.5
    io.write_kitti(tmp_path / "f.png", flow, valid=valid)
    read, known = io.read_kitti(tmp_path / "f.png")
    valid[2, 3] = False
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read[~valid], 0)
    np.testing.assert_allclose(read[valid], flow[valid], atol=1 / 128 + 1e-3)


def test_a_real_sample_equals_opencv(test_data):
    path = test_data / "data/flow/kitti2012/000045_10_flow_noc.png"
    flow, valid = io.read_kitti(path)
    coded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float32)
    np.testing.assert_array_equal(valid, coded[..., 2] > 0)
    np.testing.assert_array_equal(flow[valid], (coded[valid][:, :2] - 2**15) / 64)
    assert flow.shape == (376, 1241, 2)


def test_a_picture_is_no_flow(tmp_path):
    io.write_image(tmp_path / "rgb8.png", np.zeros((3, 4, 3), np.uint8))
    io.write_png16(tmp_path / "gray16.png", np.zeros((3, 4, 1), np.uint16))
    with pytest.raises(ValueError, match=r"rgb8\.png: has 8 bits a sample"):
        io.read_kitti(tmp_path / "rgb8.png")
    with pytest.raises(ValueError, match=r"gray16\.png: has 1 channels"):
        io.read_kitti(tmp_path / "gray16.png")


def test_a_picture_of_16_bits_is_no_flow(tmp_path, rng):
    picture = rng.integers(0, 2**16, (3, 4, 3), dtype=np.uint16)
    io.write_png16(tmp_path / "rgb.png", picture)
    with pytest.raises(ValueError, match=r"rgb\.png: .*no KITTI flow"):
        io.read_kitti(tmp_path / "rgb.png")
    picture[..., 2] = np.where(picture[..., 2] > 2**15, 65535, 0)
    io.write_png16(tmp_path / "rgb.png", picture)
    np.testing.assert_array_equal(
        io.read_kitti(tmp_path / "rgb.png")[1], picture[..., 2] > 0
    )
