"""Direct registration: one motion of few parameters explains the whole frame.

Lucas and Kanade (1981); Baker and Matthews, "Lucas-Kanade 20 Years On" (2004);
Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation
Coefficient Maximization" (2008).

A motion is a 3 x 3 matrix that maps homogeneous pixel positions (x, y, 1) of frame 1 to
where they are in frame 2.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxflow import _checks, _mesh, _shapes, ops
from jaxflow.classical import coarse_to_fine

Motion = Literal["translation", "affine", "homography", "rotation"]
Method = Literal["forward_additive", "inverse_compositional", "ecc"]
Robust = Literal["none", "huber", "tukey"]

PARAMETERS = {"translation": 2, "affine": 6, "homography": 8, "rotation": 3}


class Registration(NamedTuple):
    """A motion and how well it fits.

    Attributes:
        matrix: (*B, 3, 3): frame 1 -> frame 2, in homogeneous pixels.
        overlap: Share of frame 1 that lies in frame 2, (*B).
        error: Root mean square difference there, (*B); for "ecc" with frame 2's
            brightness fitted by a gain and a bias.
        found: Whether there is something to register, (*B) booleans: False, and the
            matrix where it started, where a frame is flat or the motion has left frame
            2; False with a matrix of NaN where a pixel is NaN.
    """

    matrix: jax.Array
    overlap: jax.Array
    error: jax.Array
    found: jax.Array


def register(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    motion: Motion = "affine",
    method: Method = "inverse_compositional",
    robust: Robust = "none",
    scale: float = 0.05,
    levels: int = 5,
    iterations: int = 20,
    sigma: float = 0.7,
    focal_length: float | None = None,
    initial_matrix: jax.Array | None = None,
) -> Registration:
    """Finds the motion of the whole frame, by Gauss-Newton on brightness differences.

        translation  x + a, y + b
        affine       six numbers: x' = A x + t
        homography   eight: a plane under perspective, or a camera that turns
        rotation     three: K R K^-1, a camera of known focal length that turns

    Positions are centred and scaled inside, so that the normal equations can be solved
    in float32. The result is differentiable; each iteration is computed again in the
    backward pass. A NaN pixel makes the result NaN.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        motion: Which motions to consider.
        method: "forward_additive" differentiates frame 2 where it is sampled;
            "inverse_compositional" frame 1, once a level; "ecc" maximises the
            correlation of both instead, so that a gain and a bias do not matter.
        robust: Down-weights differences beyond `scale` (Huber) or drops those beyond
            about five of them (Tukey), by iteratively reweighted least squares. Not
            for "ecc".
        scale: Width of the robust function, in brightness.
        levels: Pyramid levels, each half the size; those with a side under 16 pixels
            are left out.
        iterations: Gauss-Newton steps a level.
        sigma: Gaussian blur of both frames beforehand, in pixels.
        focal_length: For "rotation", in pixels; the optical axis is the middle of the
            frame. None for the width of the frame.
        initial_matrix: Where to start, (*B, 3, 3); None for the identity.

    Returns:
        The motion, the overlap, the error, and whether there is a motion.

    Raises:
        ValueError: If a choice is unknown, or "ecc" is asked to be robust.
    """
    _checks.counts(levels=levels, iterations=iterations)
    _checks.one_of("motion", motion, PARAMETERS)
    _checks.one_of(
        "method", method, ("forward_additive", "inverse_compositional", "ecc")
    )
    _checks.one_of("robust", robust, ("none", "huber", "tukey"))
    if method == "ecc" and robust != "none":
        raise ValueError(f"`robust` must be 'none' with method='ecc'; got {robust!r}")
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    one, two = coarse_to_fine.by_one_program(
        lambda frame: ops.gaussian_blur(coarse_to_fine.luminance(frame), sigma),
        frame1,
        frame2,
    )
    batch = one.shape[:-3]
    if initial_matrix is None:
        initial_matrix = jnp.eye(3, dtype=one.dtype)
    start = jnp.broadcast_to(initial_matrix.astype(one.dtype), (*batch, 3, 3))
    start = _mesh.alike(start, one, two)
    align = functools.partial(
        _align,
        motion=motion,
        method=method,
        robust=robust,
        scale=scale,
        levels=levels,
        iterations=iterations,
        focal_length=focal_length,
    )
    align = jnp.vectorize(align, signature="(h,w,c),(h,w,c),(m,n)->(m,n),(),(),()")
    return Registration(*align(one, two, start))


def matrix_flow(matrix: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Evaluates a motion at every pixel.

    Args:
        matrix: (*B, 3, 3): frame 1 -> frame 2, in homogeneous pixels.
        size: (height, width) of frame 1.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Examples:
        >>> shift = jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
        >>> jaxflow.classical.registration.matrix_flow(shift, (4, 5))[0, 0].tolist()
        [3.0, -2.0]
    """
    grid = ops.pixel_grid(*size).astype(matrix.dtype)
    moved = apply(matrix, grid)
    return moved - jax.lax.broadcast_to_rank(grid, moved.ndim)


