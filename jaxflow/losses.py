"""Losses for training optical flow, with and without ground truth.

Flow is (u, v) in pixels of the array it indexes, (B, H, W, 2). A mask is (B, H, W), 1
or True where the ground truth (or the photometric comparison) counts; what lies under
a 0 may be anything finite or not and changes neither the loss nor its gradient. Every
loss is a float32 scalar whose gradient is finite, also where the error is exactly 0.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import ops

# Weights of levels 6 to 2, coarse to fine (Sun et al., "PWC-Net", Sec. 4).
PWC_WEIGHTS = (0.32, 0.08, 0.02, 0.01, 0.005)

Penalty = Callable[[jax.Array], jax.Array]


def norm(error: jax.Array) -> jax.Array:
    """Measures each error vector's Euclidean length, sqrt(sum_c e_c^2).

    Args:
        error: Differences, (..., C).

    Returns:
        Lengths, (...), float32. The gradient at a zero vector is 0.
    """
    squared = jnp.sum(jnp.square(error.astype(jnp.float32)), axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def robust(
    error: jax.Array, *, epsilon: float = 0.01, exponent: float = 0.4
) -> jax.Array:
    """Measures errors by (sum_c |e_c| + epsilon)^exponent, which forgives outliers.

    Sun et al., "PWC-Net" (2018), Eq. 4: the loss of its fine-tuning.

    Args:
        error: Differences, (..., C).
        epsilon: Keeps the slope finite at 0.
        exponent: Less than 1 gives less penalty to outliers.

    Returns:
        Penalties, (...), float32.
    """
    total = jnp.sum(jnp.abs(error.astype(jnp.float32)), axis=-1)
    return (total + epsilon) ** exponent


def charbonnier(
    error: jax.Array, *, epsilon: float = 1e-3, exponent: float = 0.5
) -> jax.Array:
    """Measures each component by (e^2 + epsilon^2)^exponent, summed over components.

    With the exponent 0.5 it is a smooth |e|; 0.45 is the choice of Sun et al., "A
    Quantitative Analysis of Current Practices in Optical Flow Estimation" (2014).

    Args:
        error: Differences, (..., C).
        epsilon: Where the penalty turns from quadratic to linear; positive.
        exponent: Half the power of large errors.

    Returns:
        Penalties, (...), float32.
    """
    squared = jnp.square(error.astype(jnp.float32))
    return jnp.sum((squared + epsilon**2) ** exponent, axis=-1)


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
    """
    chex.assert_equal_shape([prediction, target])
    error, mask = _masked_error(prediction, target, mask)
    return _mean(penalty(error), mask)


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
    """
    _check_weights(weights, predictions)
    height, width = target.shape[1:3]
    target, mask = _masked(target, mask)
    total = jnp.zeros((), jnp.float32)
    for weight, prediction in zip(weights, predictions, strict=True):
        chex.assert_shape(prediction, (target.shape[0], None, None, 2))
        rows, columns = prediction.shape[1:3]
        truth, known = area_average(target, mask, (rows, columns))
        scale = jnp.array([width / columns, height / rows], jnp.float32)
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
    """
    target, mask = _masked(target, mask)
    mask = jnp.where(norm(target) < max_flow, mask, 0.0)
    total = jnp.zeros((), jnp.float32)
    for index, prediction in enumerate(predictions):
        chex.assert_equal_shape([prediction, target])
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
    """
    _check_weights(weights, predictions)
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
    around it; one beyond the range is moved to its border.

    Args:
        logits: Log-densities, coarse to fine, each (B, h, w, D^2), dy slow, dx fast.
        starts: Flow that the residual adds to, each (B, h, w, 2) in pixels of the grid;
            no gradient reaches it.
        target: True flow, (B, H, W, 2).
        mask: Where `target` is known, (B, H, W); None for everywhere.

    Returns:
        The loss, a scalar.
    """
    height, width = target.shape[1:3]
    target, mask = _masked(target, mask)
    total = jnp.zeros((), jnp.float32)
    for level, start in zip(logits, starts, strict=True):
        rows, columns, classes = level.shape[1:]
        truth, known = area_average(target, mask, (rows, columns))
        scale = jnp.array([columns / width, rows / height], jnp.float32)
        residual = truth * scale - lax.stop_gradient(start.astype(jnp.float32))
        expected = _share_out(residual, round(classes**0.5))
        divergence = jnp.sum(
            jax.scipy.special.xlogy(expected, expected)
            - expected * jax.nn.log_softmax(level.astype(jnp.float32), axis=-1),
            axis=-1,
        )
        total += _mean(divergence, known)
    return total


