"""Matching patches: normalised cross-correlation, phase correlation, block matching.

The correlation layer of FlowNetC is the unnormalised correlation of `match_template`
between patches of features: on patches of unit length both have the same peak.
"""

from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import _checks, _shapes, ops
from jaxflow.classical import coarse_to_fine

# Variance of a window that is rounding alone, of brightness in [0, 1].
VARIANCE_NOISE = 1e-7


def match_template(
    image: jax.Array, template: jax.Array, *, zero_mean: bool = False
) -> jax.Array:
    """Correlates a template with every patch of an image, normalised by both lengths.

        R(x, y) = sum T P / sqrt(sum T^2  sum P^2),   P the patch with corner (x, y)

    over window and channels; with `zero_mean`, the mean of each channel is first taken
    from T and P. Plain scores do not change when the image is multiplied by a gain, but
    they change under a bias; zero-mean scores change under neither. The scores are
    those of ``cv2.matchTemplate`` with TM_CCORR_NORMED and TM_CCOEFF_NORMED, except
    that constant patches and templates score 0.

    Args:
        image: (H, W, C), floating.
        template: (h, w, C), no larger.
        zero_mean: Whether to remove the means.

    Returns:
        Scores in [-1, 1], (H - h + 1, W - w + 1).

    Raises:
        ValueError: If the template is larger than the image.

    Examples:
        >>> image = jax.random.uniform(jax.random.key(0), (8, 8, 1))
        >>> scores = jaxflow.classical.template.match_template(image, image[2:5, 3:6])
        >>> scores.shape, divmod(scores.argmax().item(), 6)  # (y, x)
        ((6, 6), (2, 3))
    """
    for name, array in (("image", image), ("template", template)):
        _shapes.check(name, array, ("H", "W", "C"))
    _shapes.check("template", template, (..., image.shape[-1]))
    image, template = map(coarse_to_fine.widen, (image, template))
    height, width, _ = template.shape
    if height > image.shape[0] or width > image.shape[1]:
        raise ValueError(
            f"`template` must fit in `image` {image.shape}; got {template.shape}"
        )
    if zero_mean:
        # A common offset changes nothing but the digits that box sums cancel.
        image = image - image.mean((0, 1), keepdims=True)
        template = template - template.mean((0, 1), keepdims=True)
    product = jax.lax.conv_general_dilated(
        image[None],
        template[..., None],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )[0, ..., 0]
    energy = _box_sum(image**2, height, width)
    if zero_mean:
        energy -= _box_sum(image, height, width) ** 2 / (height * width)
    square = (energy.sum(-1)) * (template**2).sum()
    enough = square > 1e-12 * (1 + (image**2).max() ** 2)
    score = product / jnp.sqrt(jnp.where(enough, square, 1))
    return jnp.where(enough, jnp.clip(score, -1, 1), 0)


