"""Tests for jaxflow.models.flow.pwcnet, against outputs of the published code."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert, estimate, models
from jaxflow.models.flow import pwcnet
from tests import golden


@pytest.fixture(scope="module")
def case(test_data):
    """Golden arrays, the procedural state dict, and the model that it fills."""
    arrays, state = golden.load(test_data / "golden" / "flow", "pwcnet")
    model = convert.convert_state_dict(golden.blank("pwcnet"), state)
    return arrays, state, model


@pytest.fixture(scope="module")
def traced(case):
    """Intermediate results of the golden pair, from one compilation."""
    arrays, _, model = case
    graphdef, state = nnx.split(model)

    @jax.jit
    def run(state, image1, image2):
        model = nnx.merge(graphdef, state, copy=True)
        pyramid1, pyramid2 = model._pyramids(image1, image2)
        cost = model.cost(pyramid1[6], pyramid2[6])
        flow6, features = model.decoder6(cost)
        flows = model(image1, image2).predictions
        found = {
            "raw_flow2": flows[-1] / (pwcnet.DIV_FLOW / 4),
            "feat_level1_image1": pyramid1[1],
            "feat_level6_image1": pyramid1[6],
            "flow6": flow6,
            "upfeat6": model.decoder6.up_features(features),
        }
        return found, flows, cost

    frames = [jnp.float32(arrays[key][None]) / 255 for key in ("image1", "image2")]
    return run(state, *frames)


def test_flow_is_that_of_the_published_code(case):
    arrays, _, model = case
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # The published code itself moves by 2.2e-5 px between float32 and float64.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["raw_flow2", "feat_level1_image1", "feat_level6_image1", "flow6", "upfeat6"],
)
def test_each_part_is_that_of_the_published_code(case, traced, name):
    expected = golden.nhwc(case[0][name])
    actual = traced[0][name][:, : expected.shape[1], : expected.shape[2]]
    # float32 sums over up to 529 x 9 products, of values of order 1.
    np.testing.assert_allclose(actual, expected, atol=5e-5, rtol=0)


def test_the_cost_volume_is_that_of_the_published_code(case, traced):
    expected = golden.nhwc(case[0]["cost_level6"])
    # The stored volume is that of the correlation, before the LeakyReLU.
    np.testing.assert_allclose(
        traced[2], pwcnet.leaky_relu(expected), atol=1e-5, rtol=0
    )


def test_predicts_five_flows_in_their_own_pixels(case, traced):
    found, flows, _ = traced
    assert [flow.shape[1:3] for flow in flows] == [
        (1, 2), (2, 4), (4, 8), (8, 16), (16, 32)
    ]  # fmt: skip
    np.testing.assert_allclose(flows[0], found["flow6"] * 20 / 64, rtol=1e-6)
    np.testing.assert_allclose(flows[-1], found["raw_flow2"] * 20 / 4, rtol=1e-6)


NUMBERS = {1: "One", 2: "Two", 3: "Thr", 4: "Fou", 5: "Fiv", 6: "Six"}


def to_sniklaus(key):
    """Renames a key of NVlabs to the naming of pytorch-pwc; None if it has none."""
    rules = [
        (r"conv(\d)a\.0\.(.*)", lambda n, leaf: (n, 2 if n == 6 else 0, leaf)),
        (r"conv(\d)aa\.0\.(.*)", lambda n, leaf: (n, 0 if n == 6 else 2, leaf)),
        (r"conv(\d)b\.0\.(.*)", lambda n, leaf: (n, 4, leaf)),
    ]
    for pattern, place in rules:
        if match := re.fullmatch(pattern, key):
            number, index, leaf = place(int(match[1]), match[2])
            return f"moduleExtractor.module{NUMBERS[number]}.{index}.{leaf}"
    if match := re.fullmatch(r"conv(\d)_(\d)\.0\.(.*)", key):
        level, index = NUMBERS[int(match[1])], NUMBERS[int(match[2]) + 1]
        return f"module{level}.module{index}.0.{match[3]}"
    if match := re.fullmatch(r"predict_flow(\d)\.(.*)", key):
        return f"module{NUMBERS[int(match[1])]}.moduleSix.0.{match[2]}"
    if match := re.fullmatch(r"(deconv|upfeat)(\d)\.(.*)", key):
        if match[2] == "2":
            return None
        what = {"deconv": "moduleUpflow", "upfeat": "moduleUpfeat"}[match[1]]
        return f"module{NUMBERS[int(match[2]) - 1]}.{what}.{match[3]}"
    match = re.fullmatch(r"dc_conv(\d)\.(?:0\.)?(.*)", key)
    return f"moduleRefiner.moduleMain.{2 * int(match[1]) - 2}.{match[2]}"


def to_mmflow(key):
    """Renames a key of NVlabs to the naming of mmflow; None if it has none."""
    orders = {6: ("aa", "a", "b")}
    if match := re.fullmatch(r"conv(\d)(a|aa|b)\.0\.(.*)", key):
        level = int(match[1])
        index = orders.get(level, ("a", "aa", "b")).index(match[2])
        return f"encoder.layers.{level - 1}.layers.{index}.conv.{match[3]}"
    if match := re.fullmatch(r"conv(\d)_(\d)\.0\.(.*)", key):
        layer = f"dense_net.layers.{match[2]}.layers.conv.{match[3]}"
        return f"decoder.decoders.level{match[1]}.{layer}"
    names = {"predict_flow": "predict_layer", "deconv": "upflow_layer"}
    names["upfeat"] = "upfeat_layer"
    if match := re.fullmatch(r"(predict_flow|deconv|upfeat)(\d)\.(.*)", key):
        if match[1] == "deconv" and match[2] == "2":
            return None
        return f"decoder.decoders.level{match[2]}.{names[match[1]]}.{match[3]}"
    match = re.fullmatch(r"dc_conv(\d)\.(?:0\.)?(.*)", key)
    middle = "" if match[1] == "7" else ".conv"
    return f"decoder.post_processor.layers.{int(match[1]) - 1}{middle}.{match[2]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "rename"), [("pwcnet", to_sniklaus), ("pwcnet_mmflow", to_mmflow)]
)
def test_other_dialects_fill_the_same_weights(case, variant, rename):
    _, state, expected = case
    renamed = {rename(key): value for key, value in state.items() if rename(key)}
    model = models.create_model(variant)
    convert.convert_state_dict(model, renamed)
    slots = convert.weight_slots(expected)
    for path, slot in convert.weight_slots(model).items():
        if not convert.is_optional(model, path):
            np.testing.assert_array_equal(
                slot.variable[...], slots[path].variable[...], err_msg=path
            )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pwcnet", 9_374_340),
        # Without the up-sampling that nothing uses, as in Caffe and mmflow.
        ("pwcnet_mmflow", 9_374_274),
        ("pwcnet_old", 8_749_280),
        # "4.08 M" in Table 7 of the paper.
        ("pwcnet_small", 4_080_004),
    ],
)
def test_parameter_counts(name, count):
    config = pwcnet.VARIANTS[name]
    model = nnx.eval_shape(lambda: pwcnet.Model(config, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == count


def test_the_old_net_appends_where_the_new_one_prepends():
    def outputs(appended):
        decoder = pwcnet.Decoder(
            2, (1, 1), dense=True, appended=appended, upsamples_flow=False,
            upsamples_features=False, rngs=nnx.Rngs(0),
        )  # fmt: skip
        for index, layer in enumerate(decoder.convs):
            layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
            layer.bias[...] = jnp.full(1, 10.0 + index)
        return decoder(jnp.ones((1, 1, 1, 2)))[1].ravel().tolist()

    assert outputs(()) == [11, 10, 1, 1]
    assert outputs((0,)) == [11, 1, 1, 10]
    assert outputs((0, 1)) == [1, 1, 10, 11]


def test_fresh_weights_see_the_motion():
    model = pwcnet.Model(pwcnet.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    graphdef, state = nnx.split(model)
    run = jax.jit(lambda *frames: nnx.merge(graphdef, state)(*frames).flow)
    image = jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
    still, moved = run(image, image), run(image, jnp.roll(image, 2, axis=2))
    assert jnp.abs(moved - still).max() > 1e-3
