"""Point-light dancers: dots on the joints of a body that moves in the dark.

Johansson, "Visual perception of biological motion and a model for its analysis" (1973):
a dozen dots show a person, and what it does, as soon as they move. The moves here come
in pairs that are each other's time reversal, so that no single frame tells one from the
other.
"""

import jax
import jax.numpy as jnp

MOVES = ("walk", "circle arms", "kick", "sway")
# Lengths in heights of the body; the hip is in the middle.
_TRUNK, _HEAD = 0.28, 0.40
_UPPER_ARM, _FOREARM = 0.17, 0.15
_THIGH, _SHIN = 0.24, 0.23
_SHOULDER, _HIP = 0.08, 0.05
# Of a dot, in heights of the picture.
_SIGMA = 0.025


def joints(move: int | jax.Array, phase: jax.Array) -> jax.Array:
    """Places the joints of a dancer.

    Args:
        move: Number of the move in `MOVES`.
        phase: Where in its cycle the move is, in radians: (T,).

    Returns:
        (T, 13, 2): x and y of head, shoulders, elbows, wrists, hips, knees and ankles,
        left before right, from the middle of the body and in its heights; y is down.
    """
    turned = jnp.stack([phase, phase + jnp.pi], axis=-1)  # (T, 2): left, right
    one, still = jnp.ones_like(turned), jnp.zeros_like(turned)
    side = jnp.array([-1.0, 1.0])
    # Fast up and slowly down.
    raised = jnp.sin(turned + 0.6 * jnp.sin(turned))
    swing = 0.5 * jnp.sin(turned)
    outwards = 0.3 * side[None, :] * one
    # Angles of upper arm, forearm, thigh and shin from straight down, by move.
    walk = (-swing, 0.4 - swing, swing, swing - 0.4 * (1 + jnp.cos(turned)))
    round_ = side[None, :] * phase[:, None]
    circle = (round_, round_, 0.5 * outwards, 0.5 * outwards)
    up = jnp.maximum(raised, 0) * side[None, :]
    kick = (outwards, 2 * outwards, 1.3 * up, 1.3 * up)
    sway = (outwards, 3 * outwards, 0.5 * outwards, 0.5 * outwards)
    limbs = jnp.stack([jnp.stack(angles) for angles in (walk, circle, kick, sway)])
    upper, fore, thigh, shin = limbs[move]
    drift = jnp.where(
        jnp.asarray(move) == MOVES.index("sway"),
        0.1 * jnp.stack([jnp.cos(phase), jnp.sin(phase)], axis=-1),
        0.0,
    )

    def hangs(joint, length, angle):
        return joint + length * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)

    def level(width, height):
        return jnp.stack([width * side[None, :] + still, height * one], axis=-1)

    shoulder, hip = level(_SHOULDER, -_TRUNK), level(_HIP, 0.0)
    elbow = hangs(shoulder, _UPPER_ARM, upper)
    knee = hangs(hip, _THIGH, thigh)
    parts = [shoulder, elbow, hangs(elbow, _FOREARM, fore), hip, knee]
    parts.append(hangs(knee, _SHIN, shin))
    head = jnp.stack([still[:, :1], -_HEAD * one[:, :1]], axis=-1)
    return jnp.concatenate([head, *parts], axis=1) + drift[:, None, :]


def render_dots(places: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Draws dots as round spots of light.

    Args:
        places: x and y of each dot in pixels, the centre of the first pixel being 0:
            (T, N, 2).
        size: Height and width.

    Returns:
        (T, H, W) in [0, 1]; where dots overlap it is no brighter than 1.
    """
    sigma = _SIGMA * min(size)

    def profile(centres, length):
        away = jnp.arange(length, dtype=float)[None, None] - centres[..., None]
        return jnp.exp(-0.5 * (away / sigma) ** 2)

    wide, high = profile(places[..., 0], size[1]), profile(places[..., 1], size[0])
    return jnp.minimum(jnp.einsum("tnh,tnw->thw", high, wide), 1.0)
