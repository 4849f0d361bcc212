"""Corners, and tracking them through a clip (KLT).

Shi and Tomasi, "Good Features to Track" (1994); Bouguet, "Pyramidal Implementation of
the Lucas Kanade Feature Tracker" (2000). Points are (x, y) in pixels.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine, lucas_kanade, structure
from jaxflow.ops import stencil

Response = Literal["shi_tomasi", "harris"]


class Tracks(NamedTuple):
    """Points followed through a clip.

    Attributes:
        points: (T, N, 2), in pixels; a lost point stays where it was last seen.
        visible: (T, N) booleans.
    """

    points: jax.Array
    visible: jax.Array


def corner_response(
    image: jax.Array,
    *,
    response: Response = "shi_tomasi",
    window: int = 3,
    k: float = 0.04,
    kernel: stencil.Kernel = "sobel",
) -> jax.Array:
    """Rates every pixel as a corner.

    Args:
        image: (*B, H, W, 3 or 1), floating, in [0, 1].
        response: "shi_tomasi", the smaller eigenvalue, or "harris".
        window: Side of the box over which second moments are averaged, in pixels.
        k: Harris' penalty of edges.
        kernel: Spatial derivative, see `ops.spatial_gradient`.

    Returns:
        (*B, H, W).

    Raises:
        ValueError: If a choice is unknown.

    Examples:
        >>> image = jnp.zeros((20, 20, 1)).at[8:, 8:].set(1.0)
        >>> response = jax.jit(jaxflow.classical.features.corner_response)(image)
        >>> divmod(int(response.argmax()), 20)
        (8, 8)
    """
    _checks.one_of("response", response, ("shi_tomasi", "harris"))
    gray = coarse_to_fine.luminance(image)
    tensor = ops.structure_tensor(gray, window=window, kernel=kernel, border="reflect")
    if response == "harris":
        return structure.harris(tensor, k=k)
    return structure.shi_tomasi(tensor)


def detect_corners(
    image: jax.Array,
    *,
    count: int = 200,
    quality: float = 0.01,
    minimum_distance: float = 10.0,
    response: Response = "shi_tomasi",
    window: int = 3,
    k: float = 0.04,
) -> tuple[jax.Array, jax.Array]:
    """Finds the strongest corners, none too close to a stronger one.

    As in ``cv2.goodFeaturesToTrack``, a corner is the largest response of 3 x 3 pixels,
    is not on the border, and is at least `quality` times the best. Corners are taken in
    order of strength, from the 16 `count` strongest candidates.

    Args:
        image: (H, W, 3 or 1), floating, in [0, 1].
        count: Number of corners.
        quality: Least response, as a share of the strongest.
        minimum_distance: Least distance between two corners, in pixels.
        response: See `corner_response`.
        window: See `corner_response`.
        k: See `corner_response`.

    Returns:
        Points (x, y), (count, 2), the strongest first; and which of them are corners,
        (count,): the rest is (0, 0) where fewer were found.

    Raises:
        ValueError: If `count` is not positive or `response` unknown.

    Examples:
        >>> image = jnp.zeros((20, 20, 1)).at[8:, 8:].set(1.0)
        >>> points, found = jax.jit(jaxflow.classical.features.detect_corners)(image)
        >>> points[0].tolist(), int(found.sum())
        ([8.0, 8.0], 1)
    """
    _checks.positive("count", count)
    _shapes.check("image", image, ("H", "W", "C"))
    strength = corner_response(image, response=response, window=window, k=k)
    width = strength.shape[1]
    peak = ops.max_pool(strength[..., None], 3, strides=1, padding=1)[..., 0]
    enough = (strength == peak) & (strength > quality * strength.max())
    inner = jnp.zeros_like(enough).at[1:-1, 1:-1].set(True)
    scores = jnp.where(enough & inner, strength, 0).ravel()
    scores, indices = jax.lax.top_k(scores, min(16 * count, scores.size))
    candidates = jnp.stack([indices % width, indices // width], axis=-1)
    candidates = candidates.astype(jnp.float32)

    def consider(carry, candidate):
        kept, number = carry
        point, score = candidate
        distance = ((kept - point[None, :]) ** 2).sum(-1)
        taken = jnp.arange(count) < number
        crowded = (taken & (distance < minimum_distance**2)).any()
        keep = (score > 0) & ~crowded & (number < count)
        slot = jnp.where(keep, number, count)
        return (
            kept.at[slot].set(point, mode="drop"),
            number + keep.astype(jnp.int32),
        ), None

    start = jnp.zeros((count, 2), jnp.float32), jnp.zeros((), jnp.int32)
    start = _mesh.alike(start, image)
    (points, number), _ = jax.lax.scan(consider, start, (candidates, scores))
    return points, jnp.arange(count) < number


def track_pair(
    frame1: jax.Array,
    frame2: jax.Array,
    points: jax.Array,
    *,
    window: int = 21,
    levels: int = 4,
    iterations: int = 10,
    kernel: stencil.Kernel = "scharr",
    initial_points: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds where points of frame 1 lie in frame 2, by pyramidal Lucas-Kanade.

    Each window moves as a whole with its centre. Its gradient and second moments are
    those of frame 1, and are computed once for each level. The result is differentiable
    in the frames and the points.

    Args:
        frame1: (H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        points: (N, 2): (x, y) in pixels of frame 1.
        window: Side of the window, in pixels, odd.
        levels: Pyramid levels, each half the size.
        iterations: Gauss-Newton steps a level.
        kernel: Spatial derivative, see `ops.spatial_gradient`.
        initial_points: Where to start in frame 2, (N, 2); None for `points`.

    Returns:
        Points in frame 2, (N, 2); the smaller eigenvalue of the finest window's mean
        second moments, (N,); and the mean absolute difference of both windows, (N,).

    Raises:
        ValueError: If `window` is even or the frames have neither 1 nor 3 channels.

    Examples:
        >>> image = jnp.zeros((20, 20, 1)).at[8:, 8:].set(1.0)
        >>> moved = jnp.roll(image, 2, axis=1)
        >>> find = lambda one, two, points: jaxflow.classical.features.track_pair(
        ...     one, two, points, window=9, levels=1
        ... )
        >>> points, _, error = jax.jit(find)(image, moved, jnp.array([[8.0, 8.0]]))
        >>> points.round(1).tolist()
        [[10.0, 8.0]]
    """
    _checks.counts(window=window, levels=levels, iterations=iterations)
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    _shapes.check("points", points, ("N", 2))
    if window < 1 or window % 2 == 0:
        raise ValueError(f"`window` must be odd and positive; got {window}")
    gray1, gray2 = map(coarse_to_fine.luminance, (frame1, frame2))
    pyramid1 = ops.gaussian_pyramid(gray1, levels)
    pyramid2 = ops.gaussian_pyramid(gray2, levels)
    start = points if initial_points is None else initial_points
    # Pixel i of a level lies at pixel 2 i of the finer one.
    guess = _mesh.alike(start / 2 ** (levels - 1), frame1, frame2, points)
    smaller = error = jnp.zeros(points.shape[:1], points.dtype)
    for level in reversed(range(levels)):
        guess, smaller, error = _track_level(
            pyramid1[level], pyramid2[level], points / 2**level, guess,
            window=window, iterations=iterations, kernel=kernel,
        )  # fmt: skip
        guess = 2 * guess if level else guess
    return guess, smaller, error


