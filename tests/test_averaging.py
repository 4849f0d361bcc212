import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxflow import averaging


def test_the_average_is_the_formula_step_by_step(rng):
    params = {"a": jnp.ones(3), "b": {"c": jnp.zeros((2, 2))}}
    optimiser = averaging.averaged(optax.sgd(0.1, momentum=0.5), decay=0.9)
    plain = optax.sgd(0.1, momentum=0.5)
    state, own = optimiser.init(params), plain.init(params)
    expected = jax.tree.map(np.asarray, params)
    for _ in range(5):
        gradient = jax.tree.map(
            lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), params
        )
        updates, state = jax.jit(optimiser.update)(gradient, state, params)
        # The optimiser inside does what it would do alone.
        same, own = plain.update(gradient, own, params)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), updates, same
        )
        params = optax.apply_updates(params, updates)
        expected = jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, expected, params)
    found = averaging.average_of(("outer", state))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, expected
    )


def test_what_does_not_fit_raises():
    with pytest.raises(ValueError, match="decay"):
        averaging.averaged(optax.sgd(0.1), decay=1.0)
    with pytest.raises(ValueError, match="holds 0"):
        averaging.average_of(optax.sgd(0.1).init(jnp.ones(2)))
    optimiser = averaging.averaged(optax.sgd(0.1), decay=0.5)
    with pytest.raises(ValueError, match="params"):
        optimiser.update(jnp.ones(2), optimiser.init(jnp.ones(2)))
