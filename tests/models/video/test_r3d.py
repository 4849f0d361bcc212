import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import r3d

# Confirmed by running the official code; VMZ's rule in torchvision's network.
PARAMETERS = {
    "r3d_18": 33_371_472,
    "r3d_34": 63_681_104,
    "mc3_18": 11_695_440,
    "r2plus1d_18": 31_505_325,
    "r2plus1d_18_vmz": 33_370_839,
    "r2plus1d_34_vmz": 63_697_175,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_the_published_number_of_parameters(name):
    model = cost.describe(name)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name", [pytest.param("r3d_18", marks=pytest.mark.slow), "r2plus1d_18"]
)
def test_equals_torchvision(golden, build, run, name):
    case = golden(name)
    model = build(name, case.state_dict())
    # Float32 through 18 layers in another order; the logits' deviation is 1.7.
    actual = run(model, case.clip())
    np.testing.assert_allclose(actual, case.arrays["logits"], atol=3e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("3d", "2d"), ("2plus1d",) * 2], ids=str)
def test_takes_any_clip(run, kinds):
    config = r3d.dataclasses.replace(r3d.TINY, kinds=kinds, head_mode="softmax_mean")
    model = r3d.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones((2, 1, 13, 18, 3), jnp.bfloat16))
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)
