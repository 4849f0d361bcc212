"""Tests for jaxflow.classical.structure."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from jaxflow.classical import structure

# OpenCV scales Sobel by 1 / (4 block) and sums; we divide by 8 and average.
SCALE = 4.0


@pytest.fixture
def image(rng):
    return rng.uniform(size=(40, 48)).astype(np.float32)


@pytest.fixture
def tensor(image):
    return ops.structure_tensor(
        image[..., None], window=5, kernel="sobel", border="reflect"
    )


def test_eigenvalues_match_opencv(image, tensor):
    # Eigenvalues are in no order there. Float32 sums of 25 products of order 1.
    reference = cv2.cornerEigenValsAndVecs(image, 5, 3)[..., :2]
    expected = np.sort(reference, axis=-1)[..., ::-1]
    actual = SCALE * structure.eigenvalues(tensor)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_responses_match_opencv(image, tensor):
    np.testing.assert_allclose(
        SCALE * structure.shi_tomasi(tensor),
        cv2.cornerMinEigenVal(image, 5, ksize=3),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        SCALE**2 * structure.harris(tensor, k=0.05),
        cv2.cornerHarris(image, 5, 3, 0.05),
        atol=1e-5,
    )


def test_direction_is_an_eigenvector(tensor):
    direction = structure.principal_direction(tensor)
    x, y = direction[..., 0], direction[..., 1]
    xx, xy, yy = (tensor[..., k] for k in range(3))
    larger = structure.eigenvalues(tensor)[..., 0]
    np.testing.assert_allclose(xx * x + xy * y, larger * x, atol=1e-5)
    np.testing.assert_allclose(xy * x + yy * y, larger * y, atol=1e-5)


def test_a_bright_quadrant_is_corner_edges_and_flats():
    image = np.zeros((64, 64, 1), np.float32)
    image[32:, 32:] = 1
    tensor = ops.structure_tensor(image, window=5, kernel="sobel")
    kind = structure.classify(tensor)
    assert kind[32, 32] == structure.CORNER
    assert kind[50, 32] == kind[32, 50] == structure.EDGE
    assert kind[10, 10] == kind[50, 50] == structure.FLAT
    confidence = structure.confidence(tensor)
    assert confidence[32, 32] > 0.9
    assert confidence[50, 32] < 1e-3 and confidence[10, 10] == 0
    response = structure.harris(tensor)
    assert response[32, 32] > 0 > response[50, 32]


def test_gradients_are_finite_where_eigenvalues_meet():
    flat, isotropic = jnp.zeros((1, 1, 3)), jnp.array([[[1.0, 0.0, 1.0]]])
    for tensor in (flat, isotropic):
        for function in (
            structure.eigenvalues,
            structure.principal_direction,
            structure.confidence,
        ):
            slope = jax.grad(lambda t, function=function: function(t).sum())(tensor)
            assert np.isfinite(slope).all()
