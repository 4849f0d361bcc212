"""Tests for jaxflow.convert.advice: what an error says would fit."""

import numpy as np
import pytest

from jaxflow import convert, models
from jaxflow.convert import advice


def zeros(name):
    slots = convert.weight_slots(models.describe(name))
    return {path: np.zeros(s.variable.shape, np.float32) for path, s in slots.items()}


def test_the_variant_that_fits_is_named():
    state = {f"net.{path}": value for path, value in zeros("spynet_chairs").items()}
    with pytest.raises(ValueError) as error:
        convert.convert_state_dict(models.describe("spynet"), state)
    assert len(str(error.value)) < 400
    assert "10 missing: levels.5.convs.0.bias" in str(error.value)
    assert "It fits spynet_chairs" in str(error.value)


def test_the_model_that_fits_is_named_by_the_keys_of_its_authors():
    state = {
        f"module.moduleBasic.{level}.moduleBasic.{2 * index}.{leaf}": np.zeros(
            shape if leaf == "weight" else shape[:1], np.float32
        )
        for level in range(5)
        for index, shape in enumerate(
            [
                (32, 8, 7, 7),
                (64, 32, 7, 7),
                (32, 64, 7, 7),
                (16, 32, 7, 7),
                (2, 16, 7, 7),
            ]
        )
        for leaf in ("weight", "bias")
    }
    with pytest.raises(ValueError, match=r"50 unused.*It fits spynet_chairs$"):
        convert.convert_state_dict(models.describe("pwcnet"), state)


def test_the_message_of_a_large_misfit_is_short():
    model = models.describe("slowfast_4x16_r50")
    state = {f"s{i}.unknown{j}.w": np.zeros(1) for i in range(9) for j in range(60)}
    with pytest.raises(ValueError) as error:
        convert.convert_state_dict(model, state)
    assert len(str(error.value)) < 700
    assert "540 unused: s0.unknown0.w, s0.unknown1.w, s0.unknown2.w, ..." in str(
        error.value
    )


def test_few_variants_are_described_and_only_where_keys_are_known(monkeypatch):
    model, described = models.describe("slowfast_4x16_r50"), []
    describe, state = models.describe, zeros("slowfast_8x8_r50")
    monkeypatch.setattr(
        models, "describe", lambda n: described.append(n) or describe(n)
    )
    unknown = {f"s{i}.unknown{j}.w": np.zeros(1) for i in range(9) for j in range(60)}
    for budget, keys in ((9999, unknown), (0, state)):
        monkeypatch.setattr(advice, "_MOST_VARIABLES", budget)
        with pytest.raises(ValueError, match="does not fit slowfast") as error:
            convert.convert_state_dict(model, keys)
        assert "It fits" not in str(error.value)
    assert described == []
    monkeypatch.setattr(advice, "_MOST_VARIABLES", 552)
    with pytest.raises(ValueError, match=r"It fits slowfast_8x8_r50$"):
        convert.convert_state_dict(model, state)
    assert described == ["slowfast_8x8_r50"]


def test_a_model_that_is_told_no_classes_has_no_classifier():
    with pytest.raises(ValueError, match="does not fit fdm"):
        convert.convert_state_dict(models.describe("fdm_carla"), {"x": np.zeros(3)})
