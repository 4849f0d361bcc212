"""Tests for jaxflow.cli.options."""

import dataclasses
from typing import Literal

import numpy as np
import pytest

from jaxflow import classical, io
from jaxflow.cli import options


@dataclasses.dataclass(frozen=True)
class Config:
    count: int = 1
    rate: float = 0.5
    flag: bool = False
    name: str = "x"
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1,)
    limit: int | None = None


KINDS = options.of_config(Config())


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("count=3", 3),
        ("rate=2", 2.0),
        ("rate=1e-3", 1e-3),
        ("flag=True", True),
        ("flag=false", False),
        ("name=5", "5"),
        ("name=a=b", "a=b"),
        ("kind=b", "b"),
        ("sizes=1,2", (1, 2)),
        ("sizes=[3]", (3,)),
        ("limit=None", None),
        ("limit=4", 4),
    ],
)
def test_a_value_is_read_by_its_type(word, value):
    (found,) = options.read([word], KINDS, "net").values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("count", "give NAME=VALUE"),
        ("count=abc", "--option count: must be a whole number; got 'abc'"),
        ("count=1.5", "must be a whole number"),
        ("count=True", "must be a whole number"),
        ("rate=inf", "must be a number"),
        ("rate=1e999", "must be a number"),
        ("flag=1", "must be True or False"),
        ("kind=c", "must be one of a, b"),
        ("sizes=1.5,2", "must be numbers such as"),
        ("limit=x", "must be a whole number or None"),
        ("iters=3", "net has no option 'iters'; there are count, flag, kind"),
    ],
)
def test_a_bad_option_is_named_with_those_there_are(word, message):
    with pytest.raises(ValueError, match=message):
        options.read([word], KINDS, "net")


def test_keywords_of_a_method_are_its_options_and_flow_comes_from_a_file(tmp_path):
    kinds = options.of_call(classical.METHODS["tvl1"])
    flow = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    io.write_flow(tmp_path / "a.flo", flow)
    np.save(tmp_path / "a.npy", flow)
    for name in ("a.flo", "a.npy"):
        found = options.read([f"initial_flow={tmp_path / name}"], kinds, "tvl1")
        np.testing.assert_array_equal(found["initial_flow"], flow)
    with pytest.raises(OSError):
        options.read(["initial_flow=none.flo"], kinds, "tvl1")
