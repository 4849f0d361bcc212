"""Tests for jaxflow.cli.estimators."""

import argparse

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxflow import checkpoint, convert, models
from jaxflow.cli import estimators
from jaxflow.models.flow import pwcnet


def test_a_classical_method_is_its_name_and_has_no_weights():
    found = estimators.load("tvl1", None, ["warps=2", "tolerance=1"])
    assert found == ("tvl1", {"warps": 2, "tolerance": 1.0})
    with pytest.raises(ValueError, match="has none"):
        estimators.load("tvl1", ["x.pth"])


def test_options_of_a_network_are_of_its_config_or_of_its_call():
    convert.save_weights(models.create_model("raft_small"), "raft.safetensors")
    words = ["correlation=on_demand", "iterations=3"]
    model, options = estimators.load("raft_small", ["raft.safetensors"], words)
    assert options == {"iterations": 3}
    assert model.config.correlation == "on_demand"
    expected = models.create_model("raft_small").fnet.conv1.kernel[...]
    np.testing.assert_array_equal(model.fnet.conv1.kernel[...], expected)


def test_weights_of_a_run_say_which_network_they_are_of():
    checkpoint.save("run", pwcnet.Model(pwcnet.TINY, rngs=nnx.Rngs(0)))
    for name in (None, "pwcnet"):
        model, options = estimators.load(name, ["run"])
        assert model.config == pwcnet.TINY and options == {}
    assert estimators.named(None, ["pwcnet/chairs"]) == ("pwcnet", ["pwcnet/chairs"])
    with pytest.raises(ValueError, match="--model: name one"):
        estimators.named(None, [])
    safetensors.numpy.save_file({"a": np.ones(3)}, "foreign.safetensors")
    with pytest.raises(ValueError, match=r"--model: foreign.* does not say which"):
        estimators.load(None, ["foreign.safetensors"])


def test_tiles_overlap_by_a_quarter_and_by_64_at_most():
    for tile, overlap in ((64, 16), (1024, 64)):
        given = argparse.Namespace(tile=tile, precision="high")
        found = estimators.keywords(given)
        assert found == {"tile": tile, "overlap": overlap, "precision": "high"}
    whole = estimators.keywords(argparse.Namespace(tile=None, precision="highest"))
    assert whole == {"precision": "highest"}
