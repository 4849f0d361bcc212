"""Pictures to paint scenes with: dead leaves, noise as rough as the world, photographs.

`jaxflow.data.synthetic` paints its layers with a bank of such pictures, read at any
real position. What matters to a network that learns motion is that they look like the
world where it will be used: edges at all scales, and smooth or rough areas between.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxflow import _checks, _mesh
from jaxflow.data import draws


def dead_leaves(
    key: jax.Array,
    *,
    size: int = 256,
    leaves: int = 1500,
    exponent: float = 3.0,
    radii: tuple[float, float] = (2.0, 90.0),
) -> jax.Array:
    """Draws discs of random colours that hide each other.

    Lee, Mumford and Huang, "Occlusion Models for Natural Images" (IJCV 2001): with
    radii of density r^-3 the picture looks the same at every scale, as the world does.
    Each leaf has a gradient of its own and its colour is near that of one of a few.

    Args:
        key: Random key.
        size: Height and width, in pixels.
        leaves: Number of discs.
        exponent: Power with which the density of radii falls.
        radii: Smallest and largest radius, in pixels.

    Returns:
        (size, size, 3) RGB in [0, 1]. It repeats without a seam.
    """
    _checks.positive("size", size)
    u = draws.uniform(
        key, radius=(leaves,), centre=(leaves, 2), palette=(8, 3), pick=(leaves,),
        shift=(leaves, 3), slope=(leaves, 2),
    )  # fmt: skip
    low, high = (r ** (1 - exponent) for r in radii)
    radius = (low + u["radius"] * (high - low)) ** (1 / (1 - exponent))
    colour = _pale(u["palette"])[(8 * u["pick"]).astype(jnp.int32)]
    colour = jnp.clip(colour + 0.25 * (u["shift"] - 0.5), 0.0, 1.0)
    slope = 0.4 * (u["slope"] - 0.5)
    grid = jnp.arange(size, dtype=jnp.float32)
    half = size / 2

    def paint(below, leaf):
        radius, centre, colour, slope = leaf
        # The nearest copy of the leaf, in a plane that repeats.
        x, y = ((grid - size * c + half) % size - half for c in centre)
        inside = x[None, :] ** 2 + y[:, None] ** 2 < radius**2
        shade = (slope[0] * x[None, :] + slope[1] * y[:, None]) / radius
        value = jnp.clip(colour[None, None, :] + shade[..., None], 0.0, 1.0)
        return jnp.where(inside[..., None], value, below), None

    canvas = _mesh.alike(jnp.full((size, size, 3), 0.5), u)
    return lax.scan(paint, canvas, (radius, u["centre"], colour, slope))[0]


def power_law_noise(
    key: jax.Array, *, size: int = 256, exponent: float = 1.2, edges: float = 0.0
) -> jax.Array:
    """Draws coloured noise whose amplitude falls with frequency as 1 / f^exponent.

    The spectrum of natural pictures has an exponent near 1.2 (Tolhurst et al. 1992).

    Args:
        key: Random key.
        size: Height and width, in pixels.
        exponent: Of the fall.
        edges: 0 leaves the noise; larger values push it towards a few grey levels,
            which gives it sharp edges.

    Returns:
        (size, size, 3) RGB in [0, 1]. It repeats without a seam.
    """
    _checks.positive("size", size)
    u = draws.uniform(key, noise=(3, size, size), mix=(3, 3), mean=(3,))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = math.inf
    falling = jnp.asarray(frequency**-exponent, jnp.float32)
    noise = jnp.fft.fft2(draws.normal(u["noise"])) * falling.astype(jnp.complex64)[None]
    field = jnp.fft.ifft2(noise).real
    field = field / jnp.std(field, axis=(1, 2), keepdims=True)
    if edges:
        field = jnp.tanh(edges * field)
    # Colours go together in the world: one field is common to all three.
    common = jnp.array([[0.15], [0.0], [0.0]])
    mix = common + 0.1 * (u["mix"] - 0.5)
    colours = jnp.einsum("khw,kc->hwc", field, mix)
    mean = 0.25 + 0.5 * _pale(u["mean"])
    return jnp.clip(mean[None, None, :] + colours, 0.0, 1.0)


def _pale(colours: jax.Array) -> jax.Array:
    """Makes random colours, (..., 3), as pale as those of the world mostly are."""
    grey = jnp.mean(colours, axis=-1, keepdims=True)
    return grey + 0.5 * (colours - grey)


def photographs(*, size: int = 384) -> np.ndarray:
    """Returns the photographs that scikit-image ships and that are free of rights.

    They are the portrait of Eileen Collins, the Hubble deep field and the moon (NASA,
    public domain), and the cup, the cat, the rocket, the grass, the gravel, the bricks,
    the camera man and the coins (CC0, or no known restrictions), as `skimage.data`
    says.

    Args:
        size: Height and width to which each is cut (its middle) and resized.

    Returns:
        (N, size, size, 3) uint8.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
    """
    import skimage.data
    from PIL import Image

    names = (
        "astronaut", "coffee", "chelsea", "rocket", "grass", "gravel", "brick",
        "camera", "coins", "hubble_deep_field", "moon",
    )  # fmt: skip
    pictures = []
    for name in names:
        picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        side = min(picture.size)
        left, top = ((n - side) // 2 for n in picture.size)
        square = picture.crop((left, top, left + side, top + side))
        pictures.append(
            np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
        )
    return np.stack(pictures)


def bank(
    key: jax.Array, *, count: int = 48, size: int = 256, photos: bool = True
) -> np.ndarray:
    """Returns pictures of all three kinds, for `synthetic.flow_batch(textures=...)`.

    Args:
        key: Random key.
        count: Number of pictures.
        size: Height and width.
        photos: Whether the photographs of scikit-image are among them.

    Returns:
        (count, size, size, 3) uint8: photographs, then, of those that are drawn, each
        third noise, from the first, and the others dead leaves.
    """
    taken = photographs(size=size) if photos else np.zeros((0, size, size, 3), np.uint8)
    leaves = jax.jit(functools.partial(dead_leaves, size=size))
    noise = jax.jit(
        functools.partial(power_law_noise, size=size),
        static_argnames=("exponent", "edges"),
    )
    pictures = list(taken[:count])
    for number in range(count - len(pictures)):
        own = jax.random.fold_in(key, number)
        if number % 3:
            drawn = leaves(own)
        else:
            drawn = noise(
                own, exponent=1.0 + 0.3 * (number % 2), edges=2.0 * (number % 4 == 0)
            )
        pictures.append(np.rint(255 * np.asarray(drawn)).astype(np.uint8))
    return np.stack(pictures)
