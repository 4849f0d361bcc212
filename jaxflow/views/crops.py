"""Crops of a clip in space, and its mirror image."""

from typing import Literal

import numpy as np

from jaxflow import _checks

CROPS = (1, 3, 5, 10)


def spatial_views(
    clip: np.ndarray, side: int, *, count: Literal[1, 3, 5, 10] = 1
) -> list[np.ndarray]:
    """Crops squares.

    Args:
        clip: (T, H, W, C).
        side: Height and width of the squares.
        count: 1: the centre. 3: centre and both ends of the longer side, in order. 5:
            four corners and the centre. 10: those, and their mirror images. In the
            mirror, flow to the left is flow to the right: of clips of 2 or 5 channels u
            becomes 1 - u; see `jaxflow.two_stream`.

    Returns:
        `count` arrays (T, side, side, C).

    Raises:
        ValueError: If the clip is smaller than the square or `count` is another.

    Examples:
        >>> from jaxflow import views
        >>> clip = np.arange(8).reshape(1, 2, 4, 1)
        >>> for view in views.spatial_views(clip, 2, count=3):
        ...     print(view[0, :, :, 0].tolist())
        [[0, 1], [4, 5]]
        [[1, 2], [5, 6]]
        [[2, 3], [6, 7]]
    """
    _checks.one_of("count", count, CROPS)
    height, width = clip.shape[1:3]
    if min(height, width) < side:
        raise ValueError(f"`clip` is {height} x {width}, smaller than the crop {side}")
    low, high = height - side, width - side
    middle = (-(-low // 2), -(-high // 2))
    if count == 1:
        places = [middle]
    elif count == 3:
        ends = (0, middle[1], high) if width >= height else (0, middle[0], low)
        places = [
            (middle[0], end) if width >= height else (end, middle[1]) for end in ends
        ]
    else:
        places = [(0, 0), (0, high), (low, 0), (low, high), middle]
    views = [clip[:, y : y + side, x : x + side] for y, x in places]
    return views + [mirrored(view) for view in views] if count == 10 else views


def mirrored(clip: np.ndarray) -> np.ndarray:
    """Mirrors a clip left to right, and with it the flow in its last two channels.

    Args:
        clip: (T, H, W, C) in [0, 1]; flow, as a picture, is in the last two of 2 or 5
            channels.

    Examples:
        >>> from jaxflow import views
        >>> right = np.array([0.9, 0.5]).reshape(1, 1, 1, 2)
        >>> views.mirrored(right).ravel().round(1).tolist()
        [0.1, 0.5]
    """
    turned = clip[:, :, ::-1]
    if clip.shape[-1] not in (2, 5):
        return turned
    turned = turned.copy()
    turned[..., -2] = 1 - turned[..., -2]
    return turned


def random_crop(
    clip: np.ndarray, side: int, generator: np.random.Generator
) -> np.ndarray:
    """Crops a square at a random place, the same in all frames.

    Args:
        clip: (T, H, W, C), no smaller than the square.
        side: Height and width of the square.
        generator: Where the place comes from.
    """
    y, x = (generator.integers(0, n - side + 1) for n in clip.shape[1:3])
    return clip[:, y : y + side, x : x + side]
