"""Losses that compare flow, densities and occlusion with the truth."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _shapes, ops
from jaxflow.losses.masking import check_flow, masked, masked_error, masked_mean
from jaxflow.losses.penalties import Penalty, norm

# Weights of levels 6 to 2, coarse to fine (Sun et al., "PWC-Net", Sec. 4).
PWC_WEIGHTS = (0.32, 0.08, 0.02, 0.01, 0.005)


def end_point(
    prediction: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    penalty: Penalty = norm,
) -> jax.Array:
    """Averages the penalty of flow errors over the pixels that count.

    Args:
        prediction: Flow, (B, H, W, 2).
        target: True flow, alike.
        mask: Where `target` is known, (B, H, W); None for everywhere.
        penalty: Maps errors (..., 2) to (...).

    Returns:
        The mean, a scalar; 0 where nothing counts.

    Examples:
        >>> truth = jnp.zeros((1, 4, 4, 2))
        >>> jaxflow.losses.end_point(truth.at[..., 1].set(5.0), truth).item()
        5.0
    """
    check_flow(target, mask)
    _shapes.check_equal(prediction=prediction, target=target)
    error, mask = masked_error(prediction, target, mask)
    return masked_mean(penalty(error), mask)


def multi_scale(
    predictions: Sequence[jax.Array],
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    weights: Sequence[float] = PWC_WEIGHTS,
    penalty: Penalty = norm,
    divisor: float = 20.0,
) -> jax.Array:
    """Compares the flow of every pyramid level with the truth brought to its size.

        L = sum_l weights_l / B sum_x penalty((S_l w_l(x) - w_l*(x)) / divisor)

    Sun et al., "PWC-Net" (2018), Eq. 3, without the weight decay, as the authors
    train it: w_l is the prediction in pixels of its own grid, S_l = (W / W_l, H / H_l)
    brings it to full-size pixels, and w_l* is the true flow in full-size pixels,
    averaged over the area of each cell of level l. The penalty is summed over pixels
    and averaged over the batch. A cell counts if at least half of its area is known.

    Args:
        predictions: Flows, coarse to fine, each (B, h, w, 2) in pixels of its grid.
        target: True flow, (B, H, W, 2).
        mask: Where `target` is known, (B, H, W); None for everywhere.
        weights: One number a level, coarse to fine.
        penalty: Maps errors (..., 2) to (...).
        divisor: Unit of the errors in full-size pixels; 20 in the paper.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If there is not one weight a prediction.

    Examples:
        >>> truth = jnp.full((1, 16, 16, 2), 4.0)
        >>> right = jnp.full((1, 8, 8, 2), 2.0)  # in pixels of its own grid
        >>> still = jnp.zeros((1, 4, 4, 2))
        >>> loss = jaxflow.losses.multi_scale([still, right], truth, weights=(0.5, 1.0))
        >>> round(loss.item(), 3)  # 16 cells, each wrong by a length of 4 sqrt(2) / 20
        2.263
    """
    _check_weights(weights, predictions)
    check_flow(target, mask)
    height, width = target.shape[1:3]
    target, mask = masked(target, mask)
    total = jnp.zeros((), jnp.float32)
    _check_levels(predictions, target)
    for weight, prediction in zip(weights, predictions, strict=True):
        rows, columns = prediction.shape[1:3]
        truth, known = area_average(target, mask, (rows, columns))
        scale = jnp.array([width / columns, height / rows], jnp.float32)
        scale = scale[None, None, None]
        error = (prediction.astype(jnp.float32) * scale - truth) / divisor
        total += weight * _sum_over_pixels(penalty, error, known)
    return total


def sequence(
    predictions: Sequence[jax.Array] | jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    gamma: float = 0.8,
    max_flow: float = 400.0,
) -> jax.Array:
    """Compares every iteration of a recurrent network with the truth, late ones more.

        L = sum_i gamma^(N - 1 - i) mean |w_i - w*|

    Teed and Deng, "RAFT" (2020), Eq. 7. As in the authors' code the mean is over all
    pixels and both components, and a pixel that does not count adds 0 to it.

    Args:
        predictions: Flows of iterations 0 to N - 1, (N, B, H, W, 2) or a list.
        target: True flow, (B, H, W, 2).
        mask: Where `target` is known, (B, H, W); None for everywhere.
        gamma: Weight of an iteration relative to the next.
        max_flow: Pixels that move further than this, in pixels, do not count.

    Returns:
        The loss, a scalar.

    Examples:
        >>> truth = jnp.ones((1, 4, 4, 2))
        >>> round(jaxflow.losses.sequence([truth + 1, truth], truth).item(), 3)
        0.8
    """
    check_flow(target, mask)
    target, mask = masked(target, mask)
    mask = jnp.where(norm(target) < max_flow, mask, 0.0)
    total = jnp.zeros((), jnp.float32)
    for index, prediction in enumerate(predictions):
        _shapes.check(f"predictions[{index}]", prediction, target.shape)
        error = jnp.abs(prediction.astype(jnp.float32) - target)
        mean = jnp.mean(jnp.where(mask[..., None] > 0, error, 0.0))
        total += gamma ** (len(predictions) - 1 - index) * mean
    return total


def upsampled(
    predictions: Sequence[jax.Array],
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    weights: Sequence[float] = (0.25, 0.25, 0.25, 0.5, 1.0),
) -> jax.Array:
    """Compares every level, brought to full size, with the truth.

        L = sum_l weights_l mean |up(w_l) - w*|

    Yang and Ramanan, "VCN" (2019): the loss of its training.

    Args:
        predictions: Flows, coarse to fine, each (B, h, w, 2) in pixels of its grid.
        target: True flow, (B, H, W, 2).
        mask: Where `target` is known, (B, H, W); None for everywhere.
        weights: One number a level, coarse to fine.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If there is not one weight a prediction.

    Examples:
        >>> truth = jnp.full((1, 8, 8, 2), 4.0)
        >>> half = jnp.full((1, 4, 4, 2), 2.0)  # the same motion, in its own pixels
        >>> jaxflow.losses.upsampled([half, truth], truth, weights=(0.5, 1.0)).item()
        0.0
    """
    _check_weights(weights, predictions)
    check_flow(target, mask)
    _check_levels(predictions, target)
    size = target.shape[1:3]
    return sum(
        (
            weight * end_point(ops.resize_flow(prediction, size), target, mask)
            for weight, prediction in zip(weights, predictions, strict=True)
        ),
        start=jnp.zeros((), jnp.float32),
    )


def density(
    logits: Sequence[jax.Array],
    starts: Sequence[jax.Array],
    target: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Compares densities of residual displacement with the true displacement's.

        L = sum_l mean KL(d_l || softmax(logits_l))

    Yin et al., "HD3" (2019), Sec. 3.2. The truth d_l of a level is the true flow there
    less where the level starts, shared out bilinearly among the four displacements
    around it; a displacement beyond the range is moved to its border.

    Args:
        logits: Log-densities, coarse to fine, each (B, h, w, D^2), dy slow, dx fast.
        starts: Flow that the residual adds to, each (B, h, w, 2) in pixels of the grid;
            no gradient reaches it.
        target: True flow, (B, H, W, 2).
        mask: Where `target` is known, (B, H, W); None for everywhere.

    Returns:
        The loss, a scalar.

    Examples:
        >>> level, still = jnp.zeros((1, 4, 4, 9)), jnp.zeros((1, 4, 4, 2))
        >>> truth = jnp.zeros((1, 8, 8, 2))  # one of nine displacements: log 9
        >>> round(jaxflow.losses.density([level], [still], truth).item(), 3)
        2.197
    """
    check_flow(target, mask)
    height, width = target.shape[1:3]
    target, mask = masked(target, mask)
    total = jnp.zeros((), jnp.float32)
    _check_densities(logits, starts, target)
    for level, start in zip(logits, starts, strict=True):
        rows, columns, classes = level.shape[1:]
        truth, known = area_average(target, mask, (rows, columns))
        scale = jnp.array([columns / width, rows / height], jnp.float32)
        scale = scale[None, None, None]
        residual = truth * scale - lax.stop_gradient(start.astype(jnp.float32))
        expected = _share_out(residual, round(classes**0.5))
        divergence = jnp.sum(
            jax.scipy.special.xlogy(expected, expected)
            - expected * jax.nn.log_softmax(level.astype(jnp.float32), axis=-1),
            axis=-1,
        )
        total += masked_mean(divergence, known)
    return total


