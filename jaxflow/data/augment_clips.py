"""Augmentation of clips for recognition, on the device: pure functions of a key.

A clip is (T, H, W, 3) RGB, float in [0, 1], or uint8, which is a quarter of the bytes
on the way to the device. All frames of a clip change alike. `augment_batch` maps over a
batch, and `mixup` and `cutmix` join its clips.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks
from jaxflow.data import draws, photometric, rand_augment

JITTER = photometric.Jitter(hue=0.1)
"""Ranges of the colours of clips that are usual in recognition."""
_ATTEMPTS = 10


def augment_batch(
    key: jax.Array,
    clips: jax.Array,
    *,
    size: int = 112,
    short_side: tuple[int, int] | None = None,
    flip: float = 0.5,
    colour: photometric.Jitter | None = None,
    layers: int = 0,
    magnitude: float = 9.0,
    erase: float = 0.0,
) -> jax.Array:
    """Augments each clip of a batch on its own.

    In this order: scale and crop, flip, colour, RandAugment, erasing.

    Args:
        key: Random key.
        clips: (B, T, H, W, 3), uint8 or float in [0, 1].
        size: Height and width of what is cut out.
        short_side: See `scale_and_crop`; None crops without scaling.
        flip: Probability that a clip is mirrored. Left and right must then be of one
            class.
        colour: Ranges of the colour changes; None changes none.
        layers: Operations of `rand_augment.rand_augment`; 0 for none.
        magnitude: Of these.
        erase: Probability that a box is erased; see `erase_box`.

    Returns:
        (B, T, size, size, 3) float32.

    Raises:
        ValueError: If a clip is smaller than `size`, or a number out of range.
    """
    _clip_axes(clips, 5)

    def one(key, clip):
        keys = jax.random.split(key, 5)
        clip = scale_and_crop(keys[0], clip, size=size, short_side=short_side)
        clip = flip_clip(keys[1], clip, probability=flip)
        if colour is not None:
            clip = jitter_clip(keys[2], clip, ranges=colour)
        if layers:
            clip = rand_augment.rand_augment(
                keys[3], clip, layers=layers, magnitude=magnitude
            )
        return erase_box(keys[4], clip, probability=erase) if erase else clip

    keys = jax.random.split(key, clips.shape[0])
    if layers:
        # Under vmap every operation would be computed for every clip.
        return lax.map(lambda pair: one(*pair), (keys, clips))
    return jax.vmap(one)(keys, clips)


def scale_and_crop(
    key: jax.Array,
    clip: jax.Array,
    *,
    size: int = 112,
    short_side: tuple[int, int] | None = None,
) -> jax.Array:
    """Resizes a clip by its shorter side, at random, and crops a square anywhere.

    Scale jitter (Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015).
    Bilinear without smoothing; only what is kept is computed. The longer side is
    rounded down.

    Args:
        key: Random key.
        clip: (T, H, W, 3).
        size: Height and width of the square.
        short_side: Least and greatest length of the shorter side, each as likely; None
            keeps the clip's.

    Returns:
        (T, size, size, 3) float32.

    Raises:
        ValueError: If the square may be larger than the resized clip.
    """
    _clip_axes(clip, 4)
    height, width = clip.shape[1:3]
    low, high = short_side or (min(height, width),) * 2
    if not 0 < size <= low <= high:
        raise ValueError(
            f"`short_side` must be a range that starts at `size` {size} or above; got "
            f"{(low, high)}"
        )
    u = draws.uniform(key, side=(), corner=(2,))
    side = jnp.minimum(jnp.floor(low + u["side"] * (high - low + 1)), high)
    shorter = min(height, width)
    # A product of whole numbers in float32: exact below 2^24.
    new = jnp.floor(_size(height, width) * side / shorter + 1e-4)
    start = jnp.floor(u["corner"] * (new - size + 1))
    return _read_window(clip, start, _size(height, width) / new, (size, size))


def resized_crop(
    key: jax.Array,
    clip: jax.Array,
    *,
    size: int = 112,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
    """Cuts out a part of random area and shape, and resizes it to a square.

    Szegedy et al., "Going Deeper with Convolutions" (2015). The area is uniform, and so
    is the logarithm of the ratio of width to height. A draw that does not fit is
    repeated, 10 times; then the largest part of an allowed ratio is cut from the
    middle.

    Args:
        key: Random key.
        clip: (T, H, W, 3).
        size: Height and width of the square.
        area: Least and greatest part of the clip's area.
        ratio: Least and greatest ratio of width to height.

    Returns:
        (T, size, size, 3) float32, bilinear without smoothing.

    Raises:
        ValueError: If a range is not positive and rising, or an area above 1.
    """
    _clip_axes(clip, 4)
    _check_range("area", area, 1.0)
    _check_range("ratio", ratio, math.inf)
    height, width = clip.shape[1:3]
    u = draws.uniform(key, box=(_ATTEMPTS, 2), corner=(2,))
    sides, fits = _draw_boxes(u["box"], height, width, area, ratio)
    within = min(max(width / height, ratio[0]), ratio[1])
    whole = _size(min(height, width / within), min(width, height * within))
    sides = jnp.where(fits.any(), sides[jnp.argmax(fits)], jnp.round(whole))
    room = _size(height, width) - sides
    corner = jnp.where(fits.any(), jnp.floor(u["corner"] * (room + 1)), room // 2)
    step = sides / size
    return _read_window(clip, corner / step, step, (size, size), (corner, sides))


def flip_clip(
    key: jax.Array, clip: jax.Array, *, probability: float = 0.5
) -> jax.Array:
    """Mirrors a clip left to right, with a probability.

    Args:
        key: Random key.
        clip: (T, H, W, 3).
        probability: From 0 to 1.

    Returns:
        (T, H, W, 3), in the type of `clip`.
    """
    _clip_axes(clip, 4)
    mirrored = draws.uniform(key, gate=())["gate"] < probability
    return jnp.where(mirrored, clip[:, :, ::-1], clip)


def jitter_clip(
    key: jax.Array,
    clip: jax.Array,
    *,
    ranges: photometric.Jitter = JITTER,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in this order.

    Contrast is about the mean grey of each frame.

    Args:
        key: Random key.
        clip: (T, H, W, 3).
        ranges: What to draw from; frames never change independently.

    Returns:
        (T, H, W, 3) float32 in [0, 1].
    """
    _clip_axes(clip, 4)
    spread = jnp.array(
        [ranges.brightness, ranges.contrast, ranges.saturation, ranges.hue], float
    )
    u = draws.uniform(key, factors=(4,))["factors"]
    factors = (2 * u - 1) * spread + jnp.array([1.0, 1.0, 1.0, 0.0])
    return photometric.apply_jitter(photometric.as_float(clip), factors)


