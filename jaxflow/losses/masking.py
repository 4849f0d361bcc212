"""What counts in a loss: values and errors under a mask, and their mean."""

import jax
import jax.numpy as jnp

from jaxflow import _shapes


def masked(values: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns values in float32, 0 where they do not count, and the mask in float32."""
    if mask is None:
        return values.astype(jnp.float32), jnp.ones(values.shape[:-1], jnp.float32)
    _shapes.check("mask", mask, values.shape[:-1])
    known = mask.astype(jnp.float32)
    return jnp.where(known[..., None] > 0, values.astype(jnp.float32), 0.0), known


def masked_error(
    prediction: jax.Array, target: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the difference, 0 where it does not count, and the mask."""
    prediction, _ = masked(prediction, mask)
    target, mask = masked(target, mask)
    return prediction - target, mask


def masked_mean(penalty: jax.Array, mask: jax.Array) -> jax.Array:
    """Averages over the pixels that count; 0 if none does."""
    return jnp.sum(penalty * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def check_flow(
    flow: jax.Array, mask: jax.Array | None, *, name: str = "target"
) -> None:
    """Raises ValueError unless these are flow, (B, H, W, 2), and its mask."""
    _shapes.check(name, flow, ("B", "H", "W", 2))
    if mask is not None:
        _shapes.check("mask", mask, flow.shape[:-1])


def check_images(image1: jax.Array, warped2: jax.Array, mask: jax.Array | None) -> None:
    """Raises ValueError unless these are floating images of one shape, and a mask."""
    _shapes.check("image1", image1, ("B", "H", "W", "C"))
    _shapes.check_equal(image1=image1, warped2=warped2)
    _shapes.check_floats(image1=image1, warped2=warped2)
    if mask is not None:
        _shapes.check("mask", mask, image1.shape[:-1])
