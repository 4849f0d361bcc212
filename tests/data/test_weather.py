"""Tests for jaxflow.data.weather."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize

from jaxflow.data import weather


@pytest.fixture
def image(rng):
    return jnp.asarray(rng.uniform(size=(6, 7, 3)), jnp.float32)


def test_a_black_wall_at_the_visual_range_keeps_a_fiftieth_of_its_contrast():
    # Koschmieder's visual range is ln(50) / b.
    density, airlight = 0.05, 0.7
    depth = jnp.full((1, 1), math.log(50) / density)
    seen = weather.fog(jnp.zeros((1, 1, 3)), depth, density=density, airlight=airlight)
    np.testing.assert_allclose((airlight - seen) / airlight, 1 / 50, rtol=1e-5)


def test_two_layers_of_fog_are_one_as_thick_as_both(image, rng):
    light = jnp.array([0.9, 0.8, 0.7])
    near, far = (jnp.asarray(rng.uniform(size=(6, 7)), jnp.float32) for _ in range(2))
    through = functools.partial(weather.fog, density=1.7, airlight=light)
    np.testing.assert_allclose(
        through(through(image, far), near), through(image, near + far), atol=1e-6
    )
    np.testing.assert_array_equal(through(image, 0 * near), image)
    np.testing.assert_allclose(
        through(image, 1e3 + near), np.broadcast_to(light, image.shape), atol=1e-6
    )


def test_fog_is_the_same_in_both_frames_and_thins_towards_the_top_layer(image):
    label = jnp.broadcast_to(jnp.arange(6, dtype=jnp.int32)[:, None], (6, 7))
    turned = label[::-1]
    black = jnp.zeros_like(image)

    def draw(key):
        return weather.add_fog(key, black, black, label, turned, layers=6)

    keys = jax.random.split(jax.random.key(0), 64)
    first, second = map(np.asarray, jax.jit(jax.vmap(draw))(keys))
    np.testing.assert_allclose(first, second[:, ::-1], atol=1e-6)
    assert (np.diff(first[:, :, 0, 0], axis=1) <= 0).all()
    # The background keeps e^-b of its contrast, b up to 2, before a light of 0.55 to 1.
    assert first.max() < 1 - math.exp(-2) and first[:, 0].max() > 0.5


def test_light_and_shadow_move_as_one():
    grey = jnp.ones((96, 128, 3))
    cast = jax.jit(functools.partial(weather.cast_shadows, darkest=0.9, shift=3.0))
    inside = (slice(16, -16), slice(16, -16))
    found = []
    for key in jax.random.split(jax.random.key(1), 12):
        first, second = (np.asarray(x) for x in cast(key, grey, grey))
        assert 0.09 <= first.min() and first.max() <= 1
        np.testing.assert_array_equal(first[..., 0], first[..., 2])
        first, second = first[..., 0], second[..., 0]

        def error(shift, first=first, second=second):
            moved = ndimage.shift(first, shift, order=1, mode="nearest")
            return np.abs(moved - second)[inside].mean()

        best = optimize.minimize(error, (0.1, 0.1), method="Nelder-Mead")
        # What is left is linear interpolation, which rounds the edges off.
        assert best.fun < 0.2 * error((0, 0)) + 1e-4
        found.append(best.x)
    # 24 numbers of a standard deviation of 3: that is known to 0.43.
    assert np.std(found) == pytest.approx(3, abs=1.3)


def test_shadows_fall_on_all_colours_alike_and_may_stand_still(image):
    still = functools.partial(weather.cast_shadows, shift=0.0)
    first, second = still(jax.random.key(2), image, 0.5 * image)
    np.testing.assert_allclose(second, 0.5 * first, atol=1e-6)
    gain = np.asarray(first / image)
    np.testing.assert_allclose(gain, np.broadcast_to(gain[..., :1], gain.shape), 1e-5)
    none, _ = weather.cast_shadows(jax.random.key(2), image, image, darkest=0.0)
    np.testing.assert_array_equal(none, image)


def test_refuses_a_depth_of_another_shape(image):
    with pytest.raises(ValueError, match=r"`depth` must have the shape \(6, 7\)"):
        weather.fog(image, jnp.zeros((6, 6)), density=1.0)
