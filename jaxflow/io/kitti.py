"""KITTI's flow format: a PNG of 16 bits a sample, in steps of 1/64 pixel.

    R = 64 u + 2^15,   G = 64 v + 2^15,   B = 1 where the flow is known, else 0

Menze and Geiger, "Object Scene Flow for Autonomous Vehicles" (2015), development kit.
The format reaches from -512 to just below 512 pixels. HD1K uses it too.
"""

import numpy as np

from jaxflow.io import files, flo, png


def read_kitti(path: files.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow in KITTI's PNG format.

    Args:
        path: The file.

    Returns:
        The flow, (H, W, 2) float32 in pixels, 0 where it is unknown; and where it is
        known, (H, W) bool.

    Raises:
        ValueError: If the file is damaged, or no RGB PNG of 16 bits a sample; or
            if its third channel is no mask, as of a picture that is no flow.
        OSError: If the file cannot be opened.

    Examples:
        >>> jaxflow.io.write_kitti(folder / "flow.png", np.ones((2, 3, 2)))
        >>> flow, valid = jaxflow.io.read_kitti(folder / "flow.png")
        >>> flow.shape, valid.dtype
        ((2, 3, 2), dtype('bool'))
    """
    with open(path, "rb") as file:
        image = png.decode16(path, file.read())
    if image.shape[-1] != 3:
        raise files.fault(
            path, f"has {image.shape[-1]} channels; a KITTI flow has 3 (u, v, valid)"
        )
    marks = image[..., 2]
    if np.any((marks != 0) & (marks != marks.max())):
        raise files.fault(
            path,
            "is a picture of 16 bits, no KITTI flow: its third channel has values "
            "other than 0 and one more, which mark where the flow is known",
        )
    valid = marks > 0
    flow = (image[..., :2].astype(np.float32) - 2**15) / 64
    return np.where(valid[..., None], flow, np.float32(0)), valid


def write_kitti(
    path: files.Path, flow: np.ndarray, *, valid: np.ndarray | None = None
) -> None:
    """Writes a flow in KITTI's PNG format, atomically.

    Values are rounded to the nearest 1/64 pixel, and clipped to the format's range.

    Args:
        path: The file; it is replaced if it is there.
        flow: (H, W, 2), in pixels. What is not finite, or beyond 1e9, is unknown.
        valid: Where the flow is known, (H, W); None takes all of it.

    Raises:
        ValueError: If the shapes are wrong.
        OSError: If the file cannot be written.

    Examples:
        >>> flow = np.full((2, 3, 2), 0.51)
        >>> jaxflow.io.write_kitti(folder / "flow.png", flow)
        >>> found, valid = jaxflow.io.read_kitti(folder / "flow.png")
        >>> found[0, 0].tolist()  # to 1/64 pixel
        [0.515625, 0.515625]
    """
    flow, valid = flo.join_unknown(flow, valid)
    coded = np.clip(np.round(flow * 64 + 2**15), 0, 2**16 - 1)
    image = np.concatenate([coded, np.ones_like(coded[..., :1])], axis=-1)
    png.write_png16(path, np.where(valid[..., None], image, 0).astype(np.uint16))
