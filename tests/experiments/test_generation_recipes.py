"""The recipe of experiments/generation trains, stops, goes on, and tests itself."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxflow import convert
from jaxflow.models.generation import fdm
from tests.experiments import scripts


@pytest.fixture(scope="module")
def recipe():
    """Imports the recipe."""
    with scripts.imported("generation", "moving_shapes") as module:
        yield module


@pytest.fixture(autouse=True)
def tiny(monkeypatch, recipe):
    """Makes the network and the numbers of the test small."""
    config = scripts.TINY_FDM
    monkeypatch.setitem(fdm.VARIANTS, "flexible_16", config)
    # There is attention where frames are smallest: not 64x64, whose products are 3 GB.
    large = dataclasses.replace(
        config,
        model_channels=4,
        channel_mult=(1, 1, 1, 1),
        num_frames=20,
        image_size=64,
    )
    monkeypatch.setitem(fdm.VARIANTS, "flexible_64", large)
    monkeypatch.setattr(recipe, "SAMPLES", 2)
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)


def test_a_run_goes_on_where_it_was_and_tests_itself(recipe, tmp_path):
    numbers = {"steps": 4, "batch_size": 2, "save_every": 2, "clips": 2}
    numbers |= {"sampling_steps": 2, "rate": 1e-3}
    one = recipe.Args(workdir=tmp_path / "one", **numbers)
    recipe.main(one)
    rows = [json.loads(row) for row in open(tmp_path / "one" / "results.jsonl")]
    assert rows[0]["steps"] == 4
    for task in recipe.TASKS:
        row = rows[0][task]
        assert set(row) == {"single", "best", "of_mean", "shuffled", "copy", "blend"}
        assert np.isfinite(list(row.values())).all()
        # The mean of samples is never worse than they are on average.
        assert row["of_mean"] >= row["single"] and row["best"] >= row["single"] - 1e-6
    # A run that was stopped half way ends with the same weights.
    two = recipe.Args(workdir=tmp_path / "two", **numbers)
    keep = recipe.train.fit

    def stopped(*args, steps, **options):
        keep(*args, steps=2, **options)
        raise KeyboardInterrupt

    recipe.train.fit = stopped
    try:
        with pytest.raises(KeyboardInterrupt):
            recipe.main(two)
    finally:
        recipe.train.fit = keep
    recipe.main(two)
    first, second = (
        convert.read_checkpoint(tmp_path / name / "weights.safetensors")
        for name in ("one", "two")
    )
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


@pytest.mark.slow
def test_a_network_of_videos_starts_as_one_of_pictures(recipe, tmp_path, monkeypatch):
    numbers = {"steps": 0, "batch_size": 2, "clips": 2, "sampling_steps": 2}
    numbers |= {"pictures": 3, "save_every": 10, "rate": 1e-3}
    args = recipe.Args(workdir=tmp_path / "one", **numbers)
    model = recipe.build(args)
    recipe.start_from_pictures(model, args)
    pictures = recipe.build(args, attend_frames=False)
    again = recipe.dataclasses.replace(args, workdir=args.workdir / "pictures", steps=3)
    recipe.fit(pictures, again, batches_of=recipe.picture_batch)
    clip = jax.random.normal(jax.random.key(0), (2, 5, 16, 16, 1))
    time = jax.numpy.full(2, 500.0)
    alone = pictures(clip.reshape(10, 1, 16, 16, 1), jax.numpy.full(10, 500.0))
    together = model(clip, time)
    assert np.abs(together).max() > 0
    np.testing.assert_allclose(together.reshape(alone.shape), alone, atol=1e-5)


@pytest.mark.slow
def test_clips_and_frames_train_together(recipe, tmp_path):
    numbers = {"steps": 1, "batch_size": 2, "clips": 2, "sampling_steps": 2}
    recipe.main(recipe.Args(workdir=tmp_path, joint=0.5, **numbers))
    assert (tmp_path / "weights.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shapes3", "glyphs"])
def test_other_kinds_of_clips_bring_their_own_settings(recipe, tmp_path, kind):
    numbers = {"steps": 2, "batch_size": 2, "clips": 1, "sampling_steps": 1}
    args = recipe.Args(workdir=tmp_path, kind=kind, save_every=10, **numbers)
    assert args.model == ("flexible_64" if kind == "glyphs" else "flexible_16")
    assert (args.rate, args.steps) == (2e-4 if kind == "glyphs" else 2e-3, 2)
    recipe.main(args)
    (row,) = [json.loads(row) for row in (tmp_path / "results.jsonl").open()]
    for task in recipe.TASKS:
        assert np.isfinite(list(row[task].values())).all()
