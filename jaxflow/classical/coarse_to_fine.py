"""The pyramid around an estimator: solve small, enlarge, correct."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops

# A frame whose values differ by less than this share of the largest is flat: a bit more
# than one level of 8 bits, which coding adds to white.
FLAT_SHARE = 0.005
Solve = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def luminance(image: jax.Array) -> jax.Array:
    """Weighs the colours of an image as ITU-R BT.601 does, which is what OpenCV uses.

    Args:
        image: RGB or gray, (*B, H, W, 3 or 1), floating.

    Returns:
        0.299 R + 0.587 G + 0.114 B, (*B, H, W, 1), float32 or wider.

    Raises:
        ValueError: If `image` has another number of channels.

    Examples:
        >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 3)
        >>> round(jaxflow.classical.coarse_to_fine.luminance(red).item(), 3)
        0.299
    """
    if image.shape[-1] not in (1, 3):
        raise ValueError(f"`image` must have 1 or 3 channels; got {image.shape}")
    image = widen(image)
    if image.shape[-1] == 1:
        return image
    weights = jnp.array([0.299, 0.587, 0.114], image.dtype)
    weights = jax.lax.broadcast_to_rank(weights, image.ndim)
    return (image * weights).sum(-1, keepdims=True)


def widen(image: jax.Array) -> jax.Array:
    """Casts half precision to float32; float32 and float64 stay what they are.

    Examples:
        >>> half = jnp.ones((2, 2, 1), jnp.bfloat16)
        >>> jaxflow.classical.coarse_to_fine.widen(half).dtype.name
        'float32'
    """
    image = jnp.asarray(image)
    return image.astype(jnp.float64 if image.dtype == jnp.float64 else jnp.float32)


def textured(image: jax.Array) -> jax.Array:
    """Tells which frames have anything that could be seen to move.

    Args:
        image: (*B, H, W, C), floating, of any unit.

    Returns:
        (*B) booleans: False where all values of a frame are the same, but for 0.5 % of
        the largest. A frame with NaN counts as textured: what is made of it is NaN.

    Examples:
        >>> frames = jnp.stack([jnp.ones((4, 4, 1)), jnp.eye(4)[..., None]])
        >>> jaxflow.classical.coarse_to_fine.textured(frames).tolist()
        [False, True]
    """
    axes = (-3, -2, -1)
    span = image.max(axes) - image.min(axes)
    flat = span <= FLAT_SHARE * jnp.abs(image).max(axes)
    # XLA's fast maximum may pass over NaN.
    return ~flat | jnp.isnan(image).any(axes)


def both_textured(frame1: jax.Array, frame2: jax.Array) -> jax.Array:
    """Tells which pairs determine a motion at all: (*B, 1, 1, 1) booleans."""
    both = textured(frame1) & textured(frame2)
    return both[..., None, None, None]


def pyramid_sizes(
    size: tuple[int, ...], *, levels: int, step: float = 0.5, minimum_size: int = 16
) -> list[tuple[int, ...]]:
    """Lists the sizes of a pyramid, the finest first.

    Args:
        size: The finest (height, width).
        levels: Number of levels wanted.
        step: Size of a level over that of the next finer one, in (0, 1).
        minimum_size: Levels with a shorter side, in pixels, are left out; the finest
            never is.

    Returns:
        At least one (height, width).

    Raises:
        ValueError: If `levels` is not positive or `step` not in (0, 1).

    Examples:
        >>> jaxflow.classical.coarse_to_fine.pyramid_sizes((64, 96), levels=5)
        [(64, 96), (32, 48), (16, 24)]
    """
    _checks.counts(levels=levels)
    if not 0 < step < 1:
        raise ValueError(f"`step` must be in (0, 1); got {step}")
    sizes = [size]
    for _ in range(levels - 1):
        smaller = tuple(max(1, round(side * step)) for side in sizes[-1])
        if min(smaller) < minimum_size or smaller == sizes[-1]:
            break
        sizes.append(smaller)
    return sizes


def image_pyramid(
    image: jax.Array, sizes: list[tuple[int, ...]], *, sigma: float = 0.0
) -> list[jax.Array]:
    """Shrinks an image to each of the sizes in turn.

    Args:
        image: (*B, H, W, C); (H, W) is the first of `sizes`.
        sizes: As of `pyramid_sizes`.
        sigma: Gaussian blur before each shrinking, in pixels of the larger image; 0 for
            none.

    Returns:
        The image at each size, shrunk bilinearly.
    """
    levels = [image]
    for size in sizes[1:]:
        blurred = ops.gaussian_blur(levels[-1], sigma) if sigma else levels[-1]
        levels.append(ops.resize(blurred, size))
    return levels


def by_one_program(
    prepare: Callable[[jax.Array], Any], frame1: Any, frame2: Any
) -> list:
    """Prepares two frames by one program.

    Two programs may round apart, even where they are copies of each other; of equal
    frames they would make a motion.

    Args:
        prepare: Takes a frame, and returns a tree of arrays.
        frame1: Floating, of any shape.
        frame2: Of that shape.

    Returns:
        What `prepare` makes of frame 1, and of frame 2.

    Examples:
        >>> from jaxflow.classical import coarse_to_fine
        >>> half, whole = jnp.full((2, 2, 1), 0.5), jnp.ones((2, 2, 1))
        >>> [x.item() for x in coarse_to_fine.by_one_program(jnp.mean, half, whole)]
        [0.5, 1.0]
    """
    both = jax.lax.map(prepare, jnp.stack([widen(frame1), widen(frame2)]))
    return [jax.tree.map(operator.itemgetter(k), both) for k in (0, 1)]


def estimate(
    solve: Solve,
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    levels: int,
    step: float = 0.5,
    sigma: float = 0.0,
    minimum_size: int = 16,
    initial_flow: jax.Array | None = None,
) -> jax.Array:
    """Runs an estimator from the coarsest level to the finest.

    Where either frame is flat (see `textured`), there is no motion to be seen, and the
    flow stays what it was: `initial_flow`, or 0.

    Args:
        solve: Takes both frames and a flow, all at one size; returns a better flow.
        frame1: (*B, H, W, C).
        frame2: Like `frame1`.
        levels: Number of levels, see `pyramid_sizes`.
        step: Size of a level over that of the next finer one.
        sigma: Blur before each shrinking, see `image_pyramid`.
        minimum_size: Levels with a shorter side are left out.
        initial_flow: Flow to start from, (*B, H, W, 2); None for zero.

    Returns:
        Flow, (*B, H, W, 2), in pixels, float32 or wider.

    Raises:
        ValueError: If `initial_flow` has another shape.
    """
    frame1, frame2 = widen(frame1), widen(frame2)
    sizes = pyramid_sizes(
        frame1.shape[-3:-1], levels=levels, step=step, minimum_size=minimum_size
    )
    shrink = functools.partial(image_pyramid, sizes=sizes, sigma=sigma)
    pyramids = zip(*by_one_program(shrink, frame1, frame2), strict=True)
    if initial_flow is None:
        batch = frame1.shape[:-3]
        flow = jnp.zeros((*batch, *sizes[-1], 2), frame1.dtype)
    else:
        _shapes.check("initial_flow", initial_flow, (*frame1.shape[:-1], 2))
        flow = initial_flow.astype(frame1.dtype)
    flow = _mesh.alike(flow, frame1, frame2)
    start = ops.resize_flow(flow, sizes[0])
    for image1, image2 in reversed(list(pyramids)):
        flow = ops.resize_flow(flow, image1.shape[-3:-1])
        flow = solve(image1, image2, flow)
    return jnp.where(both_textured(frame1, frame2), flow, start)
