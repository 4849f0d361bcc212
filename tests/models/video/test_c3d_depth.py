"""Tests for jaxflow.models.video.c3d_depth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxflow import cost
from jaxflow.models.video import c3d_depth

SIZES = (3, 64, 128, 256, 256, 256)
# 16 frames of 112 x 112 end as one of 4 x 4.
DENSE = (4 * 4 * 256 + 1) * 2048 + 2049 * 2048 + 2049 * 101


@pytest.mark.parametrize("name", c3d_depth.VARIANTS)
def test_has_as_many_parameters_as_its_parts(name):
    depths = c3d_depth.VARIANTS[name].depths
    filters = sum(
        (9 * depth * inputs + 1) * outputs
        for depth, inputs, outputs in zip(depths, SIZES[:-1], SIZES[1:], strict=True)
    )
    assert cost.count_parameters(cost.describe(name)) == filters + DENSE


def make(**overrides):
    config = dataclasses.replace(c3d_depth.TINY, **overrides)
    model = c3d_depth.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model


def test_a_network_of_depth_1_sees_frames_apart(rng):
    clip = jnp.asarray(rng.uniform(size=(1, 16, 32, 32, 3)), jnp.float32)
    moved = clip.at[:, 0].set(0.5)
    for depths, apart in (((1,) * 5, True), ((1, 1, 1, 1, 3), False)):
        model = make(depths=depths, num_frames=16)
        found = jax.jit(
            lambda clip, model=model: jax.nn.relu(
                model.convolutions[4](pooled(model, clip))
            )
        )
        one, other = found(clip), found(moved)
        changed = np.abs(one - other).max((0, 2, 3, 4)) > 1e-6
        # Two frames are left before the last convolution, each of 8.
        assert changed.tolist() == ([True, False] if apart else [True, True])


def pooled(model, clip):
    """The network up to its last convolution, with pools from lax."""
    x = (clip - 0.45) / 0.225
    for index, convolution in enumerate(model.convolutions[:4]):
        window = (1, 1 if index == 0 else 2, 2, 2, 1)
        x = jax.nn.relu(convolution(x))
        x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "SAME")
    return x


def test_partial_windows_of_pools_are_kept(rng):
    model = make(crop_size=36, num_frames=5)
    clip = jnp.asarray(rng.uniform(size=(1, 5, 36, 36, 3)), jnp.float32)

    @jax.jit
    def both(clip):
        x = jax.nn.relu(model.convolutions[4](pooled(model, clip)))
        sizes = (1, 2, 2, 2, 1)
        low = jnp.pad(
            x,
            [(0, 0), *((0, n % 2) for n in x.shape[1:4]), (0, 0)],
            constant_values=-jnp.inf,
        )
        last = lax.reduce_window(low, -jnp.inf, lax.max, sizes, sizes, "VALID")
        return model.features(clip), last

    found, expected = both(clip)
    assert found.shape == (1, 1, 2, 2, 16)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert jax.eval_shape(model, clip).shape == (1, 5)


def test_even_windows_and_other_sizes_are_refused():
    with pytest.raises(ValueError, match="`depths` must be odd"):
        make(depths=(3, 3, 2, 3, 3))
    with pytest.raises(ValueError, match="which the dense layers fix"):
        make()(jnp.zeros((1, 4, 32, 33, 3)))