def occlusion(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Compares occlusion with the truth, so that rare occlusion counts as much.

        L = HW / 2 (-sum y log p / sum (y + p) - sum (1-y) log(1-p) / sum (2 - y - p))

    Hur and Roth, "IRR" (2019), Eq. 8: a cross-entropy whose two halves are weighted as
    an F1 score does. Averaged over the batch.

    Args:
        logits: Logits of occlusion, (B, H, W, 1).
        target: True occlusion, (B, H, W, 1): 1 or True where hidden.

    Returns:
        The loss, a scalar.

    Examples:
        >>> hidden = jnp.zeros((1, 4, 4, 1)).at[0, 0].set(1.0)
        >>> sure = 20 * (2 * hidden - 1)
        >>> round(jaxflow.losses.occlusion(sure, hidden).item(), 4)
        0.0
    """
    _shapes.check("logits", logits, ("B", "H", "W", 1))
    _shapes.check_equal(logits=logits, target=target)
    wide, y = logits.astype(jnp.float32), target.astype(jnp.float32)
    p = jax.nn.sigmoid(wide)
    axes = (1, 2, 3)
    hidden = -jnp.sum(y * jax.nn.log_sigmoid(wide), axes) / (
        jnp.sum(y + p, axes) + 1e-8
    )
    seen = -jnp.sum((1 - y) * jax.nn.log_sigmoid(-wide), axes)
    seen = seen / (jnp.sum(2 - y - p, axes) + 1e-8)
    return jnp.mean(hidden + seen) * (logits.shape[1] * logits.shape[2] / 2)


def balanced(first: jax.Array, second: jax.Array) -> jax.Array:
    """Adds two losses, the smaller one scaled up to the size of the larger.

    Hur and Roth, "IRR" (2019), Sec. 4: flow and occlusion then weigh the same. The
    factor has no gradient.

    Args:
        first: A scalar loss.
        second: Another.

    Returns:
        Twice the larger in value; its gradient is that of the weighted sum.

    Examples:
        >>> jaxflow.losses.balanced(jnp.float32(2), jnp.float32(0.5)).item()
        4.0
    """
    one, two = lax.stop_gradient(first), lax.stop_gradient(second)
    larger = jnp.maximum(one, two)
    return first * larger / jnp.maximum(one, 1e-12) + second * larger / jnp.maximum(
        two, 1e-12
    )


def area_average(
    flow: jax.Array, mask: jax.Array, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Brings a field with gaps to a coarser grid; its values are not rescaled.

    Each coarse cell gets the mean of the known values, weighted by the area that it
    shares with each pixel; with integral factors that is average pooling.

    Args:
        flow: Field, (B, H, W, C), finite where `mask` is 1.
        mask: Where it is known, (B, H, W), 0 or 1.
        size: The new (height, width).

    Returns:
        The coarse field (B, h, w, C), 0 in a cell without a known pixel, and the
        coarse mask (B, h, w), 1 where at least half of the cell's area is known.

    Examples:
        >>> field = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> mask = jnp.array([[[1, 1], [1, 0]]])
        >>> coarse, known = jaxflow.losses.area_average(field, mask, (1, 1))
        >>> coarse.item(), known.item()
        (1.0, 1.0)
    """
    _shapes.check("flow", flow, ("B", "H", "W", "C"))
    _shapes.check("mask", mask, flow.shape[:-1])
    rows = _overlap(size[0], flow.shape[1])
    columns = _overlap(size[1], flow.shape[2])

    def average(values: jax.Array) -> jax.Array:
        values = jnp.einsum("hy,byxc->bhxc", rows, values, precision="highest")
        return jnp.einsum("wx,bhxc->bhwc", columns, values, precision="highest")

    mask = mask[..., None].astype(jnp.float32)
    flow = jnp.where(mask > 0, flow.astype(jnp.float32), 0.0)
    share = average(mask)
    known = (share >= 0.5 - 1e-4)[..., 0].astype(jnp.float32)
    return average(flow) / jnp.maximum(share, 1e-6), known


def _check_weights(weights: Sequence[float], predictions: Sequence) -> None:
    if len(weights) != len(predictions):
        raise ValueError(
            f"`weights` must have one number for each of {len(predictions)} "
            f"predictions; got {len(weights)}"
        )


def _check_levels(predictions: Sequence[jax.Array], target: jax.Array) -> None:
    for level, prediction in enumerate(predictions):
        name = f"predictions[{level}]"
        _shapes.check(name, prediction, (target.shape[0], "h", "w", 2))
        _shapes.check_floats(**{name: prediction})


def _check_densities(
    logits: Sequence[jax.Array], starts: Sequence[jax.Array], target: jax.Array
) -> None:
    if len(logits) != len(starts):
        raise ValueError(
            f"`starts` must have one flow for each of {len(logits)} logits; got "
            f"{len(starts)}"
        )
    for level, (density, start) in enumerate(zip(logits, starts, strict=True)):
        _shapes.check(f"logits[{level}]", density, (target.shape[0], "h", "w", "D^2"))
        if round(density.shape[-1] ** 0.5) ** 2 != density.shape[-1]:
            raise ValueError(
                f"`logits[{level}]` must have a square number of channels, one a "
                f"displacement; got {density.shape[-1]}"
            )
        _shapes.check(f"starts[{level}]", start, (*density.shape[:-1], 2))


def _overlap(cells: int, pixels: int) -> np.ndarray:
    """Returns the share of each cell's length that each pixel covers."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)[None]
    shared = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return (np.maximum(shared, 0) * (cells / pixels)).astype(np.float32)


def _share_out(displacement: jax.Array, side: int) -> jax.Array:
    """Returns bilinear weights of side x side displacements, dy slow: (..., side^2)."""
    radius = side // 2
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    offsets = lax.broadcast_to_rank(offsets, displacement.ndim)
    clipped = jnp.clip(displacement, -radius, radius)[..., None]
    x, y = (
        jnp.maximum(0.0, 1.0 - jnp.abs(clipped[..., axis, :] - offsets))
        for axis in (0, 1)
    )
    return (y[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], side * side)


def _sum_over_pixels(penalty: Penalty, error: jax.Array, mask: jax.Array) -> jax.Array:
    """Sums the penalty over pixels that count and averages it over the batch."""
    penalties = penalty(jnp.where(mask[..., None] > 0, error, 0.0))
    return jnp.sum(penalties * mask) / error.shape[0]
