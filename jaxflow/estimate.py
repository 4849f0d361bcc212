"""Any two frames in, flow out: each model's own resizing or padding, to the last digit.

What an official script does around its network is part of the method: its resizing,
its padding, how it brings flow back. A model says it in `model.frames`, and here it is
done, under one `jax.jit` with the network.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import classical, models, ops, spec

# How far beyond [0, 1] a float frame may stray: what filters and rounding leave.
_SLACK = 1e-2
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
    precision: str = "highest",
) -> np.ndarray:
    """Estimates the motion from frame 1 to frame 2.

    Frames of any size are resized or padded as the model's official script does, and
    the flow is brought back to their size. Where that script resizes 8-bit pictures in
    OpenCV's fixed point (PWC-Net, VCN), so are uint8 frames here, and float ones all of
    whose values are multiples of 1/255; other float frames are resized in float. The
    model runs in evaluation mode. Calls with frames of one shape compile once.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frame1: Frame 1, (…, H, W, 3): uint8, or float in [0, 1]. Any number of leading
            axes makes a batch.
        frame2: Frame 2, alike.
        tile: Largest height and width that the network sees at once; larger frames
            are cut into overlapping tiles, whose flows are blended. A motion that
            leaves its tile is not seen. None runs whole frames.
        overlap: Least number of pixels that two tiles share.
        options: Keywords of the model's call, e.g. {"iterations": 32} for RAFT, or of
            the classical method. Values must be hashable.
        precision: Of products in float32: "highest", or "default", which is faster and
            less exact on accelerators.

    Returns:
        Flow (u, v) in pixels of the frames, (…, H, W, 2), float32.

    Raises:
        ValueError: If the frames are not such pictures or differ in size, if they
            contain NaN, or if `model` is not what it should be.
    """
    run = _runner(model, options, precision)
    one, two = _check_frames(frame1, frame2)
    batch = one.shape[:-3]
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in (one, two))
    size = _tile_size(tile, overlap, _size(one))
    if size == _size(one):
        flow = np.array(run(one, two))
    else:
        pairs = zip(one, two, strict=True)
        flow = np.stack([_run_tiles(run, a, b, size, overlap) for a, b in pairs])
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
    **keywords: Any,
) -> np.ndarray:
    """Estimates the flow between all consecutive frames of a clip.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frames: The clip, (T, H, W, 3), or any iterable of T >= 2 frames.
        batch_size: Number of pairs that run together.
        **keywords: As for `estimate_flow`.

    Returns:
        Flow from each frame to the next, (T - 1, H, W, 2), float32.

    Raises:
        ValueError: As `estimate_flow`, or if there are fewer than two frames.
        TypeError: If `estimate_flow` has no such keyword.
    """
    flows = list(stream_flow(model, frames, batch_size=batch_size, **keywords))
    if not flows:
        raise ValueError("`frames` must hold at least two frames")
    return np.stack(flows)


def stream_flow(
    model: nnx.Module | str,
    frames: Iterable[Any],
    *,
    batch_size: int = 4,
    **keywords: Any,
) -> Iterator[np.ndarray]:
    """Yields the flow between consecutive frames, holding one batch at a time.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frames: Frames of one size, as an array or any iterable.
        batch_size: Number of pairs that run together.
        **keywords: As for `estimate_flow`.

    Yields:
        Flow from each frame to the next, (H, W, 2), float32.

    Raises:
        ValueError: As `estimate_flow`.
        TypeError: If `estimate_flow` has no such keyword.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive; got {batch_size}")
    waiting: list[np.ndarray] = []
    for frame in frames:
        waiting.append(_check_frame("frames", frame))
        if waiting[-1].shape != waiting[0].shape:
            raise ValueError(
                f"`frames` must have one size; got {waiting[0].shape} and then "
                f"{waiting[-1].shape}"
            )
        if len(waiting) == batch_size + 1:
            yield from _estimate_pairs(model, waiting, batch_size, keywords)
            waiting = waiting[-1:]
    if len(waiting) > 1:
        yield from _estimate_pairs(model, waiting, batch_size, keywords)


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
    compiled, known = _bind(model, options)
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in _check_frames(frame1, frame2))
    with jax.default_matmul_precision("highest"):
        lowered = compiled.lower(*known, one, two)
    plan = lowered.compile().memory_analysis()
    parts = ("argument", "output", "temp")
    return sum(getattr(plan, f"{part}_size_in_bytes") for part in parts)


