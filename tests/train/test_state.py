"""Tests for jaxflow.train.state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxflow import averaging, train
from tests.train.problem import Batches, draw, plain_step, setup


def test_the_loss_falls_and_the_model_is_filled_and_in_evaluation_mode():
    model, step, state = setup(draw)
    before = np.asarray(model.blocks[0].kernel[...])
    x, y = (draw(jax.random.key(9))[name] for name in "xy")
    state = train.fit(step, state, steps=150, progress=False)
    np.testing.assert_array_equal(model.blocks[0].kernel[...], before)
    train.finish(model, state)
    np.testing.assert_array_equal(model(x), model(x))  # no dropout
    assert jnp.mean((model(x) - y) ** 2) < 0.5 * jnp.mean(y**2)
    assert np.abs(model.norm.mean[...]).max() > 0
    train.finish(model, state)  # the state is still there


def test_the_average_of_the_weights_is_judged_and_ends_the_run():
    optimiser = averaging.averaged(optax.sgd(0.1), decay=0.5)
    model, step, state = plain_step(optimiser=optimiser)
    expected = [jax.device_get(state.params)] * 2
    seen = []

    def evaluate(state):
        expected[:] = [
            expected[1],
            jax.tree.map(lambda a, b: (a + b) / 2, expected[1], state.params),
        ]
        seen.append(train.averaged(state).params)
        return {"epe": 1.0}

    state = train.fit(
        step, state, Batches(), steps=3, save_every=1, evaluate=evaluate, progress=False
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), seen[-1], expected[1]
    )
    train.finish(model, train.averaged(state))
    np.testing.assert_array_equal(model.conv.kernel[...], seen[-1]["conv"]["kernel"])


@pytest.mark.parametrize("seed", ["a", 1.5, None])
def test_a_seed_that_is_none_is_one_clear_error(seed):
    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        train.init(model, optax.sgd(0.1), seed=seed)
