"""Pictures of motion: flow in colour, arrows, errors, occlusion, panels.

Arrays in, (H, W, 3) uint8 RGB out; NumPy and Pillow only, JAX arrays are taken as
they are. Flow is (u, v) in pixels. `valid` says where it is known; NaN and what is
beyond 1e9 are unknown in any case. Images are uint8 or uint16, or float in [0, 1].
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

# Colours of the wheel: where a ramp starts, where it ends, in how many steps.
_RAMPS = (
    ((255, 0, 0), (255, 255, 0), 15),
    ((255, 255, 0), (0, 255, 0), 6),
    ((0, 255, 0), (0, 255, 255), 4),
    ((0, 255, 255), (0, 0, 255), 11),
    ((0, 0, 255), (255, 0, 255), 13),
    ((255, 0, 255), (255, 0, 0), 6),
)
# KITTI's development kit: upper bound of the error, 1 being an outlier, and colour.
_KITTI_BINS = (0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16)
_KITTI_COLOURS = (
    (49, 54, 149), (69, 117, 180), (116, 173, 209), (171, 217, 233), (224, 243, 248),
    (254, 224, 144), (253, 174, 97), (244, 109, 67), (215, 48, 39), (165, 0, 38),
)  # fmt: skip
_UNKNOWN_ABOVE = 1e9
# No gray, and none of KITTI's colours: where the estimate itself is missing.
_MISSING = (255, 0, 255)
_BACKGROUND = (255, 255, 255)
_INK = (0, 0, 0)


def color_wheel() -> np.ndarray:
    """Returns the 55 hues of Middlebury's colour wheel, (55, 3) uint8.

    Red, yellow, green, cyan, blue, magenta and back; the lengths of the ramps follow
    how well the eye tells hues apart (Baker et al., "A Database and Evaluation
    Methodology for Optical Flow", 2011).
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
    """
    flow, valid = _known(flow, valid)
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
    """
    flow, _ = _known(flow, valid)
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
    """
    if size < 16:
        raise ValueError(f"`size` must be at least 16; got {size}")
    axis = np.linspace(-1.05, 1.05, size) * max_flow
    vectors = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = flow_to_image(vectors, max_flow=max_flow)
    wheel[np.hypot(vectors[..., 0], vectors[..., 1]) > max_flow] = _BACKGROUND
    picture = Image.fromarray(wheel)
    draw, middle = ImageDraw.Draw(picture), size // 2
    draw.line([(0, middle), (size, middle)], fill=_INK)
    draw.line([(middle, 0), (middle, size)], fill=_INK)
    for tick in (-1, -0.5, 0.5, 1):
        at = round((tick / 1.05 + 1) / 2 * (size - 1))
        draw.line([(at, middle - 2), (at, middle + 2)], fill=_INK)
        draw.line([(middle - 2, at), (middle + 2, at)], fill=_INK)
    return _with_label(np.asarray(picture), f"radius {max_flow:.3g} px")


def draw_arrows(
    image: npt.ArrayLike,
    flow: npt.ArrayLike,
    *,
    stride: int = 16,
    scale: float = 1.0,
    color: tuple[int, int, int] = (255, 255, 0),
    valid: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Draws an arrow at every `stride`-th pixel, from it to where it moves.

    Args:
        image: Picture to draw on, (H, W, 3) or (H, W).
        flow: (H, W, 2), in pixels.
        stride: Distance of the arrows, in pixels.
        scale: Factor on their length.
        color: RGB, 0 to 255.
        valid: Where the flow is known, (H, W); an unknown vector is not drawn.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong or `stride` is below 1.
    """
    picture = _rgb("image", image)
    flow, valid = _known(flow, valid)
    if flow.shape[:-1] != picture.shape[:-1]:
        raise ValueError(
            f"`flow` must have the size {picture.shape[:-1]} of `image`; "
            f"got {flow.shape[:-1]}"
        )
    if stride < 1:
        raise ValueError(f"`stride` must be at least 1; got {stride}")
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    height, width = valid.shape
    for y in range(stride // 2, height, stride):
        for x in range(stride // 2, width, stride):
            if valid[y, x]:
                _arrow(draw, np.array([x, y]), scale * flow[y, x], color)
    return np.asarray(canvas)


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


def overlay(
    image: npt.ArrayLike,
    mask: npt.ArrayLike,
    *,
    color: tuple[int, int, int] = (255, 0, 0),
    opacity: float = 0.5,
) -> np.ndarray:
    """Tints a picture where a mask is set, as for the occluded pixels of a frame.

    Args:
        image: (H, W, 3) or (H, W).
        mask: Where to tint, (H, W): bool, or from 0 to 1.
        color: RGB of the tint, 0 to 255.
        opacity: Share of the tint, from 0 to 1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong.
    """
    picture = _rgb("image", image)
    share = np.asarray(mask, np.float32)
    if share.shape != picture.shape[:-1]:
        raise ValueError(
            f"`mask` must have the size {picture.shape[:-1]} of `image`; "
            f"got {share.shape}"
        )
    share = opacity * np.clip(share, 0, 1)[..., None]
    mixed = (1 - share) * picture + share * np.array(color, np.float32)
    return np.round(mixed).astype(np.uint8)


def panel(
    images: Sequence[npt.ArrayLike],
    *,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    gap: int = 4,
) -> np.ndarray:
    """Puts pictures side by side, each under its label.

    Args:
        images: Pictures of any sizes, (H, W, 3) or (H, W). A cell has the size of the
            largest; a smaller one lies in its middle.
        labels: One line for each.
        columns: Pictures in a row; None puts all in one.
        gap: White pixels between cells.

    Returns:
        (H', W', 3) uint8.

    Raises:
        ValueError: If there are no pictures, or not as many labels.
    """
    pictures = [_rgb("images", image) for image in images]
    if not pictures:
        raise ValueError("`images` must not be empty")
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(
            f"`labels` must be {len(pictures)}, one for each image; got {len(labels)}"
        )
    if columns is not None and columns < 1:
        raise ValueError(f"`columns` must be at least 1; got {columns}")
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    cells = [_centred(picture, height, width) for picture in pictures]
    if labels is not None:
        cells = [
            _with_label(cell, label) for cell, label in zip(cells, labels, strict=True)
        ]
    height, width = cells[0].shape[:2]
    columns = min(columns or len(cells), len(cells))
    rows = -(-len(cells) // columns)
    out = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3),
        _BACKGROUND,
        np.uint8,
    )
    places = itertools.product(range(rows), range(columns))
    for (row, column), cell in zip(places, cells, strict=False):
        y, x = row * (height + gap), column * (width + gap)
        out[y : y + height, x : x + width] = cell
    return out


def quantize_flow(flow: npt.ArrayLike, *, bound: float = 20.0) -> np.ndarray:
    """Stores flow in 8 bits, as two-stream networks read it.

    Each component is cut to [-bound, bound] and becomes (f + bound) 255 / (2 bound),
    rounded; no motion is 128. A NaN becomes 128.

    Args:
        flow: (*B, H, W, 2), in pixels.
        bound: Largest component, in pixels.

    Returns:
        (*B, H, W, 2) uint8.
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
    """
    flow = np.asarray(flow, np.float32)
    length = np.hypot(flow[..., :1], flow[..., 1:])
    return flow * (bound / np.maximum(length, bound))


def _known(
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


def _errors(flow, target, valid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the endpoint error, the true flow, and where that is known.

    The error of an estimate that is missing is infinite.
    """
    target, valid = _known(target, valid)
    flow, estimated = _known(flow, None)
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


def _rgb(name: str, image: npt.ArrayLike) -> np.ndarray:
    """Brings a picture to (H, W, 3) uint8."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"`{name}` must be (H, W, 3) or (H, W); got {image.shape}")
    if image.dtype == np.bool_:
        image = image * np.uint8(255)
    elif image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        # JAX's bfloat16 is no NumPy floating type, but has a fraction all the same.
        if np.issubdtype(image.dtype, np.integer):
            raise ValueError(
                f"`{name}` must be uint8, uint16, or float in [0, 1]; got {image.dtype}"
            )
        image = np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1)
        image = np.round(255 * image).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _arrow(draw: ImageDraw.ImageDraw, start: np.ndarray, vector, color) -> None:
    """Draws one arrow; a dot where nothing moves."""
    end = start + vector
    length = float(np.hypot(*vector))
    draw.line([tuple(start), tuple(end)], fill=color)
    if length < 2:
        draw.point(tuple(start), fill=color)
        return
    back = -vector / length * min(5.0, 0.4 * length)
    across = np.array([-back[1], back[0]]) * 0.5
    for side in (across, -across):
        draw.line([tuple(end), tuple(end + back + side)], fill=color)


def _centred(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Places a picture in the middle of a white cell."""
    cell = np.full((height, width, 3), _BACKGROUND, np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cell


def _with_label(picture: np.ndarray, label: str) -> np.ndarray:
    """Adds one line of text below a picture."""
    strip = Image.new("RGB", (picture.shape[1], 18), _BACKGROUND)
    font = ImageFont.load_default(12)
    ImageDraw.Draw(strip).text((2, 1), label, fill=_INK, font=font)
    return np.concatenate([picture, np.asarray(strip)])
