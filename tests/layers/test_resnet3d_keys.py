"""Tests for jaxflow.layers.resnet3d_keys, by what the networks' authors get."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from jaxflow import convert
from tests import golden

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="module")
def made():
    sys.path.insert(0, str(FIXTURES))
    yield importlib.import_module("make_torchvision")
    sys.path.remove(str(FIXTURES))


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        pytest.param("resnet34", marks=pytest.mark.slow),
        "resnet50",
        pytest.param("resnet101", marks=pytest.mark.slow),
    ],
)
def test_image_networks_answer_as_torchvisions(made, name):
    with np.load(FIXTURES / "torchvision.npz") as file:
        shapes, expected = json.loads(str(file[f"{name}/keys"])), file[f"{name}/logits"]
    settings = {"num_classes": 7, "mean": made.MEAN, "std": made.STD}
    model = golden.blank(f"{name}_2d", **settings)
    convert.convert_state_dict(model, made.fill(shapes))
    clip = np.stack([made.frame()] * 2)[None]
    scores = golden.run(model, clip)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores[0], expected, rtol=1e-4, atol=1e-4)
