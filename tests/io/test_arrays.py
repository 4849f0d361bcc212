"""Tests for jaxflow.io.arrays."""

import builtins
import io as std_io
import zipfile

import numpy as np
import pytest

from jaxflow import io


@pytest.fixture
def flow(rng):
    return rng.normal(size=(4, 5, 2)).astype(np.float32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_has_a_flow_and_perhaps_a_mask(tmp_path, flow, save):
    valid = flow[..., 0] > 0
    save(tmp_path / "f.npz", flow=flow.astype(np.float64), valid=valid, more=np.ones(3))
    read, known = io.read_flow(tmp_path / "f.npz")
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read, np.where(valid[..., None], flow, 0))
    save(tmp_path / "f.npz", flow)
    read, known = io.read_flow(tmp_path / "f.npz")
    assert known.all() and read.dtype == np.float32
    np.testing.assert_array_equal(read, flow)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_is_a_flow_whose_nan_is_unknown(tmp_path, flow, order):
    flow[1, 2] = np.nan
    np.save(tmp_path / "f.npy", np.asarray(flow, order=order))
    read, known = io.read_flow(tmp_path / "f.npy")
    assert (~known).sum() == 1 and not known[1, 2]
    np.testing.assert_array_equal(read, np.nan_to_num(flow))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 2, 2)), "b": np.zeros((2, 2, 2))}, 'no array "flow"'),
        ({"flow": np.zeros((2, 3, 4))}, r"\(H, W, 2\)"),
        ({"flow": np.zeros((2, 2, 2), int)}, "floats"),
        ({"flow": np.array([None])}, "not numbers"),
        ({"flow": np.zeros((2, 2, 2)), "valid": np.zeros(3)}, '"valid" is'),
    ],
)
def test_arrays_that_are_no_flow_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ValueError, match=rf"f\.npz: .*{message}"):
        io.read_flow(tmp_path / "f.npz")


def header(shape):
    """An array's file whose header claims `shape`, and which holds nothing."""
    buffer = std_io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_a_header_that_claims_more_than_there_is_costs_no_memory(tmp_path):
    (tmp_path / "f.npy").write_bytes(header((10**6, 10**6, 2)))
    with pytest.raises(ValueError, match=r"f\.npy: .*claims the shape"):
        io.read_flow(tmp_path / "f.npy")
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("flow.npy", header((10**6, 10**6, 2)))
    with pytest.raises(ValueError, match=r"f\.npz: .*claims the shape"):
        io.read_flow(tmp_path / "f.npz")


@pytest.mark.parametrize("name", ["f.npz", "f.npy"])
def test_every_truncation_is_one_error(tmp_path, flow, name):
    path = tmp_path / name
    np.savez(path, flow=flow) if name == "f.npz" else np.save(path, flow)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError) as caught:
            io.read_flow(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_flo5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_h5py(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    (tmp_path / "f.flo5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setattr(builtins, "__import__", no_h5py)
    with pytest.raises(ImportError, match=r"f\.flo5: .*pip install h5py"):
        io.read_flow(tmp_path / "f.flo5")


def test_flo5_is_the_array_flow_of_an_hdf5_file(tmp_path, flow):
    h5py = pytest.importorskip("h5py")
    flow[0, 0] = np.nan
    with h5py.File(tmp_path / "f.flo5", "w") as file:
        file.create_dataset("flow", data=flow, compression="gzip")
    read, known = io.read_flow(tmp_path / "f.flo5")
    assert (~known).sum() == 1
    np.testing.assert_array_equal(read, np.nan_to_num(flow))
    data = (tmp_path / "f.flo5").read_bytes()
    (tmp_path / "f.flo5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"f\.flo5: "):
        io.read_flow(tmp_path / "f.flo5")


def test_flo5_that_is_none_is_refused(tmp_path):
    (tmp_path / "f.flo5").write_bytes(b"PIEH" + bytes(100))
    with pytest.raises(ValueError, match=r"f\.flo5: .*HDF5"):
        io.read_flow(tmp_path / "f.flo5")
