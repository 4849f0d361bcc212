"""Tests for jaxflow.viz.codes."""

import numpy as np

from jaxflow import viz


def test_quantised_flow_is_the_two_stream_code():
    flow = np.array([[[-30.0, -20.0], [0.0, 20.0], [50.0, np.nan]]])
    coded = viz.quantize_flow(flow)
    np.testing.assert_array_equal(coded, [[[0, 0], [128, 255], [255, 128]]])
    back = viz.dequantize_flow(coded)
    np.testing.assert_allclose(back, [[[-20, -20], [0, 20], [20, 0]]], atol=1e-5)
    flow = np.random.default_rng(0).uniform(-20, 20, (9, 9, 2))
    error = viz.dequantize_flow(viz.quantize_flow(flow)) - flow
    # Half a step of 40 / 255; near rest up to a step, for 128 is read as rest.
    assert np.abs(error).max() <= 40 / 255 + 1e-5
    assert np.abs(error[np.abs(flow) > 0.2]).max() <= 20 / 255 + 1e-5


def test_clipping_the_length_keeps_the_direction():
    flow = np.array([[[-30.0, -40.0], [3.0, -4.0], [0.0, 0.0]]])
    expected = [[[-12, -16], [3, -4], [0, 0]]]
    np.testing.assert_allclose(viz.clip_length(flow), expected, rtol=1e-6)
