"""Tests for jaxflow.ops.pool."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from tests.ops.test_conv import module, normal, windows_of

POOLS = {
    "2d": ((2, 2), {}),
    "2d overlapping": ((3, 3), {"strides": 2, "padding": 1}),
    "2d, one side": ((3, 2), {"strides": (2, 1), "padding": ((0, 1), (1, 0))}),
    "3d in space": ((1, 3, 3), {"strides": (1, 2, 2), "padding": (0, 1, 1)}),
    "3d": ((2, 2, 2), {}),
    "2d, wide": ((1, 18), {"strides": (1, 2), "padding": (0, 6)}),
    "3d, like TensorFlow's SAME": (
        (3, 3, 3),
        {"strides": (2, 2, 2), "padding": ((1, 1), (0, 1), (0, 1))},
    ),
}


def pools(x, window, settings):
    """The largest of each window, its mean, and its mean without the margin."""

    @jax.jit
    def pool(x):
        return (
            ops.max_pool(x, window, **settings),
            ops.avg_pool(x, window, **settings),
            ops.avg_pool(x, window, count_include_pad=False, **settings),
        )

    return pool(x)


@pytest.mark.parametrize("case", POOLS)
def test_pooling_is_its_definition(rng, case):
    window, settings = POOLS[case]
    axes = len(window)
    x = normal(rng, 2, *(5, 8, 7)[-axes:], 3)
    strides = module.per_axis(settings.get("strides", window), axes)
    sides = module.per_side(settings.get("padding", 0), axes)
    inner = tuple(range(-axes, 0))

    def windows(x, fill):
        return windows_of(x, window, strides, sides, (1,) * axes, fill)

    largest, mean, mean_inside = pools(x, window, settings)
    np.testing.assert_array_equal(largest, windows(x, -np.inf).max(inner))
    np.testing.assert_allclose(mean, windows(x, 0).mean(inner), atol=1e-6)
    inside = windows(np.ones(x.shape), 0).sum(inner)
    np.testing.assert_allclose(
        mean_inside, windows(x, 0).sum(inner) / inside, atol=1e-6
    )


def torch_ceil_pool(row, size, step, margin, reduce):
    """Windows of a row in ceil mode, as torch documents them: a plain loop."""
    count = -(-(len(row) + 2 * margin - size) // step) + 1
    if (count - 1) * step >= len(row) + margin:
        count -= 1
    starts = [i * step - margin for i in range(count)]
    return [reduce(row, start, start + size) for start in starts]


@pytest.mark.parametrize(
    ("length", "size", "step", "margin"),
    [
        each
        for each in itertools.product((5, 6, 7), (2, 3), (1, 2, 3), (0, 1))
        if each[3] <= each[1] // 2
    ],
)
def test_ceil_mode_keeps_partial_windows(length, size, step, margin):
    row = np.arange(1.0, length + 1)
    x = jnp.asarray(row, jnp.float32)[None, :, None]
    settings = {
        "strides": (1, step),
        "padding": (0, margin),
        "ceil_mode": True,
    }

    def largest(row, start, stop):
        return row[max(start, 0) : stop].max()

    def mean(row, start, stop):
        # Zeros of the margin count, what lies beyond it does not.
        covered = min(stop, len(row) + margin) - start
        return row[max(start, 0) : stop].sum() / covered

    def mean_inside(row, start, stop):
        return row[max(start, 0) : stop].mean()

    found = pools(x, (1, size), settings)
    for actual, reduce in zip(found, (largest, mean, mean_inside), strict=True):
        expected = torch_ceil_pool(row, size, step, margin, reduce)
        np.testing.assert_allclose(actual[0, :, 0], expected, rtol=1e-6)


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals():
    x = jnp.zeros((2, 4, 4, 1))
    slope = jax.grad(lambda x: ops.max_pool(x, (2, 2, 2)).sum())(x)
    expected = np.zeros((2, 4, 4, 1))
    expected[0, ::2, ::2] = 1
    np.testing.assert_array_equal(slope, expected)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_nan_wins_its_windows_and_no_others(at):
    x = jnp.arange(8.0).reshape(1, 8, 1).at[0, at].set(jnp.nan)
    pooled = ops.max_pool(x, (1, 2))[0, :, 0]
    np.testing.assert_array_equal(jnp.isnan(pooled), np.arange(4) == at // 2)


def test_pools_integers_and_half_precision():
    bytes_ = jnp.arange(16, dtype=jnp.uint8).reshape(4, 4, 1)
    pooled = ops.max_pool(bytes_, 2, padding=1)
    np.testing.assert_array_equal(
        pooled[..., 0], [[0, 2, 3], [8, 10, 11], [12, 14, 15]]
    )
    assert pooled.dtype == jnp.uint8
    ones = jnp.ones((1, 4096, 1), jnp.float16)
    mean = ops.avg_pool(ones, (1, 4096))
    assert mean.dtype == jnp.float16
    assert mean == 1


@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
def test_numbers_that_leave_no_window_are_one_line(pool):
    x = jnp.ones((5, 5, 1))
    with pytest.raises(ValueError, match=r"smaller than the window \(7, 7\)"):
        pool(x, 7)
    for arguments, message in (
        ({"window": (2, 0)}, "`window` must be at least 1; got 0"),
        ({"window": 2, "strides": 0}, "`strides` must be at least 1; got 0"),
        ({"window": 2, "padding": -1}, "`padding` must be at least 0; got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            pool(x, **arguments)


@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
def test_numpy_numbers_are_numbers_and_floats_are_one_line(rng, pool):
    x = normal(rng, 6, 6, 1)
    expected = pool(x, 2, strides=1, padding=1)
    actual = pool(x, np.int64(2), strides=np.int64(1), padding=np.int64(1))
    np.testing.assert_array_equal(actual, expected)
    for arguments, name in (
        ({"window": 2.0}, "window"),
        ({"window": (2, 2.0)}, "window"),
        ({"window": 2, "strides": 1.5}, "strides"),
        ({"window": 2, "padding": 0.5}, "padding"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            pool(x, **arguments)
    with pytest.raises(ValueError, match="`x` must hold floats or integers; got bool"):
        pool(x > 0, 2)


def test_a_mean_of_the_margin_alone_is_zero_on_every_side():
    x = jnp.ones((5, 5, 1))
    mean = ops.avg_pool(x, 2, padding=3, count_include_pad=False)
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = 1
    np.testing.assert_array_equal(mean[..., 0], expected)
