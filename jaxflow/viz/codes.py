"""Flow in 8 bits, as two-stream networks read it."""

import numpy as np
import numpy.typing as npt


def quantize_flow(flow: npt.ArrayLike, *, bound: float = 20.0) -> np.ndarray:
    """Stores flow in 8 bits, as two-stream networks read it.

    Each component is cut to [-bound, bound] and becomes (f + bound) 255 / (2 bound),
    rounded; no motion is 128. A NaN becomes 128.

    Args:
        flow: (*B, H, W, 2), in pixels.
        bound: Largest component, in pixels.

    Returns:
        (*B, H, W, 2) uint8.

    Examples:
        >>> jaxflow.viz.quantize_flow([[[-20.0, 0.0], [5.0, 99.0]]]).tolist()
        [[[0, 128], [159, 255]]]
    """
    flow = np.nan_to_num(np.asarray(flow, np.float32), posinf=np.inf, neginf=-np.inf)
    coded = (np.clip(flow, -bound, bound) + bound) * (255 / (2 * bound))
    # Halves go up, so that 127.5, no motion, is 128 and not the even neighbour.
    return np.floor(coded + 0.5).astype(np.uint8)


def dequantize_flow(coded: npt.ArrayLike, *, bound: float = 20.0) -> np.ndarray:
    """Undoes `quantize_flow`, to half a step of 2 bound / 255.

    Args:
        coded: (*B, H, W, 2) uint8.
        bound: As it was for `quantize_flow`.

    Returns:
        (*B, H, W, 2) float32, in pixels. 128 is read as 0.

    Examples:
        >>> coded = jaxflow.viz.quantize_flow([[[5.0, 0.0]]])
        >>> print(jaxflow.viz.dequantize_flow(coded).round(2))
        [[[4.94 0.  ]]]
    """
    coded = np.asarray(coded, np.float32)
    flow = coded * np.float32(2 * bound / 255) - np.float32(bound)
    return np.where(coded == 128, np.float32(0), flow)


def clip_length(flow: npt.ArrayLike, *, bound: float = 20.0) -> np.ndarray:
    """Shortens the vectors longer than `bound`; their direction stays.

    Args:
        flow: (*B, H, W, 2), in pixels.
        bound: Largest length, in pixels.

    Returns:
        (*B, H, W, 2) float32.

    Examples:
        >>> jaxflow.viz.clip_length([[[30.0, 40.0]]], bound=5.0).tolist()
        [[[3.0, 4.0]]]
    """
    flow = np.asarray(flow, np.float32)
    length = np.hypot(flow[..., :1], flow[..., 1:])
    return flow * (bound / np.maximum(length, bound))
