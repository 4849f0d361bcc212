"""Tests for jaxflow.ops.roi."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops


@pytest.mark.parametrize("cells", [3, 7])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("convention", ["aligned", "legacy"])
def test_reproduces_torchvision(test_data, convention, sampling_ratio, cells):
    golden = np.load(test_data / "golden" / "video" / "roi_align.npz")
    expected = golden[f"out_{convention}_sr{sampling_ratio}_{cells}x{cells}"]
    expected = np.moveaxis(expected, 1, -1)

    @jax.jit
    def pool(features, boxes):
        return ops.roi_align(
            features,
            boxes[:, 1:],
            boxes[:, 0].astype(jnp.int32),
            size=(cells, cells),
            scale=1 / 16,
            sampling_ratio=sampling_ratio,
            aligned=convention == "aligned",
        )

    features = jnp.asarray(np.moveaxis(golden["features"], 1, -1))
    actual = pool(features, jnp.asarray(golden["boxes"]))
    # Sample points of order 10 in float32, on maps whose slopes are of order 1.
    np.testing.assert_allclose(actual[..., : expected.shape[-1]], expected, atol=1e-5)


def test_a_ramp_averages_to_the_centres_of_the_cells():
    rows, columns = jnp.meshgrid(jnp.arange(10.0), jnp.arange(12.0), indexing="ij")
    ramp = jnp.stack([columns, rows], axis=-1)[None]
    box = jnp.array([[2.0, 1.0, 8.0, 5.0]])
    out = ops.roi_align(ramp, box, jnp.zeros(1, jnp.int32), size=(2, 3))
    # Corners count from the top-left corner of the first pixel.
    np.testing.assert_allclose(out[0, 0, :, 0], [2.5, 4.5, 6.5], atol=1e-5)
    np.testing.assert_allclose(out[0, :, 0, 1], [1.5, 3.5], atol=1e-5)


def test_gradient_is_adjoint_to_the_pooling(rng):
    features, along = (
        jnp.asarray(rng.normal(size=(2, 6, 7, 3)), jnp.float32) for _ in range(2)
    )
    boxes = jnp.array(
        [[0.0, 0.0, 4.0, 5.0], [-1.0, 2.0, 9.0, 4.0], [1.0, 1.0, 2.0, 2.0]]
    )
    owners = jnp.array([1, 0, 1])

    def pool(features, boxes):
        return ops.roi_align(features, boxes, owners, size=(2, 2))

    out, pull = jax.vjp(pool, features, boxes)
    cotangent = jnp.asarray(rng.normal(size=out.shape), jnp.float32)
    for_features, for_boxes = pull(cotangent)
    np.testing.assert_allclose(
        jnp.vdot(for_features, along),
        jnp.vdot(cotangent, pool(along, boxes)),
        rtol=1e-4,
    )
    np.testing.assert_array_equal(for_boxes, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_keeps_half_precision(dtype):
    features = jnp.full((1, 5, 5, 2), 3, dtype)
    box = jnp.array([[0.5, 0.5, 4.5, 4.5]])
    out = ops.roi_align(features, box, jnp.zeros(1, jnp.int32), size=(3, 3))
    assert out.dtype == dtype
    # Weights of 8 bits sum to one within a few units in the last place.
    np.testing.assert_allclose(out.astype(jnp.float32), 3, rtol=0.01)


def test_rejects_boxes_without_owners():
    with pytest.raises(AssertionError):
        ops.roi_align(
            jnp.ones((1, 4, 4, 1)), jnp.ones((2, 4)), jnp.zeros(3, int), size=(2, 2)
        )