def network_size(size: tuple[int, int], frames: spec.Frames) -> tuple[int, int]:
    """Returns the (height, width) that a network sees for frames of this size.

    Args:
        size: Height and width of the frames.
        frames: The network's policy.
    """
    step = frames.multiple
    least = tuple(_round_up(n, step) for n in frames.minimum)
    if frames.fit != "resize_nearest":
        height, width = (
            max(_round_up(n, step), low) for n, low in zip(size, least, strict=True)
        )
        return height, width
    # Of the multiples below and above, the pair whose aspect is closest, as in HD3.
    candidates = [
        (max(height, least[0]), max(width, least[1]))
        for height in (size[0] // step * step, (size[0] // step + 1) * step)
        for width in (size[1] // step * step, (size[1] // step + 1) * step)
    ]
    aspect = size[0] / size[1]
    return min(candidates, key=lambda found: abs(found[0] / found[1] - aspect))


def _occluded(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.array(
        ops.forward_backward_occlusion(jnp.asarray(flow), jnp.asarray(back))
    )


Runner = Callable[[np.ndarray, np.ndarray], jax.Array]


def _runner(
    model: nnx.Module | str, options: Mapping[str, Any] | None, precision: str
) -> Runner:
    """Returns the function of two (B, H, W, 3) frames that estimates their flow."""
    compiled, known = _bind(model, options)
    frames = getattr(model, "frames", None)

    def run(frame1: np.ndarray, frame2: np.ndarray) -> jax.Array:
        if frames is not None and frames.method == "opencv_uint8":
            frame1, frame2 = _as_bytes(frame1, frame2)
        with jax.default_matmul_precision(precision):
            return compiled(*known, frame1, frame2)

    return run


def _bind(
    model: nnx.Module | str, options: Mapping[str, Any] | None
) -> tuple[jax.stages.Wrapped, tuple]:
    """Returns the jitted function of an estimator, and its arguments but the frames."""
    keywords = tuple(sorted((options or {}).items()))
    if isinstance(model, str):
        return _bind_classical(model, keywords)
    if not isinstance(getattr(model, "frames", None), spec.Frames):
        raise ValueError(
            f"`model` must be a flow network or the name of a classical method; got "
            f"{type(model).__module__}.{type(model).__name__}"
        )
    graphdef, state = nnx.split(model)
    return _run_network, (graphdef, keywords, state)


def _bind_classical(name: str, keywords: tuple) -> tuple[jax.stages.Wrapped, tuple]:
    if name in models.list_models("flow"):
        raise ValueError(
            f"`model` {name!r} names a network, and weights are needed too: pass "
            f"jaxflow.load_weights(jaxflow.create_model({name!r}), path)"
        )
    if name not in classical.METHODS:
        raise ValueError(
            f"`model` must be a network or one of {sorted(classical.METHODS)}; got "
            f"{name!r}"
        )
    return _run_classical, (name, keywords)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_classical(
    name: str, keywords: tuple, frame1: jax.Array, frame2: jax.Array
) -> jax.Array:
    method = functools.partial(classical.METHODS[name], **dict(keywords))
    flow = jax.vmap(method)(_as_float(frame1), _as_float(frame2))
    return flow.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_network(
    graphdef: nnx.GraphDef,
    keywords: tuple,
    state: nnx.State,
    frame1: jax.Array,
    frame2: jax.Array,
) -> jax.Array:
    """Fits the frames to the network, runs it, and brings the flow back."""
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    size = _size(frame1)
    target = network_size(size, model.frames)
    fitted = (_fit(frame, target, model.frames) for frame in (frame1, frame2))
    flow = model(*fitted, **dict(keywords)).astype(jnp.float32)
    if model.frames.fit == "pad":
        flow = _resize_flow(flow, target, model.frames)
        return ops.unpad(flow, _pads(size, target, model.frames))
    return _resize_flow(flow, size, model.frames)


def _fit(frame: jax.Array, size: tuple[int, int], frames: spec.Frames) -> jax.Array:
    """Resizes or pads (B, H, W, 3) frames; the result is float32 in [0, 1]."""
    if frames.fit == "pad":
        pads = ((0, 0), *_pads(_size(frame), size, frames), (0, 0))
        return jnp.pad(_as_float(frame), pads, mode=frames.pad_mode)
    if _size(frame) == size:
        return _as_float(frame)
    if frames.method == "opencv_uint8" and frame.dtype == jnp.uint8:
        return _as_float(ops.resize_opencv_uint8(frame, size))
    align = frames.method == "align_corners"
    return ops.resize(_as_float(frame), size, align_corners=align)


def _resize_flow(
    flow: jax.Array, size: tuple[int, int], frames: spec.Frames
) -> jax.Array:
    if _size(flow) == size:
        return flow
    if frames.flow_method == "nearest":
        return ops.resize_flow(flow, size, method="nearest")
    align = frames.flow_method == "align_corners"
    return ops.resize_flow(flow, size, align_corners=align)


def _pads(
    size: tuple[int, int], target: tuple[int, int], frames: spec.Frames
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns how many rows and columns are added before and after."""
    rows, columns = (after - before for before, after in zip(size, target, strict=True))
    top = 0 if frames.pad == "bottom" else rows // 2
    return (top, rows - top), (columns // 2, columns - columns // 2)


def _size(images: jax.Array | np.ndarray) -> tuple[int, int]:
    """Returns the height and width of (…, H, W, C)."""
    height, width = images.shape[-3:-1]
    return height, width


def _as_float(frame: jax.Array) -> jax.Array:
    wide = jnp.asarray(frame).astype(jnp.float32)
    return wide / 255 if frame.dtype == jnp.uint8 else wide


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
        one, two = (np.asarray(_as_float(frame)) for frame in (one, two))
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


def _round_up(number: int, step: int) -> int:
    return math.ceil(number / step) * step


def _estimate_pairs(
    model: nnx.Module | str,
    frames: list[np.ndarray],
    batch_size: int,
    keywords: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """Runs consecutive frames as one batch, filled up so that it compiles once."""
    pairs = len(frames) - 1
    padded = frames + frames[-1:] * (batch_size - pairs)
    flow = estimate_flow(model, np.stack(padded[:-1]), np.stack(padded[1:]), **keywords)
    yield from flow[:pairs]


def _tile_size(
    tile: int | tuple[int, int] | None, overlap: int, size: tuple[int, int]
) -> tuple[int, int]:
    """Returns the height and width of what is run at once."""
    if tile is None:
        return size
    height, width = (tile, tile) if isinstance(tile, int) else tile
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
    size: tuple[int, int],
    overlap: int,
) -> np.ndarray:
    """Estimates the flow of one pair tile by tile, and blends where they overlap."""
    height, width = frame1.shape[:2]
    total = np.zeros((height, width, 2), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    for top in _starts(height, size[0], overlap):
        for left in _starts(width, size[1], overlap):
            window = np.s_[top : top + size[0], left : left + size[1]]
            flow = np.asarray(run(frame1[window][None], frame2[window][None]))[0]
            share = np.outer(
                _ramp(size[0], overlap, top > 0, top + size[0] < height),
                _ramp(size[1], overlap, left > 0, left + size[1] < width),
            ).astype(np.float32)[..., None]
            total[window] += share * flow
            weight[window] += share
    return total / weight


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
