"""Random numbers for data: one key, one sample, whatever the batch."""

import math

import jax
import jax.numpy as jnp
from jax import lax


def uniform(key: jax.Array, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    """Draws named arrays of numbers in (0, 1), all in one call, by Threefry.

    One call compiles once. Other generators than Threefry give numbers that depend on
    the neighbours under `jax.vmap`; of their keys the first two words are used.

    Args:
        key: Random key, of any generator.
        **shapes: Name and shape of each array.

    Returns:
        The arrays, by name. Neither 0 nor 1 is among them, so that a logarithm or a
        quantile is finite.
    """
    words = jax.random.key_data(key)[..., :2]
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    sizes = [math.prod(shape) for shape in shapes.values()]
    numbers = jax.random.uniform(
        key, (sum(sizes),), jnp.float32, minval=1e-6, maxval=1 - 1e-6
    )
    arrays, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        arrays[name] = numbers[start : start + size].reshape(shape)
        start += size
    return arrays


def normal(uniform: jax.Array) -> jax.Array:
    """Turns numbers uniform in (0, 1) into normal ones, by the inverse of erf."""
    return math.sqrt(2) * lax.erf_inv(2 * uniform - 1)


def between(uniform: jax.Array, low: float, high: float) -> jax.Array:
    """Stretches numbers in (0, 1) to (low, high)."""
    return low + (high - low) * uniform
