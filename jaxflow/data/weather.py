"""Fog and shadows: what lies between a surface and its picture, consistent over time.

Images are (*B, H, W, 3), RGB in [0, 1]. Neither moves a surface, so the flow stays.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxflow import _shapes, ops
from jaxflow.data import draws

_WAVES = 8


def fog(
    image: jax.Array,
    depth: jax.Array,
    *,
    density: float | jax.Array,
    airlight: float | jax.Array = 0.8,
) -> jax.Array:
    """Looks at a scene through homogeneous fog.

    Koschmieder, "Theorie der horizontalen Sichtweite" (1924): of the light J of a
    surface at depth d some is lost on the way, and the air adds its own,

        I = J e^(-b d) + A (1 - e^(-b d))

    Args:
        image: J, (*B, H, W, 3).
        depth: d, (*B, H, W), not negative, in any unit.
        density: The extinction b, for each such unit; what is 3.9 / b away keeps a
            fiftieth of its contrast.
        airlight: The colour A of the horizon, one number or (3,).

    Returns:
        I, as `image`.

    Raises:
        ValueError: If `depth` has not the shape of `image` without its channels.

    Examples:
        >>> black, depth = jnp.zeros((1, 2, 3)), jnp.array([[0.0, 3.912]])
        >>> seen = jaxflow.data.weather.fog(black, depth, density=1.0)
        >>> [round(grey.item(), 3) for grey in seen[0, :, 0]]
        [0.0, 0.784]
    """
    _shapes.check("image", image, (..., None, None, 3))
    _shapes.check("depth", depth, image.shape[:-1])
    kept = jnp.exp(-density * depth)[..., None]
    light = lax.broadcast_to_rank(jnp.asarray(airlight, image.dtype), image.ndim)
    return kept * image + (1 - kept) * light


def add_fog(
    key: jax.Array,
    image1: jax.Array,
    image2: jax.Array,
    label1: jax.Array,
    label2: jax.Array,
    *,
    layers: int,
    densest: float | jax.Array = 2.0,
) -> tuple[jax.Array, jax.Array]:
    """Fills a scene of flat layers with fog, the same in both frames.

    Each layer has a depth, the farther the lower it lies: 1 for the background, and
    uniform numbers in order for the others. A layer keeps its depth.

    Args:
        key: Random key.
        image1: Frame 1, (H, W, 3) in [0, 1].
        image2: Frame 2.
        label1: The layer seen in frame 1, (H, W) int32, from 0 for the background, as
            `jaxflow.data.synthetic.flow_pair` returns it.
        label2: That of frame 2.
        layers: Number of layers, with the background.
        densest: Largest extinction over the depth of the background; it is drawn from
            U(0, `densest`).

    Returns:
        Both frames.
    """
    u = draws.uniform(key, depth=(layers,), density=(), grey=(), tint=(3,))
    depth = -jnp.sort(-u["depth"].at[0].set(1.0))
    light = draws.between(u["grey"], 0.6, 0.95) + draws.between(u["tint"], -0.05, 0.05)
    frames = ((image1, label1), (image2, label2))
    first, second = (
        fog(image, depth[label], density=densest * u["density"], airlight=light)
        for image, label in frames
    )
    return first, second


def cast_shadows(
    key: jax.Array,
    image1: jax.Array,
    image2: jax.Array,
    *,
    darkest: float | jax.Array = 0.7,
    shift: float | jax.Array = 4.0,
) -> tuple[jax.Array, jax.Array]:
    """Lights a scene unevenly; light and shadow move on a path of their own.

    Both frames are multiplied by a gain 1 - s / (1 + e^(-h f)), where f is a sum of
    cosines of random directions, as long as a third of the frame to twice its shorter
    side, and of variance 1. The steepness h is drawn between 1, soft shading, and 20,
    the edge of a shadow. A gain of the values is one of the light, too, where the
    values are a power of it.

    Args:
        key: Random key.
        image1: Frame 1, (H, W, 3) in [0, 1].
        image2: Frame 2, in which f is displaced.
        darkest: Largest share s of the light that a shadow takes, drawn from
            U(0, `darkest`).
        shift: Standard deviation of that displacement along each axis, in pixels.

    Returns:
        Both frames.
    """
    u = draws.uniform(key, waves=(_WAVES, 3), steep=(), dark=(), shift=(2,))
    height, width = image1.shape[:2]
    side = min(height, width)
    wavelength = side / 3 * 6 ** u["waves"][:, 0]
    angle = 2 * math.pi * u["waves"][:, 1]
    steepness = 20 ** u["steep"]
    grid = ops.pixel_grid(height, width)
    displaced = grid - (shift * draws.normal(u["shift"]))[None, None]

    def gain(points):
        x, y = points[..., :1], points[..., 1:]
        along = x * jnp.cos(angle)[None, None] + y * jnp.sin(angle)[None, None]
        phase = (along / wavelength[None, None]) + u["waves"][None, None, :, 2]
        field = math.sqrt(2 / _WAVES) * jnp.sum(jnp.cos(2 * math.pi * phase), axis=-1)
        shade = jax.nn.sigmoid(steepness * field)
        return (1 - darkest * u["dark"] * shade)[..., None].astype(image1.dtype)

    return image1 * gain(grid), image2 * gain(displaced)
