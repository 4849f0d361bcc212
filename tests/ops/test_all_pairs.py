"""Tests for jaxflow.ops.all_pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def golden(test_data):
    return np.load(test_data / "golden" / "flow" / "ops.npz")


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


def raft_maps(golden):
    return (channels_last(golden[f"raft_{name}"]) for name in ("fmap1", "fmap2"))


@pytest.mark.parametrize("radius", [3, 4])
def test_lookup_reproduces_raft(golden, radius):
    one, two = raft_maps(golden)
    points = channels_last(golden["raft_coords"])
    window = (slice(None), slice(4, 10), slice(5, 11))
    expected = channels_last(golden[f"raft_lookup_r{radius}_crop"])

    @jax.jit
    def held(one, two, points):
        pyramid = ops.correlation_pyramid(ops.all_pairs_correlation(one, two), 4)
        return ops.lookup(pyramid, points, radius=radius), pyramid

    @jax.jit
    def on_demand(one, two, points):
        levels = [two]
        for _ in range(3):
            levels.append(ops.avg_pool(levels[-1], 2))
        return ops.lookup_on_demand(one, levels, points, radius=radius)

    actual, pyramid = held(one, two, points)
    # Sums of 8 products of order 1 in float32, at points of order 10.
    np.testing.assert_allclose(actual[window], expected, atol=1e-5)
    np.testing.assert_allclose(on_demand(one, two, points), actual, atol=1e-5)
    coarsest = pyramid[3].reshape(-1, *pyramid[3].shape[-2:])[:40]
    np.testing.assert_allclose(coarsest, golden["raft_corr_level3_crop"], atol=1e-5)


def test_lookups_have_equal_gradients(rng):
    one, two = normal(rng, 3, 4, 5), normal(rng, 6, 7, 5)
    # Clear of pixel centres, where the slope in the points jumps.
    points = jnp.asarray(
        rng.integers(-1, 7, (3, 4, 2)) + rng.uniform(0.2, 0.8, (3, 4, 2)), jnp.float32
    )

    def held(one, two, points):
        pyramid = ops.correlation_pyramid(ops.all_pairs_correlation(one, two), 2)
        return (ops.lookup(pyramid, points, radius=1) ** 2).sum()

    def on_demand(one, two, points):
        levels = [two, ops.avg_pool(two, 2)]
        return (ops.lookup_on_demand(one, levels, points, radius=1) ** 2).sum()

    gradients = [
        jax.jit(jax.grad(f, (0, 1, 2)))(one, two, points) for f in (held, on_demand)
    ]
    for actual, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_channels_run_over_x_slowly_and_levels_slowest(rng):
    volume = normal(rng, 1, 1, 8, 8)
    points = jnp.array([[[3.0, 4.0]]])
    pyramid = ops.correlation_pyramid(volume, 2)
    out = ops.lookup(pyramid, points, radius=1).reshape(2, 3, 3)
    np.testing.assert_array_equal(out[0], volume[0, 0, 3:6, 2:5].T)
    # At half resolution the point is (1.5, 2).
    between = (pyramid[1][0, 0, 1:4, 0:3] + pyramid[1][0, 0, 1:4, 1:4]) / 2
    np.testing.assert_allclose(out[1], between.T, atol=1e-6)


def test_lookup_reads_zeros_outside(rng):
    one, two = normal(rng, 1, 3, 2), normal(rng, 4, 5, 2)
    far = jnp.array([[[1e9, 0.0], [-1e9, 1e9], [jnp.inf, 2.0]]])
    pyramid = [ops.all_pairs_correlation(one, two)]
    for out in (
        ops.lookup(pyramid, far, radius=1),
        ops.lookup_on_demand(one, [two], far, radius=1),
    ):
        np.testing.assert_array_equal(out[0, :2], 0)


def test_the_pyramid_drops_odd_rows_and_stops_in_time(rng):
    volume = normal(rng, 2, 2, 5, 7)
    halved = ops.correlation_pyramid(volume, 2)[1]
    assert halved.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(
        halved[..., 1, 2], volume[..., 2:4, 4:6].mean((-2, -1)), atol=1e-6
    )
    with pytest.raises(ValueError, match=r"`levels` must be at most 3 .* got 4"):
        ops.correlation_pyramid(volume, 4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_points_of_half_precision_read_the_pixels_that_they_name(dtype):
    # Multiples of 4, which both types hold; what is beside them bfloat16 does not.
    points = jnp.array([[[300.0, 0.0], [516.0, 0.0]]])
    two = jnp.arange(600.0)[None, :, None] / 600
    one = jnp.ones((1, 2, 1))
    pyramid = [ops.all_pairs_correlation(one, two)]
    for lookup in (
        lambda points: ops.lookup(pyramid, points, radius=1),
        lambda points: ops.lookup_on_demand(one, [two], points, radius=1),
    ):
        np.testing.assert_array_equal(lookup(points.astype(dtype)), lookup(points))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, p: ops.lookup([v], p, radius=-1), "`radius` must be at least 0"),
        (lambda v, p: ops.lookup([v], p, radius=1.5), "`radius` must be a whole"),
        (lambda v, p: ops.lookup([], p, radius=1), "`pyramid` must have one level"),
        (
            lambda v, p: ops.lookup([v[..., :0]], p, radius=1),
            r"`pyramid\[0\]` must have pixels",
        ),
        (
            lambda v, p: ops.lookup_on_demand(v[..., 0], [v[..., 0]], p, radius=-1),
            "`radius` must be at least 0",
        ),
        (
            lambda v, p: ops.lookup_on_demand(v[..., 0], [], p, radius=0),
            "`features2_pyramid` must have one level",
        ),
        (lambda v, p: ops.correlation_pyramid(v, 0), "`levels` must be at least 1"),
        (lambda v, p: ops.correlation_pyramid(v, 2.0), "`levels` must be a whole"),
    ],
)
def test_numbers_and_levels_that_cannot_be_are_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((3, 4, 5, 6)), jnp.ones((3, 4, 2)))


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_empty_batches_are_empty(batch):
    one, points = jnp.ones((*batch, 3, 4, 5)), jnp.ones((*batch, 3, 4, 2))

    def held(one, points):
        volume = ops.all_pairs_correlation(one, one)
        return ops.lookup(ops.correlation_pyramid(volume, 2), points, radius=1)

    def on_demand(one, points):
        return ops.lookup_on_demand(one, [one, one], points, radius=1)

    for lookup in (held, on_demand):
        out, pull = jax.vjp(lookup, one, points)
        assert (out.shape, out.dtype) == ((*batch, 3, 4, 18), one.dtype)
        assert [x.shape for x in pull(out)] == [one.shape, points.shape]
