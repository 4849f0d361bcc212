import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import resnet3d
from tests.models.video import pathways

# Parameters confirmed by running the official code.
PARAMETERS = {
    "slow_r50": 32_454_096,
    "slow_4x16_r50": 32_454_096,
    "slow_4x16_r50_ava": 31_798_416,
    "slow_16x8_r101_50_50": 51_446_224,
    "fast_r50": 616_952,
    "c2d_r50": 24_327_632,
    "c2d_nopool_r50": 24_327_632,
    "i3d_r50": 28_043_472,
    "i3d_nln_r50": 35_401_936,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_the_published_number_of_parameters(name):
    model = cost.describe(name)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        pytest.param("slow_r50_ptv", "ptv_logits", marks=pytest.mark.slow),
        pytest.param("slow_r50_pyslowfast", "ptv_logits", marks=pytest.mark.slow),
        pytest.param("i3d_r50_ptv", "ptv_logits", marks=pytest.mark.slow),
        pytest.param("i3d_r50_pyslowfast", "ptv_logits", marks=pytest.mark.slow),
        ("i3d_nln_r50_pyslowfast", "mean_logits"),
    ],
)
def test_equals_the_official_code(golden, build, run, name, logits):
    case = golden(name)
    public = name.removesuffix("_ptv").removesuffix("_pyslowfast")
    model = build(public, case.state_dict(), crop_size=64)
    pathways.assert_equals_the_official_code(case, model, run, logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dialect", ["ptv", pytest.param("pyslowfast", marks=pytest.mark.slow)]
)
def test_scores_boxes_as_the_official_code_does(golden, build, run, dialect):
    case = golden(f"slow_4x16_r50_ava_{dialect}")
    model = build("slow_4x16_r50_ava", case.state_dict())
    pathways.assert_scores_boxes_as_the_official_code_does(case, model, run)


@pytest.mark.parametrize(
    ("name", "dialect"),
    [("slow_r50", "pytorchvideo"), ("i3d_r50", "pytorchvideo_pool")],
)
def test_two_dialects_name_the_same_weights(golden, read_names, name, dialect):
    ptv = golden(f"{name}_ptv").shapes(read_names, resnet3d.KEYS[dialect])
    pyslowfast = golden(f"{name}_pyslowfast").shapes(
        read_names, resnet3d.KEYS["pyslowfast"]
    )
    assert ptv == pyslowfast


@pytest.mark.parametrize("name", ["slow_r50", "i3d_r50", "i3d_nln_r50"])
def test_caffe2_names_mean_what_pyslowfast_says(test_data, read_names, name):
    pathways.assert_caffe2_names_mean_what_pyslowfast_says(
        resnet3d.KEYS, test_data, read_names, name
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 20, 33, 3), (2, 5, 40, 37, 3)], ids=str)
def test_takes_any_clip(run, shape):
    model = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones(shape, jnp.bfloat16))
    assert scores.shape == (shape[0], 5)
    assert scores.dtype == jnp.float32
    assert np.isfinite(scores).all()
