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


def test_between_the_frames_points_go_straight_and_arrive():
    scene = jax.jit(functools.partial(scenes.draw_scene, preset="things", size=SIZE))(
        jax.random.key(4)
    )
    point = np.array([20.0, -15.0, 1.0])

    def moved(motion):
        there = (np.eye(3) + np.asarray(motion, np.float64)) @ point
        return there[:, :2] / there[:, 2:]

    def at(time):
        return scenes.at_time(scene, time).layers

    start, half, end = (moved(at(time).forward) for time in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(start, np.broadcast_to(point[:2], start.shape))
    np.testing.assert_allclose(end, moved(scene.layers.forward), rtol=1e-6)
    np.testing.assert_allclose(at(1.0).backward, scene.layers.backward, atol=1e-6)
    (dx, dy), (ex, ey) = (half - start).T, (end - start).T
    np.testing.assert_allclose(dx * ey, dy * ex, atol=1e-4)
    # Perspective speeds a point up or slows it down, by little.
    share = np.hypot(dx, dy) / np.hypot(ex, ey)
    np.testing.assert_allclose(share, 0.5, atol=0.05)
    for time in (-0.25, 0.5, 1.25):
        layers = at(time)
        product = (np.eye(3) + np.asarray(layers.forward, np.float64)) @ (
            np.eye(3) + np.asarray(layers.backward, np.float64)
        )
        product /= product[:, 2:, 2:]
        np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape),
                                   atol=1e-3)  # fmt: skip
