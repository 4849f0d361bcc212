"""Tests for jaxflow.train.step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxflow import train
from tests.train.problem import Batches, assert_same, plain_step, rows


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_large_batch(devices, parts):
    found = []
    for accumulate in (1, parts):
        sgd = optax.sgd(1.0)
        _, step, state = plain_step(
            optimiser=sgd, devices=devices, accumulate=accumulate
        )
        batch = train.shard(next(Batches(batch_size=8)), step.mesh)
        found.append(step.run(state, batch))
    (large, one), (summed, several) = found
    assert_same(large, summed, rtol=0, atol=1e-6)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(one[name], several[name], rtol=1e-6)


def test_batch_norm_sees_each_part_after_the_other():
    def normed(model, batch):
        return jnp.mean(model(batch["x"], normalise=True) ** 2)

    _, step, state = plain_step(normed, accumulate=4)
    batch = next(Batches(batch_size=8))
    after, _ = step.run(state, train.shard(batch, step.mesh))
    mean = np.zeros(3)
    for part in range(4):  # examples part and part + 4
        mean = 0.9 * mean + 0.1 * batch["x"][part::4].mean((0, 1, 2))
    np.testing.assert_allclose(after.stats["norm"]["mean"], mean, rtol=0, atol=1e-6)


def test_a_batch_that_cannot_be_dealt_out_is_refused():
    _, step, state = plain_step(accumulate=3)
    with pytest.raises(ValueError, match="`accumulate` is 3, which does not divide"):
        train.fit(step, state, Batches(batch_size=8), steps=1, progress=False)
    with pytest.raises(ValueError, match="`accumulate` must be"):
        plain_step(accumulate=0)


LINEAR = nnx.Linear(3, 1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, x: model(x), r"an array of shape \(8, 1\): return its mean"),
        (lambda model, x: (jnp.mean(x), jnp.mean(x)), "a scalar beside the loss: name"),
        (lambda model, x: (jnp.mean(x), x), r"an array of shape \(8, 3\) beside"),
        (lambda model, x: (jnp.mean(x), {}, 1.0), "a dict and a scalar beside"),
        (lambda model, x: None, "got a NoneType"),
        (lambda model, x: jnp.sum(x > 0), "got a scalar of int32, not of floats"),
        (lambda model, x: (jnp.mean(x), {"a": "b"}), "must be a scalar; 'a' is a str"),
    ],
)
def test_what_a_loss_returns_is_named_if_it_is_no_scalar(loss, said):
    optimiser = optax.sgd(0.1)
    step = train.make_step(LINEAR, loss, optimiser)
    state = train.init(LINEAR, optimiser)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(step.run, state, jnp.ones((8, 3)))


@pytest.mark.parametrize(
    ("optimiser", "said"),
    [
        (lambda: nnx.Optimizer(LINEAR, optax.sgd(1), wrt=nnx.Param), "nnx.Optimizer"),
        (lambda: optax.adam, "got <function adam"),
        (lambda: 0.1, "got 0.1"),
    ],
)
def test_an_optimiser_is_one_of_optax(optimiser, said):
    given = optimiser()
    for make in (
        lambda: train.init(LINEAR, given),
        lambda: train.make_step(LINEAR, jnp.mean, given),
    ):
        with pytest.raises(ValueError, match=f"`optimiser` must be an optax .*{said}"):
            make()


def test_a_state_of_another_optimiser_is_refused():
    step = train.make_step(LINEAR, lambda model, x: jnp.mean(model(x)), optax.adam(0.1))
    with pytest.raises(ValueError, match="`state` was made with another optimiser"):
        jax.eval_shape(step.run, train.init(LINEAR, optax.sgd(0.1)), jnp.ones((8, 3)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, accumulate):
    options = {"skip_nonfinite": True, "patience": 2, "accumulate": accumulate}

    def run(batches, steps, folder=None):
        _, step, state = plain_step(**options)
        return train.fit(
            step, state, batches, steps=steps, log_every=3, workdir=folder,
            progress=False,
        )  # fmt: skip

    skipped = run(Batches(bad_step=2), 3, tmp_path)
    source = Batches()
    first, _, third = (next(source) for _ in range(3))
    clean = run(iter([first, third]), 2)
    assert (int(skipped.step), int(skipped.skipped)) == (3, 1)
    assert int(skipped.skipped_in_a_row) == 0
    assert_same(clean._replace(step=0), skipped._replace(step=0, skipped=0))
    (row,) = rows(tmp_path)
    assert row["skipped"] == 1 and np.isfinite(row["loss"])
