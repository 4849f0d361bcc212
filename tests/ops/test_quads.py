"""Tests for jaxflow.ops.quads, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from jaxflow.ops import bilinear, quads


@pytest.fixture(params=[(2, 5, 6, 3, 7), (3, 4, 3, 33, 1100)], ids=["few", "many"])
def arrays(request, rng):
    """An image, weights, places that reach over all edges, and values."""
    batch, height, width, channels, points = request.param
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    rows = rng.integers(-1, height + 1, (batch, points))
    columns = rng.integers(-1, width + 1, (batch, points))
    places = jnp.asarray(np.stack([rows, columns], axis=-1), jnp.int32)
    image, weights = normal(batch, height, width, channels), normal(batch, points, 4)
    return image, weights, places, normal(batch, points, channels)


def looped(image, weights, places):
    """Reads an image in a frame of zeros, point by point."""
    framed = np.pad(image, ((0, 0), (1, 2), (1, 2), (0, 0)))
    out = np.zeros((*places.shape[:2], image.shape[-1]))
    for example, point in np.ndindex(places.shape[:2]):
        row, column = places[example, point] + 1
        window = framed[example, row : row + 2, column : column + 2]
        square = weights[example, point].reshape(2, 2, 1)
        out[example, point] = (window * square).sum(axis=(0, 1))
    return out


def test_pixels_are_blended_and_spread(arrays):
    image, _, _, values = arrays
    found, spread = jax.jit(
        lambda *arrays: (
            quads.blend(*arrays[:3]),
            quads.spread(arrays[3], *arrays[1:3], image.shape[1:3]),
        )
    )(*arrays)
    expected = looped(*map(np.asarray, arrays[:3]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # <blend(image), values> = <image, spread(values)>
    one, other = np.vdot(expected, values), np.vdot(image, spread)
    np.testing.assert_allclose(other, one, rtol=1e-3)


def test_the_forms_for_cpus_compute_what_the_plain_ones_do(arrays):
    image, weights, places, values = arrays
    operands = ((image, weights), (values, weights), (image, values))
    likes = (values, image, weights)
    for made, two, like in zip(quads.QUADS.primitives, operands, likes, strict=True):
        struct = jax.ShapeDtypeStruct(like.shape, like.dtype)
        plain, on_cpu = (
            jax.jit(bilinear.run(form, like=struct, settings=None, depth=0))(
                *two, places
            )
            for form in (made.plain, made.on_cpu)
        )
        assert plain.shape == on_cpu.shape == like.shape
        np.testing.assert_allclose(on_cpu, plain, rtol=0, atol=2e-4)


def test_derivatives_of_both_orders(arrays):
    image, weights, places, _ = (x[:1, :6] for x in arrays)

    def error(image, weights):
        return jnp.tanh(quads.blend(image, weights, places)).sum()

    test_util.check_grads(error, (image, weights), order=2, rtol=0.05, atol=0.05)
