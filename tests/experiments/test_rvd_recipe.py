"""The recipe that compares RVD's two targets trains, and tests itself."""

import json

import jax
import numpy as np
import pytest

from jaxflow import convert
from tests.experiments import scripts


@pytest.fixture(scope="module")
def recipe():
    """Imports the recipe."""
    with scripts.imported("generation", "rvd") as module:
        yield module


@pytest.mark.slow
@pytest.mark.parametrize("target", ["residual", "frame"])
def test_trains_and_tests_itself(recipe, tmp_path, monkeypatch, target):
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)
    monkeypatch.setattr(recipe, "SAMPLES", 2)
    numbers = {"steps": 2, "batch_size": 2, "save_every": 2, "clips": 2}
    numbers |= {"sampling_steps": 2, "width": 8}
    args = recipe.Args(workdir=tmp_path, target=target, **numbers)
    recipe.main(args)
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert row["target"] == target and row["steps"] == 2
    scores = [row[name] for name in ("single", "best", "of_mean", "copy")]
    assert np.isfinite(scores).all()
    # The mean of samples is never worse than they are on average.
    assert row["of_mean"] >= row["single"] and row["best"] >= row["single"] - 1e-6
    weights = convert.read_checkpoint(tmp_path / "weights.safetensors")
    assert any(key.startswith("transform.") for key in weights) == (
        target == "residual"
    )