def track(
    clip: jax.Array,
    points: jax.Array,
    *,
    window: int = 21,
    levels: int = 4,
    iterations: int = 10,
    maximum_return_error: float = 1.0,
    minimum_eigenvalue: float = 1e-6,
    kernel: stencil.Kernel = "scharr",
) -> Tracks:
    """Follows points from the first frame of a clip to the last.

    A point is tracked forward, and back again: it is lost for good when it does not
    return to where it was (Kalal, Mikolajczyk and Matas, "Forward-Backward Error",
    2010), leaves the frame, or sits in a window without texture in either frame.

    Args:
        clip: (T, H, W, 3 or 1), floating, in [0, 1].
        points: In the first frame, (N, 2): (x, y) in pixels.
        window: See `track_pair`.
        levels: See `track_pair`.
        iterations: See `track_pair`.
        maximum_return_error: Greatest distance between start and return, in pixels.
        minimum_eigenvalue: Least of the smaller eigenvalue of a window.
        kernel: See `track_pair`.

    Returns:
        Where the points are in every frame, and whether they are seen there.

    Raises:
        ValueError: As `track_pair`.

    Examples:
        >>> y, x = np.float32(np.mgrid[:20, :20])
        >>> clip = jnp.stack([
        ...     jnp.asarray(np.exp(-((x - 8 - t) ** 2 + (y - 9) ** 2) / 8))[..., None]
        ...     for t in range(3)
        ... ])
        >>> follow = lambda clip, points: jaxflow.classical.features.track(
        ...     clip, points, window=9, levels=1
        ... )
        >>> tracks = jax.jit(follow)(clip, jnp.array([[8.0, 9.0]]))
        >>> tracks.points[:, 0].round(1).tolist(), tracks.visible[:, 0].tolist()
        ([[8.0, 9.0], [9.0, 9.0], [10.0, 9.0]], [True, True, True])
    """
    _shapes.check("clip", clip, ("T", "H", "W", "C"))
    height, width = clip.shape[1:3]
    follow = functools.partial(
        track_pair, window=window, levels=levels, iterations=iterations, kernel=kernel
    )
    corner = jnp.array([[width - 1, height - 1]], points.dtype)

    def step(carry, frames):
        points, visible = carry
        one, two = frames
        moved, smaller, _ = follow(one, two, points)
        returned, smaller2, _ = follow(two, one, moved, initial_points=moved)
        there = ((returned - points) ** 2).sum(-1) <= maximum_return_error**2
        inside = ((moved >= 0) & (moved <= corner)).all(-1)
        visible = (
            visible
            & there
            & inside
            & (jnp.minimum(smaller, smaller2) >= minimum_eigenvalue)
        )
        points = jnp.where(visible[:, None], moved, points)
        return (points, visible), (points, visible)

    start = _mesh.alike((points, jnp.ones(points.shape[:1], bool)), clip)
    _, (later, seen) = jax.lax.scan(step, start, (clip[:-1], clip[1:]))
    return Tracks(
        jnp.concatenate([points[None], later]), jnp.concatenate([start[1][None], seen])
    )


