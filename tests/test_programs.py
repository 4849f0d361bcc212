"""Tests for jaxflow.programs."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import programs, spec
from jaxflow.models.flow import spynet
from tests import probe

GOOD = np.zeros((8, 9, 3), np.float32)


@pytest.fixture
def pair(rng):
    return rng.integers(0, 256, (2, 37, 53, 3), dtype=np.uint8)


def to_size(image, size):
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def test_calls_of_one_shape_trace_once_whatever_the_weights(pair):
    programs._run_network.clear_cache()
    for seed in range(2):
        model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(jax.random.key(seed)))
        for frames in (pair, pair[::-1]):
            jaxflow.estimate_flow(model, *frames)
    assert programs._run_network._cache_size() == 1


def test_float_frames_of_eight_bits_take_the_fixed_point_path_too(pair):
    model = probe.Probe(spec.Frames(multiple=64, method="opencv_uint8"))
    exact = jaxflow.estimate_flow(model, *pair)
    for floats in (pair / 255, pair.astype(np.float32) * np.float32(1 / 255)):
        np.testing.assert_array_equal(jaxflow.estimate_flow(model, *floats), exact)
    smooth = np.clip(pair / 255 + 1e-3, 0, 1)
    other = jaxflow.estimate_flow(model, *smooth)
    one = to_size(np.float32(smooth[0]), (64, 64))[..., 0]
    expected = to_size(one, (37, 53)) * np.float32(53 / 64)
    np.testing.assert_allclose(other[..., 0], expected, atol=1e-5)


def test_options_reach_the_model(pair):
    model = probe.Probe(spec.Frames(multiple=1))
    once = jaxflow.estimate_flow(model, *pair)
    twice = jaxflow.estimate_flow(model, *pair, options={"gain": 2.0})
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    with pytest.raises(ValueError, match="iterations"):
        jaxflow.estimate_flow(model, *pair, options={"iterations": 3})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"initial_flow": np.zeros((8, 9))}, r"must be \(…, H, W, 2\)"),
        ({"initial_flow": np.zeros((9, 9, 2))}, r"must be \(8, 9, 2\) as the frames"),
        ({"initial_flow": np.zeros((2, 8, 9, 2))}, "as the frames are"),
        ({"initial_flow": np.full((8, 9, 2), np.nan)}, "initial_flow must be finite"),
        (
            {"gain": {1: 2}},
            "gain must be a number, text, a tuple or an array; got dict",
        ),
    ],
)
def test_a_bad_option_is_one_short_line(options, why):
    with pytest.raises(ValueError, match=why) as error:
        jaxflow.estimate_flow(
            probe.Start(spec.Frames(multiple=1)), GOOD, GOOD, options=options
        )
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_lists_and_numbers_in_arrays_are_options(pair):
    model = probe.Probe(spec.Frames(multiple=1))
    expected = jaxflow.estimate_flow(model, *pair, options={"gain": 2.0})
    flow = jaxflow.estimate_flow(model, *pair, options={"gain": np.float32(2)})
    np.testing.assert_array_equal(flow, expected)
    flow = jaxflow.estimate_flow(model, *pair, options={"gain": jnp.array(2.0)})
    np.testing.assert_array_equal(flow, expected)


def test_what_an_estimator_does_not_have_is_named(rng):
    frames = rng.integers(0, 256, (2, 24, 32, 3), np.uint8)
    wrong = [
        ({"options": {"foo": 1}}, "holds 'foo', .* it has .*'warps'"),
        ({"options": {"warps": 0}}, "`warps` must be a whole number"),
        ({"options": {"inner_iterations": 2.5}}, "`inner_iterations` must be a whole"),
        ({"precision": "hi"}, "`precision` must be one of"),
        ({"tile": 16.5, "overlap": 2}, "`tile` must be a whole number"),
        ({"tile": (16, 16, 16), "overlap": 2}, "`tile` must be a size"),
    ]
    for keywords, message in wrong:
        with pytest.raises(ValueError, match=message):
            jaxflow.estimate_flow("tvl1", *frames, **keywords)
    for name in ("brox", "horn_schunck", "lucas_kanade"):
        with pytest.raises(ValueError, match="`levels` must be a whole number"):
            jaxflow.estimate_flow(name, *frames, options={"levels": 0})


def test_what_is_not_a_flow_model_is_one_clear_error():
    with pytest.raises(ValueError, match=r"weights are needed too.*load_weights"):
        jaxflow.estimate_flow("pwcnet", GOOD, GOOD)
    with pytest.raises(ValueError, match="got 'no such thing'"):
        jaxflow.estimate_flow("no such thing", GOOD, GOOD)
    with pytest.raises(ValueError, match="must be a flow network"):
        jaxflow.estimate_flow(nnx.Dropout(0.1), GOOD, GOOD)
