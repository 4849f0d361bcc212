"""What is drawn on pictures and made of several: arrows, tints, panels, labels."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from jaxflow.viz.known import split_known

BACKGROUND = (255, 255, 255)

INK = (0, 0, 0)


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

    Examples:
        >>> frame, flow = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 2), 5.0)
        >>> picture = jaxflow.viz.draw_arrows(frame, flow)
        >>> picture.shape, picture[8, 8].tolist()
        ((32, 48, 3), [255, 255, 0])
    """
    picture = _rgb("image", image)
    flow, valid = split_known(flow, valid)
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


def draw_boxes(
    image: npt.ArrayLike,
    boxes: npt.ArrayLike,
    *,
    labels: Sequence[Sequence[str]] | None = None,
    color: tuple[int, int, int] = (255, 128, 0),
) -> np.ndarray:
    """Draws boxes on a picture, with lines of text in each.

    Args:
        image: Picture to draw on, (H, W, 3) or (H, W).
        boxes: Corners, (N, 4): x1, y1, x2, y2 in pixels, cut off at the border.
        labels: Lines of text for each box, from its top left corner down.
        color: RGB, 0 to 255.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If a shape is wrong, or there are not as many labels as boxes.

    Examples:
        >>> frame = np.zeros((32, 48, 3), np.uint8)
        >>> picture = jaxflow.viz.draw_boxes(frame, [[8, 4, 40, 28]])
        >>> picture[4, 20].tolist(), picture[16, 20].tolist()  # edge, inside
        ([255, 128, 0], [0, 0, 0])
    """
    canvas = Image.fromarray(_rgb("image", image))
    corners = np.asarray(boxes, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"`boxes` must be (N, 4); got {corners.shape}")
    lines = [()] * len(corners) if labels is None else labels
    if len(lines) != len(corners):
        raise ValueError(
            f"`labels` must be {len(corners)}, one for each box; got {len(lines)}"
        )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    last = np.array([canvas.width - 1, canvas.height - 1] * 2)
    for box, texts in zip(np.clip(np.round(corners), 0, last), lines, strict=True):
        x1, y1, x2, y2 = map(int, box)
        draw.rectangle([x1, y1, x2, y2], outline=color, width=2)
        for row, text in enumerate(texts):
            place = (x1 + 3, y1 + 2 + 14 * row)
            draw.rectangle(draw.textbbox(place, text, font=font), fill=color)
            draw.text(place, text, fill=INK, font=font)
    return np.asarray(canvas)


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

    Examples:
        >>> frame, hidden = np.full((1, 2, 3), 0.4), np.array([[False, True]])
        >>> jaxflow.viz.overlay(frame, hidden)[0].tolist()
        [[102, 102, 102], [178, 51, 51]]
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

    Examples:
        >>> frames = [np.zeros((20, 30, 3), np.uint8)] * 2
        >>> jaxflow.viz.panel(frames, labels=["frame 1", "frame 2"]).shape
        (38, 64, 3)
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
            add_label(cell, label) for cell, label in zip(cells, labels, strict=True)
        ]
    height, width = cells[0].shape[:2]
    columns = min(columns or len(cells), len(cells))
    rows = -(-len(cells) // columns)
    out = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3),
        BACKGROUND,
        np.uint8,
    )
    places = itertools.product(range(rows), range(columns))
    for (row, column), cell in zip(places, cells, strict=False):
        y, x = row * (height + gap), column * (width + gap)
        out[y : y + height, x : x + width] = cell
    return out


def add_label(picture: np.ndarray, label: str) -> np.ndarray:
    """Adds one line of text below a picture."""
    strip = Image.new("RGB", (picture.shape[1], 18), BACKGROUND)
    font = ImageFont.load_default(12)
    ImageDraw.Draw(strip).text((2, 1), label, fill=INK, font=font)
    return np.concatenate([picture, np.asarray(strip)])


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
    cell = np.full((height, width, 3), BACKGROUND, np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cell
