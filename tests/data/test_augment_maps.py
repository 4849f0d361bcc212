"""Tests for jaxflow.data.augment_maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.data import augment_maps

OLD = (40, 56)
NEW = (32, 44)


def test_maps_of_flownet_stay_inside_the_old_frame():
    keys = jax.random.split(jax.random.key(1), 64)
    draw = functools.partial(
        augment_maps.draw_maps, ranges=augment_maps.Affine(), old=OLD, new=NEW
    )
    maps = np.stack(jax.jit(jax.vmap(draw))(keys), axis=1)
    corners = np.array([[x, y, 1] for x in (0, NEW[1] - 1) for y in (0, NEW[0] - 1)])
    reached = (corners @ np.swapaxes(maps, -1, -2))[..., :2]
    assert reached.min() > -0.01
    assert (reached.max((0, 1, 2)) < np.array(OLD[::-1]) - 0.99).all()
    # They are not all the fallback, and the frames move against each other.
    assert len(np.unique(maps[:, 0, 0, 0].round(5))) > 50
    relative = np.linalg.inv(maps[:, 1]) @ maps[:, 0]
    assert 0.005 < np.std(np.arctan2(relative[:, 1, 0], relative[:, 0, 0])) < 0.06


def test_maps_of_raft_scale_flip_and_cut_as_often_as_they_say():
    ranges = augment_maps.ScaleAndCrop(scale=(0.2, 1.0))
    keys = jax.random.split(jax.random.key(1), 2000)
    draw = functools.partial(augment_maps.draw_maps, ranges=ranges, old=OLD, new=NEW)
    first, second = map(np.asarray, jax.jit(jax.vmap(draw))(keys))
    np.testing.assert_array_equal(first, second)
    # Four standard deviations of a frequency in 2000 draws are below 0.045.
    assert np.mean(first[:, 0, 0] < 0) == pytest.approx(0.5, abs=0.045)
    assert np.mean(first[:, 1, 1] < 0) == pytest.approx(0.1, abs=0.03)
    assert np.mean(np.abs(first[:, 0, 0]) == 1) == pytest.approx(0.2, abs=0.04)
    scaled = np.abs(first[:, 0, 0]) != 1
    zoom = -np.log2(np.abs(np.diagonal(first, axis1=1, axis2=2)[scaled, :2]))
    assert zoom.min() > 0.2 - 0.2 and zoom.max() < 1.0 + 0.2
    assert np.abs(zoom[:, 0] - zoom[:, 1]).max() < 0.4


def test_the_inverse_takes_points_back(rng):
    matrix = jnp.asarray(np.eye(3) + 0.01 * rng.normal(size=(3, 3)), jnp.float32)
    points = jnp.asarray(rng.uniform(0, 50, (4, 2)), jnp.float32)
    moved = augment_maps.map_points(matrix, points)
    homogeneous = np.pad(points, ((0, 0), (0, 1)), constant_values=1) @ matrix.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    back = augment_maps.map_points(augment_maps.invert(matrix), moved)
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_what_is_inside_are_the_pixel_centres():
    points = jnp.array([[0.0, 0.0], [4.0, 2.0], [-0.1, 1.0], [4.1, 1.0], [1.0, 2.1]])
    expected = [True, True, False, False, False]
    assert augment_maps.inside(points, (3, 5)).tolist() == expected
