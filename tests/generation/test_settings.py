"""Tests for jaxflow.generation.settings."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from jaxflow import generation
from jaxflow.generation import settings
from jaxflow.models.generation import unet3d
from tests.generation.network import QUICK, make


@pytest.fixture(scope="module")
def unconditional():
    """A network that takes no observed frames."""
    config = dataclasses.replace(unet3d.TINY, channels=1, cond_dim=None)
    return unet3d.Model(config, rngs=nnx.Rngs(0))


def test_the_settings_of_a_network_are_those_that_it_was_trained_for(
    model, extending, unconditional
):
    def default(network, conditional):
        return generation.default_settings(network, conditional=conditional)

    assert default(model, True) == default(model, False) == generation.Settings()
    assert default(extending, True).sampler == "ddpm"
    assert default(unconditional, True).conditioning == "reconstruction"
    assert default(unconditional, False).conditioning == "network"


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"sampler": "euler"}, "sampler"),
        ({"conditioning": "hope"}, "conditioning"),
        ({"noise": 2.0}, "noise"),
        ({"scale": np.inf}, "scale"),
        ({"weight": np.nan}, "finite"),
    ],
)
def test_settings_out_of_range_are_refused(model, changed, match):
    with pytest.raises(ValueError, match=match):
        settings.check_settings(model, QUICK._replace(**changed), False)


def test_a_class_is_one_of_the_networks(model):
    assert settings.check_condition(model, np.asarray(2)).tolist() == [2]
    for condition in (3, -2, 0.5, [1]):
        with pytest.raises(ValueError, match="from 0 to 2"):
            settings.check_condition(model, np.asarray(condition))


def test_a_model_without_a_process_needs_one(monkeypatch, unconditional):
    monkeypatch.delattr(unet3d.Model, "process")
    with pytest.raises(ValueError, match="process"):
        make(unconditional)
