"""What motion is good for: steadying, stitching, slowing down, compressing, smoothing.

Clips are (T, H, W, C), floating, in [0, 1]. Flow is (u, v) in pixels.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine, registration

Flow = Callable[[jax.Array, jax.Array], jax.Array]


class Stabilised(NamedTuple):
    """A steadied clip.

    Attributes:
        clip: (T, H, W, C); 0 where the source frame does not reach.
        path: Where the camera was, (T, 3, 3): frame 0 -> frame t, in pixels.
        smooth_path: Where it seems to be now, likewise.
    """

    clip: jax.Array
    path: jax.Array
    smooth_path: jax.Array


class Compensated(NamedTuple):
    """A frame predicted from the one before.

    Attributes:
        prediction: (*B, H, W, C).
        residual: What is left to send, (*B, H, W, C).
        entropy: Of the residual in 8 bits, in bits a value, (*B).
    """

    prediction: jax.Array
    residual: jax.Array
    entropy: jax.Array


def camera_path(
    clip: jax.Array, *, motion: registration.Motion = "affine", **options
) -> jax.Array:
    """Chains the motions between consecutive frames.

    At a flat frame, as in a fade or a flash, the camera stands still, and the frame
    after it is registered with the last one before that is not flat.

    Args:
        clip: (T, H, W, 3 or 1).
        motion: See `registration.register`.
        **options: Of `registration.register`.

    Returns:
        (T, 3, 3): frame 0 -> frame t, in homogeneous pixels; the first is the identity.

    Raises:
        ValueError: As `registration.register`.
    """
    _shapes.check("clip", clip, ("T", "H", "W", "C"))
    clip = coarse_to_fine.widen(clip)
    start = _mesh.alike(jnp.eye(3, dtype=clip.dtype), clip)

    def step(carry, frame):
        path, last = carry
        matrix = registration.register(last, frame, motion=motion, **options).matrix
        path = matrix @ path
        path = path / path[2, 2]
        last = jnp.where(coarse_to_fine.textured(frame), frame, last)
        return (path, last), path

    _, later = jax.lax.scan(step, (start, clip[0]), clip[1:])
    return jnp.concatenate([start[None], later])


def stabilise(
    clip: jax.Array,
    *,
    smoothing: float = 10.0,
    motion: registration.Motion = "affine",
    **options,
) -> Stabilised:
    """Removes the shake of a camera.

    The camera's path is averaged over time by a Gaussian, and each frame is warped from
    where it was to where the averaged camera would have seen it.

    Args:
        clip: (T, H, W, 3 or 1).
        smoothing: Width of the Gaussian, in frames; infinity holds the camera at its
            first place.
        motion: See `registration.register`.
        **options: Of `registration.register`.

    Returns:
        The clip and both paths.

    Raises:
        ValueError: As `registration.register`, or if `smoothing` is not positive.
    """
    _checks.positive("smoothing", smoothing)
    path = camera_path(clip, motion=motion, **options)
    smooth = smooth_path(path, smoothing)
    # A pixel of the steady frame t comes from scene point smooth^-1, seen at path.
    matrices = path @ jnp.linalg.inv(smooth)
    warp = jax.vmap(lambda frame, matrix: warp_frame(frame, matrix)[0])
    return Stabilised(warp(clip.astype(path.dtype), matrices), path, smooth)


def smooth_path(path: jax.Array, smoothing: float) -> jax.Array:
    """Averages the matrices of a path over time by a Gaussian.

    Args:
        path: (T, 3, 3).
        smoothing: Width in frames; infinity gives the first matrix throughout.

    Returns:
        (T, 3, 3).

    Examples:
        >>> shifts = (0.0, 1.0, 0.0)
        >>> path = jnp.stack([jnp.eye(3).at[0, 2].set(shift) for shift in shifts])
        >>> still = jaxflow.classical.applications.smooth_path(path, float("inf"))
        >>> still[:, 0, 2].tolist()
        [0.0, 0.0, 0.0]
    """
    if smoothing == float("inf"):
        return jnp.broadcast_to(path[:1], path.shape)
    times = jnp.arange(len(path), dtype=path.dtype)
    weights = jnp.exp(-0.5 * ((times[:, None] - times[None, :]) / smoothing) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return jnp.einsum("ts,sij->tij", weights, path)


def warp_frame(
    frame: jax.Array, matrix: jax.Array, *, size: tuple[int, int] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Samples a frame at where a motion sends the pixels of the output.

    Args:
        frame: (H, W, C), floating.
        matrix: Output -> frame, (3, 3), in homogeneous pixels.
        size: (height, width) of the output; None for that of the frame.

    Returns:
        (*size, C), 0 outside the frame; and which pixels are inside, (*size).

    Examples:
        >>> frame = jnp.arange(4.0).reshape(1, 4, 1)
        >>> shift = jnp.eye(3).at[0, 2].set(1.0)  # each pixel from the one right of it
        >>> warped, inside = jaxflow.classical.applications.warp_frame(frame, shift)
        >>> warped[0, :3, 0].tolist(), inside[0].tolist()
        ([1.0, 2.0, 3.0], [True, True, True, False])
    """
    points = registration.apply(
        matrix, ops.pixel_grid(*(size or frame.shape[:2])).astype(matrix.dtype)
    )
    inside = ops.sampling_mask(points, frame.shape[:2], mask="inside")
    out = ops.bilinear_sample(frame, points, padding="border")
    return jnp.where(inside[..., None], out, 0), inside