def _share_out(displacement: jax.Array, side: int) -> jax.Array:
    """Returns bilinear weights of side x side displacements, dy slow: (..., side^2)."""
    radius = side // 2
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    clipped = jnp.clip(displacement, -radius, radius)[..., None]
    x, y = (
        jnp.maximum(0.0, 1.0 - jnp.abs(clipped[..., axis, :] - offsets))
        for axis in (0, 1)
    )
    return (y[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], side * side)


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
    """
    chex.assert_equal_shape([logits, target])
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
    """
    one, two = lax.stop_gradient(first), lax.stop_gradient(second)
    larger = jnp.maximum(one, two)
    return first * larger / jnp.maximum(one, 1e-12) + second * larger / jnp.maximum(
        two, 1e-12
    )


def photometric(
    image1: jax.Array,
    warped2: jax.Array,
    mask: jax.Array | None = None,
    *,
    penalty: Penalty = charbonnier,
) -> jax.Array:
    """Compares frame 1 with frame 2 warped onto it: brightness constancy.

    Yu et al., "Back to Basics: Unsupervised Learning of Optical Flow via Brightness
    Constancy and Motion Smoothness" (2016), Eq. 3.

    Args:
        image1: Frame 1, (B, H, W, C).
        warped2: Frame 2 as frame 1 would see it, alike.
        mask: Where both show the same surface, (B, H, W); None for everywhere.
        penalty: Maps differences (..., C) to (...).

    Returns:
        The mean over pixels that count, a scalar; 0 if none does.
    """
    chex.assert_equal_shape([image1, warped2])
    error, mask = _masked_error(warped2, image1, mask)
    return _mean(penalty(error), mask)


def census(
    image1: jax.Array,
    warped2: jax.Array,
    mask: jax.Array | None = None,
    *,
    radius: int = 3,
) -> jax.Array:
    """Compares each pixel's order among its neighbours, which lighting leaves alone.

        s(d) = d / sqrt(0.81 + d^2),  d = 255 (neighbour - centre)
        L    = mean charbonnier(sum_n (s1 - s2)^2 / (0.1 + (s1 - s2)^2))

    Meister et al., "UnFlow" (2018), Sec. 3.2: the soft ternary census transform. Pixels
    nearer to the border than `radius` do not count.

    Args:
        image1: Frame 1, (B, H, W, C); the census is taken of the mean over channels.
        warped2: Frame 2 as frame 1 would see it, alike.
        mask: Where both show the same surface, (B, H, W); None for everywhere.
        radius: Half the window: 3 compares with the 48 neighbours in 7x7.

    Returns:
        The mean over pixels that count, a scalar; 0 if none does.
    """
    chex.assert_equal_shape([image1, warped2])
    _, height, width, _ = image1.shape
    counts = _masked(image1, mask)[1]
    # A masked pixel may hold NaN, and it is also somebody's neighbour.
    warped2 = jnp.where(counts[..., None] > 0, warped2, image1)
    first, second = (
        255 * jnp.mean(image.astype(jnp.float32), axis=-1)
        for image in (image1, warped2)
    )
    inner = (slice(None), slice(radius, height - radius), slice(radius, width - radius))
    distance = jnp.zeros_like(first[inner])
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            window = (
                slice(None),
                slice(dy, dy + height - 2 * radius),
                slice(dx, dx + width - 2 * radius),
            )
            signs = [_soft_sign(gray[window] - gray[inner]) for gray in (first, second)]
            squared = jnp.square(signs[0] - signs[1])
            distance += squared / (0.1 + squared)
    return _mean(charbonnier(distance[..., None]), counts[inner])


