"""The sinusoidal embedding of diffusion time, in its two conventions."""

import math

import jax
import jax.numpy as jnp
import numpy as np

_PERIOD = 10_000


def sinusoid(
    time: jax.Array, features: int, *, cosine_first: bool = False
) -> jax.Array:
    """Embeds diffusion time by sines and cosines of falling frequency.

    With h = floor(features / 2), i = 0 ... h - 1 and P = 10000:

        [sin(t w), cos(t w)],    w_i = P^(-i / (h - 1))     Ho et al. (2020)
        [cos(t w), sin(t w)],    w_i = P^(-i / h)           Nichol and Dhariwal (2021)

    An odd number of features ends with a 0. Computed in float32, whose phase is good to
    6e-5 near t = 1000.

    Args:
        time: Diffusion time, of any shape and real dtype.
        features: Number of features, at least 4.
        cosine_first: Takes the second convention.

    Returns:
        (*time.shape, features), float32.
    """
    half = features // 2
    index = np.arange(half, dtype=np.float32)
    if cosine_first:
        frequencies = np.exp(np.float32(-math.log(_PERIOD)) * index / np.float32(half))
    else:
        frequencies = np.exp(index * np.float32(-math.log(_PERIOD) / (half - 1)))
    phase = time.astype(jnp.float32)[..., None]
    phase *= frequencies.reshape(*[1] * time.ndim, half)
    parts = [jnp.sin(phase), jnp.cos(phase)]
    if cosine_first:
        parts.reverse()
    if features % 2:
        parts.append(jnp.zeros_like(phase[..., :1]))
    return jnp.concatenate(parts, axis=-1)
