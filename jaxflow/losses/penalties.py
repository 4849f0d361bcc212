"""How much an error counts: its length, and measures that forgive outliers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Penalty = Callable[[jax.Array], jax.Array]


def norm(error: jax.Array) -> jax.Array:
    """Measures each error vector's Euclidean length, sqrt(sum_c e_c^2).

    Args:
        error: Differences, (..., C).

    Returns:
        Lengths, (...), float32. The gradient at a zero vector is 0.

    Examples:
        >>> jaxflow.losses.norm(jnp.array([3.0, -4.0])).item()
        5.0
    """
    squared = jnp.sum(jnp.square(error.astype(jnp.float32)), axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def robust(
    error: jax.Array, *, epsilon: float = 0.01, exponent: float = 0.4
) -> jax.Array:
    """Measures errors by (sum_c |e_c| + epsilon)^exponent, which forgives outliers.

    Sun et al., "PWC-Net" (2018), Eq. 4: the loss of its fine-tuning.

    Args:
        error: Differences, (..., C).
        epsilon: Keeps the slope finite at 0.
        exponent: Less than 1 gives less penalty to outliers.

    Returns:
        Penalties, (...), float32.

    Examples:
        >>> errors = jnp.array([[1.0, 0.0], [100.0, 0.0]])
        >>> print(jaxflow.losses.robust(errors).round(1))  # a hundred times the error
        [1.  6.3]
    """
    total = jnp.sum(jnp.abs(error.astype(jnp.float32)), axis=-1)
    return (total + epsilon) ** exponent


def charbonnier(
    error: jax.Array, *, epsilon: float = 1e-3, exponent: float = 0.5
) -> jax.Array:
    """Measures each component by (e^2 + epsilon^2)^exponent, summed over components.

    With the exponent 0.5 it is a smooth |e|; 0.45 is the choice of Sun et al., "A
    Quantitative Analysis of Current Practices in Optical Flow Estimation" (2014).

    Args:
        error: Differences, (..., C).
        epsilon: Where the penalty turns from quadratic to linear; positive.
        exponent: Half the power of large errors.

    Returns:
        Penalties, (...), float32.

    Examples:
        >>> round(jaxflow.losses.charbonnier(jnp.array([3.0, -4.0])).item(), 3)
        7.0
    """
    squared = jnp.square(error.astype(jnp.float32))
    return jnp.sum((squared + epsilon**2) ** exponent, axis=-1)