def erase_box(
    key: jax.Array,
    clip: jax.Array,
    *,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
) -> jax.Array:
    """Fills a box of every frame, always in the same place, with noise.

    Zhong et al., "Random Erasing Data Augmentation" (2020): every value in the box is
    drawn uniformly from [0, 1], in each frame anew. A draw that does not fit is
    repeated, 10 times; then the clip stays.

    Args:
        key: Random key.
        clip: (T, H, W, 3).
        probability: That there is a box.
        area: Least and greatest part of the clip's area.
        ratio: Least and greatest ratio of width to height.

    Returns:
        (T, H, W, 3) float32.

    Raises:
        ValueError: If a range is not positive and rising, or an area above 1.
    """
    _clip_axes(clip, 4)
    _check_range("area", area, 1.0)
    _check_range("ratio", ratio, math.inf)
    height, width = clip.shape[1:3]
    place, noise = jax.random.split(key)
    u = draws.uniform(place, gate=(), box=(_ATTEMPTS, 2), corner=(2,))
    sides, fits = _draw_boxes(u["box"], height, width, area, ratio)
    sides = sides[jnp.argmax(fits)]
    corner = jnp.floor(u["corner"] * (_size(height, width) - sides + 1))
    present = (u["gate"] < probability) & fits.any()
    inside = _box(height, width, corner, corner + sides) & present
    clip = photometric.as_float(clip)
    noise = jax.random.uniform(noise, clip.shape, clip.dtype)
    return jnp.where(inside[..., None], noise, clip)


def mixup(
    key: jax.Array,
    clips: jax.Array,
    labels: jax.Array,
    *,
    alpha: float = 0.8,
) -> tuple[jax.Array, jax.Array]:
    """Blends every clip of a batch, and its label, with those of another.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018):

        x = w x_i + (1 - w) x_j,   y = w y_i + (1 - w) y_j,   w ~ Beta(alpha, alpha)

    with one w a batch, and j = p(i) for a random permutation p.

    Args:
        key: Random key.
        clips: (B, T, H, W, 3).
        labels: Shares of the classes, (B, classes), such as `jax.nn.one_hot` gives.
        alpha: Of the distribution; the smaller, the less is blended.

    Returns:
        Clips, float32, and labels, float32, of the same shapes.

    Raises:
        ValueError: If `alpha` is not positive, or a shape is wrong.
    """
    weight, partner = _draw_mix(key, clips, labels, alpha)
    clips, labels = photometric.as_float(clips), jnp.asarray(labels, jnp.float32)
    clips = weight * clips + (1 - weight) * clips[partner]
    return clips, weight * labels + (1 - weight) * labels[partner]


