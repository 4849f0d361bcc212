"""Padding of images and flow fields to sizes that a network takes, and back.

Arrays are channels-last.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxflow import _checks, _shapes

Pads = tuple[tuple[int, int], tuple[int, int]]


def pad_to_multiple(
    x: jax.Array,
    multiple: int | tuple[int, int],
    *,
    where: Literal["both", "bottom", "bottom_right"] = "both",
    mode: Literal["edge", "constant"] = "edge",
) -> tuple[jax.Array, Pads]:
    """Pads height and width to the next multiple, for networks that halve and halve.

    Args:
        x: (*B, H, W, C).
        multiple: What the new height and width divide by; one number, or (height,
            width).
        where: "both" splits the padding between opposite sides, the odd pixel going
            to the bottom and right (RAFT's for Sintel); "bottom" does so for the width
            and pads the height below only (RAFT's for KITTI); "bottom_right" pads
            below and on the right only.
        mode: "edge" repeats the edge, "constant" adds zeros.

    Returns:
        The padded array, and ((top, bottom), (left, right)) for `unpad`.

    Raises:
        ValueError: If `where` or `mode` is unknown, or `multiple` not positive.

    Examples:
        >>> padded, pads = jaxflow.ops.pad_to_multiple(jnp.ones((5, 7, 3)), 8)
        >>> padded.shape, pads
        ((8, 8, 3), ((1, 2), (0, 1)))
    """
    _checks.one_of("where", where, ("both", "bottom", "bottom_right"))
    _checks.one_of("mode", mode, ("edge", "constant"))
    _shapes.check("x", x, (..., "H", "W", "C"))
    multiples = (multiple, multiple) if isinstance(multiple, int) else multiple
    split = {"both": (True, True), "bottom": (False, True)}.get(where, (False, False))
    pads = []
    for extent, factor, both in zip(x.shape[-3:-1], multiples, split, strict=True):
        _checks.positive("multiple", factor)
        missing = -extent % factor
        before = missing // 2 if both else 0
        pads.append((before, missing - before))
    pads = tuple(pads)
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*pads, (0, 0)], mode=mode), pads


def unpad(x: jax.Array, pads: Pads) -> jax.Array:
    """Cuts off what `pad_to_multiple` added.

    Args:
        x: (*B, H, W, C).
        pads: ((top, bottom), (left, right)).

    Returns:
        (*B, H - top - bottom, W - left - right, C).

    Examples:
        >>> padded, pads = jaxflow.ops.pad_to_multiple(jnp.ones((5, 7, 3)), 8)
        >>> jaxflow.ops.unpad(padded, pads).shape
        (5, 7, 3)
    """
    _shapes.check("x", x, (..., "H", "W", "C"))
    (top, bottom), (left, right) = pads
    height, width = x.shape[-3:-1]
    return x[..., top : height - bottom, left : width - right, :]
