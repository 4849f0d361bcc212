import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.models.video import repflow_hmdb


@pytest.mark.parametrize("depth", [34, pytest.param(50, marks=pytest.mark.slow)])
def test_equals_the_authors_code(golden, run, build, depth):
    case, name = golden(f"repflow_resnet{depth}_787564a"), f"repflow_hmdb_resnet{depth}"
    state = case.state_dict()
    # What is not in the state dict keeps the value that the constructor gives it.
    rows = {
        "f_grad": [[[[-1.0, 1.0]]]],
        "div": [[[[-1.0, 1.0]]]],
        "img_grad": [[[[-0.5, 0.0, 0.5]]]],
    }
    for layer in ("flow_layer", "flow_layer2"):
        for key, taps in rows.items():
            kernel = np.repeat(np.array(taps, np.float32), 32, axis=0)
            state[f"{layer}.{key}"] = kernel
            state[f"{layer}.{key}2"] = kernel.swapaxes(2, 3)
        for key, value in {"t": 0.3, "l": 0.15, "a": 0.25}.items():
            state[f"{layer}.{key}"] = np.array([value], np.float32)
    model = build(name, state)

    variables = jax.tree.leaves(nnx.state(model))
    statistics = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    count = sum(v.size for v in variables) - sum(v.size for v in statistics)
    assert count == case.info["parameter_count"]
    # Float32 in another order, with thresholds; the logits' deviation is 1.4.
    actual = run(model, case.clip())
    np.testing.assert_allclose(actual, case.arrays["logits"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", [False, True])
def test_takes_clips_from_eleven_frames(run, bottleneck):
    config = repflow_hmdb.dataclasses.replace(repflow_hmdb.TINY, bottleneck=bottleneck)
    model = repflow_hmdb.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones((2, 11, 33, 40, 3), jnp.bfloat16))
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match="at least 11 frames"):
        model(jnp.ones((1, 10, 32, 32, 3)))
