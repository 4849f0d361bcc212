"""Tests for jaxflow.ops.cpu_conv."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.ops import cpu_conv
from tests.ops.test_conv import CASES, example, module, normal

# Shapes that other forms serve: an input, a kernel, settings; a scan of rows, or not.
LARGE = {
    "scanned": ((2, 37, 61, 64), (3, 3, 64, 256), ((1, 1), (2, 2), (2, 2)), True),
    "scanned, strided": ((1, 97, 91, 128), (3, 3, 128, 256), ((2, 2), (1, 0), 1), True),
    "scanned, more channels than features": (
        (2, 37, 61, 130),
        (3, 3, 130, 126),
        ((1, 1), (2, 1), (2, 1)),
        True,
    ),
    "few features": ((1, 37, 61, 40), (3, 3, 40, 2), (1, 1, 1), True),
    "frames": ((1, 3, 48, 49, 64), (3, 3, 3, 64, 160), (1, 1, 1), True),
    "too few pixels": ((1, 20, 20, 64), (3, 3, 64, 128), (1, 1, 1), False),
    "too little work": ((1, 48, 49, 64), (3, 3, 64, 64), (1, 1, 1), False),
}


@pytest.fixture
def scan_everything(monkeypatch):
    """Lets small arrays take the path that is meant for large ones."""
    monkeypatch.setattr(cpu_conv, "_LEAST_WORK", 1)
    monkeypatch.setattr(cpu_conv, "_LEAST_PIXELS", 1)
    monkeypatch.setattr(cpu_conv, "_BLOCK_PIXELS", 20)


def both(x, y, kernel, settings):
    """Calls the plain forms and those for CPUs, each as (y, x, kernel)."""
    likes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (y, x, kernel)]
    arrays = ((x, kernel), (y, kernel), (x, y))
    primitives = module.CONVOLUTION.primitives
    for field in ("plain", "on_cpu"):
        forms = [getattr(p, field) for p in primitives]
        yield [
            form(*given, like, settings)
            for form, given, like in zip(forms, arrays, likes, strict=True)
        ]


def assert_forms_agree(rng, x, kernel, settings, tolerance=1e-5):
    y = module._convolve(x, kernel, None, settings)
    y = normal(rng, *y.shape).astype(y.dtype)
    found = jax.jit(lambda *arrays: tuple(both(*arrays, settings)))(x, y, kernel)
    for plain, on_cpu in zip(*found, strict=True):
        assert plain.dtype == on_cpu.dtype
        plain, on_cpu = (np.asarray(a, np.float32) for a in (plain, on_cpu))
        # Sums in another order.
        np.testing.assert_allclose(
            on_cpu, plain, rtol=0, atol=tolerance * np.abs(plain).max()
        )


@pytest.mark.parametrize(("window", "settings"), CASES)
def test_the_forms_are_the_plain_ones(rng, window, settings):
    _, x, kernel, spelled = example(rng, window, settings)
    assert_forms_agree(rng, x, kernel, module._Settings(*spelled, "highest"))


@pytest.mark.parametrize(
    ("window", "settings"), [c for c in CASES if "groups" not in c.values[1]]
)
def test_a_scan_over_rows_is_the_plain_gradient(rng, scan_everything, window, settings):
    _, x, kernel, spelled = example(rng, window, settings)
    assert_forms_agree(rng, x, kernel, module._Settings(*spelled, "highest"))


@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_take_forms_of_their_own(rng, name):
    shape, window, (strides, padding, dilation), scanned = LARGE[name]
    axes = len(window) - 2
    settings = module._settings(axes, strides, padding, dilation, 1)
    x, kernel = normal(rng, *shape), normal(rng, *window)
    assert_forms_agree(rng, x, kernel, settings)
    y = jax.eval_shape(lambda: module._convolve(x, kernel, None, settings))
    gradient = module.CONVOLUTION.primitives[2].on_cpu
    like = jax.ShapeDtypeStruct(window, jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x, y: gradient(x, y, like, settings))(x, y)
    assert ("scan[" in str(jaxpr)) == scanned


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_widened_before_it_is_summed(rng, scan_everything, dtype):
    x, kernel = normal(rng, 1, 9, 9, 8), normal(rng, 3, 3, 8, 8)
    y = normal(rng, 1, 9, 9, 8)
    settings = module._settings(2, 1, 1, 1, 1)
    halves = [a.astype(dtype) for a in (x, y, kernel)]
    _, found = both(*halves, settings)
    wide = [a.astype(jnp.float32) for a in halves]
    _, expected = both(*wide, settings)
    for half, single in zip(found, expected, strict=True):
        assert half.dtype == dtype
        # Only the result is rounded, to the nearest.
        np.testing.assert_array_equal(half, single.astype(dtype))


@pytest.mark.parametrize(
    ("shape", "window", "settings"),
    [
        ((2, 9, 8, 3), (3, 5, 3, 4), (1, 1, 1, 1)),
        ((2, 9, 8, 3), (3, 3, 3, 4), (2, (2, 0), (1, 2), 1)),
        ((2, 9, 8, 6), (3, 3, 2, 9), (2, 1, 1, 3)),
        ((2, 5, 9, 8, 3), (3, 3, 3, 3, 4), (1, 1, 1, 1)),
        ((2, 5, 9, 8, 3), (3, 1, 1, 3, 4), (2, (1, 0, 0), 1, 1)),
        ((2, 5, 9, 8, 4), (3, 3, 3, 2, 4), (1, 1, 1, 2)),
    ],
)
def test_gradients_have_the_order_of_axes_that_is_fast_in_a_loop(
    rng, shape, window, settings
):
    settings = module._settings(len(window) - 2, *settings)
    x, kernel = normal(rng, *shape), normal(rng, *window)

    def step(kernel, x):
        def loss(kernel, x):
            return jnp.sum(module.CONVOLUTION.out(x, kernel, settings) ** 2)

        slopes = jax.grad(loss, (0, 1))(kernel, x)
        return kernel - slopes[0], jnp.sum(slopes[1])

    xs = jnp.stack([x, x, x])
    program = jax.jit(lambda *args: jax.lax.scan(step, *args)).lower(kernel, xs)
    text = program.compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=([\w>-]+)", text)
    assert set(orders) <= {"b01f_01io->b01f"}
    assert orders or window[1:3] == (1, 1)
    # Nor does XLA know fast code for the gradients of groups.
    assert "group_count" not in text
