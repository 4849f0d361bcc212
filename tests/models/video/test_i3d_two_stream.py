import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import i3d_two_stream


def test_has_the_parameters_of_both_published_streams():
    model = cost.describe("i3d_inception_two_stream")
    assert cost.count_parameters(model) == 12_697_264 + 12_675_312


@pytest.mark.slow
def test_logits_are_added_and_probabilities_averaged(rng, run):
    config = dataclasses.replace(i3d_two_stream.TINY, num_frames=2, crop_size=32)
    clip = jnp.asarray(rng.uniform(size=(2, 2, 32, 32, 5)), jnp.float32)
    model = i3d_two_stream.Model(config, rngs=nnx.Rngs(0))
    likely = i3d_two_stream.Model(
        dataclasses.replace(config, head_mode="softmax_mean"), rngs=nnx.Rngs(0)
    )
    model.eval()
    likely.eval()

    def scores(model, clip):
        return model(clip), model.rgb(clip[..., :3]), model.flow(clip[..., 3:])

    total, rgb, flow = run(model, clip, function=scores)
    np.testing.assert_allclose(total, rgb + flow, atol=1e-5)
    # Two frames leave one position, of which softmax of the logits is the softmax.
    expected = (jax.nn.softmax(rgb) + jax.nn.softmax(flow)) / 2
    np.testing.assert_allclose(run(likely, clip), expected, atol=1e-5)


@pytest.mark.slow
def test_equals_the_sum_of_both_pytorch_ports(golden, build, run):
    cases = {name: golden(f"i3d_inception_{name}") for name in ("rgb", "flow")}
    state = {
        f"{name}.{key}": value
        for name, case in cases.items()
        for key, value in case.state_dict().items()
    }
    model = build("i3d_inception_two_stream", state)
    clip = jnp.concatenate([case.clip() for case in cases.values()], axis=-1)
    expected = sum(case.arrays["mean_logits"] for case in cases.values())
    # Float32 through 22 layers in another order, twice.
    np.testing.assert_allclose(run(model, clip), expected, atol=1e-4)
