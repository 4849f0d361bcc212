"""Tests for jaxflow.ops.warp."""

import cv2
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.ndimage

from jaxflow import ops

# scipy's "constant" does not blend across the edge; "grid-constant" does, as we do.
SCIPY_MODE = {"zeros": "grid-constant", "border": "nearest"}
CV2_BORDER = {"zeros": cv2.BORDER_CONSTANT, "border": cv2.BORDER_REPLICATE}

# Golden array -> the options that reproduce it.
PUBLISHED = {
    "warp_pwc": dict(mask=0.9999),
    "warp_spynet": dict(padding="border"),
    "warp_liteflownet": dict(),
    "warp_nvidia_resample2d": dict(padding="border"),
    "warp_caffe_flowwarp_formula": dict(mask="inside"),
    "warp_irr": dict(mask=1.0),
    "warp_irr_mask09999": dict(mask=0.9999),
    "warp_hd3": dict(padding="border", mask=0.9999),
    "warp_vcn": dict(mask="strict"),
    "warp_raft_bilinear_sampler": dict(),
}


# Compiled as a whole, the tests run in half the time.
bilinear_sample = jax.jit(ops.bilinear_sample, static_argnames="padding")
bicubic_sample = jax.jit(ops.bicubic_sample, static_argnames=("padding", "a"))
backward_warp = jax.jit(ops.backward_warp, static_argnames=("padding", "mask"))
sampling_mask = jax.jit(ops.sampling_mask, static_argnames=("size", "mask"))


def scipy_sample(image, points, padding):
    """The same map in float64, one example and one channel at a time."""
    if image.ndim > 3:
        pairs = zip(image, points, strict=True)
        return np.stack([scipy_sample(*pair, padding) for pair in pairs])
    rows_columns = np.moveaxis(points[..., ::-1], -1, 0)
    channels = np.moveaxis(image.astype(np.float64), -1, 0)
    mode = SCIPY_MODE[padding]
    return np.stack(
        [
            scipy.ndimage.map_coordinates(channel, rows_columns, order=1, mode=mode)
            for channel in channels
        ],
        axis=-1,
    )


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


