"""Tests for jaxflow.ops.cpu_correlation."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# The package's attributes may be functions of that name.
correlation = importlib.import_module("jaxflow.ops.correlation")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_forms_are_the_plain_ones(rng, radius, dtype):
    side = 2 * radius
    shapes = (
        (2, 5, 3, 4, 6),
        (2, 5 + side, 3, 4 + side, 6),
        (2, 5, 3, 4, (side + 1) ** 2),
    )
    one, two, sums = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes
    )
    one, two = one.astype(dtype), two.astype(dtype)
    calls = (((one, two), sums), ((sums, two), one), ((one, sums), two))
    for primitive, (arrays, result) in zip(
        correlation.TILES.primitives, calls, strict=True
    ):
        like = jax.ShapeDtypeStruct(result.shape, result.dtype)
        plain, on_cpu = (
            np.asarray(jax.jit(form, static_argnums=(2, 3))(*arrays, like, None))
            for form in (primitive.plain, primitive.on_cpu)
        )
        assert plain.dtype == on_cpu.dtype == result.dtype
        plain, on_cpu = plain.astype(np.float32), on_cpu.astype(np.float32)
        # Up to 49 products of order 1; in half precision they are added one by one.
        scale = {jnp.float32: 1e-6, jnp.bfloat16: 0.02}[dtype] * np.abs(plain).max()
        np.testing.assert_allclose(on_cpu, plain, rtol=0, atol=scale)