def cutmix(
    key: jax.Array,
    clips: jax.Array,
    labels: jax.Array,
    *,
    alpha: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of another clip into every clip of a batch, and mixes the labels.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers" (2019):
    the box has the sides of the frame times sqrt(1 - w), w ~ Beta(alpha, alpha), its
    middle anywhere in the frame, and is cut off at the border; labels are mixed by the
    area that is left. One box a batch, through all frames, from a random permutation.

    Args:
        key: Random key.
        clips: (B, T, H, W, 3).
        labels: Shares of the classes, (B, classes).
        alpha: Of the distribution.

    Returns:
        Clips, in the type of `clips`, and labels, float32, of the same shapes.

    Raises:
        ValueError: If `alpha` is not positive, or a shape is wrong.
    """
    key, place = jax.random.split(key)
    weight, partner = _draw_mix(key, clips, labels, alpha)
    height, width = clips.shape[2:4]
    size = _size(height, width)
    middle = jnp.floor(draws.uniform(place, middle=(2,))["middle"] * size)
    half = jnp.floor(size * jnp.sqrt(1 - weight)) // 2
    first = jnp.clip(middle - half, 0, size)
    last = jnp.clip(middle + half, 0, size)
    inside = _box(height, width, first, last)
    pasted = jnp.prod(last - first) / (height * width)
    labels = jnp.asarray(labels, jnp.float32)
    labels = (1 - pasted) * labels + pasted * labels[partner]
    return jnp.where(inside[..., None], clips[partner], clips), labels


def _draw_mix(key, clips, labels, alpha):
    """Draws the weight of a batch, and the partner of every clip."""
    _clip_axes(clips, 5)
    _checks.positive("alpha", alpha)
    if jnp.ndim(labels) != 2 or jnp.shape(labels)[0] != clips.shape[0]:
        raise ValueError(
            f"`labels` must be ({clips.shape[0]}, classes), as `jax.nn.one_hot` gives; "
            f"got {jnp.shape(labels)}"
        )
    one, two = jax.random.split(key)
    weight = jax.random.beta(one, alpha, alpha)
    return weight, jax.random.permutation(two, clips.shape[0])


def _draw_boxes(uniform, height, width, area, ratio):
    """Draws heights and widths, (N, 2), and which of them fit into a frame."""
    part = draws.between(uniform[:, 0], *area) * height * width
    shape = jnp.exp(draws.between(uniform[:, 1], *map(math.log, ratio)))
    sides = jnp.round(jnp.stack([jnp.sqrt(part / shape), jnp.sqrt(part * shape)], -1))
    fits = (sides > 0) & (sides <= _size(height, width)[None])
    return sides, fits.all(-1)


def _box(height, width, first, last) -> jax.Array:
    """Tells which pixels, (H, W), lie from `first` (row, column) to before `last`."""
    row = jnp.arange(height, dtype=float)[:, None]
    column = jnp.arange(width, dtype=float)[None]
    rows = (row >= first[0]) & (row < last[0])
    return rows & (column >= first[1]) & (column < last[1])


def _size(height: float, width: float) -> jax.Array:
    """Returns a size as an array of floats, (2,)."""
    return jnp.array([height, width], float)


def _read_window(clip, start, step, size, bounds=None) -> jax.Array:
    """Reads a clip at (start + 0 ... size - 1 + 0.5) step - 0.5, bilinearly.

    Args:
        clip: (T, H, W, 3).
        start: Row and column that the window starts at, in its own pixels.
        step: Pixels of the clip to one of the window, down and across.
        size: Rows and columns.
        bounds: First row and column that may be read, and how many; None allows all.
    """
    result = photometric.as_float(clip)
    for axis, count in ((1, size[0]), (2, size[1])):
        index = axis - 1
        low, high = 0.0, clip.shape[axis] - 1.0
        if bounds is not None:
            low = bounds[0][index]
            high = low + bounds[1][index] - 1
        place = (jnp.arange(count, dtype=float) + start[index] + 0.5) * step[index]
        place = jnp.clip(place - 0.5, low, high)
        before = jnp.floor(place).astype(jnp.int32)
        after = jnp.minimum(before + 1, jnp.asarray(high).astype(jnp.int32))
        share = (place - before.astype(float)).reshape(
            [-1 if i == axis else 1 for i in range(4)]
        )
        one, two = (jnp.take(result, at, axis=axis) for at in (before, after))
        result = one + share * (two - one)
    return result


def _check_range(name: str, limits, most: float) -> None:
    """Raises unless a range is positive and rises, to no more than `most`."""
    if not 0 < limits[0] <= limits[1] <= most:
        raise ValueError(f"`{name}` must be a range above 0 that rises; got {limits}")


def _clip_axes(clip, axes: int) -> None:
    """Raises unless an array is a clip, or a batch of them."""
    if jnp.ndim(clip) != axes or jnp.shape(clip)[-1] != 3:
        form = "(T, H, W, 3)" if axes == 4 else "(B, T, H, W, 3)"
        raise ValueError(f"`clip` must be {form}; got {jnp.shape(clip)}")
