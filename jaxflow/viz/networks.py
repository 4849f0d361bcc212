"""Pictures of what a network has learned: its filters, and what it confuses."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from jaxflow.viz import pictures


def filter_strips(kernel: npt.ArrayLike, *, scale: int = 6, gap: int = 2) -> np.ndarray:
    """Shows the filters of a first convolution, a row each, over time.

    Args:
        kernel: (T, H, W, C_in, C_out), or (H, W, C_in, C_out); C_in is 3 for RGB, or 1.
            Each filter is stretched by its own largest value: grey is 0, black and
            white are minus and plus that.
        scale: Pixels of the picture to one of the filter.
        gap: White pixels between filters.

    Returns:
        (H', W', 3) uint8: C_out rows of T pictures.

    Raises:
        ValueError: If the shape is another, or a value is not finite.

    Examples:
        >>> kernel = np.ones((5, 7, 7, 3, 8))
        >>> jaxflow.viz.filter_strips(kernel, scale=1, gap=1).shape
        (63, 39, 3)
    """
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim == 4:
        kernel = kernel[None]
    if kernel.ndim != 5 or kernel.shape[3] not in (1, 3) or 0 in kernel.shape:
        raise ValueError(
            "`kernel` must be (T, H, W, C_in, C_out) with 1 or 3 input channels; got "
            f"{kernel.shape}"
        )
    if not np.isfinite(kernel).all():
        raise ValueError("`kernel` must be finite")
    if scale < 1:
        raise ValueError(f"`scale` must be at least 1; got {scale}")
    largest = np.abs(kernel).max(axis=(0, 1, 2, 3))
    shades = 0.5 + 0.5 * kernel / np.where(largest > 0, largest, 1)
    shades = shades.repeat(scale, axis=1).repeat(scale, axis=2)
    frames, count = kernel.shape[0], kernel.shape[-1]
    cells = [shades[time, ..., n] for n in range(count) for time in range(frames)]
    return pictures.panel(cells, columns=frames, gap=gap)


def confusion_picture(
    labels: npt.ArrayLike,
    found: npt.ArrayLike,
    names: Sequence[str],
    *,
    cell: int = 24,
) -> np.ndarray:
    """Shows how often each class is taken for each.

    Args:
        labels: True class of each example, (N,) integers from 0.
        found: Class that the network says, (N,).
        names: Name of each class.
        cell: Side of a cell, in pixels. From 24 on each has its percentage in it.

    Returns:
        (H, W, 3) uint8: a row for each true class, which sums to 100 %, white to blue;
        grey for a class without examples. Names stand to the left; columns have the
        same order.

    Raises:
        ValueError: If the lengths differ, or a class has no name.

    Examples:
        >>> jaxflow.viz.confusion_picture([0, 1], [0, 0], ("run", "jump"), cell=8).shape
        (16, 86, 3)
    """
    labels, found = np.asarray(labels), np.asarray(found)
    if labels.shape != found.shape or labels.ndim != 1:
        raise ValueError(
            f"`labels` and `found` must be (N,) alike; got {labels.shape} and "
            f"{found.shape}"
        )
    if cell < 1:
        raise ValueError(f"`cell` must be at least 1; got {cell}")
    count = len(names)
    for name, numbers in (("labels", labels), ("found", found)):
        if not np.issubdtype(numbers.dtype, np.integer) or not np.all(
            (numbers >= 0) & (numbers < count)
        ):
            raise ValueError(
                f"`{name}` must be integers from 0 to {count - 1}, one of `names` each"
            )
    table = np.zeros((count, count))
    np.add.at(table, (labels, found), 1)
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    blue = np.array([31, 87, 165])
    colours = 255 + shares[..., None] * (blue - 255)
    colours[totals[:, 0] == 0] = 200
    squares = np.round(colours).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    picture = np.full((count * cell, 70 + count * cell, 3), 255, np.uint8)
    picture[:, 70:] = squares
    return _write(picture, names, shares, totals[:, 0], cell)


def _write(picture, names, shares, totals, cell: int) -> np.ndarray:
    """Writes names beside the rows, and percentages into cells that have the room."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(min(11, max(6, cell - 2)))
    for row, name in enumerate(names):
        draw.text((2, row * cell), name[:11], fill=pictures.INK, font=font)
        for column, share in enumerate(shares[row]):
            if cell >= 24 and totals[row] and share:
                ink = pictures.BACKGROUND if share > 0.5 else pictures.INK
                place = (70 + column * cell + 3, row * cell + 5)
                draw.text(place, f"{100 * share:.0f}", fill=ink, font=font)
    return np.asarray(image)
