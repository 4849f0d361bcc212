"""The error of a flow as a picture: in gray, and in the colours of KITTI."""

import numpy as np
import numpy.typing as npt

from jaxflow.viz.known import split_known

# KITTI's development kit: upper bound of the error, 1 being an outlier, and colour.
_KITTI_BINS = (0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16)

_KITTI_COLOURS = (
    (49, 54, 149), (69, 117, 180), (116, 173, 209), (171, 217, 233), (224, 243, 248),
    (254, 224, 144), (253, 174, 97), (244, 109, 67), (215, 48, 39), (165, 0, 38),
)  # fmt: skip

# No gray, and none of KITTI's colours: where the estimate itself is missing.
_MISSING = (255, 0, 255)


def error_map(
    flow: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    max_error: float | None = None,
    valid: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Shows the endpoint error in gray: the brighter, the worse.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        max_error: Error that is white, in pixels; None takes the largest known one.
        valid: Where the truth is known, (*B, H, W). The unknown is dark blue. Where
            the truth is known and the estimate is NaN or beyond 1e9, it is magenta.

    Returns:
        (*B, H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong or `max_error` is not positive.

    Examples:
        >>> truth = np.zeros((1, 3, 2))
        >>> flow = truth + np.array([[[0.0, 0], [1, 0], [2, 0]]])
        >>> jaxflow.viz.error_map(flow, truth)[0, :, 0].tolist()
        [0, 128, 255]
    """
    error, _, valid = _errors(flow, target, valid)
    if max_error is None:
        known = error[valid & np.isfinite(error)]
        max_error = float(known.max(initial=0.0)) or 1.0
    if not max_error > 0:
        raise ValueError(f"`max_error` must be positive; got {max_error}")
    gray = np.round(255 * np.clip(error / max_error, 0, 1)).astype(np.uint8)
    shown = np.where(valid[..., None], gray[..., None], np.array([0, 0, 64], np.uint8))
    return _mark_missing(shown, error, valid)


def kitti_error_map(
    flow: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    valid: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Shows the error in the logarithmic colours of KITTI 2015.

    What is shown is min(error / 3 px, error / 5 % of the true length), which is above
    1 for an outlier. Blue is right and red is wrong; the colour changes at 1 and at
    every doubling or halving of it.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Where the truth is known, (*B, H, W). The unknown is black. Where the
            truth is known and the estimate is NaN or beyond 1e9, it is magenta.

    Returns:
        (*B, H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong.

    Examples:
        >>> truth = np.full((1, 2, 2), 10.0)
        >>> flow = truth + np.array([[[0.1, 0], [99.0, 0]]])
        >>> jaxflow.viz.kitti_error_map(flow, truth)[0].tolist()  # blue, red
        [[49, 54, 149], [165, 0, 38]]
    """
    error, target, valid = _errors(flow, target, valid)
    length = np.hypot(target[..., 0], target[..., 1])
    relative = np.divide(
        20 * error, length, out=np.full_like(error, np.inf), where=length > 0
    )
    level = np.searchsorted(_KITTI_BINS, np.minimum(error / 3, relative), side="left")
    colours = np.array(_KITTI_COLOURS, np.uint8)[level]
    shown = np.where(valid[..., None], colours, 0).astype(np.uint8)
    return _mark_missing(shown, error, valid)


def _errors(flow, target, valid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the endpoint error, the true flow, and where that is known.

    The error of an estimate that is missing is infinite.
    """
    target, valid = split_known(target, valid)
    flow, estimated = split_known(flow, None)
    if flow.shape != target.shape:
        raise ValueError(
            f"`flow` must have the shape {target.shape} of `target`; got {flow.shape}"
        )
    error = np.hypot(*np.moveaxis(flow - target, -1, 0))
    return np.where(estimated, error, np.inf), target, valid


def _mark_missing(
    picture: np.ndarray, error: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Colours the pixels whose truth is known and whose estimate is missing."""
    missing = (valid & np.isinf(error))[..., None]
    return np.where(missing, np.array(_MISSING, np.uint8), picture)
