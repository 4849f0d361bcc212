"""Tests for jaxflow.layers.flownet."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow.layers import flownet


def test_normalise_takes_one_mean_a_pair_and_channel(rng):
    image1, image2 = rng.uniform(size=(2, 2, 4, 5, 3)).astype(np.float32)
    mean = np.concatenate([image1, image2], axis=1).mean(axis=(1, 2), keepdims=True)
    centred = flownet.centre(jnp.asarray(image1), jnp.asarray(image2))
    np.testing.assert_allclose(centred[0], image1 - mean, atol=1e-6)
    np.testing.assert_allclose(centred[1], image2 - mean, atol=1e-6)


def test_own_pixels_follow_the_ratio_of_sizes_along_each_axis():
    (flow,) = flownet.in_own_pixels([jnp.ones((1, 2, 8, 2))], 16, 32)
    # 20 full-size pixels are 5 on a grid four times as coarse, 2.5 on one of eighths.
    np.testing.assert_allclose(flow, np.broadcast_to([5.0, 2.5], (1, 2, 8, 2)))


def test_channel_norm_has_slope_zero_at_zero():
    x = jnp.array([[[[3.0, 4.0], [0.0, 0.0]]]])
    np.testing.assert_allclose(flownet.channel_norm(x)[0, 0, :, 0], [5.0, 0.0])
    slope = jax.grad(lambda x: flownet.channel_norm(x).sum())(x)
    np.testing.assert_allclose(slope[0, 0], [[0.6, 0.8], [0.0, 0.0]], atol=1e-6)


def test_decoder_predicts_once_a_level_from_coarse_to_fine():
    decoder = flownet.Decoder(
        4,
        {2: 3, 1: 2},
        {2: 5, 1: 4},
        inter_features={2: 3, 1: 2},
        upsample_bias=True,
        rngs=nnx.Rngs(0),
    )
    flows = decoder(
        jnp.ones((2, 1, 2, 4)),
        {2: jnp.ones((2, 2, 4, 3)), 1: jnp.ones((2, 4, 8, 2))},
    )
    assert [flow.shape for flow in flows] == [(2, 1, 2, 2), (2, 2, 4, 2), (2, 4, 8, 2)]
