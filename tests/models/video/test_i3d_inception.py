import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import i3d_inception


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("i3d_inception_rgb", 12_697_264), ("i3d_inception_flow", 12_675_312)],
)
def test_has_the_published_number_of_parameters(name, parameters):
    model = cost.describe(name)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


@pytest.mark.parametrize(
    "name",
    [
        "i3d_inception_rgb",
        pytest.param("i3d_inception_flow", marks=pytest.mark.slow),
    ],
)
def test_equals_the_pytorch_port(golden, build, run, name):
    case = golden(name)
    model = build(name, case.state_dict())

    def steps(model, clip):
        return model.classifier.steps(model.features(clip)), model(clip)

    # Float32 through 22 layers in another order; the logits' deviation is 1 to 2.
    logits, mean = run(model, case.clip(), function=steps)
    expected = np.moveaxis(case.arrays["logits"], 1, -1)
    np.testing.assert_allclose(logits, expected, atol=5e-5)
    np.testing.assert_allclose(mean, case.arrays["mean_logits"], atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 20, 33, 3), (2, 9, 40, 37, 3)], ids=str)
def test_takes_any_clip(run, shape):
    model = i3d_inception.Model(i3d_inception.TINY, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones(shape, jnp.bfloat16))
    assert scores.shape == (shape[0], 5)
    assert np.isfinite(scores).all()
