"""How far an estimated flow is from the true one.

Flow is (*B, H, W, 2): (u, v) in pixels. `valid` is (*B, H, W) and says which pixels
count; None counts all of them. Every mean is over the counted pixels of one example:
the result is float32 with the batch axes of `flow`, and NaN for an example without a
counted pixel. The value at a pixel that does not count has no effect, even if it is
NaN. At one that counts, an estimate that is NaN is wrong: it is an outlier, it is
within no threshold, it scores nothing in an area under a curve, and a mean of errors
over it is NaN. bfloat16 and float16 are computed in float32. Arrays of other shapes are
a ValueError.
"""

import itertools

import jax
import jax.numpy as jnp

from jaxflow import _checks

SPEEDS = (10.0, 40.0)


def epe_map(flow: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the endpoint error of every pixel, |flow - target|, in pixels.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).

    Returns:
        (*B, H, W) float32.

    Examples:
        >>> truth = jnp.zeros((1, 2, 2))
        >>> jaxflow.metrics.epe_map(truth + jnp.array([[[3.0, 4.0]]]), truth).tolist()
        [[5.0, 5.0]]
    """
    _check_flows(flow, target)
    difference = jnp.asarray(flow, jnp.float32) - jnp.asarray(target, jnp.float32)
    return jnp.hypot(difference[..., 0], difference[..., 1])


def masked_mean(values: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Averages over the counted pixels of each example.

    Args:
        values: (*B, H, W).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,) float32; NaN where no pixel counts.

    Examples:
        >>> values, valid = jnp.array([[1.0, 9.0]]), jnp.array([[True, False]])
        >>> jaxflow.metrics.masked_mean(values, valid).item()
        1.0
    """
    values = jnp.asarray(values, jnp.float32)
    if valid is None:
        return values.mean((-2, -1))
    if jnp.shape(valid) != values.shape:
        raise ValueError(
            f"`valid` must be {values.shape}, one number a pixel; got "
            f"{jnp.shape(valid)}"
        )
    counted = jnp.asarray(valid, bool)
    total = jnp.where(counted, values, 0).sum((-2, -1))
    return total / counted.sum((-2, -1)).astype(jnp.float32)


def epe(
    flow: jax.Array, target: jax.Array, *, valid: jax.Array | None = None
) -> jax.Array:
    """Averages the endpoint error (Otte and Nagel, 1994).

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,), in pixels.

    Examples:
        >>> truth = jnp.zeros((5, 4, 4, 2))  # five examples
        >>> jaxflow.metrics.epe(truth.at[..., 1].set(5.0), truth).tolist()
        [5.0, 5.0, 5.0, 5.0, 5.0]
    """
    return masked_mean(epe_map(flow, target), valid)


