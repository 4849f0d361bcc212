"""Dynamic images: the order of a clip's frames, pooled into one picture.

Bilen, Fernando, Gavves, Vedaldi and Gould, "Dynamic Image Networks for Action
Recognition" (2016).
"""

import jax
import jax.numpy as jnp
import numpy as np


def rank_pooling_coefficients(length: int, *, averaged: bool = True) -> np.ndarray:
    """Computes the weight of each frame in approximate rank pooling.

    The weights are the direction that ranks the frames by time after one step of
    RankSVM. For frames that are averaged from the first on, it is (Eq. 4; H are the
    harmonic numbers, H_0 = 0)

        a_t = 2 (T - t + 1) - (T + 1) (H_T - H_{t-1}),   t = 1 ... T

    or for the frames themselves, a_t = 2 t - T - 1.

    Args:
        length: T, the number of frames.
        averaged: Whether frames are ranked by their running averages.

    Returns:
        (T,), float64; they sum to 0, so that what stands still vanishes.

    Raises:
        ValueError: If `length` is not positive.

    Examples:
        >>> found = jaxflow.classical.dynamic_image.rank_pooling_coefficients(4)
        >>> np.round(found, 2).tolist()
        [-2.42, 0.58, 1.08, 0.75]
    """
    if length < 1:
        raise ValueError(f"`length` must be positive; got {length}")
    t = np.arange(1, length + 1)
    if not averaged:
        return 2.0 * t - length - 1
    tails = np.cumsum(1 / t[::-1])[::-1]
    return 2 * (length - t + 1) - (length + 1) * tails


def dynamic_image(clip: jax.Array, *, averaged: bool = True) -> jax.Array:
    """Sums the frames of a clip by their rank-pooling weights.

    Args:
        clip: (*B, T, H, W, C), floating.
        averaged: See `rank_pooling_coefficients`.

    Returns:
        (*B, H, W, C), in units of the clip times those of the weights; reversing the
        clip does not give the same image.

    Raises:
        ValueError: If the clip has no frames.

    Examples:
        >>> clip = jnp.ones((8, 4, 4, 3))  # nothing changes
        >>> abs(jaxflow.classical.dynamic_image.dynamic_image(clip)).max().item() < 1e-5
        True
    """
    weights = rank_pooling_coefficients(clip.shape[-4], averaged=averaged)
    return jnp.einsum("...thwc,t->...hwc", clip, jnp.asarray(weights, clip.dtype))
