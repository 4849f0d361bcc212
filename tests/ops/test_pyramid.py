"""Tests for jaxflow.ops.pyramid."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxflow import ops

BORDERS = {
    "edge": ("nearest", cv2.BORDER_REPLICATE),
    "reflect": ("mirror", cv2.BORDER_REFLECT_101),
    "symmetric": ("reflect", cv2.BORDER_REFLECT),
    "zeros": ("constant", cv2.BORDER_CONSTANT),
}


@pytest.mark.parametrize("sigma", [0.5, 1.3, 2.0])
@pytest.mark.parametrize("border", BORDERS)
def test_blur_is_scipys_and_opencvs(border, sigma, rng):
    image = rng.random((19, 23, 2), dtype=np.float32)
    mode, flag = BORDERS[border]
    blur = functools.partial(
        ops.gaussian_blur, sigma=sigma, truncate=3.0, border=border
    )
    found = jax.jit(blur)(image)
    expected = scipy.ndimage.gaussian_filter(
        image, (sigma, sigma, 0), mode=mode, truncate=3.0
    )
    # OpenCV and scipy sum in float32 and float64 respectively.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    side = 2 * int(3 * sigma + 0.5) + 1
    expected = cv2.GaussianBlur(image, (side, side), sigma, borderType=flag)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_blur_takes_a_traced_width(rng):
    image = jnp.asarray(rng.random((9, 8, 2)), jnp.float32)
    blur = jax.jit(lambda image, sigma: ops.gaussian_blur(image, sigma, radius=4))
    found = blur(image, 1.2)
    np.testing.assert_allclose(
        found, ops.gaussian_blur(image, 1.2, radius=4), atol=1e-6
    )
    slope = jax.grad(lambda sigma: jnp.sum(blur(image, sigma) ** 2))(1.2)
    # Blurring more leaves less energy.
    assert np.isfinite(slope) and slope < 0


def test_blur_of_width_zero_changes_nothing(rng):
    image = jnp.asarray(rng.random((4, 5, 1)), jnp.float32)
    np.testing.assert_array_equal(ops.gaussian_blur(image, 0), image)


def test_blur_reaches_further_than_a_small_image(rng):
    image = rng.random((3, 2, 1), dtype=np.float32)
    found = ops.gaussian_blur(jnp.asarray(image), 2.0, border="reflect")
    expected = scipy.ndimage.gaussian_filter(image, (2, 2, 0), mode="mirror")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 20), (17, 21), (2, 3)], ids=str)
def test_halving_is_opencvs(size, rng):
    image = rng.random((*size, 3), dtype=np.float32)
    found = ops.pyramid_down(jnp.asarray(image))
    np.testing.assert_allclose(found, cv2.pyrDown(image), atol=1e-6)


def test_levels_halve_from_the_image_on(rng):
    image = rng.random((2, 33, 20, 1), dtype=np.float32)
    levels = ops.gaussian_pyramid(jnp.asarray(image), 3)
    assert [level.shape[1:3] for level in levels] == [(33, 20), (17, 10), (9, 5)]
    np.testing.assert_array_equal(levels[0], image)
    expected = cv2.pyrDown(cv2.pyrDown(image[1]))[..., None]
    np.testing.assert_allclose(levels[2][1], expected, atol=1e-6)


def test_a_scale_without_blur_is_opencvs_resize(rng):
    image = rng.random((50, 41, 1), dtype=np.float32)
    levels = ops.gaussian_pyramid(jnp.asarray(image), 3, scale=0.8, sigma=0)
    once = cv2.resize(image, (33, 40))
    np.testing.assert_allclose(levels[1][..., 0], once, atol=1e-5)
    np.testing.assert_allclose(levels[2][..., 0], cv2.resize(once, (26, 32)), atol=1e-5)


def test_a_scale_blurs_by_what_it_takes_to_shrink(rng):
    image = jnp.asarray(rng.random((24, 30, 1)), jnp.float32)
    automatic = ops.gaussian_pyramid(image, 2, scale=0.5)
    given = ops.gaussian_pyramid(image, 2, scale=0.5, sigma=0.6 * 3**0.5)
    jax.tree.map(np.testing.assert_array_equal, automatic, given)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_half(dtype, rng):
    image = jnp.asarray(rng.random((9, 8, 1)), dtype)
    for options in (dict(), dict(scale=0.7)):
        levels = ops.gaussian_pyramid(image, 2, **options)
        assert all(level.dtype == dtype for level in levels)


def test_rejects_what_it_cannot_do():
    image = jnp.zeros((8, 8, 1))
    with pytest.raises(ValueError, match="sigma"):
        ops.gaussian_blur(image, -1.0)
    with pytest.raises(ValueError, match="border"):
        ops.gaussian_blur(image, 1.0, border="wrap")
    with pytest.raises(ValueError, match="border"):
        ops.pyramid_down(image, border="wrap")
    with pytest.raises(ValueError, match="levels"):
        ops.gaussian_pyramid(image, 0)
    with pytest.raises(ValueError, match="scale"):
        ops.gaussian_pyramid(image, 2, scale=1.5)
    with pytest.raises(ValueError, match="sigma"):
        ops.gaussian_pyramid(image, 2, sigma=1.0)
