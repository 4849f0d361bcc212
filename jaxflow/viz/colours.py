"""Flow in the colours of Middlebury: the hue is the direction, pale is slow."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from jaxflow.viz import pictures
from jaxflow.viz.known import split_known

# Colours of the wheel: where a ramp starts, where it ends, in how many steps.
_RAMPS = (
    ((255, 0, 0), (255, 255, 0), 15),
    ((255, 255, 0), (0, 255, 0), 6),
    ((0, 255, 0), (0, 255, 255), 4),
    ((0, 255, 255), (0, 0, 255), 11),
    ((0, 0, 255), (255, 0, 255), 13),
    ((255, 0, 255), (255, 0, 0), 6),
)


def color_wheel() -> np.ndarray:
    """Returns the 55 hues of Middlebury's colour wheel, (55, 3) uint8.

    Red, yellow, green, cyan, blue, magenta and back; the lengths of the ramps follow
    how well the eye tells hues apart (Baker et al., "A Database and Evaluation
    Methodology for Optical Flow", 2011).

    Examples:
        >>> jaxflow.viz.color_wheel()[[0, 15, 21]].tolist()  # red, yellow, green
        [[255, 0, 0], [255, 255, 0], [0, 255, 0]]
    """
    rows = []
    for start, end, steps in _RAMPS:
        # The slope is cut to an integer before its sign is applied: 255 - 255 i // n.
        slope = np.arange(steps)[:, None] * 255 // steps
        rows.append(np.array(start) + np.sign(np.subtract(end, start)) * slope)
    return np.concatenate(rows).astype(np.uint8)


def flow_to_image(
    flow: npt.ArrayLike,
    *,
    max_flow: float | None = None,
    valid: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Shows flow by Middlebury's colours: the hue is the direction, pale is slow.

    Red moves to the right, yellow down, cyan to the left, violet up; white rests. A
    vector longer than `max_flow` is darkened; an unknown one is black.

    Args:
        flow: (*B, H, W, 2), in pixels.
        max_flow: Length of a vector in full colour, in pixels. None takes the longest
            known vector of the whole array, so that the frames of a clip share one
            scale.
        valid: Where the flow is known, (*B, H, W); None takes all of it.

    Returns:
        (*B, H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong or `max_flow` is not positive.

    Examples:
        >>> flow = np.array([[[2.0, 0.0], [0.0, 0.0], [np.nan, 0.0]]])
        >>> jaxflow.viz.flow_to_image(flow)[0].tolist()  # right, at rest, unknown
        [[255, 0, 0], [255, 255, 255], [0, 0, 0]]
    """
    flow, valid = split_known(flow, valid)
    radius = np.hypot(flow[..., 0], flow[..., 1])
    if max_flow is None:
        # A field at rest is white, whatever the scale.
        max_flow = float(radius.max(initial=0.0)) or 1.0
    if not max_flow > 0:
        raise ValueError(f"`max_flow` must be positive; got {max_flow}")
    wheel = color_wheel() / 255
    # Adding 0 turns a -0 into 0: the two are on different sides of the arc's cut.
    angle = np.arctan2(-(flow[..., 1] + 0.0), -(flow[..., 0] + 0.0)) / np.pi
    position = (angle + 1) / 2 * (len(wheel) - 1)
    return _colour(wheel, position, radius / max_flow, valid)


def max_speed(flow: npt.ArrayLike, *, valid: npt.ArrayLike | None = None) -> float:
    """Returns the length of the longest known vector, in pixels; 0 if none is known.

    Args:
        flow: (*B, H, W, 2), in pixels.
        valid: Where the flow is known, (*B, H, W); None takes all of it.

    Examples:
        >>> jaxflow.viz.max_speed(np.array([[[3.0, 4.0], [np.nan, 0.0]]]))
        5.0
    """
    flow, _ = split_known(flow, valid)
    return float(np.hypot(flow[..., 0], flow[..., 1]).max(initial=0.0))


def clip_scale(speeds: npt.ArrayLike) -> float:
    """Returns one scale of colours for a whole clip, which a bad pair does not ruin.

    Of n pairs, the longest max(1, n // 10) are left out (none, if there are fewer than
    three): a cut or a black frame makes one pair absurd, and the others would be pale.
    The scale is the longest vector of the rest. Where the rest hardly moves (less than
    0.1 px), all pairs count.

    Args:
        speeds: Length of the longest vector of every pair, (N,), in pixels; see
            `max_speed`. What is not finite is left out.

    Returns:
        `max_flow` for `flow_to_image`, in pixels; 1 if nothing moves.

    Examples:
        >>> jaxflow.viz.clip_scale([2.0, 3.0, 90.0, 2.5])  # 90 pixels are a cut
        3.0
    """
    speeds = np.asarray(speeds, np.float64).ravel()
    speeds = np.sort(speeds[np.isfinite(speeds)])
    if not speeds.size:
        return 1.0
    dropped = max(1, speeds.size // 10) if speeds.size > 2 else 0
    scale = speeds[-1 - dropped]
    return float(scale if scale >= 0.1 else speeds[-1]) or 1.0


def legend(*, max_flow: float = 1.0, size: int = 151) -> np.ndarray:
    """Draws the key to `flow_to_image`: the colour of every vector, axes, and scale.

    Args:
        max_flow: Length of a vector at the rim of the wheel, in pixels.
        size: Height and width of the wheel, in pixels; the caption is added below.

    Returns:
        (size + 18, size, 3) uint8.

    Raises:
        ValueError: If `size` is below 16 or `max_flow` is not positive.

    Examples:
        >>> jaxflow.viz.legend(max_flow=20.0, size=101).shape
        (119, 101, 3)
    """
    if size < 16:
        raise ValueError(f"`size` must be at least 16; got {size}")
    axis = np.linspace(-1.05, 1.05, size) * max_flow
    vectors = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = flow_to_image(vectors, max_flow=max_flow)
    wheel[np.hypot(vectors[..., 0], vectors[..., 1]) > max_flow] = pictures.BACKGROUND
    picture = Image.fromarray(wheel)
    draw, middle = ImageDraw.Draw(picture), size // 2
    draw.line([(0, middle), (size, middle)], fill=pictures.INK)
    draw.line([(middle, 0), (middle, size)], fill=pictures.INK)
    for tick in (-1, -0.5, 0.5, 1):
        at = round((tick / 1.05 + 1) / 2 * (size - 1))
        draw.line([(at, middle - 2), (at, middle + 2)], fill=pictures.INK)
        draw.line([(middle - 2, at), (middle + 2, at)], fill=pictures.INK)
    return pictures.add_label(np.asarray(picture), f"radius {max_flow:.3g} px")


def _colour(
    wheel: np.ndarray, position: np.ndarray, radius: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Reads the wheel between its hues, and mixes in white or darkness by radius."""
    below = np.floor(position).astype(int)
    share = (position - below)[..., None]
    hue = (1 - share) * wheel[below] + share * wheel[(below + 1) % len(wheel)]
    radius = radius[..., None]
    shade = np.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    return np.where(valid[..., None], np.floor(255 * shade), 0).astype(np.uint8)
