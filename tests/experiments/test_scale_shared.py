"""Tests for the recipe of the networks that come with the package."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxflow
from jaxflow import ops, spec
from jaxflow.models.flow import scale_shared as network

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "flow"


@pytest.fixture
def recipe(monkeypatch):
    """The recipe, imported as its own folder sees it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("scale_shared", "recipe"):  # another folder has one of that name
        monkeypatch.delitem(sys.modules, name, raising=False)
    import scale_shared

    return scale_shared


@pytest.mark.slow
def test_a_drawn_batch_shows_each_scene_both_ways(recipe, rng):
    bank = jnp.asarray(rng.integers(0, 256, (2, 16, 16, 3)), jnp.uint8)
    draw = jax.jit(
        lambda key: recipe.draw(key, bank=bank, scenes=2, size=(64, 64), noise=0.0)
    )
    batch = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    assert batch["image1"].shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(batch["image1"][:2], batch["image2"][2:])
    np.testing.assert_array_equal(batch["image2"][:2], batch["image1"][2:])
    # The flow of each pair explains its frames better than no motion does.
    warped = ops.backward_warp(batch["image2"], batch["flow"], padding="border")
    moved = np.abs(np.asarray(warped) - batch["image1"]).mean()
    assert moved < np.abs(batch["image2"] - batch["image1"]).mean()


def test_the_loss_of_the_true_flow_is_the_least(recipe, rng):
    target = jnp.asarray(rng.normal(size=(1, 16, 16, 2)), jnp.float32)
    coarse = ops.avg_pool(target, 4, strides=4) / 4

    def loss_of(fine, coarse):
        batch = {"image1": None, "image2": None, "flow": target}
        return recipe.loss(lambda a, b: spec.Flow(fine, (coarse, fine)), batch)

    right, extra = loss_of(target, coarse)
    # At no error a term is (1e-4)^0.4, and the coarse one has the weight 0.4.
    np.testing.assert_allclose(right, 1.4 * 1e-4**0.4, rtol=1e-3)
    assert extra["epe"] == 0
    assert loss_of(target + 1, coarse)[0] > right + 0.9
    assert loss_of(target, coarse + 1)[0] > right + 0.4


def test_only_the_refinement_learns_when_the_network_is_given(recipe):
    model = network.Model(network.TINY, rngs=nnx.Rngs(0))
    params = jaxflow.checkpoint.weights_of(model)["params"]
    optimiser = recipe.only_refinement(optax.sgd(1.0))
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimiser.update(ones, optimiser.init(params), params)
    changed = {
        part
        for part, tree in updates.items()
        if any(x.any() for x in jax.tree.leaves(tree))
    }
    assert changed == {"refinement"}


@pytest.mark.slow
def test_the_recipe_runs_stops_and_goes_on(recipe, tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    args = recipe.Args(
        workdir=str(tmp_path), steps=2, scenes=1, sizes=((64, 64),), pictures=12,
        save_every=1,
    )  # fmt: skip
    fit = recipe.train.fit

    def stopped(*given, **options):
        fit(*given, **options | {"steps": 1})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe.train, "fit", stopped)
        recipe.main(args)
    result = recipe.main(args)
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2]
    assert np.isfinite(result["held_out_epe"])
    assert (tmp_path / "jaxflow_fast.safetensors").is_file()
