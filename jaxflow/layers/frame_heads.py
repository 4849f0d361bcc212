"""Heads that make one score a class of features of several frames, (B, T, D).

    TemporalRelation   Zhou et al., "Temporal Relational Reasoning in Videos", ECCV 2018
    TemporalPooling    Ng et al., "Beyond Short Snippets", CVPR 2015
    AttentionPooling   Girdhar and Ramanan, "Attentional Pooling", NeurIPS 2017

The features are those of any network on frames or clips. All of it is float32.
"""

import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, ops
from jaxflow.layers import conv, dropout

POOLINGS = ("conv", "late", "slow")
# More relations of frames than this are thinned out evenly before any is drawn.
_MOST = 1000


class TemporalRelation(nnx.Module):
    """Multi-scale relations of frames (TRN): ordered pairs, triples, ... of all frames.

        MT(V) = sum_{d = 2}^{T} sum_{i1 < ... < id} h_d([f_i1, ..., f_id])

    with h_d = ReLU, a dense layer of `hidden` units, ReLU, a dense layer, as in the
    authors' code, which also takes `relations` of the sums' terms alone, all if there
    are no more. In training those are drawn; in evaluation, where the authors draw too,
    they are spread evenly over all.

    Args:
        features: Channels D.
        num_frames: Frames T, at least 2.
        num_classes: Number of classes.
        hidden: Units between.
        relations: Terms of each scale.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there are fewer than 2 frames.
    """

    def __init__(
        self,
        features: int,
        num_frames: int,
        num_classes: int,
        *,
        hidden: int = 256,
        relations: int = 3,
        rngs: nnx.Rngs,
    ):
        if num_frames < 2:
            raise ValueError(f"`num_frames` must be at least 2; got {num_frames}")
        _checks.positive("relations", relations)
        self.num_frames = num_frames
        self.relations = relations
        self.deterministic = True
        scales = range(2, num_frames + 1)
        self.first = nnx.data(
            [conv.Linear(scale * features, hidden, rngs=rngs) for scale in scales]
        )
        self.second = nnx.data(
            [conv.Linear(hidden, num_classes, rngs=rngs) for _ in scales]
        )

    def __call__(self, frames: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Scores features of frames in order.

        Args:
            frames: (B, T, D).
            key: Random key of the relations that are drawn in training.

        Returns:
            (B, num_classes).

        Raises:
            ValueError: If there is another number of frames; or in training no key.
        """
        if frames.ndim != 3 or frames.shape[1] != self.num_frames:
            raise ValueError(
                f"`frames` must be (B, {self.num_frames}, D); got {frames.shape}"
            )
        if not self.deterministic and key is None:
            raise ValueError("relations are drawn in training: pass `key=`")
        keys = dropout.split(key, len(self.first))
        frames = frames.astype(jnp.float32)
        total = jnp.zeros(())
        for index, own in enumerate(keys):
            chosen = self._chosen(index + 2, own)
            joined = frames[:, chosen].reshape(frames.shape[0], chosen.shape[0], -1)
            inner = jax.nn.relu(self.first[index](jax.nn.relu(joined)))
            total = total + jnp.sum(self.second[index](inner), axis=1)
        return total

    def _chosen(self, scale: int, key: jax.Array | None) -> jax.Array:
        """Returns the frames of each relation, (relations, scale)."""
        every = spread_relations(self.num_frames, scale, _MOST)
        if self.deterministic or len(every) <= self.relations:
            return jnp.asarray(spread_relations(self.num_frames, scale, self.relations))
        assert key is not None
        drawn = jax.random.choice(key, len(every), (self.relations,), replace=False)
        return jnp.asarray(every)[drawn]


def spread_relations(frames: int, scale: int, most: int) -> np.ndarray:
    """Returns ordered choices of `scale` of so many frames: at most `most`, evenly.

    Args:
        frames: How many there are.
        scale: How many are chosen.
        most: How many choices to return.

    Returns:
        (N, scale) integers; each row rises.
    """
    count = math.comb(frames, scale)
    if count <= most:
        return np.array(list(itertools.combinations(range(frames), scale)))
    steps = max(most - 1, 1)
    ranks = [(2 * index * (count - 1) + steps) // (2 * steps) for index in range(most)]
    return np.array([_choice(rank, frames, scale) for rank in ranks])


def _choice(rank: int, frames: int, scale: int) -> list[int]:
    """Returns the choice of that place in the order of a dictionary."""
    chosen, frame = [], 0
    for left in range(scale - 1, -1, -1):
        while (behind := math.comb(frames - frame - 1, left)) <= rank:
            rank, frame = rank - behind, frame + 1
        chosen.append(frame)
        frame += 1
    return chosen


class TemporalPooling(nnx.Module):
    """Dense layers and a maximum over time, in one of three orders (Ng et al., Fig. 2).

    "conv" takes the maximum over all frames first; "late" puts the dense layer of
    hidden units on each frame first; "slow" takes the maximum over windows of 10 frames
    that move by 5, puts the dense layer on each of those, and then takes the maximum.

    Args:
        features: Channels D.
        num_classes: Number of classes.
        kind: The order.
        hidden: Units between.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there is no such kind.
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        *,
        kind: Literal["conv", "late", "slow"] = "conv",
        hidden: int = 4096,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("kind", kind, POOLINGS)
        self.kind = kind
        self.first = conv.Linear(features, hidden, rngs=rngs)
        self.second = conv.Linear(hidden, num_classes, rngs=rngs)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Returns scores, (B, num_classes), of features (B, T, D)."""
        x = frames.astype(jnp.float32)
        if self.kind == "conv":
            x = jnp.max(x, axis=1, keepdims=True)
        elif self.kind == "slow":
            window = min(10, x.shape[1])
            x = ops.max_pool(x[:, :, None], (window, 1), strides=(5, 1))[:, :, 0]
        x = jax.nn.relu(self.first(x))
        return self.second(jnp.max(x, axis=1))


class AttentionPooling(nnx.Module):
    """Second-order pooling of rank 1: what is seen, times where to look.

        score_k = mean_i (x_i . a_k) (x_i . b)

    a_k is the attention of class k, from the top down; b, the same for all classes,
    from the bottom up. Both have a bias.

    Args:
        features: Channels D.
        num_classes: Number of classes.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, num_classes: int, *, rngs: nnx.Rngs):
        self.classes = conv.Linear(features, num_classes, rngs=rngs)
        self.saliency = conv.Linear(features, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns scores, (B, num_classes), of features (B, ..., D) anywhere."""
        places = x.astype(jnp.float32).reshape(x.shape[0], -1, x.shape[-1])
        return jnp.mean(self.classes(places) * self.saliency(places), axis=1)
