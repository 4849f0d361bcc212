"""Tests for jaxflow.models.flow.flownet2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost, estimate
from jaxflow.models.flow import flownet2
from tests import golden


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("flownet2cs", marks=pytest.mark.slow),
        pytest.param("flownet2css", marks=pytest.mark.slow),
        "flownet2",
    ],
)
def test_equals_the_official_network(test_data, name):
    model, arrays = golden.filled(test_data / "golden" / "flow", name)
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # Float32 against float64 of the official code differs by 5e-5.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("flownet2", 162_518_834),
        ("flownet2css", 116_565_942),
        ("flownet2cs", 77_870_620),
    ],
)
def test_has_the_published_number_of_weights(name, count):
    model = cost.describe(name)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    "frozen", [("flownetc",), ("flownetc", "flownets_1", "flownets_2", "flownets_d")]
)
def test_gradient_of_frozen_parts_is_exactly_zero(frozen):
    config = flownet2.Config(width=1 / 16, fusion=True, frozen=frozen)
    model = flownet2.Model(config, rngs=nnx.Rngs(0))
    model.train()
    graph, state = nnx.split(model)
    images = jax.random.uniform(jax.random.key(1), (2, 1, 64, 64, 3))

    @jax.jit
    def gradient(state):
        def loss(state):
            flows = nnx.merge(graph, state)(*images).predictions
            return sum(jnp.sum(jnp.square(flow)) for flow in flows)

        return jax.grad(loss)(state)

    moved = nnx.to_pure_dict(gradient(state))
    for part in (*config.stages, "flownets_d", "flownetfusion"):
        largest = max(np.abs(g).max() for g in jax.tree.leaves(moved[part]))
        assert (largest == 0) == (part in frozen), part
