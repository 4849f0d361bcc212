"""Tests for jaxflow.cli.common."""

import argparse

import numpy as np
import pytest

from jaxflow.cli import common


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_a_number_above_0_is_one(text):
    assert common.positive("0.5") == 0.5 and common.whole("3") == 3
    for read in (common.positive, common.whole):
        with pytest.raises(argparse.ArgumentTypeError, match=r"above 0; got"):
            read(text)


def test_options_are_read_as_python_writes_them():
    words = ["a=1", "b=0.5", "c=(1, 2)", "d=word", "e=True", "f=x=y"]
    found = common.parse_options(argparse.Namespace(option=words))
    values = {"a": 1, "b": 0.5, "c": (1, 2), "d": "word", "e": True, "f": "x=y"}
    assert found == values


def test_pictures_of_16_bits_become_float():
    wide = np.array([0, 65535], np.uint16)
    np.testing.assert_array_equal(common.uint8_or_float(wide), [0, 1])
    assert common.uint8_or_float(np.zeros(3, np.uint8)).dtype == np.uint8


def test_an_error_is_one_line():
    assert common.one_line(ValueError("a\n  b")) == "a b"
    assert common.one_line(FileNotFoundError(2, "No such file", "x")) == (
        "x: No such file"
    )
    assert common.one_line(ValueError()) == "ValueError"
