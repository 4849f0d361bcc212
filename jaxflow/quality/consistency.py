"""How much of a video's change is not motion."""

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxflow import ops

Numbers = npt.NDArray[np.float64]


def temporal_consistency(
    video: npt.ArrayLike, forward: npt.ArrayLike, backward: npt.ArrayLike
) -> Numbers:
    """Returns how far each frame is from the next, brought back along the flow.

    The root mean squared difference over the pixels that the next frame shows (Lai et
    al., "Learning Blind Video Temporal Consistency", 2018, Sec. 5.1).

    Args:
        video: (T, H, W, C).
        forward: Flow from each frame to the next, (T - 1, H, W, 2), in pixels.
        backward: Flow from the next frame back, of the same shape.

    Returns:
        (T - 1,); NaN where no pixel counts. 0 is a video that only moves.

    Raises:
        ValueError: If the shapes do not fit.

    Examples:
        >>> still = np.full((3, 8, 8, 3), 0.5)
        >>> none = np.zeros((2, 8, 8, 2))
        >>> jaxflow.quality.temporal_consistency(still, none, none)
        array([0., 0.])
    """
    video = np.asarray(video, np.float32)
    forward, backward = (
        np.asarray(forward, np.float32),
        np.asarray(backward, np.float32),
    )
    shape = (len(video) - 1, *video.shape[1:3], 2)
    if forward.shape != shape or backward.shape != shape:
        raise ValueError(
            f"`forward` and `backward` must be {shape} for a video {video.shape}; got "
            f"{forward.shape} and {backward.shape}"
        )
    flow = jnp.asarray(forward)
    warped = ops.backward_warp(jnp.asarray(video[1:]), flow, padding="border")
    hidden = ops.forward_backward_occlusion(flow, jnp.asarray(backward))
    shown = ~np.asarray(hidden)
    error = (np.asarray(warped, np.float64) - video[:-1]) ** 2
    total = (error.mean(-1) * shown).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(total / shown.sum((1, 2)))
