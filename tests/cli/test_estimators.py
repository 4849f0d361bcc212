"""Tests for jaxflow.cli.estimators."""

import argparse

import pytest

from jaxflow.cli import estimators


def test_a_classical_method_is_its_name_and_has_no_weights():
    assert estimators.load("tvl1", None) == "tvl1"
    with pytest.raises(ValueError, match="has none"):
        estimators.load("tvl1", ["x.pth"])


def test_tiles_overlap_by_a_quarter_and_by_64_at_most():
    for tile, overlap in ((64, 16), (1024, 64)):
        args = argparse.Namespace(tile=tile, option=[])
        assert estimators.keywords(args)["overlap"] == overlap
    assert "overlap" not in estimators.keywords(
        argparse.Namespace(tile=None, option=[])
    )
