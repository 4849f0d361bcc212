import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import slowfast
from tests.models.video import pathways

# Parameters confirmed by running the official code.
PARAMETERS = {
    "slowfast_4x16_r50": 34_480_216,
    "slowfast_8x8_r50": 34_566_488,
    "slowfast_8x8_r101": 62_826_968,
    "slowfast_8x8_r101_50_50": 53_774_808,
    "slowfast_8x8_r101_50_101": 53_914_072,
    "slowfast_16x8_r101_50_50": 53_774_808,
    "slowfast_8x8_r50_ava": 33_828_888,
    "slowfast_nln_8x8_r50": 41_838_680,
    "slowfast_nln_8x8_r101_50_50": 60_080_088,
    "slowfast_nln_16x8_r101_50_50": 60_080_088,
}
BETA_PARAMETERS = {4: 37_940_960, 16: 33_287_828, 32: 32_826_130}


def count(name, **overrides):
    model = cost.describe(name, **overrides)
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if "8x8_r50" in name else pytest.mark.slow)
        for name in PARAMETERS
    ],
)
def test_has_the_published_number_of_parameters(name):
    assert count(name) == PARAMETERS[name]


@pytest.mark.parametrize("beta_inv", BETA_PARAMETERS)
def test_has_the_official_parameters_for_every_width(beta_inv):
    assert count("slowfast_4x16_r50", beta_inv=beta_inv) == BETA_PARAMETERS[beta_inv]


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("slowfast_4x16_r50_ptv", "ptv_logits"),
        pytest.param(
            "slowfast_4x16_r50_pyslowfast", "ptv_logits", marks=pytest.mark.slow
        ),
        pytest.param("slowfast_8x8_r50_ptv", "ptv_logits", marks=pytest.mark.slow),
        pytest.param(
            "slowfast_8x8_r50_pyslowfast", "ptv_logits", marks=pytest.mark.slow
        ),
        pytest.param(
            "slowfast_nln_4x16_r50_pyslowfast", "mean_logits", marks=pytest.mark.slow
        ),
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
    case = golden(f"slowfast_8x8_r50_ava_{dialect}")
    model = build("slowfast_8x8_r50_ava", case.state_dict())
    pathways.assert_scores_boxes_as_the_official_code_does(case, model, run)


@pytest.mark.parametrize("name", ["slowfast_4x16_r50", "slowfast_8x8_r50"])
def test_two_dialects_name_the_same_weights(golden, read_names, name):
    shapes = [
        golden(f"{name}{suffix}").shapes(read_names, slowfast.KEYS[dialect])
        for suffix, dialect in (("_ptv", "pytorchvideo"), ("_pyslowfast", "pyslowfast"))
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["slowfast_4x16_r50", "slowfast_nln_4x16_r50"])
def test_caffe2_names_mean_what_pyslowfast_says(test_data, read_names, name):
    pathways.assert_caffe2_names_mean_what_pyslowfast_says(
        slowfast.KEYS, test_data, read_names, name
    )

    assert read_names(slowfast.KEYS["caffe2"], ["lr", "conv1_w_momentum"]) == {
        "lr": None,
        "conv1_w_momentum": None,
    }


@pytest.mark.parametrize(
    ("frames", "alpha", "expected"),
    [
        (32, 8, [0, 10, 20, 31]),
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),
        (64, 4, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
        (1, 8, [0]),
        (9, 8, [0, 8]),
    ],
)
def test_slow_frames_are_those_of_the_official_code(frames, alpha, expected):
    np.testing.assert_array_equal(slowfast.slow_frames(frames, alpha), expected)


def test_slow_frames_of_mmaction2_are_strided():
    np.testing.assert_array_equal(slowfast.slow_frames(32, 8, "stride"), [0, 8, 16, 24])


@pytest.fixture(scope="module")
def clip():
    return jax.random.uniform(jax.random.key(0), (2, 9, 37, 50, 3))


@pytest.mark.parametrize(
    "overrides",
    [
        {"lateral": "sample"},
        {"lateral": "channels"},
        {"lateral": "none", "sampling": "stride"},
        {"fast_input": "gray"},
        {"fast_input": "time_difference"},
        {"fast_input": "flow"},
        {"fast_input": "half_size"},
    ],
    ids=str,
)
def test_every_variant_takes_clips_of_odd_length_and_size(clip, overrides):
    config = dataclasses.replace(slowfast.TINY, **overrides)

    def scores(clip):
        model = slowfast.Model(config, rngs=nnx.Rngs(0))
        model.eval()
        return model(clip)

    assert jax.eval_shape(scores, clip).shape == (2, 5)


def test_fast_inputs_are_what_they_say(clip):
    gray = slowfast.fast_input(clip, "gray")
    expected = (clip @ jnp.array([0.299, 0.587, 0.114]) - 0.45) / 0.225
    np.testing.assert_allclose(gray[..., 0], expected, atol=1e-5)
    step = slowfast.fast_input(clip, "time_difference")
    np.testing.assert_array_equal(step[:, 0], 0)
    np.testing.assert_allclose(step[:, 1:], jnp.diff(gray, axis=1), atol=1e-5)
    half = slowfast.fast_input(clip, "half_size")
    assert half.shape == (2, 9, 19, 25, 3)


def test_flow_input_follows_a_moving_pattern():
    y, x = jnp.mgrid[:24, :32].astype(jnp.float32)
    frames = [
        0.5 + 0.4 * jnp.sin(0.5 * (x - 0.4 * t)) * jnp.cos(0.4 * y) for t in range(3)
    ]
    clip = jnp.repeat(jnp.stack(frames)[None, ..., None], 3, axis=-1)
    flow = 20 * jax.jit(slowfast.fast_input, static_argnums=1)(clip, "flow")
    np.testing.assert_allclose(np.median(flow[0, 0, ..., 0]), 0.4, atol=0.1)
    np.testing.assert_allclose(np.median(flow[0, 0, ..., 1]), 0, atol=0.1)
    np.testing.assert_array_equal(flow[:, -1], 0)


@pytest.mark.slow
def test_a_given_fast_input_replaces_the_derived_one(clip, run):
    model = slowfast.Model(slowfast.TINY, rngs=nnx.Rngs(0))
    model.eval()

    def maps(model, clip):
        given = slowfast.fast_input(1 - clip, "rgb")
        return model.features(clip), model.features(clip, fast=given)

    (slow, fast), (slow_given, fast_given) = run(model, clip, function=maps)
    assert not np.allclose(fast, fast_given)
    assert not np.allclose(slow, slow_given)


@pytest.mark.parametrize("field", ["lateral", "sampling", "fast_input", "head_mode"])
def test_rejects_unknown_choices(field):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(slowfast.TINY, **{field: "best"})
