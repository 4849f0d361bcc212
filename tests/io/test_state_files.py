"""Tests for jaxflow.io.state_files."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from jaxflow.io import state_files


def test_reads_bfloat16_safetensors(tmp_path):
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    header = {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "b.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())
    np.testing.assert_array_equal(
        state_files.read(path)[0]["w"].astype(np.float32), [1.5, -2.0]
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("junk.safetensors", b"\xff" * 40),
        ("lying.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        ("junk.msgpack", b"\xc1\xc1"),
        ("junk.t7", b"\x09\0\0\0"),
        ("junk.pth", b"no"),
        ("number.msgpack", serialization.msgpack_serialize(3)),
        ("empty.msgpack", serialization.msgpack_serialize({"epoch": 1})),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as error:
        state_files.read(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.pth", "x.t7", "x.safetensors", "x.msgpack"])
def test_an_absent_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        state_files.read(tmp_path / name)


def test_leaves_out_optimisers_scalars_and_what_is_no_array(tmp_path):
    moments = {"state": {"0": {"exp_avg": np.ones(3)}}, "param_groups": {"0": {}}}
    saved = {
        "net": {"conv": {"weight": np.ones(2)}},
        "optimizer": moments,
        "best": np.float64(0.5),
        "epoch": 7,
    }
    path = tmp_path / "run.msgpack"
    path.write_bytes(serialization.msgpack_serialize(saved))
    arrays, record = state_files.read(path)
    assert list(arrays) == ["net.conv.weight"]
    assert record == {}


def test_a_record_is_read_only_if_it_is_one(tmp_path):
    path = tmp_path / "w.safetensors"
    arrays = {"w": np.ones(2, np.float32)}
    for metadata, expected in (
        ({"format": "pt"}, {}),
        ({"model": "m"}, {}),
        (
            {"model": "m", "config": '{"a": [1]}', "variant": "v"},
            {"model": "m", "config": {"a": [1]}, "variant": "v"},
        ),
    ):
        safetensors.numpy.save_file(arrays, path, metadata=metadata)
        assert state_files.read(path)[1] == expected
