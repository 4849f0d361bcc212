import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost, models
from jaxflow.models.video import c3d


@pytest.mark.parametrize(
    ("name", "parameters"), [("c3d", 78_409_573), ("c3d_sports1m", 79_991_015)]
)
def test_has_the_published_number_of_parameters(name, parameters):
    model = cost.describe(name)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


def test_equals_mmaction2(golden, build, run):
    case = golden("c3d")
    model = build("c3d", case.state_dict())
    # Float32 of inputs up to 255; the official code is 3e-6 from itself in float64.
    actual = run(model, case.clip())
    np.testing.assert_allclose(actual, case.arrays["logits"], atol=1e-4)


def tiny(**overrides):
    config = dataclasses.replace(c3d.TINY, **overrides)
    model = c3d.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model


def test_pool5_decides_what_the_dense_layers_see():
    # At 112 pixels: windows start at -1 ("pad"), at 0 ("ceil"), or one is dropped.
    sizes = {"pad": 8192, "ceil": 8192, "floor": 4608}
    for pool5, size in sizes.items():
        model = nnx.eval_shape(lambda p=pool5: models.create_model("c3d", pool5=p))
        assert model.fc6.kernel.shape[0] == size


@pytest.mark.slow
def test_bgr_is_rgb_backwards(run):
    clip = jax.random.uniform(jax.random.key(0), (1, 16, 32, 32, 3))
    rgb, bgr = tiny(), tiny(colour="bgr")
    np.testing.assert_allclose(run(rgb, clip), run(bgr, clip[..., ::-1]), atol=1e-5)


def test_rejects_clips_of_another_length_or_size():
    with pytest.raises(ValueError, match="clip"):
        tiny()(jnp.ones((1, 15, 32, 32, 3)))
    with pytest.raises(ValueError, match="pool5"):
        tiny(pool5="same")
