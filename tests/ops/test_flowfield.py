"""Tests for jaxflow.ops.flowfield."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

from jaxflow import ops

compose = jax.jit(ops.compose)
invert = jax.jit(ops.invert, static_argnames=("method", "iterations"))
forward_backward_occlusion = jax.jit(ops.forward_backward_occlusion)
forward_interpolate = jax.jit(ops.forward_interpolate)


def affine(matrix, shift, height=24, width=30):
    """The flow of x -> (1 + matrix) x + shift about the middle of the image."""
    middle = np.array([width - 1, height - 1]) / 2
    grid = np.asarray(ops.pixel_grid(height, width)) - middle
    return jnp.asarray(grid @ np.asarray(matrix).T + np.asarray(shift), jnp.float32)


def inner(x, margin=5):
    return np.asarray(x)[..., margin:-margin, margin:-margin, :]


def test_composition_of_affine_flows_is_that_of_their_maps():
    a, s = np.array([[0.02, 0.03], [-0.04, 0.01]]), np.array([1.5, -0.5])
    b, t = np.array([[-0.03, 0.02], [0.01, 0.05]]), np.array([-0.7, 0.4])
    found = compose(affine(a, s), affine(b, t))
    # (1 + b)((1 + a) x + s) + t; bilinear reading is exact on linear functions.
    expected = affine(a + b + b @ a, b @ s + s + t)
    np.testing.assert_allclose(inner(found), inner(expected), atol=1e-4)


@pytest.mark.parametrize("method", ["splat", "fixed_point"])
def test_inverse_of_a_shift_is_exact(method):
    inverse, valid = invert(affine(np.zeros((2, 2)), [2.5, -1]), method=method)
    np.testing.assert_allclose(inner(inverse), np.broadcast_to([-2.5, 1], (14, 20, 2)))
    assert np.asarray(valid)[5:-5, 5:-5].all()


def test_fixed_point_inverts_an_affine_flow():
    a, s = np.array([[0.1, 0.05], [-0.1, 0.08]]), np.array([1.0, -0.5])
    inverse, valid = invert(affine(a, s), method="fixed_point")
    b = np.linalg.inv(np.eye(2) + a)
    # Converges by a factor 0.15 per iteration: 20 are plenty.
    np.testing.assert_allclose(
        inner(inverse), inner(affine(b - np.eye(2), -b @ s)), atol=1e-4
    )
    assert inner(valid[..., None]).all()


def test_splatting_inverts_a_smooth_flow_to_second_order():
    a = np.array([[0.05, 0.02], [-0.03, 0.04]])
    inverse, valid = invert(affine(a, [0.3, 0.2]))
    back = np.asarray(compose(inverse, affine(a, [0.3, 0.2])))
    assert inner(valid[..., None]).all()
    # An average over pixels within 1 px of a flow that changes by 0.05 per pixel.
    assert np.abs(inner(back)).max() < 0.05


def test_inverse_marks_what_was_uncovered():
    flow = jnp.zeros((6, 12, 2)).at[:, 6:].set(jnp.array([3.0, 0]))
    _, valid = invert(flow)
    expected = np.ones((6, 12), bool)
    expected[:, 6:9] = False
    np.testing.assert_array_equal(valid, expected)


def test_fixed_point_is_invalid_where_it_leaves_the_image():
    _, valid = invert(affine(np.zeros((2, 2)), [4, 0]), method="fixed_point")
    np.testing.assert_array_equal(np.asarray(valid)[0], np.arange(30) >= 4)


def square_scene(shift=6):
    """A square that moves right over a still ground: both flows, and the occlusion."""
    forward, backward = np.zeros((2, 20, 40, 2), np.float32)
    forward[5:15, 10:20] = [shift, 0]
    backward[5:15, 10 + shift : 20 + shift] = [-shift, 0]
    occluded = np.zeros((20, 40), bool)
    occluded[5:15, 20 : 20 + shift] = True
    return forward, backward, occluded


def test_finds_the_ground_that_a_square_covers():
    forward, backward, occluded = square_scene()
    found = forward_backward_occlusion(forward, backward)
    np.testing.assert_array_equal(found, occluded)


def test_what_leaves_the_image_is_occluded():
    flow = np.broadcast_to(np.float32([3, 0]), (4, 9, 2))
    found = forward_backward_occlusion(flow, -flow)
    np.testing.assert_array_equal(found[0], np.arange(9) > 5)


def test_occlusion_follows_the_published_criterion(rng):
    forward, backward = rng.integers(-3, 4, size=(2, 9, 9, 2)).astype(np.float32)
    found = forward_backward_occlusion(forward, backward, alpha=0.1, beta=2.0)
    for y, x in np.ndindex(9, 9):
        f = forward[y, x]
        i, j = x + int(f[0]), y + int(f[1])
        if 0 <= i < 9 and 0 <= j < 9:
            b = backward[j, i]
            expected = ((f + b) ** 2).sum() > 0.1 * ((f**2).sum() + (b**2).sum()) + 2
        else:
            expected = True
        assert found[y, x] == expected


def test_nan_flow_counts_as_occluded():
    flow = np.zeros((4, 5, 2), np.float32)
    flow[1, 2, 0] = np.nan
    found = forward_backward_occlusion(flow, np.zeros_like(flow))
    assert np.argwhere(found).tolist() == [[1, 2]]


def test_propagation_is_rafts(test_data):
    golden = np.load(test_data / "golden/flow/ops.npz")
    flow, expected = (
        np.moveaxis(golden[f"forward_interpolate_{end}"], 0, -1)
        for end in ("in", "out")
    )
    np.testing.assert_array_equal(forward_interpolate(flow), expected)


def test_propagation_takes_the_nearest_as_scipy_does(rng):
    flow = rng.normal(size=(2, 9, 14, 2)).astype(np.float32) * 3
    found = forward_interpolate(flow)
    grid = np.asarray(ops.pixel_grid(9, 14))
    for one, field in zip(found, flow, strict=True):
        landed = (grid + field).reshape(-1, 2)
        stays = ((landed > 0) & (landed < [14, 9])).all(-1)
        expected = scipy.interpolate.griddata(
            landed[stays], field.reshape(-1, 2)[stays], grid, method="nearest"
        )
        np.testing.assert_array_equal(one, expected)


def test_propagation_of_what_all_leaves_is_zero():
    assert (forward_interpolate(np.full((3, 4, 2), 99, np.float32)) == 0).all()


def test_propagation_drops_nan():
    flow = np.ones((5, 5, 2), np.float32)
    flow[2, 2] = np.nan
    np.testing.assert_array_equal(forward_interpolate(flow), np.ones((5, 5, 2)))


def test_gradients_are_finite(rng):
    flow = jnp.asarray(rng.normal(size=(6, 7, 2)), jnp.float32)

    def energy(flow):
        return (
            jnp.sum(ops.compose(flow, flow) ** 2)
            + jnp.sum(ops.invert(flow)[0] ** 2)
            + jnp.sum(ops.invert(flow, method="fixed_point", iterations=3)[0] ** 2)
            + jnp.sum(ops.forward_interpolate(flow) ** 2)
        )

    gradient = jax.jit(jax.grad(energy))(flow)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_flow_stays_half(dtype):
    forward, backward, occluded = (jnp.asarray(x) for x in square_scene())
    forward, backward = forward.astype(dtype), backward.astype(dtype)
    np.testing.assert_array_equal(
        forward_backward_occlusion(forward, backward), occluded
    )
    assert compose(forward, backward).dtype == dtype
    assert forward_interpolate(forward).dtype == dtype
    for method in ("splat", "fixed_point"):
        assert invert(forward, method=method)[0].dtype == dtype


def test_rejects_what_it_cannot_do():
    flow = jnp.zeros((4, 5, 2))
    with pytest.raises(ValueError, match="method"):
        ops.invert(flow, method="newton")
    with pytest.raises(ValueError, match="padding"):
        ops.compose(flow, flow, padding="wrap")
    with pytest.raises(ValueError):
        ops.forward_backward_occlusion(flow, flow[1:])
    with pytest.raises(ValueError):
        ops.forward_interpolate(jnp.zeros((4, 5, 3)))
