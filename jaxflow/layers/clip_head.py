"""Heads that turn the last maps of a clip into one score a class."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks, ops
from jaxflow.layers import conv, dropout

HEAD_MODES = ("logit_mean", "softmax_mean", "sigmoid_mean")
HeadMode = Literal["logit_mean", "softmax_mean", "sigmoid_mean"]


def head_window(crop_size: int) -> int:
    """Returns the side of the head's window for clips of that size: a 32nd of it.

    Raises:
        ValueError: If nothing would be left.
    """
    if crop_size < 32:
        raise ValueError(
            f"`crop_size` must be at least 32, the last step; got {crop_size}"
        )
    return crop_size // 32


class Head(nnx.Module):
    """Average-pools, projects to classes at every position, and averages those.

    The window spans all of time and `window` x `window` positions (a smaller map, or
    None: all of it) and moves by 1. In evaluation, "softmax_mean" turns the scores of
    each position into probabilities first, as PySlowFast does, "sigmoid_mean" likewise
    for several labels; "logit_mean" averages the logits, as pytorchvideo does. They are
    equal where the map is one window. In training all give the mean logits. All of it
    is float32.

    Args:
        features: Channels of all maps together.
        num_classes: Number of classes.
        window: Side of the pooling window; None averages the whole map.
        mode: "logit_mean", "softmax_mean" or "sigmoid_mean".
        dropout_rate: Share of the pooled features zeroed in training.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there is no such mode.
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        *,
        window: int | None,
        mode: HeadMode,
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("head_mode", mode, HEAD_MODES)
        self.window = window
        self.mode = mode
        self.deterministic = True
        self.dropout = dropout.Dropout(dropout_rate)
        self.projection = projection(features, num_classes, rngs=rngs)

    def __call__(self, *maps: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Scores one or more maps, each (B, T, H, W, C), whose channels are joined.

        Args:
            *maps: Features. Where one has fewer positions than the others, its mean
                counts at each of theirs.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes).
        """
        pooled = [self._pool(each.astype(jnp.float32)) for each in maps]
        largest = max((each.shape[1:4] for each in pooled), key=math.prod)
        pooled = [
            each
            if each.shape[1:4] == largest
            else jnp.broadcast_to(
                jnp.mean(each, axis=(1, 2, 3), keepdims=True),
                (each.shape[0], *largest, each.shape[-1]),
            )
            for each in pooled
        ]
        x = self.dropout(jnp.concatenate(pooled, axis=-1), key=key)
        scores = self.projection(x)
        if self.deterministic:
            scores = activated(scores, self.mode)
        return jnp.mean(scores, axis=(1, 2, 3))

    def _pool(self, x: jax.Array) -> jax.Array:
        time, height, width = x.shape[1:4]
        if self.window is None:
            return jnp.mean(x, axis=(1, 2, 3), keepdims=True)
        window = (time, min(self.window, height), min(self.window, width))
        return ops.avg_pool(x, window, strides=1)


def activated(scores: jax.Array, mode: str) -> jax.Array:
    """Returns the probabilities that a head's mode asks for, or the logits.

    Args:
        scores: Logits, (..., classes).
        mode: One of `HEAD_MODES`.
    """
    if mode == "softmax_mean":
        return jax.nn.softmax(scores, axis=-1)
    return jax.nn.sigmoid(scores) if mode == "sigmoid_mean" else scores


def projection(features: int, num_classes: int, *, rngs: nnx.Rngs) -> conv.Linear:
    """Returns a layer from features to classes whose first weights are small.

    They are normal, of standard deviation 0.01, so that a new head says little.

    Args:
        features: Channels.
        num_classes: Number of classes.
        rngs: Source of the initial weights.
    """
    layer = conv.Linear(features, num_classes, rngs=rngs)
    layer.kernel[...] = 0.01 * jax.random.normal(
        rngs.params(), (features, num_classes), jnp.float32
    )
    return layer