def _track_level(image1, image2, points, guess, *, window, iterations, kernel):
    """Refines `guess` at one pyramid level; all points of one level's pixels."""
    radius = window // 2
    offsets = ops.pixel_grid(window, window).reshape(1, -1, 2)
    offsets = offsets.astype(points.dtype) - radius
    ix, iy = ops.spatial_gradient(image1, kernel=kernel, border="reflect")
    values = jnp.concatenate([image1, ix, iy], axis=-1)
    patches = ops.bilinear_sample(values, points[:, None] + offsets, padding="border")
    template, gradient = patches[..., 0], patches[..., 1:]
    gx, gy = gradient[..., 0], gradient[..., 1]
    tensor = jnp.stack([(gx * gx).mean(-1), (gx * gy).mean(-1), (gy * gy).mean(-1)], -1)

    def residual(guess):
        there = ops.bilinear_sample(image2, guess[:, None] + offsets, padding="border")
        return there[..., 0] - template

    @jax.checkpoint
    def step(guess, _):
        right = -(gradient * residual(guess)[..., None]).mean(-2)
        move, _ = lucas_kanade.solve(tensor, right)
        return guess + move, None

    guess, _ = jax.lax.scan(step, guess, length=iterations)
    return guess, structure.shi_tomasi(tensor), jnp.abs(residual(guess)).mean(-1)
