"""Tests for jaxflow.layers.variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import norm, variables


class Counter(nnx.Module):
    def __init__(self):
        self.count = nnx.BatchStat(jnp.zeros(2))


def counted(x):
    counter = Counter()
    variables.replace(counter.count, counter.count[...] + x)
    return counter.count[...]


@pytest.mark.parametrize("program", [counted, jax.jit(counted)])
def test_a_variable_holds_its_new_array(program):
    np.testing.assert_array_equal(program(jnp.array([1.0, 2.0])), [1, 2])


@pytest.mark.parametrize("value", [jnp.zeros(3), jnp.zeros(2, jnp.int32)])
def test_an_array_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match=r"`value` must be float32 of \(2,\)"):
        variables.replace(Counter().count, value)


@pytest.mark.skipif(
    not hasattr(nnx.Variable, "set_value"), reason="this Flax assigns by index alone"
)
def test_no_traced_array_is_asked_where_it_is(monkeypatch):
    def sharding(self):
        raise AssertionError("each refusal walks through the whole program")

    monkeypatch.setattr(jax.core.Tracer, "sharding", property(sharding))

    @jax.jit
    def normalise(x):
        layer = norm.BatchNorm(3)
        layer.train()
        return layer(x), layer.mean[...]

    _, mean = normalise(jnp.ones((4, 5, 3)))
    np.testing.assert_allclose(mean, 0.1, rtol=1e-6)
