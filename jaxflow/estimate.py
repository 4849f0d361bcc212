"""Any two frames in, flow out: each model's own resizing or padding, to the last digit.

What an official script does around its network is part of the method: its resizing,
its padding, how it brings flow back. A model says it in `model.frames`, and
`jaxflow.inference` does it. Here are single pairs, batches and clips, in NumPy; what is
given is checked by `pictures`, compiled by `programs` and cut by `tiles`.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
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
    pictures,
    programs,
    tiles,
    weights,
)
from jaxflow.inference import network_size as network_size
from jaxflow.layers import precision as precisions

# Longest side of the grid on which a flow is carried to the next pair: every pixel of
# it is compared with every other.
_MOST_CARRIED = 128


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
            the classical method. An array of two axes or more, of which the first are
            those of the batch, has a value for each pair. `initial_flow`, which RAFT
            and most classical methods take, is (…, H, W, 2) or (H, W, 2), in pixels of
            the frames.
        precision: Of products of float32 numbers: "highest", or "high" or "default",
            which are faster and less exact on accelerators. What a network computes in
            is its `dtype`; see `jaxflow.create_model`.

    Returns:
        Flow (u, v) in pixels of the frames, (…, H, W, 2), float32.

    Raises:
        ValueError: If the frames are not such pictures or differ in size, if they
            contain NaN, or if `model` is not what it should be.

    Examples:
        >>> y, x = np.mgrid[:64, :96]
        >>> frame = 0.5 + 0.2 * np.sin(x / 3) + 0.2 * np.cos(y / 4)
        >>> frame1 = np.repeat(frame[..., None], 3, axis=-1)
        >>> frame2 = np.roll(frame1, 1, axis=1)  # one pixel to the right
        >>> flow = jaxflow.estimate_flow("lucas_kanade", frame1, frame2)
        >>> flow.shape, np.median(flow, axis=(0, 1)).round(1).tolist()
        ((64, 96, 2), [1.0, 0.0])
    """
    one, two = pictures.check_frames(frame1, frame2)
    precisions.of_products(precision)
    run, arrays = programs.runner(named(model), options, precision)
    batch, whole = one.shape[:-3], one.shape[-3:-1]
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in (one, two))
    arrays = {k: programs.per_pair(k, x, batch, whole) for k, x in arrays.items()}
    size = tiles.tile_size(tile, overlap, whole)
    if size == whole:
        flow = np.array(run(one, two, arrays))
    else:
        flow = tiles.run_tiles(run, one, two, arrays, size, overlap)
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

    Examples:
        >>> y, x = np.mgrid[:64, :96]
        >>> frame = 0.5 + 0.2 * np.sin(x / 3) + 0.2 * np.cos(y / 4)
        >>> frame1 = np.repeat(frame[..., None], 3, axis=-1)
        >>> frame2 = np.roll(frame1, 1, axis=1)
        >>> both = jaxflow.estimate_both_ways("lucas_kanade", frame1, frame2)
        >>> [float(np.median(flow[..., 0]).round(1)) for flow in both[:2]]
        [1.0, -1.0]
        >>> both.occluded1.shape
        (64, 96)
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

    Examples:
        >>> clip = np.zeros((3, 32, 48, 3), np.uint8)
        >>> jaxflow.estimate_clip("lucas_kanade", clip).shape
        (2, 32, 48, 2)
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
    backward: bool = False,
    **keywords: Any,
) -> Iterator[np.ndarray]:
    """Yields the flow between consecutive frames, holding one batch at a time.

    Args:
        model: A flow network with its weights, or the name of a classical method.
        frames: Frames of one size, as an array or any iterable. Each is copied when it
            is read, so that all may come in one buffer, as from a camera.
        batch_size: Number of pairs that run together.
        warm_start: Whether each pair starts from the flow of the pair before, carried
            along itself (Teed and Deng, "RAFT", 2020, Sec. 3.4). Pairs run one by one
            then. For RAFT and the classical methods that take `initial_flow`.
        backward: Whether to yield the flow from each frame but the first to the one
            before it, which is in pixels of the later frame.
        **keywords: As for `estimate_flow`.

    Yields:
        Flow from each frame to the next, (H, W, 2), float32.

    Raises:
        ValueError: As `estimate_flow`; or if the estimator can start from no flow; or
            if `warm_start`, which carries a flow forward in time, meets `backward`.
        TypeError: If `estimate_flow` has no such keyword.

    Examples:
        >>> frames = (np.full((32, 48, 3), 0.1 * t) for t in range(4))
        >>> for flow in jaxflow.stream_flow("lucas_kanade", frames, batch_size=1):
        ...     print(flow.shape)
        (32, 48, 2)
        (32, 48, 2)
        (32, 48, 2)
    """
    _checks.counts(batch_size=batch_size)
    model, checked = named(model), _one_size(frames)
    if not warm_start:
        return _stream(model, checked, batch_size, backward, keywords)
    if backward:
        raise ValueError("`warm_start` carries a flow forward: leave `backward` out")
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


