"""Any two frames in, flow out: each model's own resizing or padding, to the last digit.

What an official script does around its network is part of the method: its resizing,
its padding, how it brings flow back. A model says it in `model.frames`, and
`jaxflow.inference` does it. Here are checks of what is given, tiles, batches and
clips; each program is compiled once for frames of one shape.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import (
    _checks,
    classical,
    convert,
    inference,
    ops,
    splitting,
    spreading,
    weights,
)
from jaxflow.inference import network_size as network_size
from jaxflow.layers import precision as precisions

# How far beyond [0, 1] a float frame may stray: what filters and rounding leave.
_SLACK = 1e-2
# Longest side of the grid on which a flow is carried to the next pair: every pixel of
# it is compared with every other.
_MOST_CARRIED = 128
# Tiles that run together on a device, at most: they are there to save memory.
_MOST_TILES = 4
# How far 255 times a float32 frame may be from integers: rounding, and nothing else.
_BYTE_SLACK = 1e-3


class BothWays(NamedTuple):
    """Flow between two frames in both directions.

    Attributes:
        forward: Motion from frame 1 to frame 2, (…, H, W, 2) in pixels.
        backward: Motion from frame 2 to frame 1.
        occluded1: Pixels of frame 1 that are hidden in frame 2, (…, H, W) booleans.
        occluded2: Pixels of frame 2 that are hidden in frame 1.
    """

    forward: np.ndarray
    backward: np.ndarray
    occluded1: np.ndarray
    occluded2: np.ndarray


def estimate_flow(
    model: nnx.Module | str,
    frame1: Any,
    frame2: Any,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: int = 64,
    options: Mapping[str, Any] | None = None,
    precision: precisions.Precision = "highest",
) -> np.ndarray:
    """Estimates the motion from frame 1 to frame 2.

    Frames of any size are resized or padded as the model's official script does, and
    the flow is brought back to their size. Where that script resizes 8-bit pictures in
    OpenCV's fixed point (PWC-Net, VCN), so are uint8 frames here, and float ones all of
    whose values are multiples of 1/255; other float frames are resized in float. The
    model runs in evaluation mode. Calls with frames of one shape compile once. Where
    this process has several devices, they share the pairs of a batch, or its tiles.

    Args:
        model: A flow network with its weights; or the name of a classical method, or of
            a network whose weights come with the package ("jaxflow_fast",
            "jaxflow_accurate").
        frame1: Frame 1, (…, H, W, 3): uint8, or float in [0, 1]. Any number of leading
            axes makes a batch.
        frame2: Frame 2, alike.
        tile: Largest height and width that the network sees at once; larger frames
            are cut into overlapping tiles, whose flows are blended. A motion that
            leaves its tile is not seen. None runs whole frames.
        overlap: Least number of pixels that two tiles share.
        options: Keywords of the model's call, e.g. {"iterations": 32} for RAFT, or of
            the classical method. An array whose first axes are those of the batch has a
            value for each pair. `initial_flow`, which RAFT and most classical methods
            take, is (…, H, W, 2) or (H, W, 2), in pixels of the frames.
        precision: Of products of float32 numbers: "highest", or "high" or "default",
            which are faster and less exact on accelerators. What a network computes in
            is its `dtype`; see `jaxflow.create_model`.

    Returns:
        Flow (u, v) in pixels of the frames, (…, H, W, 2), float32.

    Raises:
        ValueError: If the frames are not such pictures or differ in size, if they
            contain NaN, or if `model` is not what it should be.
    """
    one, two = _check_frames(frame1, frame2)
    precisions.of_products(precision)
    run, arrays = _runner(named(model), options, precision)
    batch, whole = one.shape[:-3], one.shape[-3:-1]
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in (one, two))
    arrays = {k: _per_pair(k, x, batch, whole) for k, x in arrays.items()}
    size = _tile_size(tile, overlap, whole)
    if size == whole:
        flow = np.array(run(one, two, arrays))
    else:
        flow = _run_tiles(run, one, two, arrays, size, overlap)
    return flow.reshape(*batch, *flow.shape[-3:])


def estimate_both_ways(
    model: nnx.Module | str, frame1: Any, frame2: Any, **keywords: Any
) -> BothWays:
    """Estimates flow in both directions, and what each frame hides from the other.

    A pixel is occluded where the two flows do not cancel; see
    `jaxflow.ops.forward_backward_occlusion`.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frame1: Frame 1, (…, H, W, 3): uint8, or float in [0, 1].
        frame2: Frame 2, alike.
        **keywords: As for `estimate_flow`.

    Returns:
        Flows and occlusion masks.

    Raises:
        ValueError: As `estimate_flow`.
        TypeError: If `estimate_flow` has no such keyword.
    """
    forward = estimate_flow(model, frame1, frame2, **keywords)
    backward = estimate_flow(model, frame2, frame1, **keywords)
    return BothWays(
        forward,
        backward,
        _occluded(forward, backward),
        _occluded(backward, forward),
    )


def estimate_clip(
    model: nnx.Module | str,
    frames: Iterable[Any],
    *,
    batch_size: int = 4,
    warm_start: bool = False,
    **keywords: Any,
) -> np.ndarray:
    """Estimates the flow between all consecutive frames of a clip.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frames: The clip, (T, H, W, 3), or any iterable of T >= 2 frames.
        batch_size: Number of pairs that run together.
        warm_start: As for `stream_flow`.
        **keywords: As for `estimate_flow`.

    Returns:
        Flow from each frame to the next, (T - 1, H, W, 2), float32.

    Raises:
        ValueError: As `stream_flow`, or if there are fewer than two frames.
        TypeError: If `estimate_flow` has no such keyword.
    """
    flows = list(
        stream_flow(
            model, frames, batch_size=batch_size, warm_start=warm_start, **keywords
        )
    )
    if not flows:
        raise ValueError("`frames` must hold at least two frames")
    return np.stack(flows)


def stream_flow(
    model: nnx.Module | str,
    frames: Iterable[Any],
    *,
    batch_size: int = 4,
    warm_start: bool = False,
    **keywords: Any,
) -> Iterator[np.ndarray]:
    """Yields the flow between consecutive frames, holding one batch at a time.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frames: Frames of one size, as an array or any iterable.
        batch_size: Number of pairs that run together.
        warm_start: Whether each pair starts from the flow of the pair before, carried
            along itself (Teed and Deng, "RAFT", 2020, Sec. 3.4). Pairs run one by one
            then. For RAFT and the classical methods that take `initial_flow`.
        **keywords: As for `estimate_flow`.

    Yields:
        Flow from each frame to the next, (H, W, 2), float32.

    Raises:
        ValueError: As `estimate_flow`; or if the estimator can start from no flow.
        TypeError: If `estimate_flow` has no such keyword.
    """
    _checks.counts(batch_size=batch_size)
    model, checked = named(model), _one_size(frames)
    if not warm_start:
        return _stream(model, checked, batch_size, keywords)
    if not inference.takes(model, "initial_flow"):
        raise ValueError(
            "`warm_start` needs an estimator that takes `initial_flow`, such as RAFT "
            "or tvl1; this one does not"
        )
    return _stream_warm(model, checked, keywords)


def named(model: nnx.Module | str) -> nnx.Module | str:
    """Returns the network whose weights come with the package, if `model` names one.

    Args:
        model: Any estimator; another one is returned as it is.
    """
    if not isinstance(model, str) or model in classical.METHODS:
        return model
    return convert.shipped_model(model) if model in weights.shipped() else model


def _one_size(frames: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yields frames, which must be alike."""
    first = None
    for frame in frames:
        checked = _check_frame("frames", frame)
        first = checked.shape if first is None else first
        if checked.shape != first:
            raise ValueError(
                f"`frames` must have one size; got {first} and then {checked.shape}"
            )
        yield checked


