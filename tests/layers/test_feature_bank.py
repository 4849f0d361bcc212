"""Tests for jaxflow.layers.feature_bank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import feature_bank

ROWS, ENTRIES, FEATURES, KNOWN = 3, 6, 5, 7


@pytest.fixture
def inputs(rng):
    row = jnp.asarray(rng.normal(size=(ROWS, FEATURES)), jnp.float32)
    bank = jnp.asarray(rng.normal(size=(ROWS, ENTRIES, KNOWN)), jnp.float32)
    valid = jnp.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1], [0] * 6], bool)
    return row, bank, valid


def make(rng, *, timed=False, steps=2):
    operator = feature_bank.NonLocalOperator(
        FEATURES,
        KNOWN,
        inner_features=8,
        steps=steps,
        timed=timed,
        rngs=nnx.Rngs(0),
    )
    for variable in jax.tree.leaves(
        nnx.state(operator, nnx.Param), is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
    ):
        noise = rng.normal(size=variable.shape) * 0.5
        variable[...] = jnp.asarray(noise, jnp.float32)
    return operator


def run(operator, *arrays, **more):
    return jax.jit(lambda arrays, more: operator(*arrays, **more))(arrays, more)


def of(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def by_hand(operator, row, bank, valid):
    """The operator as the paper writes it, row by row, with NumPy."""
    out = []
    for a, entries, counts in zip(row, bank, valid, strict=True):
        a = of(operator.of_row, a)
        b = of(operator.of_bank, entries[counts])
        for step in operator.steps:
            scores = of(step.phi, b) @ of(step.theta, a) / np.sqrt(a.size)
            weights = np.exp(scores) / np.exp(scores).sum()
            found = weights @ of(step.g, b)
            normal = (found - found.mean()) / np.sqrt(found.var() + 1e-5)
            a = a + of(step.out, np.maximum(normal, 0))
        out.append(a)
    return np.stack(out)


def test_is_what_the_paper_writes(rng, inputs):
    operator = make(rng)
    row, bank, valid = (x[:2] for x in inputs)
    expected = by_hand(operator, *map(np.asarray, (row, bank, valid)))
    actual = run(operator, row, bank, valid)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_what_does_not_count_is_without_effect(rng, inputs):
    operator = make(rng)
    row, bank, valid = inputs
    spoiled = jnp.where(valid[..., None], bank, jnp.nan)

    @jax.jit
    def run(bank):
        def total(bank):
            found = operator(row, bank, valid)
            return jnp.sum(found), found

        slope, found = jax.grad(total, has_aux=True)(bank)
        return found, slope

    found, _ = run(bank)
    same, slope = run(spoiled)
    np.testing.assert_array_equal(same, found)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[~valid], 0)
    # An empty window gives the same as any other one that is empty.
    assert np.isfinite(found[2]).all()


def test_the_order_of_entries_tells_nothing_unless_they_are_timed(rng, inputs):
    row, bank, valid = inputs
    order = np.array([3, 1, 5, 0, 2, 4])
    plain = make(rng)
    np.testing.assert_allclose(
        run(plain, row, bank[:, order], valid[:, order]),
        run(plain, row, bank, valid),
        atol=1e-4,
    )
    timed = make(rng, timed=True)
    times = jnp.broadcast_to(jnp.arange(ENTRIES, dtype=jnp.float32), valid.shape)
    told = run(timed, row, bank, valid, times=times)
    assert not np.allclose(told[:2], run(timed, row, bank, valid, times=-times)[:2])
    np.testing.assert_allclose(
        run(timed, row, bank[:, order], valid[:, order], times=times[:, order]),
        told,
        atol=1e-4,
    )


def test_a_new_operator_is_the_projection_of_the_row(inputs):
    operator = feature_bank.NonLocalOperator(FEATURES, KNOWN, rngs=nnx.Rngs(0))
    row, bank, valid = inputs
    expected = of(operator.of_row, np.asarray(row))
    np.testing.assert_allclose(run(operator, row, bank, valid), expected, atol=1e-6)


def test_drops_by_its_key_in_training(rng, inputs):
    operator = make(rng)
    operator.train()
    one, same, other = (
        run(operator, *inputs, key=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)
    with pytest.raises(ValueError, match="random numbers"):
        run(operator, *inputs)


def test_pools_what_counts(inputs):
    _, bank, valid = inputs
    spoiled = jnp.where(valid[..., None], bank, jnp.nan)
    for kind, pool in (("average", np.mean), ("maximum", np.max)):
        pooled = feature_bank.pool_bank(spoiled, valid, kind=kind)
        for row in (0, 1):
            expected = pool(np.asarray(bank[row])[np.asarray(valid[row])], axis=0)
            np.testing.assert_allclose(pooled[row], expected, atol=1e-6)
        np.testing.assert_array_equal(pooled[2], 0)
    with pytest.raises(ValueError, match="`kind` must be"):
        feature_bank.pool_bank(bank, valid, kind="sum")
