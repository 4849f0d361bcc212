"""Products of features of half precision: sums in float32, slopes in half precision."""

import jax
import jax.numpy as jnp

from jaxflow.ops import bilinear
from jaxflow.ops.correlation import accumulator


def einsum(subscripts: str, one: jax.Array, two: jax.Array) -> jax.Array:
    """Multiplies two arrays as `jnp.einsum` does, and sums in float32 at least.

    With `preferred_element_type` alone, what comes back to a product of bfloat16 arrays
    is float32, and so are the products of its gradient, which an accelerator computes
    at a fraction of the rate. Here what comes back is rounded to the type of the arrays
    before it is multiplied, and these sums are taken in float32 again.

    Args:
        subscripts: Of the two arrays and the result, such as "...id,...jd->...ij". An
            index of one array is also one of the other or of the result.
        one: The first array, floating.
        two: The second, of the same dtype.

    Returns:
        The products' sums, float32; float64 of float64 arrays.

    Examples:
        >>> from jaxflow.ops import products
        >>> rows = jnp.ones((2, 3), jnp.bfloat16)
        >>> products.einsum("ic,jc->ij", rows, rows).dtype.name
        'float32'
        >>> total = lambda x: products.einsum("ic,jc->ij", x, rows).sum()
        >>> jax.grad(total)(rows)[0].tolist()
        [2.0, 2.0, 2.0]
    """
    if one.dtype in (jnp.bfloat16, jnp.float16):
        return _HALF.out(one, two, subscripts)
    wide = accumulator(one)
    return jnp.einsum(subscripts, one, two, preferred_element_type=wide)


def _sums(one, two, like, subscripts):
    del like
    return jnp.einsum(subscripts, one, two, preferred_element_type=jnp.float32)


def _of_first(out, two, like, subscripts):
    first, second, result = _parts(subscripts)
    sums = _sums(out.astype(two.dtype), two, None, f"{result},{second}->{first}")
    return sums.astype(like.dtype)


def _of_second(one, out, like, subscripts):
    first, second, result = _parts(subscripts)
    sums = _sums(one, out.astype(one.dtype), None, f"{first},{result}->{second}")
    return sums.astype(like.dtype)


def _parts(subscripts):
    arrays, result = subscripts.split("->")
    return (*arrays.split(","), result)


_FORMS = bilinear.Forms(_sums, _of_first, _of_second)
_HALF = bilinear.bilinear("half_einsum", _FORMS, _FORMS, examples=(False, False, False))
