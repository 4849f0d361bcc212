"""Tests for jaxflow.io.state_files."""

import json
import pathlib
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from jaxflow.io import state_files
from tests.io import test_torch7

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


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


def originals(folder):
    """Returns small checkpoints of every format, by file name."""
    rng = np.random.default_rng(0)
    arrays = {
        "a.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "a.bias": rng.normal(size=3).astype(np.float32),
    }
    layer = {
        "__class__": "nn.Linear",
        "weight": arrays["a.weight"],
        "iSize": np.ones(2),
    }
    network = {"__class__": "nn.Sequential", "modules": {1: layer}}
    test_torch7.Writer().write(network).save(folder / "net.t7")
    safetensors.numpy.save_file(arrays, folder / "net.safetensors", {"model": "m"})
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found |= {f"{p}.pkl": pickle.dumps({"blobs": arrays}, p) for p in range(6)}
    found["net.msgpack"] = serialization.msgpack_serialize({"a": arrays})
    for name in ("zip.pth", "legacy.pth.tar"):
        found[name] = (FIXTURES / name).read_bytes()
    return found


def mutated(content, rng):
    """Returns a file with one to three kinds of damage."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place, kind = int(rng.integers(len(content) + 1)), rng.integers(4)
        if kind == 0:
            content[place : place + 1] = rng.bytes(1)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            del content[place : place + int(rng.integers(1, 9))]
        else:
            marks = (b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\0\0\0\x80")
            content[place : place + 4] = marks[rng.integers(4)]
    return bytes(content)


def test_damaged_files_are_one_line_that_names_them(tmp_path):
    rng = np.random.default_rng(5)
    (tmp_path / "whole").mkdir()
    for name, content in originals(tmp_path / "whole").items():
        path = tmp_path / name
        for _ in range(80):
            path.write_bytes(mutated(content, rng))
            try:
                state_files.read(path)
            except (OSError, ValueError) as error:
                assert name in str(error)
                assert "\n" not in str(error)
                assert len(str(error)) < 700


def test_reads_lists_of_weights_optimiser_numbers_and_averages(tmp_path):
    weights = {"module.a": np.ones(2), "module.b": np.zeros(3)}
    averages = {"a": np.full(2, 5.0)}
    optimiser = {"state": {"0": np.ones(7)}}
    lists = {
        "plain": ([weights, optimiser, 3, 40], 1.0),
        "averaged": ([weights, optimiser, 3, 40, averages], 5.0),
        "other_table_last": ([weights, optimiser], 1.0),
    }
    for name, (saved, value) in lists.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(saved))
        arrays, _ = state_files.read(path)
        assert arrays.keys() == {"a", "b"}
        np.testing.assert_array_equal(arrays["a"], np.full(2, value))
    path = tmp_path / "numbers.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="not a state dict"):
        state_files.read(path)
