"""What a recognition network would like to see: clips that maximise a class's score.

Feichtenhofer, Pinz, Wildes, Zisserman, "What Have We Learned From Deep Representations
for Action Recognition?" (CVPR 2018): a strong penalty on change in time shows what slow
motion a class goes with, a weak one what fast motion.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks, _mesh, explain, views
from jaxflow.layers import precision as precisions

SLOW, FAST = 10.0, 0.1
"""Weights of `temporal` for slow and for fast motion."""
# Where the search begins: nearly grey.
_START = 0.02


class Maximised(NamedTuple):
    """What `maximise_class` finds.

    Attributes:
        clip: (T, H, W, C) float32 in [0, 1].
        scores: (steps + 1,) float32: the class's score before each step, and at last.
    """

    clip: jax.Array
    scores: jax.Array


def maximise_class(
    key: jax.Array,
    model: nnx.Module,
    class_index: int,
    *,
    num_frames: int | None = None,
    crop_size: int | None = None,
    spatial: float = 1.0,
    temporal: float = SLOW,
    steps: int = 200,
    rate: float = 0.05,
    precision: precisions.Precision = "highest",
) -> Maximised:
    """Climbs from noise to a clip with a high score of a class.

        score(x) - spatial TV(x) - temporal mean (x_t+1 - x_t)^2

    with the score before any softmax, and TV the mean squared difference of neighbours
    in space; both differences count in units of the colours' standard deviation, 0.225.
    The ascent is Adam's, and pixels stay in [0, 1].

    Args:
        key: Random key of the noise.
        model: A recognition network; it runs in evaluation mode, and is not changed.
        class_index: The class.
        num_frames: Frames of the clip; the model's by default.
        crop_size: Side of the clip; the model's by default.
        spatial: Weight of the smoothness in space.
        temporal: Weight of the smoothness in time: `SLOW`, `FAST`, or any other.
        steps: Steps of the ascent.
        rate: Its step size, in units of the range of pixels.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Raises:
        ValueError: If there is no such class, a number is out of range, or the model
            has no config to take the size from.
    """
    config = getattr(views.check_network(model), "config", None)
    for name, value in (("spatial", spatial), ("temporal", temporal)):
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be at least 0 and finite; got {value}")
    _checks.positive("steps", steps)
    _checks.positive("rate", rate)
    frames = getattr(config, "num_frames", None) if num_frames is None else num_frames
    side = getattr(config, "crop_size", None) if crop_size is None else crop_size
    if frames is None or side is None:
        raise ValueError("`num_frames` and `crop_size` must be given: no config has")
    _checks.positive("num_frames", frames)
    _checks.positive("crop_size", side)
    shape = (frames, side, side, getattr(config, "in_features", 3))
    graph, state = nnx.split(model)
    weights = (jnp.float32(spatial), jnp.float32(temporal), jnp.float32(rate))
    with precisions.of_products(precision):
        return _climb(graph, class_index, shape, steps, state, key, weights)


def roughness(clip: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean squared differences of neighbours: in space, and in time.

    Args:
        clip: (T, H, W, C) in [0, 1]. Differences count in units of 0.225. A single
            frame has no roughness in time.
    """
    clip = clip / 0.225

    def along(axis):
        steps = jnp.diff(clip, axis=axis)
        return jnp.mean(steps**2) if steps.size else jnp.float32(0)

    return along(1) + along(2), along(0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _climb(graph, class_index: int, shape, steps: int, state, key, weights):
    spatial, temporal, rate = weights

    def score(clip):
        scores = explain.logits(graph, state, clip[None])[0]
        if not 0 <= class_index < scores.shape[-1]:
            raise ValueError(
                f"`class_index` must be at least 0 and below {scores.shape[-1]}; got "
                f"{class_index}"
            )
        return scores[class_index]

    def aim(clip):
        found = score(clip)
        rough, change = roughness(clip)
        return found - spatial * rough - temporal * change, found

    def step(carry, number):
        clip, mean, square = carry
        slope, found = jax.grad(aim, has_aux=True)(clip)
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        bias = 1 - 0.9**number, 1 - 0.999**number
        way = (mean / bias[0]) / (jnp.sqrt(square / bias[1]) + 1e-8)
        return (jnp.clip(clip + rate * way, 0, 1), mean, square), found

    start = 0.5 + _START * jax.random.normal(key, shape, jnp.float32)
    nothing = jnp.zeros(shape, jnp.float32)
    numbers = jnp.arange(1, steps + 1, dtype=jnp.float32)
    carry = _mesh.alike((start, nothing, nothing), weights, state)
    (clip, _, _), scores = jax.lax.scan(step, carry, numbers)
    return Maximised(clip, jnp.append(scores, score(clip)))
