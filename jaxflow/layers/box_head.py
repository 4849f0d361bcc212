"""Heads that score boxes of a clip, as those of people on AVA."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, ops
from jaxflow.layers import clip_head, dropout

Regions = Literal["none", "legacy", "aligned"]
"""Whether a network scores boxes, and how `ops.roi_align` counts their coordinates."""


class BoxHead(nnx.Module):
    """Scores boxes: RoIAlign, its maximum, and a projection to classes.

    As the detection heads of PySlowFast and pytorchvideo: each map is averaged over
    time, `ops.roi_align` lays 7 x 7 cells over each box, and their maximum, with those
    of the other maps behind it, is projected. In evaluation "sigmoid_mean" and
    "softmax_mean" give probabilities; in training all modes give logits. All of it is
    float32.

    Args:
        features: Channels of all maps together.
        num_classes: Number of classes.
        aligned: As for `ops.roi_align`.
        mode: As for `layers.clip_head.Head`.
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
        aligned: bool,
        mode: clip_head.HeadMode,
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("head_mode", mode, clip_head.HEAD_MODES)
        self.aligned = aligned
        self.mode = mode
        self.deterministic = True
        self.dropout = dropout.Dropout(dropout_rate)
        self.projection = clip_head.projection(features, num_classes, rngs=rngs)

    def __call__(
        self, *maps: jax.Array, boxes: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores boxes of maps, each (B, T, H, W, C) at a 16th of the clip's size.

        Args:
            *maps: Features.
            boxes: (K, 5): example, x1, y1, x2, y2 in pixels of the clip; see
                `check_boxes`.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (K, num_classes); 0 in rows that pad.
        """
        owners = owners_of(boxes, maps[0].shape[0])
        pooled = pool(maps, boxes[:, 1:], owners, aligned=self.aligned)
        scores = self.projection(self.dropout(pooled, key=key))
        if self.deterministic:
            scores = clip_head.activated(scores, self.mode)
        return jnp.where(owners[:, None] >= 0, scores, 0)


def pool(
    maps: Sequence[jax.Array], corners: jax.Array, owners: jax.Array, *, aligned: bool
) -> jax.Array:
    """Returns what boxes hold: the largest of 7 x 7 cells of each map's mean over time.

    Args:
        maps: Features, each (B, T, H, W, C) at a 16th of the clip's size.
        corners: x1, y1, x2 and y2 in pixels of the clip, (K, 4).
        owners: Which example each box is of, (K,); see `ops.roi_align`.
        aligned: As for `ops.roi_align`.

    Returns:
        (K, channels of all maps), float32.
    """
    grids = [
        ops.roi_align(
            jnp.mean(each.astype(jnp.float32), axis=1),
            corners,
            owners,
            size=(7, 7),
            scale=1 / 16,
            aligned=aligned,
        )
        for each in maps
    ]
    return jnp.concatenate([jnp.max(grid, axis=(1, 2)) for grid in grids], axis=-1)


def owners_of(boxes: jax.Array, examples: int) -> jax.Array:
    """Returns which example each box is of, (K,) int32; -1 for a row that pads.

    Args:
        boxes: (K, 5), see `check_boxes`.
        examples: Clips of the batch.
    """
    owners = boxes[:, 0]
    known = (owners >= 0) & (owners < examples)
    return jnp.where(known, owners, -1).astype(jnp.int32)


def head_of(features: int, config: Any, *, rngs: nnx.Rngs) -> clip_head.Head | BoxHead:
    """Returns the head that a config asks for.

    Args:
        features: Channels of all maps together.
        config: With `num_classes`, `head_mode`, `regions`, `crop_size` and
            `dropout_rate`.
        rngs: Source of the initial weights.
    """
    common = {"mode": config.head_mode, "dropout_rate": config.dropout_rate}
    window = clip_head.head_window(config.crop_size)
    if config.regions == "none":
        return clip_head.Head(
            features, config.num_classes, window=window, rngs=rngs, **common
        )
    aligned = config.regions == "aligned"
    return BoxHead(features, config.num_classes, aligned=aligned, rngs=rngs, **common)


def scored(
    head: clip_head.Head | BoxHead,
    maps: Sequence[jax.Array],
    clip: jax.Array,
    boxes: jax.Array | None,
    key: jax.Array | None,
) -> jax.Array:
    """Scores a clip, or boxes of it; without boxes, a `BoxHead` scores whole frames.

    Args:
        head: What `head_of` gives.
        maps: Features of the clip.
        clip: (B, T, H, W, C).
        boxes: (K, 5), see `check_boxes`; or None.
        key: Random key of the dropout in training.

    Raises:
        ValueError: If the boxes are none, or the network is a classifier of clips.
    """
    if isinstance(head, BoxHead):
        rows = whole_frames(clip) if boxes is None else boxes
        return head(*maps, boxes=check_boxes(rows, clip.shape[0]), key=key)
    if boxes is not None:
        raise ValueError(
            "`boxes` must be None: this network classifies clips; one that scores "
            'boxes is created with regions="legacy" or "aligned"'
        )
    return head(*maps, key=key)


def whole_frames(clip: jax.Array) -> jax.Array:
    """Returns one box an example that is all of it, (B, 5), for a `BoxHead`.

    Args:
        clip: (B, T, H, W, C).
    """
    batch, _, height, width, _ = clip.shape
    corners = np.broadcast_to(np.array([0, 0, width, height]), (batch, 4))
    return jnp.asarray(np.column_stack([np.arange(batch), corners]), jnp.float32)


def check_boxes(boxes: jax.Array, examples: int) -> jax.Array:
    """Verifies the boxes that a detection network is given, as float32.

    Args:
        boxes: Must be (K, 5): example, x1, y1, x2, y2 in pixels of the clip, counted
            from the top left corner of the first pixel; x1 <= x2 and y1 <= y2. A row of
            example -1 pads, whatever else it holds.
        examples: Clips of the batch; the others are of example 0 to `examples` - 1.

    Returns:
        The boxes, float32.

    Raises:
        ValueError: If the shape is another; or, outside of `jax.jit`, if a row is no
            box of an example.
    """
    if jnp.ndim(boxes) != 2 or jnp.shape(boxes)[1] != 5:
        raise ValueError(
            "`boxes` must be (K, 5): example, x1, y1, x2, y2 in pixels of the clip; "
            f"got {jnp.shape(boxes)}"
        )
    if jnp.issubdtype(jnp.result_type(boxes), jnp.complexfloating):
        raise ValueError(f"`boxes` must be real; got {jnp.result_type(boxes)}")
    if not isinstance(boxes, jax.core.Tracer):
        _check_rows(np.asarray(boxes, np.float64), examples)
    return jnp.asarray(boxes, jnp.float32)


def _check_rows(boxes: np.ndarray, examples: int) -> None:
    """Raises ValueError at the first row that is no box of an example, nor padding."""
    owner, (x1, y1, x2, y2) = boxes[:, 0], boxes[:, 1:].T
    reasons = {
        f"must be of example 0 to {examples - 1}, or -1 to pad": (owner == -1)
        | np.isin(owner, np.arange(examples)),
        "must be finite": np.isfinite(boxes).all(axis=1) | (owner == -1),
        "must have x1 <= x2 and y1 <= y2": ~((x1 > x2) | (y1 > y2)) | (owner == -1),
    }
    for reason, holds in reasons.items():
        if not holds.all():
            row = int(np.argmin(holds))
            raise ValueError(
                f"row {row} of `boxes` {reason}; got {boxes[row].tolist()}"
            )
