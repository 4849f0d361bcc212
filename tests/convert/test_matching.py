"""Tests for jaxflow.convert.matching."""

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert
from jaxflow.convert import matching
from jaxflow.models.flow import spynet
from jaxflow.models.video import c3d
from tests.convert import states


def tiny(seed=0):
    return spynet.Model(spynet.TINY, rngs=nnx.Rngs(seed))


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "module.module.",
        "_orig_mod.",
        "net.",
        "model.",
        "state_dict.",
        "module._orig_mod.net.",
        "_orig_mod.module.model.",
        "model.net.module.",
        "generator.flow_estimator.v2.",
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_any_prefix_is_found(rng, prefix, own):
    expected = convert.convert_state_dict(tiny(), states.spynet_state(rng))
    state = states.spynet_state(np.random.default_rng(0))
    if own:
        state = states.weights(expected)
    state = {f"{prefix}{key}": value for key, value in state.items()}
    states.assert_same(convert.convert_state_dict(tiny(1), state), expected)


@pytest.mark.parametrize("token", ["_orig_mod", "module", "_fsdp_wrapped_module"])
def test_parts_of_a_network_may_be_wrapped_alone(rng, token):
    expected = convert.convert_state_dict(tiny(), states.spynet_state(rng))
    state = {}
    for key, value in states.spynet_state(np.random.default_rng(0)).items():
        first, second, rest = key.split(".", 2)
        wrapped = f"net.{first}.{second}.{token}.{rest}"
        state[wrapped if second == "1" else f"net.{key}"] = value
    states.assert_same(convert.convert_state_dict(tiny(1), state), expected)


@pytest.mark.parametrize("first", [True, False])
def test_a_key_with_and_without_the_prefix_is_not_dropped_in_silence(rng, first):
    state = {f"net.{k}": v for k, v in states.spynet_state(rng).items()}
    key = next(iter(state)).removeprefix("net.")
    other = {key: np.zeros_like(state[f"net.{key}"])}
    with pytest.raises(ValueError, match=rf"1 unused: (net\.)?{key}"):
        convert.convert_state_dict(tiny(), other | state if first else state | other)


def test_two_copies_of_the_network_are_not_mixed(rng):
    state = states.spynet_state(rng)
    both = {f"net.{k}": v for k, v in state.items()}
    both |= {f"ema.{k}": 2 * v for k, v in state.items()}
    with pytest.raises(ValueError, match=f"{len(state)} unused: ema"):
        convert.convert_state_dict(tiny(), both)


def test_counters_are_passed_over_and_other_integers_are_not(rng):
    state = states.spynet_state(rng)
    counters = {"iteration": np.array(5), "bn.num_batches_tracked": np.array([3])}
    convert.convert_state_dict(tiny(), {**state, **counters})
    with pytest.raises(ValueError, match="1 unused: index"):
        convert.convert_state_dict(tiny(), {**state, "index": np.arange(3)})


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, bool, np.complex64])
def test_weights_that_are_no_floating_point_numbers_are_named(rng, dtype):
    model, state = tiny(), states.spynet_state(rng)
    before = states.weights(model)
    key = "moduleBasic.1.moduleBasic.2.weight"
    state[key] = state[key].astype(dtype)
    message = rf"levels\.1\.convs\.1\.kernel is {np.dtype(dtype)}"
    with pytest.raises(ValueError, match=message):
        convert.convert_state_dict(model, state)
    for path, value in states.weights(model).items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_weights_that_are_not_finite_are_named(rng, value, dtype):
    model, state = tiny(), states.spynet_state(rng)
    key = "moduleBasic.0.moduleBasic.4.bias"
    state[key] = state[key].astype(dtype)
    state[key][1] = value
    with pytest.raises(ValueError, match=r"levels\.0\.convs\.2\.bias holds 1 numbers"):
        convert.convert_state_dict(model, state)


def test_the_head_is_what_changes_its_shape_with_the_classes():
    model = states.blank(c3d)
    paths = matching.head_paths(model)
    shapes = {path: convert.weight_slots(model)[path].variable.shape for path in paths}
    classes = c3d.TINY.num_classes
    assert sorted(shape[-1] for shape in shapes.values()) == [classes, classes]
    assert matching.head_paths(tiny()) == set()
