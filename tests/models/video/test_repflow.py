import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.layers import representation_flow
from jaxflow.models.video import repflow


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet34_2d", 21_489_872),
        ("resnet50_2d", 24_327_632),
        ("repflow_resnet34", 21_568_147),
        ("repflow_resnet50", 24_639_379),
    ],
)
def test_has_the_published_number_of_parameters(name, parameters):
    model = cost.describe(name)
    kinds = (nnx.Param, representation_flow.Constant)
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, kind)))
        for kind in kinds
    ]
    assert sum(counts) == parameters


def scores(clip, **overrides):
    config = dataclasses.replace(repflow.TINY, **overrides)
    model = repflow.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model(clip)


@pytest.mark.parametrize(
    "overrides",
    [
        *({"fusion": fusion} for fusion in repflow.FUSIONS),
        *({"location": place, "flow": "single"} for place in repflow.LOCATIONS[:4]),
        *({"flow": flow} for flow in repflow.FLOWS),
        {"backbone": "3d", "flow": "single"},
        {"backbone": "2plus1d", "flow": "single", "fusion": "late"},
        {"bottleneck": True, "variant": "paper"},
        {"location": "input", "flow": "flow_of_flow", "learn": (0,) * 5},
    ],
    ids=str,
)
def test_every_combination_runs(overrides):
    clip = jax.ShapeDtypeStruct((2, 5, 21, 26, 3), jnp.float32)
    out = jax.eval_shape(lambda clip: scores(clip, **overrides), clip)
    assert out.shape == (2, 5)


def test_a_two_dimensional_net_does_not_see_the_order_of_frames(run):
    clip = jax.random.uniform(jax.random.key(0), (1, 4, 32, 32, 3))
    for flow, blind in (("none", True), ("single", False)):
        config = dataclasses.replace(repflow.TINY, flow=flow)
        model = repflow.Model(config, rngs=nnx.Rngs(0))
        model.eval()
        forwards, backwards = run(model, jnp.concatenate([clip, clip[:, ::-1]]))
        assert np.allclose(forwards, backwards, atol=1e-5) == blind


@pytest.mark.parametrize("how", ["add", "multiply", "layer_multiply", "concat", "none"])
def test_fusions_are_what_they_say(how, rng):
    x = rng.normal(size=(1, 4, 3, 3, 2)).astype(np.float32)
    flow = rng.normal(size=(1, 3, 3, 3, 2)).astype(np.float32)
    fusion = repflow.Fusion(2, how, rngs=nnx.Rngs(0))
    first = x[:, :3]
    if how == "concat":
        kernel = np.asarray(fusion.layer.kernel[...])[0, 0, 0]
        expected = np.concatenate([first, flow], -1) @ kernel
    elif how == "layer_multiply":
        expected = first * np.asarray(fusion.layer(jnp.asarray(flow)))
    else:
        expected = {"add": first + flow, "multiply": first * flow, "none": flow}[how]
    actual = fusion(jnp.asarray(x), jnp.asarray(flow))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("field", ["backbone", "flow", "location", "fusion"])
def test_rejects_unknown_choices(field):
    with pytest.raises(ValueError, match=field):
        scores(jnp.ones((1, 4, 32, 32, 3)), **{field: "best"})


@pytest.mark.slow
def test_rejects_clips_without_motion():
    with pytest.raises(ValueError, match="at least 2 frames"):
        scores(jnp.ones((1, 2, 32, 32, 3)))
