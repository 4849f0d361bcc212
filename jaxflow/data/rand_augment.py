"""RandAugment for clips: operations of PIL, drawn at random, in JAX.

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search
space" (2020): a few of fourteen operations, each drawn uniformly, all of one magnitude.
A clip is treated as one example: its frames undergo the same operations by the same
amounts. What an operation measures, such as the darkest value, is measured in each
frame, as PIL does.

Clips are (*B, T, H, W, 3) of whole numbers from 0 to 255, in float32; `rand_augment`
takes and returns one clip in [0, 1].
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _checks, _mesh
from jaxflow.data import draws

LEVELS = 30
"""The greatest magnitude."""
_GREY = (19595, 38470, 7471)  # Of 65536: PIL's weights of red, green and blue.


def rand_augment(
    key: jax.Array,
    clip: jax.Array,
    *,
    layers: int = 2,
    magnitude: float | jax.Array = 9.0,
) -> jax.Array:
    """Changes a clip by operations drawn at random.

    At the greatest magnitude, `LEVELS`: brightness, color, contrast and sharpness by a
    factor of 1 +- 0.9; rotation by 30 degrees; shear by 0.3; translation by 150/331 of
    the side; posterizing to 4 bits; solarizing from 0. They shrink linearly with it.
    Signs are drawn.

    Args:
        key: Random key.
        clip: (T, H, W, 3) in [0, 1]; it is rounded to 8 bits.
        layers: How many operations, one after the other.
        magnitude: From 0 to `LEVELS`.

    Returns:
        (T, H, W, 3) float32: multiples of 1/255 in [0, 1].

    Raises:
        ValueError: If `layers` is not positive, or `clip` no clip.
    """
    _checks.positive("layers", layers)
    if jnp.ndim(clip) != 4 or jnp.shape(clip)[-1] != 3:
        raise ValueError(f"`clip` must be (T, H, W, 3); got {jnp.shape(clip)}")
    u = draws.uniform(key, kind=(layers,), sign=(layers,))
    kinds = jnp.minimum((u["kind"] * len(OPERATIONS)).astype(int), len(OPERATIONS) - 1)
    signs = jnp.where(u["sign"] < 0.5, -1.0, 1.0)
    level = jnp.asarray(magnitude, jnp.float32) / LEVELS

    def change(pixels, draw):
        kind, sign = draw
        amounts = [amount(level, sign, pixels.shape) for _, amount in _TABLE.values()]
        branches = [
            lambda pixels, op=op, amount=amount: op(pixels, amount)
            for (op, _), amount in zip(_TABLE.values(), amounts, strict=True)
        ]
        return lax.switch(kind, branches, pixels), None

    pixels = jnp.round(jnp.clip(jnp.asarray(clip, jnp.float32), 0, 1) * 255)
    pixels, _ = lax.scan(change, _mesh.alike(pixels, u), (kinds, signs))
    return pixels / 255


def autocontrast(pixels: jax.Array) -> jax.Array:
    """Stretches every channel of every frame to 0 ... 255; ``ImageOps.autocontrast``.

    A channel of one value stays.
    """
    low = pixels.min((-3, -2), keepdims=True)
    high = pixels.max((-3, -2), keepdims=True)
    scale = 255 / jnp.maximum(high - low, 1)
    # PIL cuts off behind the point; the sum must not fall below a whole number.
    stretched = jnp.floor((pixels - low) * scale + 1e-3)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), pixels)


def equalize(pixels: jax.Array) -> jax.Array:
    """Flattens the histogram of every channel of every frame; ``ImageOps.equalize``."""
    channels = jnp.moveaxis(pixels, -1, -3)
    flat = channels.reshape(-1, math.prod(channels.shape[-2:])).astype(jnp.int32)
    mapped = jax.vmap(_equalize_channel)(flat)
    return jnp.moveaxis(mapped.reshape(channels.shape), -3, -1).astype(pixels.dtype)


def posterize(pixels: jax.Array, bits: jax.Array | int) -> jax.Array:
    """Keeps the highest bits of every value; ``ImageOps.posterize``."""
    step = jnp.exp2(8 - jnp.asarray(bits, pixels.dtype))
    return jnp.floor(pixels / step) * step


def solarize(pixels: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Inverts values from a threshold on; ``ImageOps.solarize``."""
    return jnp.where(pixels < threshold, pixels, 255 - pixels)