def apply(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Moves points by a motion.

    Args:
        matrix: (*B, 3, 3).
        points: (*P, 2): (x, y) in pixels; every motion moves all of them.

    Returns:
        (*B, *P, 2), in pixels; not finite for a point at infinity.
    """
    _shapes.check("matrix", matrix, (..., 3, 3))
    axes = (1,) * (points.ndim - 1)
    m = matrix.reshape(*matrix.shape[:-2], *axes, 3, 3)
    x, y = jnp.moveaxis(points, -1, 0)
    x, y = (jax.lax.broadcast_to_rank(part, m.ndim - 2) for part in (x, y))
    u, v, w = (m[..., k, 0] * x + m[..., k, 1] * y + m[..., k, 2] for k in range(3))
    return jnp.stack([u / w, v / w], axis=-1)


def fit_affine(ix: jax.Array, iy: jax.Array, it: jax.Array) -> jax.Array:
    """Solves all linear constraints of a frame for one affine motion, by least squares.

        Ix (a1 + a2 x + a3 y) + Iy (a4 + a5 x + a6 y) + It = 0

    Args:
        ix: Derivative along x, (*B, H, W, C). What a flat frame leaves open is 0.
        iy: Derivative along y, likewise.
        it: Difference in time, likewise.

    Returns:
        (a1, ..., a6), (*B, 6): x and y in pixels from the top-left one.
    """
    _shapes.check_equal(ix=ix, iy=iy, it=it)
    height, width = ix.shape[-3:-1]
    size = max(height, width)
    middle = jnp.array([width - 1, height - 1], ix.dtype) / 2
    grid = ops.pixel_grid(height, width).astype(ix.dtype)
    grid = (grid - middle[None, None]) / size
    basis = jnp.stack([jnp.ones_like(grid[..., 0]), grid[..., 0], grid[..., 1]], -1)
    rows = jnp.concatenate(
        [basis[..., None, :] * ix[..., None], basis[..., None, :] * iy[..., None]], -1
    )
    a = jnp.einsum("...hwci,...hwcj->...ij", rows, rows)
    b = -jnp.einsum("...hwci,...hwc->...i", rows, it)
    trace = jnp.trace(a, axis1=-2, axis2=-1)[..., None, None]
    a += (1e-7 * trace / 6 + 1e-20) * jnp.eye(6, dtype=a.dtype)
    p = jnp.linalg.solve(a, b[..., None])[..., 0].reshape(*b.shape[:-1], 2, 3)
    linear = p[..., 1:] / size
    offset = linear * jax.lax.broadcast_to_rank(middle, linear.ndim)
    constant = p[..., 0] - offset.sum(-1)
    return jnp.concatenate([constant[..., None], linear], -1).reshape(b.shape)


def _align(image1, image2, matrix, *, motion, levels, iterations, focal_length, **how):
    """Registers one pair, (H, W, 1), coarse to fine."""
    sizes = coarse_to_fine.pyramid_sizes(image1.shape[:2], levels=levels)
    pairs = zip(
        coarse_to_fine.image_pyramid(image1, sizes, sigma=1.0),
        coarse_to_fine.image_pyramid(image2, sizes, sigma=1.0),
        strict=True,
    )
    height, width = sizes[0]
    full = _normaliser(height, width, image1.dtype)
    # In normalised positions a motion is the same at every level.
    normal = jnp.linalg.solve(full, matrix) @ full
    focal = (focal_length or width) / max(height, width) * 2
    for one, two in reversed(list(pairs)):
        normal = _align_level(
            one, two, normal, motion=motion, iterations=iterations, focal=focal, **how
        )
    moved = full @ normal @ jnp.linalg.inv(full)
    moved = moved / moved[2, 2]
    enhanced = how["method"] == "ecc"
    overlap, _ = _fit(image1, image2, moved, enhanced)
    seen = coarse_to_fine.textured(image1) & coarse_to_fine.textured(image2)
    seen &= ~(overlap <= 0) | jnp.isnan(moved).any()
    moved = jnp.where(seen, moved, matrix)
    found = seen & jnp.isfinite(moved).all()
    return moved, *_fit(image1, image2, moved, enhanced), found


def _normaliser(height: int, width: int, dtype) -> jax.Array:
    """Maps positions in [-1, 1] along the longer side to pixels."""
    half = max(height, width) / 2
    return jnp.array(
        [[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]], dtype
    )


def _align_level(
    image1, image2, normal, *, motion, method, robust, scale, iterations, focal
):
    """Iterates at one pyramid level, on motions of normalised positions."""
    height, width = image1.shape[:2]
    to_pixels = _normaliser(height, width, image1.dtype)
    grid = ops.pixel_grid(height, width).astype(image1.dtype)
    places = apply(jnp.linalg.inv(to_pixels), grid)
    half = to_pixels[0, 0]
    jacobian = half * _jacobian(places, motion, focal)  # (H, W, 2, N)
    gradient1 = jnp.concatenate(ops.spatial_gradient(image1), axis=-1)
    values = jnp.concatenate([image2, *ops.spatial_gradient(image2)], axis=-1)

    def sample(normal):
        points = apply(to_pixels @ normal, places)
        out = ops.bilinear_sample(values, points, padding="border")
        inside = ops.sampling_mask(points, (height, width), mask="inside")
        return out[..., 0], out[..., 1:], inside.astype(image1.dtype)

    @jax.checkpoint
    def step(normal, _):
        warped, gradient2, weight = sample(normal)
        difference = warped - image1[..., 0]
        if method == "forward_additive":
            steepest = half * _pull_back(normal, places, gradient2, motion, focal)
        else:
            steepest = jnp.einsum("hwk,hwkn->hwn", gradient1, jacobian)
        if method == "ecc":
            steepest, difference = _enhanced(steepest, warped, image1[..., 0], weight)
        else:
            weight *= _robust_weight(difference, robust, scale)
        a = jnp.einsum("hw,hwi,hwj->ij", weight, steepest, steepest)
        b = jnp.einsum("hw,hwi,hw->i", weight, steepest, difference)
        # Relative to the diagonal: a flat pair gives a motion of 0, not NaN.
        damping = 1e-6 * jnp.trace(a) / len(a) + 1e-12
        move = jnp.linalg.solve(a + damping * jnp.eye(len(a), dtype=a.dtype), b)
        if method == "forward_additive":
            return _compose(normal, -move, motion, focal), None
        inverse = jnp.linalg.inv(_increment(move, motion, focal))
        moved = normal @ inverse
        return moved / moved[2, 2], None

    return jax.lax.scan(step, normal, length=iterations)[0]


def _jacobian(places: jax.Array, motion: Motion, focal: float) -> jax.Array:
    """Differentiates the moved places by each parameter at 0: (H, W, 2, N)."""
    zero = jnp.zeros(PARAMETERS[motion], places.dtype)
    return jax.jacfwd(lambda p: apply(_increment(p, motion, focal), places))(zero)


def _increment(p: jax.Array, motion: Motion, focal: float) -> jax.Array:
    """Builds the matrix of a small motion, the identity for p = 0."""
    if motion == "rotation":
        k = jnp.diag(jnp.array([focal, focal, 1], p.dtype))
        return k @ rotation_matrix(p) @ jnp.linalg.inv(k)
    if motion == "translation":
        entries = jnp.zeros(8, p.dtype).at[jnp.array([2, 5])].set(p)
    else:
        entries = jnp.zeros(8, p.dtype).at[: len(p)].set(p)
    full = jnp.append(entries, jnp.zeros((), p.dtype)).reshape(3, 3)
    return jnp.eye(3, dtype=p.dtype) + full


def rotation_matrix(vector: jax.Array) -> jax.Array:
    """Turns a rotation vector into its matrix (Rodrigues' formula).

    Args:
        vector: Axis times angle in radians, (3,).

    Returns:
        exp([vector]_x), (3, 3); smooth at 0.
    """
    x, y, z = vector
    zero = jnp.zeros_like(x)
    cross = jnp.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
    square = (vector**2).sum()
    small = square < 1e-4
    angle = jnp.sqrt(jnp.where(small, 1, square))
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    half_sine = jnp.sin(angle / 2) / angle
    versine = jnp.where(small, 0.5 - square / 24, 2 * half_sine**2)
    return jnp.eye(3, dtype=vector.dtype) + sine * cross + versine * cross @ cross


def _compose(normal, move, motion, focal):
    """Adds a move to a motion: in its parameters, or for a rotation on the left."""
    if motion == "rotation":
        return _increment(move, motion, focal) @ normal
    full = normal + _increment(move, motion, focal) - jnp.eye(3, dtype=normal.dtype)
    return full / full[2, 2]


def _pull_back(normal, places, gradient2, motion, focal):
    """Chains frame 2's gradient with how the moved places depend on the parameters."""
    zero = jnp.zeros(PARAMETERS[motion], places.dtype)
    moved = jax.jacfwd(lambda p: apply(_compose(normal, p, motion, focal), places))(
        zero
    )
    return jnp.einsum("hwk,hwkn->hwn", gradient2, moved)


def _robust_weight(difference: jax.Array, robust: Robust, scale: float) -> jax.Array:
    """Weighs the pixels for reweighted least squares."""
    if robust == "none":
        return jnp.ones_like(difference)
    size = jnp.abs(difference)
    if robust == "huber":
        return scale / jnp.maximum(size, scale)
    return jnp.maximum(1 - (size / (4.685 * scale)) ** 2, 0) ** 2


def _enhanced(steepest, warped, image1, weight):
    """Removes from the equations what a gain and a bias of frame 2 could explain."""
    total = weight.sum() + 1e-6

    def centred(x):
        w = weight.reshape(weight.shape + (1,) * (x.ndim - 2))
        return x - (w * x).sum((0, 1), keepdims=True) / total

    steepest, template, warped = map(centred, (steepest, image1, warped))
    gain = (weight * template * warped).sum() / ((weight * warped**2).sum() + 1e-12)
    return steepest, gain * warped - template


def _fit(image1, image2, matrix, enhanced):
    """Returns the overlap and the root mean square difference in it."""
    height, width = image1.shape[:2]
    points = apply(matrix, ops.pixel_grid(height, width).astype(image1.dtype))
    warped = ops.bilinear_sample(image2, points, padding="border")[..., 0]
    weight = ops.sampling_mask(points, (height, width), mask="inside")
    weight = weight.astype(image1.dtype)
    difference = warped - image1[..., 0]
    if enhanced:
        _, difference = _enhanced(image1, warped, image1[..., 0], weight)
    square = (weight * difference**2).sum() / jnp.maximum(weight.sum(), 1)
    return weight.mean(), jnp.sqrt(square + 1e-14)
