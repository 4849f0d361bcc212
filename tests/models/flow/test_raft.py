"""Tests for jaxflow.models.flow.raft."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import estimate
from jaxflow.models.flow import raft
from tests import golden


def tiny(**overrides):
    config = dataclasses.replace(raft.TINY, **overrides)
    model = raft.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (2, 2, 128, 136, 3))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # 20 times what float32 and float64 of the official code differ by, at least 1e-3.
    [("raft_large", 1e-3), ("raft_small", 4e-3)],
)
def test_equals_the_official_network(test_data, name, tolerance):
    model, arrays = golden.filled(test_data / "golden" / "flow", name)
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    np.testing.assert_allclose(flow, arrays["flow"], atol=tolerance)


@pytest.mark.slow
def test_flow_after_four_iterations_equals_the_official(test_data):
    model, arrays = golden.filled(test_data / "golden" / "flow", "raft_small")
    image1, image2 = (arrays[k][None] / np.float32(255) for k in ("image1", "image2"))
    flow = golden.run(model, image1, image2, iterations=4).flow
    expected = arrays["flow_iters4_crop"]
    np.testing.assert_allclose(flow[0, 32:64, 48:96], expected, atol=1e-3)


def test_correlation_on_demand_equals_the_volume(images):
    dense, lazy = tiny(), tiny(correlation="on_demand")
    nnx.update(lazy, nnx.state(dense))
    expected = golden.run(dense, *images).flow
    np.testing.assert_allclose(golden.run(lazy, *images).flow, expected, atol=1e-4)


@pytest.mark.slow
def test_a_warm_start_continues_where_an_earlier_call_stopped(images):
    # Without its recurrent state a second call is no continuation; with a starting
    # flow it differs from a cold one, and zero is the cold start.
    model = tiny()
    cold = golden.run(model, *images).flow
    zero = jnp.zeros((2, 16, 17, 2))
    same = golden.run(model, *images, initial_flow=zero).flow
    np.testing.assert_array_equal(same, cold)
    warm = golden.run(model, *images, initial_flow=zero + 2.0, iterations=1).flow
    once = golden.run(model, *images, iterations=1).flow
    assert float(jnp.mean(warm - once)) > 8.0


@pytest.mark.slow
def test_predictions_are_the_flows_of_fewer_iterations(images):
    model = tiny()
    found = golden.run(model, *images, iterations=3)
    assert len(found.predictions) == 3
    for count, flow in enumerate(found.predictions, start=1):
        fewer = golden.run(model, *images, iterations=count)
        np.testing.assert_allclose(fewer.flow, flow, atol=1e-4)


def test_a_program_that_uses_the_flow_alone_does_nothing_else(images):
    graph, state = nnx.split(tiny(iterations=6))

    def program(use):
        call = jax.jit(lambda state, *frames: use(nnx.merge(graph, state)(*frames)))
        lowered = call.lower(state, *images)
        # 64 x 9 weights of the convex combinations at each pixel.
        return lowered.as_text().count("-> tensor<2x16x17x576xf32>"), lowered

    once, lean = program(lambda found: found.flow)
    each, _ = program(lambda found: found)
    assert (once, each) == (once, 6 * once) and once > 0
    # The loop hands out the last state: no flow or state of each iteration is kept.
    assert "tensor<6x2x16x17" not in lean.as_text()


def test_conv_gru_with_a_unit_window_is_a_gru_at_every_pixel(rng):
    gru = raft.ConvGRU(3, 2, kernel_size=(1, 1), rngs=nnx.Rngs(0))
    h, x = (rng.normal(size=(2, 4, 5, n)).astype(np.float32) for n in (3, 2))

    def dense(layer, *parts):
        kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
        return np.concatenate(parts, -1) @ kernel[0, 0] + bias

    z, r = (1 / (1 + np.exp(-dense(layer, h, x))) for layer in (gru.convz, gru.convr))
    expected = (1 - z) * h + z * np.tanh(dense(gru.convq, r * h, x))
    np.testing.assert_allclose(gru(jnp.asarray(h), jnp.asarray(x)), expected, atol=1e-5)
