"""Tests for jaxflow.spec.configs."""

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest

from jaxflow import spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    kind: Literal["a", "b"] = "a"
    count: int = 1
    spare: spec.Count = 0
    rate: spec.Share = 0.0
    mean: tuple[spec.Number, spec.Number] | None = None
    windows: tuple[tuple[int, ...], ...] = ((1, 3), ())
    flag: bool = False

    def __post_init__(self):
        spec.check_config(self)


def test_a_config_of_allowed_values_passes():
    Settings()
    Settings(kind="b", count=np.int64(3), spare=2, rate=0.5, mean=(0, -1.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "c"}, "`kind` must be one of 'a', 'b'; got 'c'"),
        ({"count": 0}, "`count` must be a positive integer; got 0"),
        ({"count": 1.5}, "positive integer; got 1.5"),
        ({"count": True}, "positive integer; got True"),
        ({"spare": -1}, "`spare` must be an integer at least 0"),
        ({"rate": 1.0}, r"`rate` must be a number in \[0, 1\)"),
        ({"mean": (0.0,)}, "a tuple of 2, each item a finite number or None"),
        ({"mean": (0.0, math.nan)}, "finite number"),
        ({"windows": [[1]]}, "`windows` must be a tuple"),
        ({"windows": ((0,),)}, "each item a tuple, each item a positive integer"),
        ({"flag": 1}, "`flag` must be True or False"),
    ],
    ids=str,
)
def test_a_bad_config_value_names_the_field_and_what_it_may_be(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)
