"""Tests for jaxflow.cli.common."""

import argparse
import os
import sys

import numpy as np
import pytest

from jaxflow.cli import common


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_a_number_above_0_is_one(text):
    assert common.positive("0.5") == 0.5 and common.whole("3") == 3
    for read in (common.positive, common.whole):
        with pytest.raises(argparse.ArgumentTypeError, match=r"above 0; got"):
            read(text)


def test_a_rate_is_one_that_a_video_can_have():
    assert common.rate("0.5") == 0.5
    for text in ("0.0001", "1e4", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be"):
            common.rate(text)


def test_results_have_the_digits_of_float32(capsys):
    score = float(np.float32(0.235))
    common.print_json({"a": [score, 0.1 + 0.2], "b": {"c": np.float32(1 / 3)}, "n": 7})
    found = "".join(capsys.readouterr().out.split())
    assert found == '{"a":[0.235,0.3],"b":{"c":0.33333334},"n":7}'
    rest = [1e300, "0.1", None, True]
    assert common.shortened(rest) == rest
    assert np.isnan(common.shortened(float("nan")))
    rng = np.random.default_rng(0)
    for value in rng.normal(size=1000).astype(np.float32):
        assert np.float32(common.shortened(float(value))) == value


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(common, "SECONDS_A_LINE", 0)
    assert list(common.progress("ab", "pair", total=2, about="x")) == ["a", "b"]
    assert capsys.readouterr().err == "x: pair 1/2\nx: pair 2/2\n"
    assert list(common.progress("ab", "pair", quiet=True)) == ["a", "b"]
    monkeypatch.setattr(common, "SECONDS_A_LINE", 30)
    assert list(common.progress("ab", "pair")) == ["a", "b"]
    assert capsys.readouterr().err == ""


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


def test_a_seed_is_a_whole_number_of_32_bits():
    assert common.seed("0") == 0 and common.seed("4294967295") == 2**32 - 1
    for text in ("-1", "4294967296", "1.5", "one", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 4294967295"):
            common.seed(text)


@pytest.mark.parametrize("text", ["x", "x" * 100_000])
@pytest.mark.parametrize("ends", [False, True])
def test_what_nobody_reads_ends_without_a_word(monkeypatch, text, ends):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out, pytest.raises(SystemExit) as stop:
        monkeypatch.setattr(sys, "stdout", out)
        with common.quiet_if_unread():
            print(text)
            if ends:
                sys.exit(0)
    assert stop.value.code == common.UNREAD