def _stream(
    model: nnx.Module | str,
    frames: Iterator[np.ndarray],
    batch_size: int,
    keywords: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """Yields the flow of consecutive frames, a batch at a time."""
    waiting: list[np.ndarray] = []
    full = False
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == batch_size + 1:
            yield from _estimate_pairs(model, waiting, batch_size, keywords)
            waiting, full = waiting[-1:], True
    if len(waiting) > 1:
        # A short clip needs no filling: nothing of the full size was compiled.
        size = batch_size if full else len(waiting) - 1
        yield from _estimate_pairs(model, waiting, size, keywords)


def _stream_warm(
    model: nnx.Module | str, frames: Iterator[np.ndarray], keywords: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Yields the flow of consecutive frames, each started from the one before."""
    options = dict(keywords.get("options") or {})
    for first, second in itertools.pairwise(frames):
        start = options.pop("initial_flow", None)
        if start is None:
            start = np.zeros((*first.shape[:-1], 2), np.float32)
        given = options | {"initial_flow": start}
        flow = estimate_flow(model, first, second, **{**keywords, "options": given})
        options["initial_flow"] = _carried(flow)
        yield flow


def _carried(flow: np.ndarray) -> np.ndarray:
    """Returns where to start the next pair: a flow, moved along itself."""
    size = flow.shape[:2]
    step = max(8, math.ceil(max(size) / _MOST_CARRIED))
    coarse = (math.ceil(size[0] / step), math.ceil(size[1] / step))
    return np.asarray(_carry(np.nan_to_num(flow), coarse))


@functools.partial(jax.jit, static_argnums=1)
def _carry(flow: jax.Array, coarse: tuple[int, int]) -> jax.Array:
    small = ops.resize_flow(flow, coarse, antialias=True)
    return ops.resize_flow(ops.forward_interpolate(small), flow.shape[:2])


def memory_of_flow(
    model: nnx.Module | str,
    frame1: Any,
    frame2: Any,
    *,
    options: Mapping[str, Any] | None = None,
) -> int:
    """Counts what a call of `estimate_flow` needs on the device, whole frames at once.

    It compiles the call for that, and does not run it.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frame1: Frame 1, (…, H, W, 3): uint8, or float in [0, 1].
        frame2: Frame 2, alike.
        options: As for `estimate_flow`.

    Returns:
        Bytes of weights, frames, flow and everything between, as the compiler plans it.

    Raises:
        ValueError: As `estimate_flow`.
    """
    one, two = _check_frames(frame1, frame2)
    compiled, known, arrays = _bind(named(model), options)
    batch, whole = one.shape[:-3], one.shape[-3:-1]
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in (one, two))
    arrays = {k: _per_pair(k, x, batch, whole) for k, x in arrays.items()}
    with precisions.of_products("highest"):
        lowered = compiled.lower(*known, one, two, arrays)
    plan = lowered.compile().memory_analysis()
    parts = ("argument", "output", "temp")
    return sum(getattr(plan, f"{part}_size_in_bytes") for part in parts)


def _occluded(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.array(
        ops.forward_backward_occlusion(jnp.asarray(flow), jnp.asarray(back))
    )


Arrays = dict[str, Any]
Runner = Callable[[np.ndarray, np.ndarray, Arrays], jax.Array | np.ndarray]


def _runner(
    model: nnx.Module | str, options: Mapping[str, Any] | None, precision: str
) -> tuple[Runner, Arrays]:
    """Returns the function of (B, H, W, 3) frames and arrays that estimates flow.

    Also the arrays among the options, as they were given.
    """
    compiled, known, arrays = _bind(model, options)
    frames = getattr(model, "frames", None)

    def run(
        frame1: np.ndarray, frame2: np.ndarray, arrays: Arrays
    ) -> jax.Array | np.ndarray:
        if frames is not None and frames.method == "opencv_uint8":
            frame1, frame2 = _as_bytes(frame1, frame2)
        with precisions.of_products(precision):
            examples = (frame1, frame2, arrays)
            return spreading.call(compiled, known, examples, len(frame1))

    return run, arrays


def _per_pair(
    name: str, value: np.ndarray, batch: tuple[int, ...], size: tuple[int, int]
) -> np.ndarray:
    """Returns an array option with one axis for the pairs, if it has batch axes."""
    if name == "initial_flow":
        if value.ndim < 3 or value.shape[-1] != 2:
            raise ValueError(
                f"`options`: initial_flow must be (…, H, W, 2); got {value.shape}"
            )
        given = value.shape[:-3]
        if given not in ((), batch) or any(
            n > whole for n, whole in zip(value.shape[-3:-1], size, strict=True)
        ):
            raise ValueError(
                f"`options`: initial_flow must be {(*batch, *size, 2)} as the frames "
                f"are; got {value.shape}"
            )
        value = np.broadcast_to(value, (*batch, *value.shape[-3:]))
    if value.shape[: len(batch)] != batch:
        return value
    return value.reshape(math.prod(batch), *value.shape[len(batch) :])


def _bind(
    model: nnx.Module | str, options: Mapping[str, Any] | None
) -> tuple[jax.stages.Wrapped, tuple, dict[str, Any]]:
    """Returns a jitted function, its arguments before the frames, and array options.

    The function takes the frames and the array options behind those arguments.
    """
    fixed, arrays = _part(options or {})
    if isinstance(model, str):
        inference.method_of(model)
        _check_options(model, options)
        return _run_classical, (model, fixed), arrays
    inference.check_model(model)
    _check_options(model, options)
    return _run_network, (*splitting.split(model), fixed), arrays


def _check_options(model: nnx.Module | str, options: Mapping[str, Any] | None) -> None:
    """Raises ValueError if there is an option that the estimator does not have."""
    for name in options or {}:
        if not inference.takes(model, name):
            raise ValueError(
                f"`options` holds {name!r}, which this estimator does not have; it has "
                f"{inference.options_of(model)}"
            )


def _part(options: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Parts options into what a program is compiled for, and arrays it is given."""
    fixed, arrays = {}, {}
    for name, value in options.items():
        if isinstance(value, (np.ndarray, jax.Array)) and value.ndim:
            arrays[name] = _check_array(name, value)
            continue
        value = _plain(value)
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"`options`: {name} must be a number, text, a tuple or an array; got "
                f"{type(value).__name__}"
            ) from None
        fixed[name] = value
    return tuple(sorted(fixed.items())), arrays


def _plain(value: Any) -> Any:
    """Returns lists as tuples, and arrays without axes as numbers."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, (np.ndarray, jax.Array)) else value


def _check_array(name: str, value: Any) -> np.ndarray:
    """Returns an array option as float32 or as it is, if it is finite."""
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"`options`: {name} must be finite; it contains NaN")
    return array


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_classical(
    name: str,
    options: tuple,
    frame1: jax.Array,
    frame2: jax.Array,
    arrays: dict[str, jax.Array],
) -> jax.Array:
    return inference.flow(name, frame1, frame2, **dict(options), **arrays)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _run_network(
    structure: splitting.Structure,
    leaves: list[jax.Array],
    options: tuple,
    frame1: jax.Array,
    frame2: jax.Array,
    arrays: dict[str, jax.Array],
) -> jax.Array:
    model = structure.model(leaves)
    return inference.flow(model, frame1, frame2, **dict(options), **arrays)


def _as_bytes(frame1: np.ndarray, frame2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 frames if both are of 8 bits, whatever their dtype."""
    found = []
    for frame in (frame1, frame2):
        if frame.dtype != np.uint8:
            levels = np.rint(frame * 255)
            if np.abs(frame * 255 - levels).max() > _BYTE_SLACK:
                return frame1, frame2
            frame = levels.astype(np.uint8)
        found.append(frame)
    return found[0], found[1]


def _check_frames(frame1: Any, frame2: Any) -> tuple[np.ndarray, np.ndarray]:
    one, two = _check_frame("frame1", frame1), _check_frame("frame2", frame2)
    if one.shape != two.shape:
        raise ValueError(
            f"`frame1` and `frame2` must have one size; got {one.shape} and {two.shape}"
        )
    if one.dtype != two.dtype:
        one, two = (np.asarray(inference.as_float(frame)) for frame in (one, two))
    return one, two


def _check_frame(name: str, frame: Any) -> np.ndarray:
    """Returns a frame, or a batch of them, as uint8 or float32."""
    array = np.asarray(frame)
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(np.float32)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"`{name}` must be uint8, or float in [0, 1]; got {array.dtype}: divide it "
            "by its largest possible value"
        )
    if array.ndim < 3 or array.shape[-1] != 3:
        raise ValueError(
            f"`{name}` must be (…, H, W, 3); got {array.shape}{_shape_advice(array)}"
        )
    if 0 in array.shape:
        raise ValueError(f"`{name}` must not be empty; got {array.shape}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` must be finite; it contains NaN or infinity")
        low, high = float(array.min()), float(array.max())
        if low < -_SLACK or high > 1 + _SLACK:
            raise ValueError(
                f"`{name}` must be in [0, 1] if it is float; got {low:g} to {high:g}: "
                "divide 0…255 by 255, or pass uint8"
            )
    return array


def _shape_advice(array: np.ndarray) -> str:
    if array.ndim == 2 or array.shape[-1:] == (1,):
        return ": a gray picture, repeat it in three channels"
    if array.shape[-1:] == (4,):
        return ": drop the alpha channel, frame[..., :3]"
    if array.ndim >= 3 and array.shape[-3] == 3:
        return ": move the channels to the end, np.moveaxis(frame, -3, -1)"
    return ""


def _estimate_pairs(
    model: nnx.Module | str,
    frames: list[np.ndarray],
    batch_size: int,
    keywords: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """Runs consecutive frames as one batch, filled up so that it compiles once."""
    pairs = len(frames) - 1
    if len({frame.dtype for frame in frames}) > 1:
        frames = [np.asarray(inference.as_float(frame)) for frame in frames]
    padded = frames + frames[-1:] * (batch_size - pairs)
    flow = estimate_flow(model, np.stack(padded[:-1]), np.stack(padded[1:]), **keywords)
    yield from flow[:pairs]


def _tile_size(
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


def _run_tiles(
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


Tiles = list[tuple[int, tuple[slice, slice]]]


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
