"""Tests for jaxflow.io.flo."""

import struct
import tracemalloc

import cv2
import numpy as np
import pytest

from jaxflow import io
from jaxflow.io import flo


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (17, 4)], ids=str)
def test_reads_what_opencv_writes_and_the_other_way_round(tmp_path, rng, size):
    flow = rng.normal(size=(*size, 2)).astype(np.float32) * 100
    theirs, ours = tmp_path / "theirs.flo", tmp_path / "光流.flo"
    cv2.writeOpticalFlow(str(theirs), flow)
    io.write_flo(ours, flow)
    assert ours.read_bytes() == theirs.read_bytes()
    read, valid = io.read_flo(theirs)
    np.testing.assert_array_equal(read, flow)
    assert read.dtype == np.float32 and valid.dtype == bool and valid.all()


def test_the_unknown_becomes_a_mask_and_comes_back(tmp_path):
    flow = np.ones((2, 3, 2), np.float32)
    flow[0, 0, 1], flow[0, 1, 0], flow[0, 2, 0] = 1.1e9, np.nan, -np.inf
    flow[1, 0] = 1e9  # the format says "greater than", so this one is known
    masked = np.ones((2, 3), bool)
    masked[1, 2] = False
    io.write_flo(tmp_path / "f.flo", flow, valid=masked)
    read, valid = io.read_flo(tmp_path / "f.flo")
    np.testing.assert_array_equal(valid, [[False] * 3, [True, True, False]])
    np.testing.assert_array_equal(read[~valid], 0)
    np.testing.assert_array_equal(read[valid], flow[valid])
    assert (cv2.readOpticalFlow(str(tmp_path / "f.flo"))[~valid] > 1e9).all()


def test_real_samples_equal_opencv(test_data):
    for name, known in (("sintel/alley_1/flow/frame_0002.flo", 1.0),
                        ("middlebury/RubberWhale/flow10.flo", 0.984)):  # fmt: skip
        path = test_data / "data/flow" / name
        flow, valid = io.read_flo(path)
        reference = cv2.readOpticalFlow(str(path))
        np.testing.assert_array_equal(flow[valid], reference[valid])
        assert (np.abs(reference[~valid]) > 1e9).all()
        assert valid.mean() == pytest.approx(known, abs=1e-3)


def test_every_truncation_and_extension_is_one_error(tmp_path):
    path = tmp_path / "f.flo"
    io.write_flo(path, np.ones((2, 2, 2)))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"f\.flo: "):
            io.read_flo(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match="take 44 bytes; the file has 45"):
        io.read_flo(path)


@pytest.mark.parametrize(
    "header",
    [
        flo.TAG + struct.pack("<ii", 40000, 25000),
        flo.TAG + struct.pack("<ii", 2**31 - 1, 2**31 - 1),
        flo.TAG + struct.pack("<ii", -1, -1),
        flo.TAG + struct.pack("<ii", 0, 5),
        struct.pack(">fii", 202021.25, 1, 1),
    ],
)
def test_a_lying_or_foreign_header_costs_no_memory(tmp_path, header):
    path = tmp_path / "f.flo"
    path.write_bytes(header + bytes(8))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"f\.flo: "):
        io.read_flo(path)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (0, 3, 2), (1, 2, 3, 2)], ids=str)
def test_refuses_what_is_no_flow(tmp_path, shape):
    with pytest.raises(ValueError, match="`flow` must have the shape"):
        io.write_flo(tmp_path / "f.flo", np.zeros(shape))
    assert not list(tmp_path.iterdir())


def test_refuses_a_mask_of_another_size(tmp_path):
    with pytest.raises(ValueError, match="`valid` must have the shape"):
        io.write_flo(tmp_path / "f.flo", np.zeros((2, 3, 2)), valid=np.ones((3, 2)))


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        io.read_flo(tmp_path / "none.flo")


def test_big_endian_numbers_are_refused_by_name(tmp_path):
    import struct

    data = struct.pack(">fii2f", 202021.25, 1, 1, 0, 0)
    (tmp_path / "f.flo").write_bytes(data)
    with pytest.raises(ValueError, match=r"f\.flo: .*big-endian"):
        io.read_flo(tmp_path / "f.flo")
