"""What of a flow is known, as every picture of it asks."""

import numpy as np
import numpy.typing as npt

_UNKNOWN_ABOVE = 1e9


def split_known(
    flow: npt.ArrayLike, valid: npt.ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flow in float64 with 0 for the unknown, and where it is known."""
    flow = np.asarray(flow).astype(np.float64)
    if flow.ndim < 3 or flow.shape[-1] != 2:
        raise ValueError(f"`flow` must have the shape (*B, H, W, 2); got {flow.shape}")
    # NaN compares false.
    known = np.all(np.abs(flow) <= _UNKNOWN_ABOVE, axis=-1)
    if valid is not None:
        valid = np.asarray(valid)
        if valid.shape != known.shape:
            raise ValueError(
                f"`valid` must have the shape {known.shape} of `flow`; "
                f"got {valid.shape}"
            )
        known = known & (valid != 0)
    return np.where(known[..., None], flow, 0), known
