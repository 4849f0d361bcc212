"""Tests for jaxflow.data.jpeg."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxflow.data import jpeg


@pytest.fixture
def picture(rng):
    """Smooth colours, an edge and some noise, (45, 61, 3) uint8."""
    y, x = np.mgrid[:45, :61]
    values = np.stack([2 * x + y, 255 - 4 * y, 128 + 90 * np.sin(x / 5)], axis=-1)
    values[10:30, 20:40] = (250, 10, 30)
    return np.clip(values + rng.normal(0, 12, values.shape), 0, 255).astype(np.uint8)


def by_libjpeg(picture, quality):
    file = io.BytesIO()
    # Neither of two chroma samples is dropped.
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(file), np.float32)


@pytest.mark.parametrize("quality", [5, 25, 50, 75, 90, 100])
def test_what_is_lost_is_what_libjpeg_loses(picture, quality):
    expected = by_libjpeg(picture, quality)
    found = 255 * np.asarray(jpeg.compress(jnp.asarray(picture / 255.0), quality))
    # libjpeg transforms to integers, an eighth of a level apart: where a coefficient is
    # near a half and goes the other way, its block differs by a level or some.
    error = np.abs(found - expected).mean()
    assert error < 1
    if quality < 95:
        assert error < 0.2 * np.abs(expected - picture).mean()


def test_the_quality_may_be_traced_and_a_batch_is_its_pictures(picture):
    pictures = jnp.asarray(np.stack([picture, picture[::-1]]) / 255.0, jnp.float32)
    qualities = jnp.array([20, 80])
    found = jax.jit(jax.vmap(jpeg.compress))(pictures, qualities)
    for one, image, quality in zip(found, pictures, (20, 80), strict=True):
        np.testing.assert_allclose(one, jpeg.compress(image, quality), atol=1e-6)
    both = jpeg.compress(pictures, 20)
    np.testing.assert_allclose(both[0], found[0], atol=1e-6)


def test_qualities_out_of_range_are_the_nearest_in_it(picture):
    image = jnp.asarray(picture / 255.0)
    for outside, inside in ((0, 1), (-5, 1), (120, 100)):
        found = jpeg.compress(image, outside)
        np.testing.assert_array_equal(found, jpeg.compress(image, inside))


def test_grey_of_one_block_stays_and_types_do():
    grey = jnp.full((3, 5, 3), 128 / 255, jnp.bfloat16)
    found = jpeg.compress(grey, 10)
    assert found.dtype == jnp.bfloat16 and found.shape == grey.shape
    np.testing.assert_array_equal(found, grey)


def test_refuses_what_is_no_picture():
    with pytest.raises(ValueError, match=r"`image` must have the shape"):
        jpeg.compress(jnp.zeros((8, 8)), 50)
