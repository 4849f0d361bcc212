"""Tests for jaxflow.io.pfm."""

import tracemalloc

import cv2
import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import pfm


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 5)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_reads_what_opencv_writes_and_the_other_way_round(
    tmp_path, rng, size, channels
):
    values = rng.normal(size=(*size, channels)).astype(np.float32)
    theirs, ours = tmp_path / "theirs.pfm", tmp_path / "光流.pfm"
    cv2.imwrite(str(theirs), values[..., ::-1])
    np.testing.assert_array_equal(io.read_pfm(theirs), values)
    io.write_pfm(ours, values)
    np.testing.assert_array_equal(io.read_pfm(ours), values)
    buffer = np.frombuffer(ours.read_bytes(), np.uint8)
    decoded = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED).reshape(values.shape)
    np.testing.assert_array_equal(decoded[..., ::-1], values)


def test_big_endian_and_odd_spacing_are_read(tmp_path):
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    (tmp_path / "f.pfm").write_bytes(b"Pf 3\t2\r\n1\r\n" + values[::-1].tobytes())
    np.testing.assert_array_equal(io.read_pfm(tmp_path / "f.pfm")[..., 0], values)


@pytest.mark.parametrize("scale", [b"-1", b"-1.", b"-.5", b"-1e0", b"-1.000000"])
def test_scales_and_comments_of_other_writers_are_read(tmp_path, scale):
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    head = b"Pf\n# by a camera\n3 2\n" + scale + b"\n"
    (tmp_path / "f.pfm").write_bytes(head + values[::-1].tobytes())
    np.testing.assert_array_equal(io.read_pfm(tmp_path / "f.pfm")[..., 0], values)


def test_flow_is_the_first_two_channels_and_nan_is_unknown(tmp_path, rng):
    flow = rng.normal(size=(4, 5, 2)).astype(np.float32)
    valid = rng.uniform(size=(4, 5)) > 0.5
    pfm.write_pfm_flow(tmp_path / "f.pfm", flow, valid=valid)
    read, known = pfm.read_pfm_flow(tmp_path / "f.pfm")
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read, np.where(valid[..., None], flow, 0))
    values = io.read_pfm(tmp_path / "f.pfm")
    assert np.isnan(values[~valid][:, :2]).all() and (values[..., 2] == 0).all()


def test_real_samples_equal_opencv(test_data):
    path = test_data / "data/flow/tiny_mmflow/0000000-occ_weights_01.pfm"
    theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(io.read_pfm(path)[..., 0], theirs)


def test_every_truncation_is_one_error(tmp_path):
    path = tmp_path / "f.pfm"
    io.write_pfm(path, np.ones((2, 2)))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"f\.pfm: "):
            io.read_pfm(path)


@pytest.mark.parametrize(
    "header",
    [
        b"PF\n40000 25000\n-1\n",
        b"PF\n999999999 999999999\n-1\n",
        b"PF\n0 4\n-1\n",
        b"Pf\n1 1\n0\n",
        b"P6\n1 1\n255\n",
        b"PF\n-1 -1\n-1\n",
        b"",
    ],
)
def test_a_lying_or_foreign_header_costs_no_memory(tmp_path, header):
    path = tmp_path / "f.pfm"
    path.write_bytes(header + bytes(4))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"f\.pfm: "):
        io.read_pfm(path)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_one_channel_is_no_flow(tmp_path):
    io.write_pfm(tmp_path / "f.pfm", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"f\.pfm: has 1 channel"):
        pfm.read_pfm_flow(tmp_path / "f.pfm")


def test_refuses_another_shape(tmp_path):
    with pytest.raises(ValueError, match="`values` must be"):
        io.write_pfm(tmp_path / "f.pfm", np.ones((2, 2, 2)))
