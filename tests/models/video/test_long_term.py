"""Tests for jaxflow.models.video.long_term."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.layers import feature_bank
from jaxflow.models.video import long_term

# I3D-R50 with non-local blocks, without its classifier: PySlowFast's has 35,401,936
# parameters, 819,600 of them in that of 400 classes.
BACKBONE = 35_401_936 - (2048 + 1) * 400


def dense(inputs, outputs):
    return (inputs + 1) * outputs


NON_LOCAL = 2 * dense(2048, 512) + 2 * 4 * dense(512, 512)
PARAMETERS = {
    "lfb_nl_r50": BACKBONE + NON_LOCAL + dense(2560, 80),
    "lfb_nl_r50_ava": BACKBONE + NON_LOCAL + dense(2560, 80),
    "lfb_average_r50": BACKBONE + dense(4096, 80),
    "lfb_maximum_r50": BACKBONE + dense(4096, 80),
    "lfb_3d_x2_r50": 2 * BACKBONE + dense(4096, 80),
    "lfb_self_x2_r50": 2 * BACKBONE + NON_LOCAL + dense(2560, 80),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "lfb_nl_r50_ava" else pytest.mark.slow)
        for name in PARAMETERS
    ],
)
def test_has_as_many_parameters_as_its_parts(name):
    assert cost.count_parameters(cost.describe(name)) == PARAMETERS[name]


def make(**overrides):
    config = dataclasses.replace(long_term.TINY, **overrides)
    model = long_term.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    if config.operator == "non_local":
        for step in model.operator.steps:
            shape = step.out.kernel.shape
            step.out.kernel[...] = jax.random.normal(jax.random.key(1), shape)
    return model


def call(model, *arrays, **more):
    return jax.jit(lambda arrays, more: model(*arrays, **more))(arrays, more)


@jax.jit
def steps(map_):
    """Averages a map over space: its steps of time."""
    return map_.mean((2, 3))


def last_map(model, clip, *, second=False):
    pathway = model.second if second else model.slow
    return jax.jit(lambda clip: model._last_map(pathway, clip))(clip)


@pytest.fixture(scope="module")
def clip():
    return jax.random.uniform(jax.random.key(0), (2, 4, 32, 32, 3))


@pytest.fixture(scope="module")
def bank():
    return jax.random.normal(jax.random.key(2), (2, 6, 128))


VALID = jnp.array([[1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]], bool)


@pytest.mark.parametrize("kind", ["average", "maximum"])
def test_a_pooled_bank_stands_beside_the_short_term_features(clip, bank, kind):
    model = make(operator=kind, timed=False)
    short = steps(last_map(model, clip)).mean(1)
    pooled = feature_bank.pool_bank(bank, VALID, kind=kind)
    kernel, bias = model.projection.kernel[...], model.projection.bias[...]
    expected = jnp.concatenate([short, pooled], axis=-1) @ kernel + bias[None]
    actual = call(model, clip, bank=bank, valid=VALID)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_operator_sees_the_bank_of_its_own_example_alone(clip, bank):
    model = make()

    @jax.jit
    def score(bank, valid, times):
        return model(clip, bank=bank, valid=valid, times=times)

    times = jnp.broadcast_to(jnp.arange(6.0), (2, 6))
    scores = score(bank, VALID, times)
    other = score(bank.at[1, 2].add(9.0), VALID, times)
    np.testing.assert_allclose(other[0], scores[0], atol=1e-6)
    assert np.abs(other[1] - scores[1]).max() > 1e-5
    hidden = score(bank.at[0, 2].set(jnp.nan), VALID, times)
    np.testing.assert_allclose(hidden, scores, atol=1e-6)


@pytest.mark.slow
def test_without_a_bank_the_operator_sees_the_clip_itself(clip):
    model = make()
    for model in (make(), make(backbones=2)):
        second = model.config.backbones == 2
        own = steps(last_map(model, clip, second=second))
        told = call(model, clip, bank=own)
        np.testing.assert_allclose(call(model, clip), told, atol=1e-5)


def test_two_backbones_stand_side_by_side(clip):
    model = make(operator="none", backbones=2, timed=False)
    maps = [last_map(model, clip, second=second) for second in (False, True)]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    joined = jnp.concatenate([steps(each).mean(1) for each in maps], axis=-1)
    kernel, bias = model.projection.kernel[...], model.projection.bias[...]
    expected = joined @ kernel + bias[None]
    np.testing.assert_allclose(call(model, clip), expected, atol=1e-5)


def test_boxes_see_the_bank_of_their_example(bank):
    model = make(regions="legacy", bank_features=128, timed=False)
    clip = jax.random.uniform(jax.random.key(0), (2, 4, 48, 64, 3))
    boxes = jnp.array([[1.0, 0, 0, 40, 48], [0, 9, 3, 64, 40], [-1, 0, 0, 9, 9]])
    scores = call(model, clip, boxes, bank=bank, valid=VALID)
    assert scores.shape == (3, 5)
    np.testing.assert_array_equal(scores[2], 0)
    other = call(model, clip, boxes, bank=bank.at[0].add(1.0), valid=VALID)
    np.testing.assert_allclose(other[0], scores[0], atol=1e-6)
    assert np.abs(other[1] - scores[1]).max() > 1e-5
    shape = jax.eval_shape(lambda clip: model(clip, bank=bank), clip).shape
    assert shape == (2, 5)


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        ({}, {"bank": (2, 6, 127)}, r"`bank` must be \(2, M, 128\)"),
        ({}, {"bank": (3, 6, 128)}, r"`bank` must be \(2, M, 128\)"),
        ({}, {"bank": (2, 6, 128), "valid": (2, 5)}, r"`valid` must be \(2, 6\)"),
        ({}, {"bank": (2, 6, 128), "times": (6,)}, r"`times` must be \(2, 6\)"),
        ({"timed": False}, {"bank": (2, 6, 128), "times": (2, 6)}, "`timed` is False"),
        ({"operator": "none"}, {"bank": (2, 6, 128)}, "`bank` must be None"),
        ({}, {"boxes": (1, 5)}, "`boxes` must be None"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(clip, overrides, arguments, message):
    model = make(**overrides)
    arrays = {name: jnp.zeros(shape) for name, shape in arguments.items()}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda clip: model(clip, **arrays), clip)
