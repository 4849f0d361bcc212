"""Tests for jaxflow.spec.records."""

import dataclasses

import pytest

from jaxflow import spec

FRAMES = spec.Frames(multiple=16, minimum=(32, 48))


def test_descriptions_are_values():
    assert spec.Frames() == spec.Frames(multiple=64)
    assert hash(FRAMES) == hash(spec.Frames(multiple=16, minimum=(32, 48)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRAMES.multiple = 8
    weights = spec.Weights(file="f", source="s", licence="l", dialect="d", num_params=1)
    assert weights.metrics == {} and weights.colour == "rgb"


def test_weights_of_mmflow_say_where_they_are():
    found = spec.mmflow_weights("raft", "raft_8x2.pth", num_params=1)
    assert found.url == "https://download.openmmlab.com/mmflow/raft/raft_8x2.pth"
    assert (found.dialect, found.colour) == ("mmflow", "bgr")


def test_a_model_without_a_record_has_an_empty_one():
    assert spec.record_of(object()) == spec.Record()
    described = type("Described", (), {"record": spec.Record(optional=("a",))})
    assert spec.record_of(described()).optional == ("a",)