def within(
    flow: jax.Array,
    target: jax.Array,
    *,
    threshold: float = 1.0,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Returns the fraction of pixels whose endpoint error is below a threshold.

    With thresholds of 1, 3 and 5 pixels these are the usual "1px", "3px" and "5px".

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        threshold: In pixels.
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,), from 0 to 1.

    Raises:
        ValueError: If `threshold` is not positive.

    Examples:
        >>> truth = jnp.zeros((1, 4, 2))
        >>> flow = truth.at[0, :, 0].set(jnp.array([0.2, 0.9, 2.0, 5.0]))
        >>> jaxflow.metrics.within(flow, truth).item()
        0.5
    """
    _checks.positive("threshold", threshold)
    return masked_mean(epe_map(flow, target) < threshold, valid)


def outliers(
    flow: jax.Array,
    target: jax.Array,
    *,
    threshold: float = 3.0,
    relative: float = 0.05,
) -> jax.Array:
    """Marks the outliers of KITTI 2015: error > 3 px and > 5 % of the true length.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        threshold: Absolute bound, in pixels.
        relative: Bound as a fraction of the true length; 0 leaves the absolute one,
            which is the outlier of KITTI 2012.

    Returns:
        (*B, H, W) bool; True where the estimate is NaN.

    Examples:
        >>> truth = jnp.full((1, 2, 2), 100.0)  # 4 pixels are less than 5 % of it
        >>> jaxflow.metrics.outliers(truth.at[..., 0].add(4.0), truth).tolist()
        [[False, False]]
        >>> jaxflow.metrics.outliers(truth.at[..., 0].add(8.0), truth).tolist()
        [[True, True]]
    """
    error = epe_map(flow, target)
    length = _length(target)
    # NaN lies below no bound.
    return ~((error <= threshold) | (error <= relative * length))


def fl_all(
    flow: jax.Array, target: jax.Array, *, valid: jax.Array | None = None
) -> jax.Array:
    """Returns the percentage of outliers, KITTI's Fl (Menze and Geiger, 2015).

    KITTI's Fl-bg and Fl-fg are the same, with `valid` restricted to the background or
    the foreground.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,), in percent.

    Examples:
        >>> truth = jnp.zeros((1, 4, 2))
        >>> flow = truth.at[0, :, 0].set(jnp.array([0.2, 0.9, 2.0, 5.0]))
        >>> jaxflow.metrics.fl_all(flow, truth).item()
        25.0
    """
    return 100 * masked_mean(outliers(flow, target), valid)


def wauc(
    flow: jax.Array, target: jax.Array, *, valid: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted area under the curve of errors from 0 to 5 px.

        100 sum_i w_i fraction(error <= i / 20) / sum_i w_i,   w_i = 1 - (i - 1) / 100

    over i = 1 ... 100 (Richter et al., "Playing for Benchmarks", 2017).

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,), from 0 to 100, which is perfect.

    Examples:
        >>> truth = jnp.zeros((4, 4, 2))
        >>> [jaxflow.metrics.wauc(x, truth).item() for x in (truth, truth + 9)]
        [100.0, 0.0]
    """
    error = epe_map(flow, target)
    steps = jnp.arange(1, 101, dtype=jnp.float32)
    weights = 1 - (steps - 1) / 100
    # A pixel scores the weights of all steps it lies below: a suffix sum.
    suffix = jnp.append(jnp.cumsum(weights[::-1])[::-1], 0) / weights.sum()
    # NaN is sorted behind all steps, and scores nothing.
    first = jnp.searchsorted(steps / 20, error)
    return 100 * masked_mean(suffix[first], valid)


def angular_error(
    flow: jax.Array, target: jax.Array, *, valid: jax.Array | None = None
) -> jax.Array:
    """Averages the angle between (u, v, 1) and its true value (Barron et al., 1994).

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B,), in degrees.

    Examples:
        >>> still, right = jnp.zeros((1, 1, 2)), jnp.array([[[1.0, 0.0]]])
        >>> round(jaxflow.metrics.angular_error(still, right).item(), 3)
        45.0
    """
    _check_flows(flow, target)
    flow, target = jnp.asarray(flow, jnp.float32), jnp.asarray(target, jnp.float32)
    (u, v), (s, t) = jnp.moveaxis(flow, -1, 0), jnp.moveaxis(target, -1, 0)
    # The arc cosine loses half of the digits of a small angle; the arc tangent none.
    cross = jnp.hypot(jnp.hypot(u - s, v - t), u * t - v * s)
    angle = jnp.arctan2(cross, u * s + v * t + 1)
    return masked_mean(jnp.rad2deg(angle), valid)