def test_grid_counts_x_to_the_right_and_y_down():
    grid = ops.pixel_grid(2, 3)
    assert grid.shape == (2, 3, 2)
    np.testing.assert_array_equal(grid[1, 2], [2, 1])


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 6)], ids=str)
def test_matches_scipy_in_and_around_the_image(batch, size, padding, rng):
    image = rng.normal(size=(*batch, *size, 2)).astype(np.float32)
    points = rng.uniform(-3, 12, size=(*batch, 5, 4, 2)).astype(np.float32)
    found = bilinear_sample(jnp.asarray(image), jnp.asarray(points), padding=padding)
    # Float32 positions near 10 are 1e-6 apart, and slopes here are a few units.
    np.testing.assert_allclose(
        found, scipy_sample(image, points, padding), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("shape", [(2,), (7, 2), (2, 3, 4, 2)], ids=str)
def test_points_may_have_any_number_of_axes(shape, rng):
    image = jnp.asarray(rng.normal(size=(5, 6, 3)), jnp.float32)
    points = jnp.asarray(rng.uniform(0, 5, size=shape), jnp.float32)
    found = bilinear_sample(image, points)
    assert found.shape == (*shape[:-1], 3)
    flat = bilinear_sample(image, points.reshape(-1, 1, 2))
    np.testing.assert_array_equal(found.reshape(-1, 1, 3), flat)


@pytest.mark.parametrize("name", PUBLISHED)
def test_reproduces_the_warp_of_a_published_network(name, test_data):
    golden = np.load(test_data / "golden/flow/ops.npz")
    image, flow = channels_last(golden["warp_x"]), channels_last(golden["warp_flow"])
    found = backward_warp(image, flow, **PUBLISHED[name])
    # The originals normalise positions to [-1, 1] and back, in float32.
    np.testing.assert_allclose(found, channels_last(golden[name]), atol=1e-5, rtol=0)


def test_strict_mask_is_that_of_vcn(test_data):
    golden = np.load(test_data / "golden/flow/ops.npz")
    flow = channels_last(golden["warp_flow"])
    size = flow.shape[-3:-1]
    found = sampling_mask(flow + ops.pixel_grid(*size)[None], size, mask="strict")
    np.testing.assert_array_equal(found, golden["warp_vcn_mask"])


@pytest.mark.parametrize("threshold", [0.3, 0.9999, 1.0])
def test_threshold_mask_is_that_of_a_warped_image_of_ones(threshold, rng):
    points = jnp.asarray(rng.uniform(-2, 8, size=(40, 40, 2)), jnp.float32)
    ones = bilinear_sample(jnp.ones((6, 5, 1)), points)[..., 0]
    found = sampling_mask(points, (6, 5), mask=threshold)
    # Weights sum to 1 up to rounding.
    np.testing.assert_array_equal(found, ones >= threshold - 1e-6)


def test_masks_differ_on_the_edge_only():
    points = jnp.array(
        [[0.0, 0.0], [4.0, 3.0], [-0.00005, 1.0], [2.0, 1.0], [4.5, 1.0]]
    )
    masks = {
        mask: sampling_mask(points, (4, 5), mask=mask).tolist()
        for mask in ("strict", "inside", 0.9999, 0.5, None)
    }
    assert masks == {
        "strict": [False, False, False, True, False],
        "inside": [True, True, False, True, False],
        0.9999: [True, True, True, True, False],
        0.5: [True, True, True, True, True],
        None: [True, True, True, True, True],
    }


def test_warping_undoes_a_shift(rng):
    frame1 = rng.normal(size=(8, 9, 1)).astype(np.float32)
    frame2 = np.roll(frame1, (2, 3), axis=(0, 1))
    flow = jnp.broadcast_to(jnp.array([3.0, 2.0]), (8, 9, 2))
    found = backward_warp(jnp.asarray(frame2), flow)
    np.testing.assert_array_equal(found[:6, :6], frame1[:6, :6])


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(
    "sample, flag",
    [(bilinear_sample, cv2.INTER_LINEAR), (bicubic_sample, cv2.INTER_CUBIC)],
    ids=["bilinear", "bicubic"],
)
def test_matches_opencv_remap_on_its_grid_of_positions(sample, flag, padding, rng):
    image = rng.random((20, 30, 3), dtype=np.float32)
    # OpenCV rounds positions to 1/32 pixel; these need no rounding.
    points = (rng.integers(-8 * 32, 34 * 32, (15, 17, 2)) / 32).astype(np.float32)
    found = sample(jnp.asarray(image), jnp.asarray(points), padding=padding)
    expected = cv2.remap(image, points, None, flag, borderMode=CV2_BORDER[padding])
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_bicubic_at_keys_own_slope_is_exact_on_quadratics():
    x = jnp.arange(12.0)
    image = (0.3 * x**2 - x + 2)[None, :, None]
    points = jnp.stack([jnp.linspace(2, 9, 31), jnp.zeros(31)], axis=-1)
    exact = 0.3 * points[:, 0] ** 2 - points[:, 0] + 2
    found = bicubic_sample(image, points, a=-0.5)[:, 0]
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    opencv = bicubic_sample(image, points)[:, 0]
    assert np.abs(opencv - exact).max() > 1e-3


@pytest.mark.parametrize(
    "sample, padding, channels",
    [
        (bilinear_sample, "zeros", 2),
        (bilinear_sample, "border", 9),
        (bicubic_sample, "zeros", 1),
    ],
    ids=["bilinear-zeros-2", "bilinear-border-9", "bicubic-zeros-1"],
)
def test_gradients_are_those_of_finite_differences(sample, padding, channels, rng):
    image = jnp.asarray(rng.normal(size=(2, 4, 5, channels)), jnp.float32)
    # Half-way into the cells, away from the kinks at pixel centres.
    points = rng.integers(-2, 6, size=(2, 3, 4, 2)) + rng.uniform(
        0.3, 0.7, (2, 3, 4, 2)
    )
    jax.test_util.check_grads(
        lambda image, points: sample(image, points, padding=padding),
        (image, jnp.asarray(points, jnp.float32)),
        order=1,
        modes=("fwd", "rev"),
        # The map is quadratic (cubic) in the points: steps may be long, and float32
        # differences over them are good to 1e-5 per unit.
        eps=1e-2,
        atol=1e-2,
        rtol=1e-2,
    )


def test_second_derivatives_exist_in_both_modes(rng):
    image = jnp.asarray(rng.normal(size=(5, 6, 2)), jnp.float32)
    points = jnp.asarray(rng.uniform(1, 3, size=(4, 2)), jnp.float32)

    def energy(points):
        return jnp.sum(bilinear_sample(image, points) ** 2)

    forward = jax.jacfwd(jax.grad(energy))(points)
    reverse = jax.jacrev(jax.jacrev(energy))(points)
    np.testing.assert_allclose(forward, reverse, atol=1e-5)
    assert np.abs(forward).max() > 0


def test_per_example_gradients_equal_those_of_a_loop(rng):
    image = jnp.asarray(rng.normal(size=(3, 5, 6, 2)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1, 6, size=(3, 4, 2)), jnp.float32)
    gradient = jax.jit(
        jax.grad(lambda *pair: jnp.sum(bilinear_sample(*pair) ** 2), (0, 1))
    )
    batched = jax.vmap(gradient)(image, points)
    for i in range(3):
        for one, expected in zip(batched, gradient(image[i], points[i]), strict=True):
            np.testing.assert_allclose(one[i], expected, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(
    "sample", [bilinear_sample, bicubic_sample], ids=["bilinear", "bicubic"]
)
def test_a_nan_or_infinite_point_spoils_only_itself(sample, padding, rng):
    image = jnp.asarray(rng.normal(size=(5, 6, 2)), jnp.float32)
    points = jnp.asarray(rng.uniform(0, 4, size=(3, 2)), jnp.float32)
    bad = points.at[1, 0].set(jnp.nan)

    def total(image, points):
        return jnp.nansum(sample(image, points, padding=padding))

    found = sample(image, bad, padding=padding)
    assert np.isnan(found[1]).all()
    good = np.array([0, 2])
    np.testing.assert_array_equal(
        found[good], sample(image, points, padding=padding)[good]
    )
    if sample is bilinear_sample:
        assert np.isfinite(jax.grad(total)(image, bad)).all()
    far = points.at[1].set(jnp.array([3e38, -3e38]))
    found = sample(image, far, padding=padding)
    assert np.isfinite(found).all()
    endless = points.at[1].set(jnp.array([jnp.inf, -jnp.inf]))
    np.testing.assert_array_equal(sample(image, endless, padding=padding), found)
    assert np.isfinite(jax.grad(total)(image, endless)).all()


@pytest.mark.parametrize("shape", [(0, 5, 6, 2), (3, 5, 6, 0), (3, 0, 6, 2)], ids=str)
def test_nothing_to_sample_and_no_points_have_empty_or_zero_slopes(shape):
    image = jnp.ones(shape)
    for points in (jnp.ones((*shape[:1], 4, 2)), jnp.ones((*shape[:1], 0, 2))):

        def total(image, points):
            return bilinear_sample(image, points).sum()

        assert bilinear_sample(image, points).shape == (*points.shape[:-1], shape[-1])
        for slope, like in zip(
            jax.grad(total, (0, 1))(image, points), (image, points), strict=True
        ):
            assert slope.shape == like.shape and not np.asarray(slope).any()


def test_a_nan_pixel_spoils_only_the_cells_around_it():
    image = jnp.ones((7, 7, 1)).at[3, 3].set(jnp.nan)
    points = jnp.asarray(np.stack(np.meshgrid(*[np.arange(-3, 10) + 0.5] * 2), -1))
    found = bilinear_sample(image, points.astype(jnp.float32))[..., 0]
    spoilt = np.abs(points - 3).max(-1) < 1
    np.testing.assert_array_equal(np.isnan(found), spoilt)


def test_nan_flow_is_not_hidden_by_the_mask():
    flow = jnp.zeros((3, 3, 2)).at[1, 1].set(jnp.nan)
    for mask in (0.9999, "strict", "inside"):
        found = backward_warp(jnp.ones((3, 3, 1)), flow, mask=mask)
        assert np.isnan(found[1, 1, 0]) and np.isnan(found).sum() == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_images_keep_float32_positions(dtype):
    ramp = jnp.broadcast_to(jnp.arange(600.0)[None, :, None] % 8, (2, 600, 1))
    flow = jnp.full((2, 600, 2), 0.5).at[..., 1].set(0)
    found = backward_warp(ramp.astype(dtype), flow.astype(dtype))
    assert found.dtype == dtype
    # At x = 590 a bfloat16 position could only be a multiple of 4. The values are
    # halves below 8, exact in both types.
    np.testing.assert_array_equal(
        found.astype(jnp.float32)[:, :-1], backward_warp(ramp, flow)[:, :-1]
    )


def test_float64_stays_float64(rng, double):
    image, points = rng.normal(size=(4, 5, 1)), rng.uniform(0, 3, size=(6, 2))
    found = bilinear_sample(jnp.asarray(image), jnp.asarray(points))
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(
        found, scipy_sample(image, points[:, None], "zeros")[:, 0], atol=1e-12
    )


def test_rejects_what_it_cannot_do():
    image, points = jnp.zeros((3, 4, 1)), jnp.zeros((5, 2))
    with pytest.raises(ValueError, match="padding"):
        bilinear_sample(image, points, padding="reflect")
    with pytest.raises(ValueError, match="padding"):
        bicubic_sample(image, points, padding="reflect")
    for mask in ("outside", 0.0, 1.5):
        with pytest.raises(ValueError, match="mask"):
            sampling_mask(points, (3, 4), mask=mask)
    with pytest.raises(ValueError):
        bilinear_sample(image, jnp.zeros((5, 3)))
    with pytest.raises(ValueError):
        bilinear_sample(image.astype(jnp.int32), points)
    with pytest.raises(ValueError):
        backward_warp(image, jnp.zeros((4, 3, 2)))


def test_a_sharded_batch_needs_no_communication():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    image, flow = (
        jax.ShapeDtypeStruct((8, 5, 6, c), jnp.float32, sharding=sharding)
        for c in (3, 2)
    )

    def gradients(image, flow):
        return jax.grad(lambda *pair: jnp.sum(backward_warp(*pair) ** 2), (0, 1))(
            image, flow
        )

    program = jax.jit(gradients).lower(image, flow).compile().as_text()
    assert "all-gather" not in program and "all-reduce" not in program