def smoothness(
    flow: jax.Array,
    image: jax.Array,
    mask: jax.Array | None = None,
    *,
    edge_weight: float = 10.0,
    order: int = 1,
    penalty: Penalty = charbonnier,
) -> jax.Array:
    """Penalises flow that varies where the image does not.

        L = mean_axes mean_x exp(-edge_weight mean_c |D I|) penalty(D^order w)

    Jonschkowski et al., "What Matters in Unsupervised Optical Flow" (2020), Eq. 5,
    with forward differences D along x and along y.

    Args:
        flow: Flow, (B, H, W, 2).
        image: Frame 1 at the same size, (B, H, W, C), in [0, 1].
        mask: Pixels that count, (B, H, W): a difference counts if all its pixels do.
        edge_weight: How fast an edge of the image releases the flow.
        order: 1 prefers constant flow, 2 affine flow.
        penalty: Maps differences (..., 2) to (...).

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If `order` is neither 1 nor 2.
    """
    if order not in (1, 2):
        raise ValueError(f"`order` must be 1 or 2; got {order!r}")
    chex.assert_equal_shape_prefix([flow, image], 3)
    flow, mask = _masked(flow, mask)
    image = image.astype(jnp.float32)
    total = jnp.zeros((), jnp.float32)
    for axis in (1, 2):
        slope, edge, counts = flow, image, mask
        for _ in range(order):
            counts = _ahead(counts, axis) * _behind(counts, axis)
            slope = _ahead(slope, axis) - _behind(slope, axis)
        edge = jnp.mean(jnp.abs(_ahead(edge, axis) - _behind(edge, axis)), axis=-1)
        if order == 2:
            edge = jnp.maximum(_ahead(edge, axis), _behind(edge, axis))
        total += 0.5 * _mean(jnp.exp(-edge_weight * edge) * penalty(slope), counts)
    return total


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
    """
    chex.assert_shape(mask, flow.shape[:-1])
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


def _overlap(cells: int, pixels: int) -> np.ndarray:
    """Returns the share of each cell's length that each pixel covers."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)[None]
    shared = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return (np.maximum(shared, 0) * (cells / pixels)).astype(np.float32)


def _soft_sign(difference: jax.Array) -> jax.Array:
    return difference / jnp.sqrt(0.81 + jnp.square(difference))


def _ahead(x: jax.Array, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, 1, None, axis=axis)


def _behind(x: jax.Array, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)


def _masked(values: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns values in float32, 0 where they do not count, and the mask in float32."""
    if mask is None:
        return values.astype(jnp.float32), jnp.ones(values.shape[:-1], jnp.float32)
    chex.assert_shape(mask, values.shape[:-1])
    known = mask.astype(jnp.float32)
    return jnp.where(known[..., None] > 0, values.astype(jnp.float32), 0.0), known


def _masked_error(
    prediction: jax.Array, target: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the difference, 0 where it does not count, and the mask."""
    prediction, _ = _masked(prediction, mask)
    target, mask = _masked(target, mask)
    return prediction - target, mask


def _mean(penalty: jax.Array, mask: jax.Array) -> jax.Array:
    """Averages over the pixels that count; 0 if none does."""
    return jnp.sum(penalty * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def _sum_over_pixels(penalty: Penalty, error: jax.Array, mask: jax.Array) -> jax.Array:
    """Sums the penalty over pixels that count and averages it over the batch."""
    penalties = penalty(jnp.where(mask[..., None] > 0, error, 0.0))
    return jnp.sum(penalties * mask) / error.shape[0]
