"""Tests for jaxflow.pictures."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow
from jaxflow import spec
from tests import probe


@pytest.fixture
def pair(rng):
    return rng.integers(0, 256, (2, 37, 53, 3), dtype=np.uint8)


GOOD = np.zeros((8, 9, 3), np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_floats_of_any_precision_are_taken(pair, dtype):
    frames = (pair / 255).astype(dtype)
    flow = jaxflow.estimate_flow(probe.Probe(spec.Frames(multiple=1)), *frames)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(flow[..., 0], pair[0, ..., 0] / 255, atol=4e-3)


def test_uint8_against_float_is_taken(pair):
    model = probe.Probe(spec.Frames(multiple=1))
    mixed = jaxflow.estimate_flow(model, pair[0], pair[1] / 255)
    np.testing.assert_allclose(mixed, jaxflow.estimate_flow(model, *pair), atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (np.zeros((8, 9)), r"\(8, 9\): a gray picture"),
        (np.zeros((8, 9, 1)), "a gray picture"),
        (np.zeros((8, 9, 4)), "drop the alpha"),
        (np.zeros((3, 8, 9)), "move the channels"),
        (np.zeros((8, 9, 3), np.uint16), "uint16: divide"),
        (np.zeros((8, 9, 3), np.int64), "int64: divide"),
        (np.zeros((8, 9, 3), bool), "bool"),
        (np.full((8, 9, 3), 200.0), "got 200 to 200: divide 8-bit pictures by 255"),
        (np.full((8, 9, 3), -1.0), "must be in"),
        (np.full((8, 9, 3), np.nan), "NaN"),
        (np.full((8, 9, 3), np.inf), "infinity"),
        (np.zeros((0, 9, 3)), "empty"),
        (np.zeros((8, 10, 3)), r"one size; got \(8, 10, 3\) and \(8, 9, 3\)"),
        ("frame.png", "must be uint8, or float"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_picture_is_one_clear_error(frame, why):
    model = probe.Probe(spec.Frames(multiple=1))
    with pytest.raises(ValueError, match=why) as error:
        jaxflow.estimate_flow(model, frame, GOOD)
    assert "\n" not in str(error.value)
