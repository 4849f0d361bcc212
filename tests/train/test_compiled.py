"""Tests for jaxflow.train.compiled."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import mesh as meshes
from jaxflow import train
from tests.train.problem import (
    OPTIMISER,
    Batches,
    Net,
    assert_same,
    draw,
    leaves,
    loss,
    setup,
)


@pytest.mark.parametrize("draw", [None, draw], ids=["given", "drawn"])
def test_eight_devices_take_the_same_step_as_one(draw):
    results = []
    for devices in (1, 8):
        _, step, state = setup(draw, devices)
        batches = None if draw else Batches()
        results.append(train.fit(step, state, batches, steps=1, progress=False))
    # Sums over the batch are taken in another order; one AdamW step at 1e-2.
    assert_same(*results, rtol=0, atol=1e-5)


def test_augmentation_runs_inside_the_step_and_differs_from_step_to_step():
    seen = []

    def augment(key, batch):
        jax.debug.callback(lambda x: seen.append(float(x)), jax.random.uniform(key))
        return {name: -array for name, array in batch.items()}

    results = []
    for function, sign in ((augment, -1), (None, 1)):
        model = Net(rngs=nnx.Rngs(0))
        mesh = train.data_mesh(jax.devices()[:1])
        step = train.make_step(model, loss, OPTIMISER, augment=function, mesh=mesh)
        batches = [
            {name: sign * array for name, array in next(given).items()}
            for given in [Batches()]
            for _ in range(2)
        ]
        state = train.init(model, OPTIMISER, seed=1)
        results.append(train.fit(step, state, iter(batches), steps=2, progress=False))
    assert_same(*results)
    jax.effects_barrier()
    assert len(set(seen)) == 2


def test_the_state_is_donated():
    _, step, state = setup(draw)
    after, _ = step.run(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert math.isfinite(float(jax.tree.leaves(after.params)[0].sum()))


def test_a_scalar_in_a_batch_is_refused():
    _, step, state = setup()
    with pytest.raises(ValueError, match="must have a first axis"):
        train.fit(step, state, iter([{"x": np.float32(1)}]), steps=1, progress=False)


def losses_and_state(**options):
    """Twenty steps; with Adam's moments, which show any error of a gradient."""
    model = Net(rngs=nnx.Rngs(0))
    step = train.make_step(model, tall_loss, OPTIMISER, **options)
    state = meshes.place(train.init(model, OPTIMISER, seed=1), step.shardings)
    batches, losses = TallBatches(), []
    for _ in range(20):
        state, metrics = step.run(state, train.shard(next(batches), step.mesh))
        losses.append(float(metrics["loss"]))
    return losses, state


class TallBatches(Batches):
    """Pictures whose height divides over four devices."""

    def __next__(self):
        rng = np.random.default_rng(self.count)
        self.count += 1
        x = rng.normal(size=(8, 8, 6, 3)).astype(np.float32)
        return {"x": x, "y": x[..., :2] * 2, "scale": np.ones(8, np.float32)}


def tall_loss(model, batch):
    error = model(batch["x"]) - batch["y"]
    return jnp.mean(batch["scale"][:, None, None, None] * error**2)


@pytest.fixture(scope="module")
def one_device():
    return losses_and_state(mesh=train.data_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
    "options",
    [
        {"mesh": {}},
        pytest.param({"mesh": {"height": 4}}, marks=pytest.mark.slow),
        pytest.param(
            {"mesh": {"devices": 4}, "shard_params": True}, marks=pytest.mark.slow
        ),
        {"mesh": {"height": 2}, "shard_params": True},
    ],
    ids=["8 of data", "2 x 4 data x height", "weights over 4", "both over 4 x 2"],
)
def test_twenty_steps_on_a_mesh_are_those_of_one_device(one_device, options):
    mesh = dict(options["mesh"])
    devices = jax.devices()[: mesh.pop("devices", 8)]
    mesh = train.data_mesh(devices, **mesh)
    losses, state = losses_and_state(**{**options, "mesh": mesh})
    np.testing.assert_allclose(losses, one_device[0], rtol=0, atol=1e-4)
    # Sums are taken in another order; twenty AdamW steps at 1e-2.
    for x, y in zip(*map(leaves, (state, one_device[1])), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
    if "shard_params" in options:
        kernel = state.params["blocks"][0]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 4
        moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 4]
        assert len(moments) == 4
        assert not any(moment.is_fully_replicated for moment in moments)


def test_sharded_weights_are_saved_resumed_and_finished(tmp_path):
    def run(folder, steps, **options):
        model = Net(rngs=nnx.Rngs(0))
        step = train.make_step(model, tall_loss, OPTIMISER, **options)
        state = train.init(model, OPTIMISER, seed=1)
        fit = {"workdir": folder, "steps": steps, "progress": False}
        return model, train.fit(step, state, TallBatches(), **fit)

    four = {"mesh": train.data_mesh(jax.devices()[:4]), "shard_params": True}
    run(tmp_path / "parts", 3, **four)
    model, parts = run(tmp_path / "parts", 5, mesh=train.data_mesh(height=2))
    _, whole = run(tmp_path / "whole", 5, **four)
    assert_same(parts, whole, rtol=0, atol=1e-5)
    train.finish(model, whole)
    np.testing.assert_array_equal(
        model.blocks[0].kernel[...], whole.params["blocks"][0]["kernel"]
    )
    assert np.isfinite(jax.jit(model)(jnp.ones((1, 4, 4, 3)))).all()


def test_a_mesh_with_foreign_axes_is_refused():
    devices = np.array(jax.devices()).reshape(2, 4)
    with pytest.raises(ValueError, match="`mesh` must have the axis 'data'"):
        setup_on(jax.sharding.Mesh(devices, ("data", "model")))
    _, step, state = setup_on(train.data_mesh(height=4))
    with pytest.raises(ValueError, match="a height of 6 does not divide over 4"):
        train.fit(step, state, Batches(), steps=1, progress=False)


def setup_on(mesh):
    model = Net(rngs=nnx.Rngs(0))
    step = train.make_step(model, loss, OPTIMISER, mesh=mesh)
    return model, step, train.init(model, OPTIMISER, seed=1)


def test_a_mesh_takes_as_many_devices_as_a_batch_divides_over():
    sizes = {n: train.data_mesh(batch_size=n).size for n in (10, 4, 1, 30, 16)}
    assert sizes == {10: 5, 4: 4, 1: 1, 30: 6, 16: 8}