def phase_correlation(
    frame1: jax.Array, frame2: jax.Array, *, window: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Finds the one shift between two frames from the phases of their spectra.

    Kuglin and Hines (1975); the peak is refined to the centroid of 5 x 5 values, as by
    ``cv2.phaseCorrelate``. Shifts up to a quarter of the frame are found, whatever the
    gain and bias. The result is accurate to about 0.1 pixel, and is meant as the start
    of a search.

    Args:
        frame1: (H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        window: Whether to fade both frames out by a Hann window, without which the
            frame's own border correlates with itself.

    Returns:
        (u, v) in pixels, (2,), from frame 1 to frame 2; and the share of the energy in
        the peak, in [0, 1]. Both are 0 where a frame is flat, and NaN if one has NaN.
    """
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    _shapes.check("frame1", frame1, ("H", "W", "C"))
    one, two = (coarse_to_fine.luminance(frame)[..., 0] for frame in (frame1, frame2))
    height, width = one.shape
    seen = coarse_to_fine.textured(one[..., None])
    seen &= coarse_to_fine.textured(two[..., None])
    if window:
        taper = np.outer(np.hanning(height), np.hanning(width)).astype(one.dtype)
        one, two = (taper * (x - x.mean()) for x in (one, two))
    # The window leaves nothing of a frame that is two pixels wide.
    seen &= (one != 0).any() & (two != 0).any()
    cross = jnp.conj(jnp.fft.fft2(one)) * jnp.fft.fft2(two)
    size = jnp.sqrt(cross.real**2 + cross.imag**2 + 1e-20)
    phase = jax.lax.complex(cross.real / size, cross.imag / size)
    surface = jnp.fft.fftshift(jnp.fft.ifft2(phase).real)
    peak = jnp.argmax(surface)
    y, x = peak // width, peak % width
    rows, columns = (y + jnp.arange(-2, 3)) % height, (x + jnp.arange(-2, 3)) % width
    near = jnp.maximum(surface[rows[:, None], columns[None]], 0)
    total = near.sum() + 1e-12
    offset = jnp.arange(-2, 3).astype(near.dtype)
    x, y = x.astype(near.dtype), y.astype(near.dtype)
    u = x - width // 2 + (near.sum(0) * offset).sum() / total
    v = y - height // 2 + (near.sum(1) * offset).sum() / total
    shift = jnp.where(seen, jnp.stack([u, v]).astype(one.dtype), 0)
    return shift, jnp.where(seen, jnp.clip(total, 0, 1), 0)


def phase_correlation_flow(frame1: jax.Array, frame2: jax.Array) -> jax.Array:
    """Spreads the shift of `phase_correlation` over the frame.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.

    Returns:
        A constant flow, (*B, H, W, 2), in pixels; 0 where a frame is flat.
    """
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    shift = jnp.vectorize(
        lambda a, b: phase_correlation(a, b)[0], signature="(h,w,c),(h,w,c)->(n)"
    )(frame1, frame2)
    return jnp.broadcast_to(shift[..., None, None, :], (*frame1.shape[:-1], 2))


def block_matching(
    frame1: jax.Array,
    frame2: jax.Array,
    *,
    radius: int = 7,
    window: int = 9,
    cost: Literal["absolute", "squared", "zncc"] = "absolute",
    subpixel: bool = True,
) -> jax.Array:
    """Searches for each pixel's window among all displacements of frame 2.

    Every displacement is tried, so that no better match is missed. A flat window takes
    the shortest of equally good displacements. A flat frame cannot be matched, and
    gives 0. A parabola through the costs of the best and its neighbours gives the
    fraction of a pixel, unless the match is perfect or a neighbour is as good; the
    whole part has no gradient. A NaN pixel gives NaN wherever it is compared.

    Args:
        frame1: (*B, H, W, C), floating.
        frame2: Like `frame1`.
        radius: Longest displacement along an axis, in pixels.
        window: Side of the window, in pixels, odd.
        cost: Sum of "absolute" or "squared" differences, or "zncc", zero-mean
            normalised cross-correlation, which a gain and a bias do not change.
        subpixel: Whether to fit the parabola.

    Returns:
        Flow, (*B, H, W, 2), in pixels.

    Raises:
        ValueError: If `window` is even, `radius` not positive or `cost` unknown.
    """
    _checks.one_of("cost", cost, ("absolute", "squared", "zncc"))
    _checks.counts(radius=radius, window=window)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"`window` must be odd and positive; got {window}")
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    one, two = map(coarse_to_fine.widen, (frame1, frame2))
    # One more on every side, for the parabola at the ends of the search.
    reach = radius + 1
    steps = range(-reach, reach + 1)
    shifts = np.array([(dx, dy) for dy in steps for dx in steps])

    costs = _match_costs(one, two, shifts, window, cost)  # (*B, H, W, D)
    allowed = (np.abs(shifts) <= radius).all(-1)
    allowed = allowed.reshape(*[1] * (costs.ndim - 1), -1)
    # Ties go to the shortest displacement; the bias is far below a difference that
    # a pixel's brightness can make, and above the rounding of a correlation.
    bias = 1e-5 if cost == "zncc" else 1e-7
    lengths = jnp.asarray(bias * np.hypot(*shifts.T), costs.dtype)
    ranked = costs + jax.lax.broadcast_to_rank(lengths, costs.ndim)
    best = jnp.argmin(jnp.where(allowed, ranked, jnp.inf), axis=-1)
    flow = jnp.asarray(shifts, costs.dtype)[best]
    damaged = jnp.isnan(jnp.where(allowed, costs, 0)).any(-1)[..., None]
    seen = coarse_to_fine.both_textured(one, two)
    if not subpixel:
        return jnp.where(damaged, jnp.nan, jnp.where(seen, flow, 0))
    side = len(steps)

    def at(offset):
        index = (best + offset)[..., None]
        return jnp.take_along_axis(costs, index, axis=-1)[..., 0]

    middle = at(0)
    # No cost is negative: a perfect match cannot be improved.
    perfect = middle <= (1e-5 if cost == "zncc" else 1e-9)
    fractions = [
        jnp.where(perfect, 0, _parabola(at(-offset), middle, at(offset)))
        for offset in (1, side)
    ]
    flow += jnp.stack(fractions, axis=-1)
    return jnp.where(damaged, jnp.nan, jnp.where(seen, flow, 0))


def _match_costs(one, two, shifts, window, cost):
    """Stacks the cost of every displacement, (*B, H, W, D)."""
    height, width = one.shape[-3:-1]
    reach = int(np.abs(shifts).max())
    margin = [(0, 0)] * (one.ndim - 3) + [(reach, reach), (reach, reach), (0, 0)]
    padded = jnp.pad(two, margin, mode="edge")
    box = np.full(window, 1 / window)

    def mean(x):
        return ops.separable_filter(x.mean(-1, keepdims=True), box, box)[..., 0]

    def evaluate(shift):
        start = (0,) * (one.ndim - 3) + (shift[1] + reach, shift[0] + reach, 0)
        moved = jax.lax.dynamic_slice(
            padded, start, (*one.shape[:-3], height, width, one.shape[-1])
        )
        if cost == "absolute":
            return mean(jnp.abs(one - moved))
        if cost == "squared":
            return mean((one - moved) ** 2)
        covariance = mean(one * moved) - mean(one) * mean(moved)
        variance1 = mean(one**2) - mean(one) ** 2
        variance2 = mean(moved**2) - mean(moved) ** 2
        # The digits that are left of a flat window correlate with nothing.
        flat = (variance1 <= VARIANCE_NOISE) | (variance2 <= VARIANCE_NOISE)
        product = jnp.where(flat, 1, variance1 * variance2)
        return 1 - jnp.where(flat, 0, covariance / jnp.sqrt(product))

    return jnp.moveaxis(jax.lax.map(evaluate, jnp.asarray(shifts)), 0, -1)


def _parabola(before: jax.Array, middle: jax.Array, after: jax.Array) -> jax.Array:
    """Locates the minimum of a parabola through three costs, within half a step."""
    curvature = before - 2 * middle + after
    convex = (curvature > 1e-9) & (jnp.minimum(before, after) - middle > 1e-7)
    offset = (before - after) / (2 * jnp.where(convex, curvature, 1))
    return jnp.where(convex, jnp.clip(offset, -0.5, 0.5), 0)


def _box_sum(image: jax.Array, height: int, width: int) -> jax.Array:
    """Sums every height x width window, channel by channel, without running sums."""
    down = image.shape[0] - height + 1
    rows = cast(jax.Array, sum(image[i : down + i] for i in range(height)))
    last = image.shape[1] - width + 1
    return cast(jax.Array, sum(rows[:, j : last + j] for j in range(width)))