def memory_of_flow(
    model: nnx.Module | str,
    frame1: Any,
    frame2: Any,
    *,
    options: Mapping[str, Any] | None = None,
) -> int:
    """Counts the memory that `estimate_flow` needs on the device for whole frames.

    The call is compiled for this, but it is not run.

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
    one, two = pictures.check_frames(frame1, frame2)
    compiled, known, arrays = programs.bind(named(model), options)
    batch, whole = one.shape[:-3], one.shape[-3:-1]
    one, two = (x.reshape(-1, *x.shape[-3:]) for x in (one, two))
    arrays = {k: programs.per_pair(k, x, batch, whole) for k, x in arrays.items()}
    with precisions.of_products("highest"):
        lowered = compiled.lower(*known, one, two, arrays)
    plan = lowered.compile().memory_analysis()
    parts = ("argument", "output", "temp")
    return sum(getattr(plan, f"{part}_size_in_bytes") for part in parts)


def _one_size(frames: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yields copies of frames, which must be alike."""
    first = None
    for frame in frames:
        checked = pictures.check_frame("frames", frame)
        first = checked.shape if first is None else first
        if checked.shape != first:
            raise ValueError(
                f"`frames` must have one size; got {first} and then {checked.shape}"
            )
        # A reader may give one buffer again and again; floats have been copied.
        yield checked.copy() if checked.dtype == np.uint8 else checked


def _stream(
    model: nnx.Module | str,
    frames: Iterator[np.ndarray],
    batch_size: int,
    backward: bool,
    keywords: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """Yields the flow of consecutive frames, a batch at a time."""
    waiting: list[np.ndarray] = []
    full = False
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == batch_size + 1:
            yield from _estimate_pairs(model, waiting, batch_size, backward, keywords)
            waiting, full = waiting[-1:], True
    if len(waiting) > 1:
        # A short clip needs no filling: nothing of the full size was compiled.
        size = batch_size if full else len(waiting) - 1
        yield from _estimate_pairs(model, waiting, size, backward, keywords)


def _stream_warm(
    model: nnx.Module | str, frames: Iterator[np.ndarray], keywords: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Yields the flow of consecutive frames, each started from the one before."""
    options = dict(programs.by_name(keywords.get("options")))
    for first, second in itertools.pairwise(frames):
        start = options.pop("initial_flow", None)
        if start is None:
            start = np.zeros((*first.shape[:-1], 2), np.float32)
        given = options | {"initial_flow": start}
        flow = estimate_flow(model, first, second, **{**keywords, "options": given})
        options["initial_flow"] = _carried(flow)
        yield flow


def _estimate_pairs(
    model: nnx.Module | str,
    frames: list[np.ndarray],
    batch_size: int,
    backward: bool,
    keywords: Mapping[str, Any],
) -> Iterator[np.ndarray]:
    """Runs consecutive frames as one batch, filled up so that it compiles once."""
    pairs = len(frames) - 1
    if len({frame.dtype for frame in frames}) > 1:
        frames = [np.asarray(inference.as_float(frame)) for frame in frames]
    padded = frames + frames[-1:] * (batch_size - pairs)
    one, two = np.stack(padded[:-1]), np.stack(padded[1:])
    if backward:
        one, two = two, one
    yield from estimate_flow(model, one, two, **keywords)[:pairs]


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


def _occluded(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.array(
        ops.forward_backward_occlusion(jnp.asarray(flow), jnp.asarray(back))
    )