def epe_by_speed(
    flow: jax.Array,
    target: jax.Array,
    *,
    edges: tuple[float, ...] = SPEEDS,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Averages the endpoint error by true speed: Sintel's s0-10, s10-40 and s40+.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        edges: Speeds that part the bins, rising, in pixels. A bin holds its lower
            edge.
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        (*B, len(edges) + 1), in pixels; NaN for an empty bin.

    Raises:
        ValueError: If `edges` do not rise from above 0.

    Examples:
        >>> truth = jnp.array([[[1.0, 0.0], [20.0, 0.0]]])
        >>> jaxflow.metrics.epe_by_speed(truth * 1.5, truth).tolist()
        [0.5, 10.0, nan]
    """
    if not all(low < high for low, high in itertools.pairwise((0.0, *edges))):
        raise ValueError(f"`edges` must be positive and rise; got {edges}")
    error, speed = epe_map(flow, target), _length(target)
    counted = jnp.ones_like(speed, bool) if valid is None else jnp.asarray(valid, bool)
    bounds = (0.0, *edges, jnp.inf)
    bins = [
        masked_mean(error, counted & (low <= speed) & (speed < high))
        for low, high in itertools.pairwise(bounds)
    ]
    return jnp.stack(bins, axis=-1)


def epe_by_occlusion(
    flow: jax.Array,
    target: jax.Array,
    occluded: jax.Array,
    *,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Averages the endpoint error apart where frame 2 shows the point and where not.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        occluded: Where the point of frame 1 is hidden in frame 2, (*B, H, W).
        valid: Which pixels count, (*B, H, W); None counts all.

    Returns:
        The means over visible ("matched", "noc") and over occluded ("unmatched")
        pixels, (*B,) each, in pixels.

    Examples:
        >>> truth = jnp.zeros((1, 2, 2))
        >>> flow, hidden = truth.at[0, 1, 0].set(6.0), jnp.array([[False, True]])
        >>> seen, unseen = jaxflow.metrics.epe_by_occlusion(flow, truth, hidden)
        >>> seen.item(), unseen.item()
        (0.0, 6.0)
    """
    error, hidden = epe_map(flow, target), jnp.asarray(occluded, bool)
    counted = jnp.ones_like(hidden) if valid is None else jnp.asarray(valid, bool)
    return masked_mean(error, counted & ~hidden), masked_mean(error, counted & hidden)


def summary(
    flow: jax.Array,
    target: jax.Array,
    *,
    valid: jax.Array | None = None,
    occluded: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Computes the usual table of one estimate.

    Args:
        flow: Estimate, (*B, H, W, 2).
        target: Truth, (*B, H, W, 2).
        valid: Which pixels count, (*B, H, W); None counts all.
        occluded: Where the point of frame 1 is hidden in frame 2, (*B, H, W), if that
            is known.

    Returns:
        "epe" in pixels; "1px", "3px" and "5px", fractions; "fl_all" in percent;
        "wauc" from 0 to 100; "angular" in degrees; "s0-10", "s10-40" and "s40+" in
        pixels. With `occluded` also "matched" and "unmatched", of
        `epe_by_occlusion`, and "fl_noc", KITTI's outliers among visible pixels. Each
        is (*B,).

    Examples:
        >>> truth = jnp.zeros((2, 2, 2))
        >>> row = jaxflow.metrics.summary(truth + 2, truth)
        >>> {name: round(row[name].item(), 2) for name in ("epe", "1px", "3px")}
        {'epe': 2.83, '1px': 0.0, '3px': 1.0}
    """
    slow, middle, fast = jnp.moveaxis(epe_by_speed(flow, target, valid=valid), -1, 0)
    hidden: dict[str, jax.Array] = {}
    if occluded is not None:
        seen = ~jnp.asarray(occluded, bool)
        seen = seen if valid is None else seen & jnp.asarray(valid, bool)
        parts = epe_by_occlusion(flow, target, occluded, valid=valid)
        hidden |= {"matched": parts[0], "unmatched": parts[1]}
        hidden["fl_noc"] = fl_all(flow, target, valid=seen)
    return {
        "epe": epe(flow, target, valid=valid),
        "1px": within(flow, target, threshold=1.0, valid=valid),
        "3px": within(flow, target, threshold=3.0, valid=valid),
        "5px": within(flow, target, threshold=5.0, valid=valid),
        "fl_all": fl_all(flow, target, valid=valid),
        "wauc": wauc(flow, target, valid=valid),
        "angular": angular_error(flow, target, valid=valid),
        "s0-10": slow,
        "s10-40": middle,
        "s40+": fast,
        **hidden,
    }


def _length(flow: jax.Array) -> jax.Array:
    """Returns the length of every vector, in float32."""
    flow = jnp.asarray(flow, jnp.float32)
    return jnp.hypot(flow[..., 0], flow[..., 1])


def _check_flows(flow: jax.Array, target: jax.Array) -> None:
    """Raises ValueError unless estimate and truth are flow of one shape."""
    ours, theirs = jnp.shape(flow), jnp.shape(target)
    if len(ours) < 3 or ours[-1] != 2:
        raise ValueError(f"`flow` must be (*B, H, W, 2); got {ours}")
    if ours != theirs:
        raise ValueError(
            f"`flow` and `target` must have one shape; got {ours} and {theirs}: "
            "jaxflow.ops.resize_flow brings flow to another size"
        )
