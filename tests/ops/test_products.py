"""Tests for jaxflow.ops.products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.ops import products

CASES = {
    "...id,...jd->...ij": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "bphtd,bhtsd->bphts": ((2, 3, 2, 4, 5), (2, 2, 4, 3, 5)),
    "bthwc,ts->bshwc": ((2, 3, 4, 2, 5), (3, 4)),
}


@pytest.mark.parametrize("subscripts", CASES)
def test_half_precision_has_the_values_and_the_slopes_of_double(subscripts, rng):
    one, two = (rng.normal(size=shape) for shape in CASES[subscripts])
    one, two = (jnp.asarray(x, jnp.bfloat16) for x in (one, two))

    def total(one, two):
        return jnp.sum(jnp.sin(products.einsum(subscripts, one, two)))

    def all_of_it(one, two):
        slope = jax.grad(total, (0, 1))
        _, along = jax.jvp(slope, (one, two), (one, two))
        mapped = jax.vmap(jax.grad(total), (0, None))(one[None], two)
        return products.einsum(subscripts, one, two), *slope(one, two), mapped, along

    out, of_one, of_two, mapped, along = jax.jit(all_of_it)(one, two)
    wide = [np.asarray(x, np.float64) for x in (one, two)]
    expected = np.einsum(subscripts, *wide)
    # Products of 8 bits are exact in float32, and few are summed.
    np.testing.assert_allclose(out, expected, atol=1e-5)
    first, second, result = subscripts.replace("->", ",").split(",")
    back = np.cos(expected)
    for found, names, other in (
        (of_one, f"{result},{second}->{first}", wide[1]),
        (of_two, f"{result},{first}->{second}", wide[0]),
    ):
        slope = np.einsum(names, back, other)
        assert found.dtype == jnp.bfloat16
        # What comes back and the sums are rounded to 8 bits.
        tolerance = 0.01 * np.abs(slope).max()
        np.testing.assert_allclose(found.astype(float), slope, atol=tolerance)
    np.testing.assert_array_equal(mapped[0], of_one)
    assert all(np.isfinite(x.astype(float)).all() for x in along)


def test_single_and_double_precision_are_plain(double, rng):
    one, two = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    assert products.einsum("ic,jc->ij", jnp.asarray(one), jnp.asarray(two)).dtype == (
        jnp.float64
    )
    single = [jnp.asarray(x, jnp.float32) for x in (one, two)]
    found = products.einsum("ic,jc->ij", *single)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, one @ two.T, atol=1e-5)
