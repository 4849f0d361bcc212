import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert, models
from jaxflow.models.video import repflow_kinetics


@pytest.mark.slow
def test_equals_the_authors_code(golden, run):
    case = golden("repflow_kinetics_head")
    # The flow's filters keep their initial values: the state dict has none.
    model = models.create_model("repflow_kinetics_resnet50")
    convert.convert_state_dict(model, case.state_dict())
    parameters = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in parameters) == case.info["parameter_count"]

    actual = run(model, case.clip())

    # The layer is chaotic: the official float32 run is 3.8e-4 from its float64 run.
    np.testing.assert_allclose(actual, case.arrays["logits"], atol=2e-3)


@pytest.mark.slow
def test_takes_clips_from_eleven_frames(run):
    model = repflow_kinetics.Model(repflow_kinetics.TINY, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones((2, 12, 33, 40, 3), jnp.bfloat16))
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match="at least 11 frames"):
        model(jnp.ones((1, 10, 32, 32, 3)))