def mosaic(
    clip: jax.Array,
    *,
    size: tuple[int, int],
    origin: tuple[int, int] = (0, 0),
    motion: registration.Motion = "homography",
    **options,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Stitches the frames of a turning camera in the plane of the first.

    Args:
        clip: (T, H, W, 3 or 1).
        size: (height, width) of the mosaic.
        origin: (x, y) of the first frame's top-left pixel in it.
        motion: See `registration.register`.
        **options: Of `registration.register`.

    Returns:
        The mean of the frames that reach each pixel, (*size, C), 0 where none does; how
        many do, (*size); and the path, (T, 3, 3): frame 0 -> frame t.

    Raises:
        ValueError: As `registration.register`.
    """
    path = camera_path(clip, motion=motion, **options)
    shift = jnp.eye(3, dtype=path.dtype).at[:2, 2].set(-jnp.array(origin, path.dtype))

    def paste(carry, item):
        total, count = carry
        frame, matrix = item
        warped, inside = warp_frame(frame, matrix @ shift, size=size)
        return (total + warped, count + inside.astype(jnp.int32)), None

    empty = jnp.zeros((*size, clip.shape[-1]), path.dtype), jnp.zeros(size, jnp.int32)
    empty = _mesh.alike(empty, clip)
    (total, count), _ = jax.lax.scan(paste, empty, (clip.astype(path.dtype), path))
    mean = total / jnp.maximum(count, 1)[..., None].astype(total.dtype)
    return mean, count, path


def interpolate(
    frame1: jax.Array,
    frame2: jax.Array,
    flow_forward: jax.Array,
    flow_backward: jax.Array,
    *,
    time: float | jax.Array = 0.5,
) -> jax.Array:
    """Renders the frame at a time between two.

    Baker et al., "A Database and Evaluation Methodology for Optical Flow" (2011), Sec.
    3.3: both flows are carried to the new time and their holes are filled from around.
    Both frames are pulled back along the flows and blended; what only one frame shows
    is taken from that frame.

    Args:
        frame1: At time 0, (*B, H, W, C), floating.
        frame2: At time 1, likewise.
        flow_forward: Frame 1 -> frame 2, (*B, H, W, 2), in pixels.
        flow_backward: Frame 2 -> frame 1, likewise.
        time: In [0, 1].

    Returns:
        (*B, H, W, C).
    """
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    _shapes.check_equal(flow_forward=flow_forward, flow_backward=flow_backward)
    hidden1 = ops.forward_backward_occlusion(flow_forward, flow_backward)
    hidden2 = ops.forward_backward_occlusion(flow_backward, flow_forward)
    flow = _flow_at(
        time, (flow_forward, flow_backward), (hidden1, hidden2), (frame1, frame2)
    )
    to1, to2 = -time * flow, (1 - time) * flow
    from1 = ops.backward_warp(frame1, to1, padding="border")
    from2 = ops.backward_warp(frame2, to2, padding="border")
    seen1, seen2 = (
        ops.backward_warp(1 - hidden[..., None].astype(flow.dtype), to)
        for hidden, to in ((hidden1, to1), (hidden2, to2))
    )
    weight1, weight2 = (1 - time) * (seen1 + 1e-3), time * (seen2 + 1e-3)
    total = weight1 + weight2
    return (weight1 * from1 + weight2 * from2) / total


def slow_motion(clip: jax.Array, flow: Flow, *, factor: int = 2) -> jax.Array:
    """Renders factor - 1 new frames between any two of a clip.

    Args:
        clip: (T, H, W, C), floating.
        flow: Estimates the flow between two frames, (H, W, C) each.
        factor: How many times slower.

    Returns:
        (factor (T - 1) + 1, H, W, C).

    Raises:
        ValueError: If `factor` is not positive.
    """
    _checks.positive("factor", factor)
    _shapes.check("clip", clip, ("T", "H", "W", "C"))
    times = jnp.arange(factor, dtype=clip.dtype) / factor

    def between(frames):
        one, two = frames
        forward, backward = flow(one, two), flow(two, one)
        render = functools.partial(interpolate, one, two, forward, backward)
        return jax.lax.map(lambda time: render(time=time), times)

    frames = jax.lax.map(between, (clip[:-1], clip[1:]))
    # At time 0 the frame itself, not its blend with what the next one shows there.
    frames = frames.at[:, 0].set(clip[:-1])
    return jnp.concatenate([frames.reshape(-1, *clip.shape[1:]), clip[-1:]])


def compensate(frame1: jax.Array, frame2: jax.Array, flow: jax.Array) -> Compensated:
    """Predicts frame 2 from frame 1 and their motion, as a video codec does.

    Args:
        frame1: The known frame, (*B, H, W, C), floating, in [0, 1].
        frame2: The frame to send.
        flow: Frame 2 -> frame 1, (*B, H, W, 2), in pixels; 0 for a plain difference.

    Returns:
        The prediction, the residual, and the residual's entropy.
    """
    prediction = ops.backward_warp(frame1, flow, padding="border")
    residual = frame2 - prediction
    levels = jnp.round(255 * residual).astype(jnp.int32) + 255
    flat = levels.reshape(*levels.shape[:-3], -1)
    histogram = jnp.vectorize(
        functools.partial(jnp.bincount, length=511), signature="(n)->(k)"
    )
    share = histogram(flat) / flat.shape[-1]
    entropy = -(share * jnp.log2(jnp.where(share > 0, share, 1))).sum(-1)
    return Compensated(prediction, residual, entropy)


def warping_error(clip: jax.Array, flows: jax.Array, hidden: jax.Array) -> jax.Array:
    """Measures how much a clip flickers: what changes along the motion.

    Lai et al., "Learning Blind Video Temporal Consistency" (2018), Sec. 4.2: the mean
    squared difference of each frame and the next, warped by the flow between, where the
    point is seen in both. It is a loss as well, differentiable in the clip.

    Args:
        clip: (T, H, W, C), floating.
        flows: Frame t -> frame t + 1, (T - 1, H, W, 2), in pixels.
        hidden: What of frame t is covered in t + 1, (T - 1, H, W) booleans.

    Returns:
        (): 0 for a clip that only moves.
    """
    warped = ops.backward_warp(clip[1:], flows, padding="border")
    height, width = clip.shape[1:3]
    points = flows + ops.pixel_grid(height, width).astype(flows.dtype)[None]
    seen = ~hidden & ops.sampling_mask(points, (height, width), mask="inside")
    weight = seen[..., None].astype(clip.dtype)
    square = weight * (clip[:-1] - warped) ** 2
    return square.sum() / jnp.maximum(weight.sum() * clip.shape[-1], 1)


def _flow_at(time, flows, hidden, frames):
    """Carries both flows to `time` and fills what neither reaches: (*B, H, W, 2)."""
    forward, backward = flows
    totals = weights = 0.0
    mismatch = [
        jnp.abs(one - ops.backward_warp(two, flow, padding="border")).mean(-1)
        for one, two, flow in (
            (*frames, forward),
            (*frames[::-1], backward),
        )
    ]
    sources = ((time * forward, forward), ((1 - time) * backward, -backward))
    for (move, value), cover, wrong in zip(sources, hidden, mismatch, strict=True):
        # Where several meet, the one whose colours agree wins.
        trust = jnp.exp(-20 * wrong) * jnp.where(cover, 0.05, 1)
        total, weight = ops.forward_splat(value, move, weights=trust)
        totals, weights = totals + total, weights + weight[..., None]
    return _fill(jnp.asarray(totals), jnp.asarray(weights))


def _fill(total: jax.Array, weight: jax.Array) -> jax.Array:
    """Divides sums by weights; where there are none, takes what is around."""
    for sigma in (1.0, 3.0, 9.0):
        total = total + 1e-3 * ops.gaussian_blur(total, sigma)
        weight = weight + 1e-3 * ops.gaussian_blur(weight, sigma)
    return total / jnp.maximum(weight, 1e-12)
