"""Networks where JAX computes in float64: weights and results have the same types."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tests.models import test_contract

QUICK = ("fdm", "pwcnet", "repflow", "slowfast", "tvnet", "vcn")
NETWORKS = {module.__name__.rpartition(".")[2]: module for module in test_contract.ALL}


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS],
)
def test_weights_and_results_are_float32_where_float64_is_on(name, double):
    module = NETWORKS[name]
    made = nnx.eval_shape(lambda: module.Model(module.RECORD.tiny, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(made)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}

    def run(state, *arrays):
        return test_contract.call(module, nnx.merge(graph, state, copy=True), *arrays)

    for dtype in (jnp.float32, jnp.float64):
        out = jax.eval_shape(run, state, *test_contract.inputs(module, dtype=dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}
