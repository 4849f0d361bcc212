"""Large frames by tiles: where they lie, how they run, how their flows are blended."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxflow import _checks, spreading

# Tiles that run together on a device, at most: they are there to save memory.
_MOST_TILES = 4

Arrays = dict[str, Any]

Runner = Callable[[np.ndarray, np.ndarray, Arrays], jax.Array | np.ndarray]

Tiles = list[tuple[int, tuple[slice, slice]]]


def tile_size(
    tile: int | tuple[int, int] | None, overlap: int, size: tuple[int, int]
) -> tuple[int, int]:
    """Returns the height and width of what is run at once."""
    if tile is None:
        return size
    sides = tile if isinstance(tile, tuple | list) else (tile, tile)
    if len(sides) != 2:
        raise ValueError(f"`tile` must be a size or (height, width); got {tile!r}")
    height, width = sides
    _checks.counts(tile=height)
    _checks.counts(tile=width)
    if overlap < 0 or overlap >= min(height, width):
        raise ValueError(
            f"`overlap` must be less than `tile` and not negative; got {overlap} and "
            f"{tile}"
        )
    return min(height, size[0]), min(width, size[1])


def run_tiles(
    run: Runner,
    frame1: np.ndarray,
    frame2: np.ndarray,
    arrays: Arrays,
    size: tuple[int, int],
    overlap: int,
) -> np.ndarray:
    """Estimates the flow of (B, H, W, 3) frames by tiles, blended where they overlap.

    Some tiles of any pairs run together, always as many, so that they compile once.
    """
    pairs, height, width = frame1.shape[:3]
    tiles = [
        (pair, np.s_[top : top + size[0], left : left + size[1]])
        for top in _starts(height, size[0], overlap)
        for left in _starts(width, size[1], overlap)
        for pair in range(pairs)
    ]
    most = min(len(tiles), _MOST_TILES * len(spreading.devices()))
    total = np.zeros((pairs, height, width, 2), np.float32)
    weight = np.zeros((pairs, height, width, 1), np.float32)
    for start in range(0, len(tiles), most):
        chunk = tiles[start : start + most]
        filled = chunk + chunk[-1:] * (most - len(chunk))
        one, two = (_stacked(x, filled) for x in (frame1, frame2))
        cut = {
            name: _cut(name, value, (pairs, height, width), filled)
            for name, value in arrays.items()
        }
        flows = np.asarray(run(one, two, cut))
        for (pair, window), flow in zip(chunk, flows, strict=False):
            share = _blend((height, width), window, overlap)
            total[pair][window] += share * flow
            weight[pair][window] += share
    return total / weight


def _stacked(value: np.ndarray, tiles: Tiles) -> np.ndarray:
    return np.stack([value[pair][window] for pair, window in tiles])


def _blend(
    size: tuple[int, int], window: tuple[slice, slice], overlap: int
) -> np.ndarray:
    """Returns how much a tile counts at each of its pixels, (h, w, 1)."""
    sides = (
        _ramp(part.stop - part.start, overlap, part.start > 0, part.stop < whole)
        for part, whole in zip(window, size, strict=True)
    )
    return np.outer(*sides).astype(np.float32)[..., None]


def _cut(
    name: str, value: np.ndarray, shape: tuple[int, int, int], tiles: Tiles
) -> np.ndarray:
    """Returns what each tile sees of an array option, one value for each pair."""
    if value.shape[:3] == shape:
        return _stacked(value, tiles)
    if name == "initial_flow":
        raise ValueError(
            f"`options`: with tiles, initial_flow must have the frames' size "
            f"{shape[1:]}; got {value.shape[-3:-1]}"
        )
    if value.ndim > 1 and value.shape[0] == shape[0]:
        return np.stack([value[pair] for pair, _ in tiles])
    return value


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Returns where tiles begin, evenly spread, overlapping by `overlap` or more."""
    count = 1 if tile >= length else math.ceil((length - overlap) / (tile - overlap))
    return [int(start) for start in np.linspace(0, length - tile, count).round()]


def _ramp(length: int, overlap: int, rises: bool, falls: bool) -> np.ndarray:
    """Returns weights that grow from the inner edges of a tile over the overlap."""
    steps = np.arange(1, length + 1) / (overlap + 1)
    weights = np.ones(length)
    if rises:
        weights = np.minimum(weights, steps)
    if falls:
        weights = np.minimum(weights, steps[::-1])
    return weights
