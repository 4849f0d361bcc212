"""The recipe that compares schedules of long videos makes, keeps and measures them."""

import json

import numpy as np
import pytest

from jaxflow import convert, models
from jaxflow.models.generation import fdm
from tests.experiments import scripts


@pytest.fixture(scope="module")
def recipe():
    """Imports the recipe."""
    with scripts.imported("generation", "long_video") as module:
        yield module


@pytest.fixture
def args(recipe, tmp_path, monkeypatch):
    """A run of a tiny network, and the numbers of the test."""
    config = scripts.TINY_FDM
    monkeypatch.setitem(fdm.VARIANTS, "flexible_16", config)
    run = tmp_path / "run"
    run.mkdir()
    convert.save_weights(
        models.create_model("flexible_16"), run / "weights.safetensors"
    )
    numbers = {"length": 25, "videos": 2, "true": 8, "sampling_steps": 1}
    return recipe.Args(runs=(run,), workdir=tmp_path / "long", **numbers)


@pytest.mark.slow
def test_drift_is_measured_frame_by_frame(recipe, args, monkeypatch):
    recipe.main(args)
    rows = [json.loads(row) for row in (args.workdir / "drift.jsonl").open()]
    schemes = ["autoreg", "hierarchy-2", "copy", "true"]
    assert [row["scheme"] for row in rows] == schemes
    for row in rows:
        # Of 25 frames 3 are given; 22 pairs make three windows.
        assert len(row["psnr"]) == 22 and len(row["frechet"]) == 3
        assert np.isfinite([*row["psnr"], *row["frechet"]]).all()
    # What was made is kept, and not made again.
    monkeypatch.setattr(recipe.long_video, "fill", None)
    recipe.main(args)
    assert [json.loads(row) for row in (args.workdir / "drift.jsonl").open()] == rows
    other = recipe.dataclasses.replace(args, length=30)
    with pytest.raises(SystemExit, match="another --workdir"):
        recipe.main(other)


def test_true_videos_are_nearer_to_true_ones_than_still_ones(recipe, args):
    """Sixty true videos of the last two windows, sixty others, and sixty still ones."""
    true, others = (recipe.true_videos(args, seed, 60) for seed in (1, 2))
    axes = recipe.components(true)
    # The components are orthonormal, and those of the most variance.
    np.testing.assert_allclose(axes.T @ axes, np.eye(recipe.COMPONENTS), atol=1e-9)
    reference = recipe.gather(true, axes)
    assert [each.examples for each in reference] == [600, 600, 120]
    still = np.broadcast_to(others[:, :1], others.shape)
    near, far = (
        recipe.measure(videos, others, axes, reference)["frechet"]
        for videos in (others, still)
    )
    assert np.all(np.array(near[:2]) < np.array(far[:2]))
