"""Tests for jaxflow.classical.median."""

import cv2
import jax
import numpy as np
import pytest

from jaxflow.classical import median

filtered = jax.jit(median.median_filter, static_argnames="size")


@pytest.mark.parametrize("size", [3, 5])
def test_is_opencvs_bit_for_bit(rng, size):
    image = rng.normal(size=(17, 21)).astype(np.float32)
    actual = filtered(image[..., None], size=size)[..., 0]
    np.testing.assert_array_equal(actual, cv2.medianBlur(image, size))


def test_gradient_goes_to_the_pixel_taken(rng):
    image = rng.permutation(48).reshape(6, 8, 1).astype(np.float32)
    slope = jax.jit(jax.grad(lambda x: median.median_filter(x, size=3)[2, 3, 0]))(image)
    window = image[1:4, 2:5, 0]
    expected = np.zeros_like(image)
    expected[1:4, 2:5, 0] = window == np.median(window)
    np.testing.assert_array_equal(slope, expected)


def test_size_one_is_the_identity_and_even_sizes_are_refused():
    image = np.ones((4, 4, 1), np.float32)
    assert median.median_filter(image, size=1) is image
    with pytest.raises(ValueError, match="size"):
        median.median_filter(image, size=4)
