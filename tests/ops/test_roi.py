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
    with pytest.raises(ValueError):
        ops.roi_align(
            jnp.ones((1, 4, 4, 1)), jnp.ones((2, 4)), jnp.zeros(3, int), size=(2, 2)
        )


def direct(features, box, cells, scale, aligned):
    """RoIAlign of one map as the paper says it, sample by sample, in float64."""
    height, width = features.shape[:2]
    x1, y1, x2, y2 = np.asarray(box, np.float64) * scale - (0.5 if aligned else 0)
    tall, wide = (y2 - y1) / cells, (x2 - x1) / cells
    many = [max(1, int(np.ceil(side))) for side in (tall, wide)]

    def along(first, step, count, cell, size):
        at = first + step * (cell + (np.arange(count) + 0.5) / count)
        at = at[(at >= -1) & (at <= size)].clip(0, size - 1)
        hats = 1 - np.abs(at[:, None] - np.arange(size))
        return hats.clip(0).sum(0) / count

    rows = np.stack([along(y1, tall, many[0], c, height) for c in range(cells)])
    columns = np.stack([along(x1, wide, many[1], c, width) for c in range(cells)])
    return np.einsum("ph,qw,hwc->pqc", rows, columns, features)


@pytest.mark.parametrize("aligned", [True, False])
def test_boxes_far_larger_than_the_map_cost_no_more_and_are_exact(rng, aligned):
    features = rng.normal(size=(9, 11, 2))
    boxes = [
        [-3000.0, -900.0, 2000.0, 1300.0],
        [-40.0, -35.0, 4000.0, 60.0],
        [100.0, 30.0, 160.0, 140.0],
        [-1e9, -1e9, 1e9, 1e9],
    ]
    out = jax.jit(
        lambda features, boxes: ops.roi_align(
            features[None],
            boxes,
            jnp.zeros(len(boxes), jnp.int32),
            size=(3, 3),
            scale=1 / 16,
            aligned=aligned,
        )
    )(jnp.asarray(features, jnp.float32), jnp.asarray(boxes))
    for grid, box in zip(out[:3], boxes[:3], strict=True):
        expected = direct(features, box, 3, 1 / 16, aligned)
        np.testing.assert_allclose(grid, expected, atol=2e-4)
    # Of 20 million samples in a cell, some eleven dozen are on the map.
    np.testing.assert_allclose(out[3], 0, atol=1e-2)


def test_rows_that_pad_give_zero_and_boxes_that_are_not_finite_nan():
    boxes = jnp.array([[0.0, 0, 4, 4]] * 3 + [[0, np.nan, 4, 4], [0, 0, np.inf, 4]])
    owners = jnp.array([0, -1, 2, 1, 1])

    def pool(features):
        return ops.roi_align(features, boxes, owners, size=(2, 2))

    out = jax.jit(pool)(jnp.ones((2, 5, 5, 1)))
    np.testing.assert_array_equal(out[0], 1)
    np.testing.assert_array_equal(out[1:3], 0)
    assert np.isnan(out[3:]).all()
    # Padding teaches nothing: only the first box has a finite owner.
    slope = jax.grad(lambda features: jnp.sum(pool(features)[:3]))
    np.testing.assert_array_equal(slope(jnp.ones((2, 5, 5, 1)))[1], 0)
