"""Tests for jaxflow.ops.correlation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def numpy_correlation(one, two, radius, stride=1, dilation=1):
    """The sum over channels, straight from the definition, on (H, W, C)."""
    reach = radius * dilation
    padded = np.pad(two, ((reach, reach), (reach, reach), (0, 0)))
    steps = range(0, 2 * reach + 1, dilation)
    height, width = one.shape[:2]
    return np.stack(
        [
            (one * padded[i : i + height, j : j + width]).sum(-1)[::stride, ::stride]
            for i in steps
            for j in steps
        ],
        axis=-1,
    )


@pytest.fixture(scope="module")
def golden(test_data):
    return np.load(test_data / "golden" / "flow" / "ops.npz")


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize(
    ("name", "maps", "settings"),
    [
        ("corr_pwc_md4", "corr", {"radius": 4}),
        ("corr_liteflownet_r3_stride1", "corr", {"radius": 3}),
        (
            "corr_liteflownet_r3_stride2",
            "corr",
            {"radius": 3, "stride": 2, "dilation": 2},
        ),
        ("corr_flownetc_md20_s2", "corrc", {"radius": 10, "dilation": 2}),
    ],
)
def test_reproduces_the_published_networks(golden, name, maps, settings):
    one, two = (channels_last(golden[f"{maps}_f{i}"]) for i in (1, 2))
    actual = ops.local_correlation(one, two, **settings)
    # Means of 4 or 6 products of order 1 in float32.
    np.testing.assert_allclose(actual, channels_last(golden[name]), atol=1e-5)


@pytest.mark.parametrize(
    ("stride", "dilation"), [(1, 1), (2, 2), (1, 3), (4, 2), (3, 2), (2, 1)]
)
@pytest.mark.parametrize("size", [(1, 1), (5, 37)], ids=str)
def test_is_its_definition_at_any_size(rng, size, stride, dilation):
    one, two = normal(rng, *size, 3), normal(rng, *size, 3)
    correlate = functools.partial(
        ops.local_correlation,
        radius=2,
        stride=stride,
        dilation=dilation,
        normalise=False,
    )
    actual = jax.jit(correlate)(one, two)
    expected = numpy_correlation(one, two, 2, stride, dilation)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_takes_any_number_of_batch_axes_and_vmap(rng):
    one, two = normal(rng, 2, 3, 4, 5, 6), normal(rng, 2, 3, 4, 5, 6)

    def correlate(one, two):
        return ops.local_correlation(one, two, radius=1)

    actual = correlate(one, two)
    assert actual.shape == (2, 3, 4, 5, 9)
    expected = numpy_correlation(one[1, 2], two[1, 2], 1) / 6
    np.testing.assert_allclose(actual[1, 2], expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(correlate)(one, two), actual, atol=1e-6)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 2), (1, 2)])
def test_gradients_are_adjoint_to_the_correlation(rng, stride, dilation):
    one, two, along = (normal(rng, 5, 19, 4) for _ in range(3))

    @jax.jit
    def correlate(one, two):
        return ops.local_correlation(
            one, two, radius=2, stride=stride, dilation=dilation
        )

    out, pull = jax.vjp(correlate, one, two)
    cotangent = normal(rng, *out.shape)
    for_one, for_two = pull(cotangent)
    np.testing.assert_allclose(
        np.vdot(for_one, along), np.vdot(cotangent, correlate(along, two)), rtol=1e-4
    )
    np.testing.assert_allclose(
        np.vdot(for_two, along), np.vdot(cotangent, correlate(one, along)), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("size", "radius", "settings"),
    [
        ((5, 19, 4), 2, {}),
        ((7, 6, 3), 1, {"stride": 2, "dilation": 2}),
        ((40, 70, 16), 4, {}),
    ],
    ids=str,
)
def test_forward_mode_and_second_derivatives_are_those_of_reverse_mode(
    rng, size, radius, settings
):
    inputs = normal(rng, *size), normal(rng, *size)
    directions = normal(rng, *size), normal(rng, *size)

    def loss(one, two):
        return jnp.mean(
            jnp.sin(ops.local_correlation(one, two, radius=radius, **settings))
        )

    gradient = jax.grad(loss, argnums=(0, 1))

    def along(slopes):
        return sum(jnp.vdot(s, d) for s, d in zip(slopes, directions, strict=True))

    @jax.jit
    def both(*inputs):
        _, forward = jax.jvp(loss, inputs, directions)
        _, linear = jax.linearize(loss, *inputs)
        _, curved = jax.jvp(gradient, inputs, directions)
        reverse = jax.grad(lambda *x: along(gradient(*x)), argnums=(0, 1))(*inputs)
        slope = along(gradient(*inputs))
        return (forward, linear(*directions), *curved), (slope, slope, *reverse)

    for actual, expected in zip(*both(*inputs), strict=True):
        assert np.isfinite(actual).all()
        scale = max(float(jnp.abs(expected).max()), 1e-3)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
def test_has_second_derivatives(rng):
    one, two, along = (normal(rng, 3, 4, 2) for _ in range(3))

    def loss(one):
        return (ops.local_correlation(one, two, radius=1) ** 2).sum() / 2

    product = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), along))(one)
    # The loss is quadratic: <H d, d> is twice the loss at d.
    np.testing.assert_allclose(jnp.vdot(product, along), 2 * loss(along), rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_single(dtype):
    ones = jnp.ones((3, 3, 4099), dtype)

    def middle(one):
        out = ops.local_correlation(one, ones, radius=1, normalise=False)
        assert out.dtype == dtype
        return out[1, 1, 4]

    # 4099 rounds to 4096 in both; a running sum would stop at 256 or 2048.
    assert middle(ones) == dtype(4099)
    assert jax.grad(middle)(ones)[1, 1, 0] == 1
    volume = ops.all_pairs_correlation(ones[..., :4096], ones[..., :4096])
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.astype(jnp.float32), 64)


def test_displacement_in_y_is_slow_and_in_x_fast():
    one = jnp.zeros((5, 7, 1)).at[2, 3].set(1)
    two = jnp.zeros((5, 7, 1)).at[3, 1].set(1)
    out = ops.local_correlation(one, two, radius=2).reshape(5, 7, 5, 5)
    np.testing.assert_array_equal(jnp.argwhere(out)[0], [2, 3, 1 + 2, -2 + 2])


def test_rejects_maps_of_two_shapes():
    with pytest.raises(ValueError):
        ops.local_correlation(jnp.ones((3, 4, 1)), jnp.ones((4, 3, 1)), radius=1)
    with pytest.raises(ValueError):
        ops.all_pairs_correlation(jnp.ones((3, 4, 1)), jnp.ones((4, 3, 2)))


def test_the_volume_of_products_reproduces_vcn(golden):
    one, two = (channels_last(golden[f"vcn_corrf_f{i}"]) for i in (1, 2))
    volume = ops.correlation_volume(one, two, radius=4)
    leaky = jnp.where(volume > 0, volume, 0.1 * volume)
    np.testing.assert_allclose(
        jnp.moveaxis(leaky, -1, 1), golden["vcn_corrf_md4"], rtol=1e-6
    )


def test_the_volume_of_products_sums_to_the_correlation(rng):
    one, two = normal(rng, 2, 4, 5, 3), normal(rng, 2, 4, 5, 3)
    volume = ops.correlation_volume(one, two, radius=(1, 2))
    assert volume.shape == (2, 5, 3, 4, 5, 3)
    whole = ops.local_correlation(one, two, radius=2, normalise=False)
    expected = whole.reshape(2, 4, 5, 5, 5)[..., 1:4, :]
    actual = jnp.transpose(volume.sum(-1), (0, 3, 4, 2, 1))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": -1}, "`stride` must be at least 1; got -1"),
        ({"stride": 0}, "`stride` must be at least 1; got 0"),
        ({"stride": 1.5}, "`stride` must be a whole number; got 1.5"),
        ({"dilation": 0}, "`dilation` must be at least 1; got 0"),
        ({"dilation": -1}, "`dilation` must be at least 1; got -1"),
        ({"radius": -1}, "`radius` must be at least 0; got -1"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(settings, message):
    ones = jnp.ones((3, 4, 1))
    with pytest.raises(ValueError, match=message):
        ops.local_correlation(ones, ones, **{"radius": 1, **settings})


@pytest.mark.parametrize("radius", [-1, (1, -1)])
def test_a_volume_of_products_of_negative_radius_is_one_line(radius):
    ones = jnp.ones((3, 4, 1))
    with pytest.raises(ValueError, match="`radius` must be at least 0; got -1"):
        ops.correlation_volume(ones, ones, radius=radius)
    with pytest.raises(ValueError, match="`radius` must be a whole number or 2"):
        ops.correlation_volume(ones, ones, radius=1.5)


def test_numpy_numbers_are_numbers(rng):
    one, two = normal(rng, 3, 4, 2), normal(rng, 3, 4, 2)
    expected = ops.local_correlation(one, two, radius=1, stride=2)
    actual = ops.local_correlation(one, two, radius=np.uint8(1), stride=np.int64(2))
    np.testing.assert_array_equal(actual, expected)
    volume = ops.correlation_volume(one, two, radius=np.int64(1))
    assert volume.shape == (3, 3, 3, 4, 2)


@pytest.mark.parametrize("shape", [(0, 3, 4, 2), (2, 0, 3, 4, 2), (0, 4, 2), (3, 0, 2)])
@pytest.mark.parametrize("step", [1, 2])
def test_maps_without_examples_or_pixels_are_empty(shape, step):
    one = jnp.ones(shape)

    def correlate(one, two):
        return ops.local_correlation(one, two, radius=1, stride=step, dilation=step)

    out, pull = jax.vjp(correlate, one, one)
    height, width = (-(-size // step) for size in shape[-3:-1])
    assert (out.shape, out.dtype) == ((*shape[:-3], height, width, 9), one.dtype)
    assert [slope.shape for slope in pull(out)] == [shape, shape]
