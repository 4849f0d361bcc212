"""Tests for jaxflow.data.scenes."""

import functools

import jax
import numpy as np
import pytest

from jaxflow.data import scenes

SIZE = (96, 128)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_key_gives_one_scene_whatever_its_batch(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 3)
    draw = functools.partial(scenes.draw_scene, size=SIZE)
    many = jax.jit(jax.vmap(draw))(keys)
    one = jax.jit(draw)(keys[2])
    for name, batched in many.layers._asdict().items():
        single = getattr(one.layers, name)
        np.testing.assert_allclose(batched[2], single, rtol=1e-5, atol=1e-5)
        assert not np.allclose(batched[0], batched[1])


def test_displacements_scale_with_the_frame():
    def motion(size):
        draw = functools.partial(scenes.draw_scene, size=size)
        return jax.jit(draw)(jax.random.key(0)).layers.forward

    small, large = motion((96, 128)), motion((192, 256))
    np.testing.assert_allclose(
        large[:, :2, 2], 2 * small[:, :2, 2], rtol=1e-4, atol=1e-4
    )
