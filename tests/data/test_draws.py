"""Tests for jaxflow.data.draws."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxflow.data import draws


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_key_gives_the_same_numbers_alone_and_in_a_batch(impl):
    keys = jax.random.split(jax.random.key(1, impl=impl), 4)
    draw = jax.jit(lambda key: draws.uniform(key, a=(2, 3), b=()))
    many = jax.vmap(draw)(keys)
    for index, key in enumerate(keys):
        for name, value in draw(key).items():
            np.testing.assert_array_equal(many[name][index], value)
    assert len(np.unique(many["b"])) == 4


def test_numbers_are_uniform_and_become_normal():
    numbers = draws.uniform(jax.random.key(0), a=(20_000,))["a"]
    assert 0 < numbers.min() and numbers.max() < 1
    # A fair draw has a p-value below 1e-3 once in a thousand seeds; this one is fixed.
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(draws.normal(numbers), "norm").pvalue > 1e-3
    stretched = draws.between(numbers, -3.0, 1.0)
    np.testing.assert_allclose(stretched, 4 * numbers - 3, atol=1e-6)


def test_arrays_have_their_names_and_shapes():
    arrays = draws.uniform(jax.random.key(0), a=(2, 3), b=(), c=(4,))
    assert {name: a.shape for name, a in arrays.items()} == {
        "a": (2, 3),
        "b": (),
        "c": (4,),
    }
    assert len(np.unique(np.concatenate([a.ravel() for a in arrays.values()]))) == 11
