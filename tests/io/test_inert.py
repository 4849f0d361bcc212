"""Tests for jaxflow.io.inert, on real pickles of what training scripts save."""

import argparse
import collections
import datetime
import functools
import io
import logging
import pathlib
import pickle
import random

import numpy as np
import pytest

from jaxflow.io import files, inert, state_files, torch_files


class Config(dict):
    """A configuration as omegaconf, yacs and easydict have it."""


class Meter:
    """Runs when it is loaded, if anybody lets it."""

    ran = False

    def __setstate__(self, state):
        Meter.ran = True

    def __reduce__(self):
        return make, (1,), {"total": 3}


def make(_):
    Meter.ran = True
    return Meter()


class Slotted:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 1


FOREIGN = {
    "namespace": argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=[1])),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "ordered": collections.OrderedDict(a=1),
    "counter": collections.Counter("abba"),
    "deque": collections.deque([1, 2]),
    "path": pathlib.PurePosixPath("/tmp/x"),
    "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "span": datetime.timedelta(3),
    "scalar": np.float64(0.5),
    "kind": np.float32,
    "buffer": io.StringIO("log"),
    "record": logging.LogRecord("n", 10, "p", 1, "m", (), None),
    "config": Config(a=Config(b=1)),
    "meter": Meter(),
    "slotted": Slotted(),
    "set": {1, 2},
    "frozen": frozenset([3]),
    "complex": 1j,
    "slice": slice(1, 2),
    "function": files.fault.__class__,
    "partial": functools.partial(max, 1),
    "random": random.Random(0),
    "state": np.random.default_rng(0),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", FOREIGN)
def test_weights_beside_foreign_objects_are_read_and_nothing_runs(
    tmp_path, name, protocol
):
    Meter.ran = False
    saved = {"args": FOREIGN[name], "state_dict": {"w": np.arange(3.0)}}
    path = tmp_path / "w.pkl"
    try:
        content = pickle.dumps(saved, protocol)
    except (TypeError, pickle.PicklingError):
        pytest.skip("this protocol cannot write it")
    path.write_bytes(content)
    Meter.ran = False
    arrays, _ = state_files.read(path)
    np.testing.assert_array_equal(arrays["w"], np.arange(3.0))
    assert not Meter.ran
    loaded = torch_files.read_torch(path)["args"]
    assert not isinstance(loaded, (Meter, argparse.Namespace, io.StringIO))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "table",
    [
        Config(w=np.ones(2)),
        collections.defaultdict(None, {"w": np.ones(2)}),
        collections.OrderedDict(w=np.ones(2)),
    ],
    ids=lambda table: type(table).__name__,
)
def test_weights_in_a_table_of_another_kind_are_read(tmp_path, table, protocol):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"state_dict": table}, protocol))
    np.testing.assert_array_equal(state_files.read(path)[0]["w"], np.ones(2))


def test_a_lambda_by_reference_is_only_a_name(tmp_path):
    path = tmp_path / "w.pkl"
    content = (
        b"\x80\x02}(X\x01\x00\x00\x00fc__main__\n<lambda>\nX\x01\x00\x00\x00gK\x01u."
    )
    path.write_bytes(content)
    assert repr(torch_files.read_torch(path)["f"]) == "<__main__.<lambda>, not loaded>"


def test_names_of_attacks_are_told_from_names_of_options():
    for module, name in (
        *(("os", "system"), ("posix", "popen"), ("builtins", "eval")),
        *(("__builtin__", "exec"), ("subprocess", "Popen"), ("os.path", "join")),
    ):
        assert inert.is_alarming(module, name)
    for module, name in (
        *(("argparse", "Namespace"), ("builtins", "set"), ("omegaconf", "DictConfig")),
        *(("yacs.config", "CfgNode"), ("oscillator", "Wave"), ("torch", "device")),
    ):
        assert not inert.is_alarming(module, name)
