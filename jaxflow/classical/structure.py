"""What the second-moment matrix of a window says about its motion.

M = mean of [Ix Ix  Ix Iy; Ix Iy  Iy Iy] over a window, stored as (Mxx, Mxy, Myy) in the
last axis, as `ops.structure_tensor` returns it. Its eigenvalues tell flat regions (two
small ones) from edges (one) and corners or texture (none), before a second frame is
seen.
"""

import jax
import jax.numpy as jnp

from jaxflow import _shapes

FLAT, EDGE, CORNER = 0, 1, 2


def eigenvalues(tensor: jax.Array) -> jax.Array:
    """Computes both eigenvalues, (tr +- sqrt((Mxx - Myy)^2 + 4 Mxy^2)) / 2.

    The gradient at a double eigenvalue is taken as 0 for their difference.

    Args:
        tensor: Second moments, (*B, H, W, 3).

    Returns:
        (*B, H, W, 2), the larger first, in units of `tensor`.
    """
    xx, xy, yy = _entries(tensor)
    square = (xx - yy) ** 2 + 4 * xy**2
    distinct = square > 0
    root = jnp.where(distinct, jnp.sqrt(jnp.where(distinct, square, 1)), 0)
    larger = (xx + yy + root) / 2
    # det / larger keeps the digits that (trace - root) / 2 cancels.
    positive = larger > 0
    smaller = jnp.where(
        positive, (xx * yy - xy**2) / jnp.where(positive, larger, 1), xx + yy - larger
    )
    return jnp.stack([larger, smaller], axis=-1)


def principal_direction(tensor: jax.Array) -> jax.Array:
    """Computes the unit eigenvector of the larger eigenvalue: of fastest change.

    Args:
        tensor: Second moments, (*B, H, W, 3).

    Returns:
        (x, y) with x >= 0, (*B, H, W, 2); (1, 0) where both eigenvalues are equal.
    """
    xx, xy, yy = _entries(tensor)
    equal = (xx == yy) & (xy == 0)
    angle = jnp.arctan2(2 * xy, jnp.where(equal, 1, xx - yy)) / 2
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def harris(tensor: jax.Array, *, k: float = 0.04) -> jax.Array:
    """Computes the Harris response det M - k tr(M)^2 (Harris and Stephens, 1988).

    Args:
        tensor: Second moments, (*B, H, W, 3).
        k: Penalty of edges, 0.04 to 0.06.

    Returns:
        (*B, H, W): positive at corners, negative on edges, about 0 where flat.

    Examples:
        >>> corner = jnp.array([[[2.0, 0.0, 3.0]]])  # (Mxx, Mxy, Myy)
        >>> round(jaxflow.classical.structure.harris(corner).item(), 2)  # 6 - 0.04 * 25
        5.0
    """
    xx, xy, yy = _entries(tensor)
    return xx * yy - xy**2 - k * (xx + yy) ** 2


def shi_tomasi(tensor: jax.Array) -> jax.Array:
    """Returns the smaller eigenvalue (Shi and Tomasi, "Good Features to Track", 1994).

    Args:
        tensor: Second moments, (*B, H, W, 3).

    Returns:
        (*B, H, W), in units of `tensor`.

    Examples:
        >>> corner = jnp.array([[[2.0, 0.0, 3.0]]])  # (Mxx, Mxy, Myy)
        >>> jaxflow.classical.structure.shi_tomasi(corner).item()
        2.0
    """
    return eigenvalues(tensor)[..., 1]


def classify(
    tensor: jax.Array, *, threshold: float = 1e-4, ratio: float = 30.0
) -> jax.Array:
    """Tells flat regions, edges and corners apart.

    Args:
        tensor: Second moments, (*B, H, W, 3).
        threshold: Least eigenvalue that counts, in units of `tensor`.
        ratio: Eigenvalues further apart than this make an edge.

    Returns:
        Integers, (*B, H, W): `FLAT` where the larger eigenvalue is below `threshold`,
        `EDGE` where the smaller is or where they are too far apart, `CORNER` elsewhere.
    """
    values = eigenvalues(tensor)
    larger, smaller = values[..., 0], values[..., 1]
    edge = (smaller < threshold) | (larger > ratio * smaller)
    kind = jnp.where(edge, EDGE, CORNER)
    return jnp.where(larger < threshold, FLAT, kind)


def confidence(tensor: jax.Array, *, noise: float = 1e-3) -> jax.Array:
    """Rates how well a window's motion is determined, from 0 to 1.

    With independent noise of standard deviation s in a frame, the motion's variance
    along the weaker direction is s^2 / (n l2) for n pixels: the rating is
    l2 / (l2 + noise).

    Args:
        tensor: Second moments, (*B, H, W, 3).
        noise: Smaller eigenvalue that is rated 1/2, in units of `tensor`.

    Returns:
        (*B, H, W).
    """
    smaller = jnp.maximum(shi_tomasi(tensor), 0)
    return smaller / (smaller + noise)


def _entries(tensor: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    _shapes.check("tensor", tensor, (..., 3))
    return tensor[..., 0], tensor[..., 1], tensor[..., 2]
