"""Lucas-Kanade optical flow: one displacement explains a window.

Lucas and Kanade, "An Iterative Image Registration Technique" (1981); the iteration is
that of Le Besnerais and Champagnat, "Dense Optical Flow by Iterative Local Window
Registration" (2005).
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import _checks, _shapes, ops
from jaxflow.classical import coarse_to_fine, constraint, structure
from jaxflow.ops import stencil

Shape = Literal["box", "gaussian"]


class LocalMotion(NamedTuple):
    """The least-squares motion of every window.

    Attributes:
        flow: (*B, H, W, 2), in pixels.
        tensor: Mean second moments of the window, (*B, H, W, 3); see
            `classical.structure`.
        rank: How many directions of motion the window determines, (*B, H, W) integers.
    """

    flow: jax.Array
    tensor: jax.Array
    rank: jax.Array


def local_motion(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    window: int = 5,
    shape: Shape = "box",
    kernel: stencil.Kernel = "central",
    source: constraint.Source = "mean",
    tolerance: float = 1e-3,
) -> LocalMotion:
    """Solves the linear constraints of each window for one displacement.

        d = -pinv(A'A) A' It,   A one row (Ix, Iy) a pixel and channel of the window

    This is one linear step, which is right for motions of a pixel or less;
    `lucas_kanade` finds larger ones. Every channel is a constraint of its own, so
    colour frames give 75 equations in a 5 x 5 window. Where the window has texture in
    one direction only, the solution of least norm is returned: the normal flow. Where a
    whole frame is flat, it is 0, and so is the rank.

    Args:
        frame1: (*B, H, W, C), floating. Any number of channels.
        frame2: Like `frame1`.
        window: Side of the window, in pixels, odd. The edge of the products is
            repeated beyond the image.
        shape: "box" weighs the window's pixels equally; "gaussian" by a Gaussian of
            sigma = window / 6.
        kernel: See `constraint.motion_derivatives`.
        source: See `constraint.motion_derivatives`.
        tolerance: Eigenvalues of A'A under this share of the larger one count as 0.

    Returns:
        Flow, second moments and rank.

    Raises:
        ValueError: If `window` is even, a number is out of range or a choice is
            unknown.

    Examples:
        >>> y, x = np.float32(np.mgrid[:9, :9])
        >>> one, two = (
        ...     jnp.asarray((x - dx) ** 2 + (y - 4) ** 2)[..., None] for dx in (4, 4.5)
        ... )
        >>> motion = jax.jit(jaxflow.classical.lucas_kanade.local_motion)(one, two)
        >>> motion.flow[4, 4].round(2).tolist(), int(motion.rank[4, 4])
        ([0.5, 0.0], 2)
    """
    ix, iy, it = constraint.motion_derivatives(
        frame1, frame2, kernel=kernel, source=source
    )
    average = _averager(window, shape)
    tensor = average(_products(ix, iy))
    right = average(_project(ix, iy, -it))
    flow, rank = solve(tensor, right, tolerance=tolerance)
    seen = coarse_to_fine.both_textured(*map(coarse_to_fine.widen, (frame1, frame2)))
    rank = jnp.where(seen[..., 0], rank, 0)
    return LocalMotion(jnp.where(seen, flow, 0), tensor, rank)


def lucas_kanade(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    window: int = 15,
    shape: Shape = "box",
    levels: int = 5,
    iterations: int = 5,
    sigma: float = 0.0,
    kernel: stencil.Kernel = "central",
    tolerance: float = 1e-3,
    initial_flow: jax.Array | None = None,
) -> jax.Array:
    """Estimates dense flow by iterated least squares in windows, coarse to fine.

    With gradient and A'A of frame 1 computed once a level,

        u <- u + pinv(A'A) sum grad I1 (grad I1 . (u(x') - u(x)) - r),
        r = I2(x' + u(x')) - I1(x')

    The first term re-centres the constraints of neighbours that were warped by flows of
    their own; without it the iteration improves at first and then diverges.

    In a direction that a window does not determine, the flow stays that of the coarser
    level; where a whole frame is flat, this holds for all directions. The flow is
    differentiable; each iteration is computed again in the backward pass. A NaN pixel
    makes the flow NaN wherever its windows carry it.

    Args:
        frame1: (*B, H, W, C), floating; gray, RGB or any channels.
        frame2: Like `frame1`.
        window: Side of the window, in pixels, odd.
        shape: See `local_motion`.
        levels: Pyramid levels, each half the size; those with a side under 16 pixels
            are left out.
        iterations: Warps a level.
        sigma: Gaussian blur of both frames beforehand, in pixels.
        kernel: Spatial derivative, see `ops.spatial_gradient`.
        tolerance: See `local_motion`.
        initial_flow: Flow to start from, (*B, H, W, 2), in pixels.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Raises:
        ValueError: If `window` is even, a number is out of range or a choice is
            unknown.

    Examples:
        >>> y, x = np.float32(np.mgrid[:16, :16])
        >>> one, two = (
        ...     jnp.asarray(0.5 + np.sin((x - dx) / 2) * np.cos(y / 2) / 2)[..., None]
        ...     for dx in (0, 1)
        ... )
        >>> flow = jax.jit(jaxflow.classical.lucas_kanade.lucas_kanade)(one, two)
        >>> flow.shape, round(float(jnp.median(flow[..., 0])), 1)
        ((16, 16, 2), 1.0)
    """
    _checks.counts(window=window, levels=levels, iterations=iterations)
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    one, two = coarse_to_fine.by_one_program(
        lambda frame: ops.gaussian_blur(frame, sigma),
        frame1,
        frame2,
    )
    solve_level = functools.partial(
        refine,
        average=_averager(window, shape),
        iterations=iterations,
        kernel=kernel,
        tolerance=tolerance,
    )
    return coarse_to_fine.estimate(
        solve_level, one, two, levels=levels, sigma=1.0, initial_flow=initial_flow
    )


def refine(image1, image2, flow, *, average, iterations, kernel, tolerance):
    """Iterates Lucas-Kanade at one size; see `lucas_kanade`.

    Args:
        image1: (*B, H, W, C).
        image2: Like `image1`.
        flow: Where to start, (*B, H, W, 2).
        average: Averages (*B, H, W, N) over the window.
        iterations: Number of warps.
        kernel: Spatial derivative.
        tolerance: Eigenvalues under this share of the larger one count as 0.

    Returns:
        Flow, (*B, H, W, 2).
    """
    ix, iy = ops.spatial_gradient(image1, kernel=kernel)
    tensor = average(_products(ix, iy))
    height, width = image1.shape[-3:-1]
    grid = ops.pixel_grid(height, width).astype(flow.dtype)
    grid = jax.lax.broadcast_to_rank(grid, flow.ndim)

    @jax.checkpoint
    def step(flow, _):
        points = flow + grid
        residual = ops.bilinear_sample(image2, points, padding="border") - image1
        # What has left the frame votes for the flow it has: A'A stays what it is.
        inside = ops.sampling_mask(points, (height, width), mask="inside")
        residual = jnp.where(inside[..., None], residual, 0)
        along = ix * flow[..., :1] + iy * flow[..., 1:]
        target = average(_project(ix, iy, along - residual))
        correction, _ = solve(
            tensor, target - _apply(tensor, flow), tolerance=tolerance
        )
        return flow + correction, None

    return jax.lax.scan(step, flow, length=iterations)[0]


def solve(
    tensor: jax.Array, right: jax.Array, *, tolerance: float = 1e-3
) -> tuple[jax.Array, jax.Array]:
    """Solves M d = b for every pixel, with the least norm where M is singular.

    Args:
        tensor: M as (Mxx, Mxy, Myy), (*B, H, W, 3).
        right: b, (*B, H, W, 2).
        tolerance: An eigenvalue counts as 0 under this share of the larger one, and
            both do under 1e-9, in units of `tensor`.

    Returns:
        d, (*B, H, W, 2), and the rank of M, (*B, H, W) integers; NaN and 0 where M is
        NaN.

    Examples:
        >>> tensor = jnp.array([[[2.0, 0.0, 4.0]]])  # (Mxx, Mxy, Myy)
        >>> right = jnp.array([[[1.0, 2.0]]])
        >>> flow, _ = jaxflow.classical.lucas_kanade.solve(tensor, right)
        >>> flow[0, 0].round(3).tolist()
        [0.5, 0.5]
    """
    xx, xy, yy = tensor[..., 0], tensor[..., 1], tensor[..., 2]
    values = structure.eigenvalues(tensor)
    larger, smaller = values[..., 0], values[..., 1]
    some = larger > 1e-9
    full = some & (smaller > tolerance * larger)
    x, y = right[..., 0], right[..., 1]

    determinant = jnp.where(full, larger * smaller, 1)[..., None]
    inverse = jnp.stack([yy * x - xy * y, xx * y - xy * x], axis=-1) / determinant
    # M - l2 projects on the first eigenvector, but for a factor l1 - l2.
    scale = jnp.where(some & ~full, larger * (larger - smaller), 1)[..., None]
    along = jnp.stack([(xx - smaller) * x + xy * y, xy * x + (yy - smaller) * y], -1)
    one = jnp.where(some[..., None], along / scale, 0)
    flow = jnp.where(full[..., None], inverse, one)
    flow = jnp.where(jnp.isnan(larger)[..., None], jnp.nan, flow)
    return flow, some.astype(jnp.int32) + full.astype(jnp.int32)


def _products(ix: jax.Array, iy: jax.Array) -> jax.Array:
    """(Ix Ix, Ix Iy, Iy Iy), summed over channels."""
    return jnp.stack([(ix * ix).sum(-1), (ix * iy).sum(-1), (iy * iy).sum(-1)], -1)


def _project(ix: jax.Array, iy: jax.Array, value: jax.Array) -> jax.Array:
    """The gradient times a value, summed over channels."""
    return jnp.stack([(ix * value).sum(-1), (iy * value).sum(-1)], axis=-1)


def _apply(tensor: jax.Array, flow: jax.Array) -> jax.Array:
    """M d."""
    xx, xy, yy = tensor[..., 0], tensor[..., 1], tensor[..., 2]
    u, v = flow[..., 0], flow[..., 1]
    return jnp.stack([xx * u + xy * v, xy * u + yy * v], axis=-1)


def _averager(window: int, shape: Shape):
    """Returns the function that averages over the window around each pixel."""
    _checks.one_of("shape", shape, ("box", "gaussian"))
    if window < 1 or window % 2 == 0:
        raise ValueError(f"`window` must be odd and positive; got {window}")
    if shape == "box":
        weights = np.full(window, 1 / window)
    else:
        weights = ops.gaussian_kernel(window / 6, radius=window // 2)
    return functools.partial(
        ops.separable_filter, kernel_y=weights, kernel_x=weights, border="edge"
    )