def brightness(pixels: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with black; ``ImageEnhance.Brightness``."""
    return _blend(jnp.zeros_like(pixels), pixels, factor)


def color(pixels: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the grey frame; ``ImageEnhance.Color``."""
    return _blend(jnp.broadcast_to(_grey(pixels), pixels.shape), pixels, factor)


def contrast(pixels: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the mean grey of each frame; ``ImageEnhance.Contrast``."""
    mean = jnp.floor(_grey(pixels).mean((-3, -2, -1), keepdims=True) + 0.5)
    return _blend(jnp.broadcast_to(mean, pixels.shape), pixels, factor)


def sharpness(pixels: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with a smoothed frame, whose border stays; ``ImageEnhance.Sharpness``."""
    height, width = pixels.shape[-3:-1]
    padded = jnp.pad(pixels, [*[(0, 0)] * (pixels.ndim - 3), (1, 1), (1, 1), (0, 0)])
    around = [
        padded[..., y : y + height, x : x + width, :]
        for y in range(3)
        for x in range(3)
    ]
    smooth = jnp.floor((sum(around) + 4 * pixels) / 13 + 0.5)
    row = jnp.arange(height)[:, None, None]
    column = jnp.arange(width)[None, :, None]
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return _blend(
        jnp.where(lax.broadcast_to_rank(inside, pixels.ndim), smooth, pixels),
        pixels,
        factor,
    )


def rotate(pixels: jax.Array, degrees: jax.Array | float) -> jax.Array:
    """Turns counterclockwise about the middle; ``Image.rotate``, black outside."""
    height, width = pixels.shape[-3:-1]
    angle = -jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2
    rows = (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y)
    return _affine(pixels, rows)


def shear_x(pixels: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Reads at x + `amount` y; ``Image.transform``, black outside."""
    return _affine(pixels, ((1, amount, 0), (0, 1, 0)))


def shear_y(pixels: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Reads at y + `amount` x; ``Image.transform``, black outside."""
    return _affine(pixels, ((1, 0, 0), (amount, 1, 0)))


def translate_x(pixels: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Reads `amount` pixels to the right; ``Image.transform``, black outside."""
    return _affine(pixels, ((1, 0, amount), (0, 1, 0)))


def translate_y(pixels: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Reads `amount` pixels below; ``Image.transform``, black outside."""
    return _affine(pixels, ((1, 0, 0), (0, 1, amount)))


def _none(level, sign, shape):
    return 0.0


def _factor(level, sign, shape):
    return 1 + 0.9 * sign * level


def _shear(level, sign, shape):
    return 0.3 * sign * level


def _shift(axis: int):
    return lambda level, sign, shape: 150 / 331 * shape[axis] * sign * level


_TABLE: dict[str, tuple[Callable, Callable]] = {
    "identity": (lambda pixels, _: pixels, _none),
    "autocontrast": (lambda pixels, _: autocontrast(pixels), _none),
    "equalize": (lambda pixels, _: equalize(pixels), _none),
    "posterize": (posterize, lambda level, sign, shape: 8 - jnp.round(4 * level)),
    "solarize": (solarize, lambda level, sign, shape: 255 * (1 - level)),
    "brightness": (brightness, _factor),
    "color": (color, _factor),
    "contrast": (contrast, _factor),
    "sharpness": (sharpness, _factor),
    "rotate": (rotate, lambda level, sign, shape: 30 * sign * level),
    "shear_x": (shear_x, _shear),
    "shear_y": (shear_y, _shear),
    "translate_x": (translate_x, _shift(-2)),
    "translate_y": (translate_y, _shift(-3)),
}
OPERATIONS = tuple(_TABLE)
"""Names of the operations, in the order that their numbers are drawn in."""


def _grey(pixels: jax.Array) -> jax.Array:
    """Returns PIL's grey of every pixel, (..., 1), a whole number."""
    red, green, blue = (pixels[..., i].astype(jnp.int32) for i in range(3))
    weighed = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    return ((weighed + 2**15) >> 16).astype(pixels.dtype)[..., None]


def _blend(plain: jax.Array, pixels: jax.Array, factor) -> jax.Array:
    """Returns plain + factor (pixels - plain), cut off behind the point as by PIL."""
    # A product that is whole by definition must not fall below it by rounding.
    mixed = plain + factor * (pixels - plain)
    return jnp.clip(jnp.floor(mixed + 1e-3), 0, 255)


def _affine(pixels: jax.Array, rows) -> jax.Array:
    """Reads the nearest pixel at an affine map of each pixel's centre."""
    height, width = pixels.shape[-3:-1]
    y = jnp.arange(height, dtype=float)[:, None] + 0.5
    x = jnp.arange(width, dtype=float)[None] + 0.5
    column, row = (jnp.floor(a * x + b * y + c).astype(jnp.int32) for a, b, c in rows)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    read = pixels[..., jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1), :]
    return jnp.where(inside[..., None], read, 0)


def _equalize_channel(values: jax.Array) -> jax.Array:
    """Maps the values of one channel by the sums of its histogram."""
    counts = jnp.zeros(256, jnp.int32).at[values].add(1)
    last = counts[255 - jnp.argmax(counts[::-1] > 0)]
    step = (values.size - last) // 255
    before = jnp.cumsum(counts) - counts
    table = (before + step // 2) // jnp.maximum(step, 1)
    table = jnp.where(step > 0, jnp.clip(table, 0, 255), jnp.arange(256))
    return table[values]
