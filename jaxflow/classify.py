"""Any video to scores: decode, sample views, run a recognition network, average.

    video -> clips of frames (`clip_indices`) -> crops (`spatial_views`) -> network
          -> mean or maximum over the views

`extract_features` and `grad_cam` look inside the network instead.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, io, models, ops

Placement = Literal["spread", "pyslowfast", "random", "dense"]
PLACEMENTS = ("spread", "pyslowfast", "random", "dense")
CROPS = (1, 3, 5, 10)
TARGET_FPS = 30.0
"""Frames a second that `Config.frame_stride` counts in."""


def classify_video(
    model: nnx.Module | str,
    video: str | os.PathLike | np.ndarray | jax.Array,
    *,
    clips: int = 1,
    crops: int = 1,
    random_views: int = 0,
    placement: Placement = "spread",
    num_frames: int | None = None,
    stride: float | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    short_side: int | None = None,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    combine: Literal["mean", "max"] = "mean",
    batch_size: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Scores the classes of a video.

    Args:
        model: A recognition network, or a name of `models.list_models("video")` (whose
            weights are then random).
        video: A file; or frames, (T, H, W, 3), (T, H, W, 1) or (T, H, W), uint8 or
            float in [0, 1]. A network on flow takes (T, H, W, 2).
        clips: Clips sampled in time; 10, with 3 crops, are the usual 30 views.
        crops: Crops of each clip; see `spatial_views`.
        random_views: If positive, so many clips at random times, each cropped at a
            random place, instead of `clips` and `crops`; 25 in the paper of
            representation flow.
        placement: Where clips start; see `clip_indices`.
        num_frames: Frames of a clip; the model's by default.
        stride: Frames of the video from frame to frame of a clip. By default the
            model's, at 30 frames a second.
        seconds: Duration of a clip, instead of `stride`; needs a rate.
        fps: Rate of the video; a file's own by default. For frames without a rate,
            the model's stride counts them.
        crop_size: Side of the crops, in pixels; the model's by default.
        short_side: The video's shorter side is resized to this first; 8 / 7 of
            `crop_size` by default, or `crop_size` if there are several crops.
        activation: What turns logits into scores. Probabilities that the model itself
            returns (`head_mode="softmax_mean"`) are left as they are.
        combine: How the scores of the views are joined.
        batch_size: Views that go through the network at once.
        seed: Of the random places.

    Returns:
        (classes,) float32: probabilities of sum 1 for "softmax" and "mean".

    Raises:
        ValueError: If the video is damaged, empty, has NaN, or the wrong shape; or an
            option is out of range.
    """
    model = models.create_model(model) if isinstance(model, str) else model
    _checks.one_of("combine", combine, ("mean", "max"))
    _checks.one_of("activation", activation, ("softmax", "sigmoid"))
    for name, value in (("clips", clips), ("batch_size", batch_size)):
        _checks.positive(name, value)
    config = model.config
    source = _Source(video, fps, getattr(config, "in_features", 3))
    num_frames = num_frames or config.num_frames
    generator = np.random.default_rng(seed)
    indices = clip_indices(
        source.length,
        num_frames,
        source.stride(num_frames, stride, seconds, config.frame_stride),
        clips=random_views or clips,
        placement="random" if random_views else placement,
        generator=generator,
    )
    side = crop_size or config.crop_size
    short = short_side or (side if crops > 1 else round(side * 8 / 7))
    if short < side:
        raise ValueError(
            f"`short_side` must be at least the crop's {side}; got {short}"
        )
    scores = []
    pending: list[np.ndarray] = []
    for clip in source.clips(indices, short):
        if random_views:
            pending.append(_random_crop(clip, side, generator))
        else:
            pending.extend(spatial_views(clip, side, count=crops))
        while len(pending) >= batch_size:
            scores.append(_scores(model, pending[:batch_size], batch_size, activation))
            del pending[:batch_size]
    if pending:
        scores.append(_scores(model, pending, batch_size, activation))
    joined = np.concatenate(scores)
    return joined.mean(0) if combine == "mean" else joined.max(0)


def top_k(
    scores: np.ndarray, k: int = 5, *, labels: Sequence[str] | None = None
) -> list[tuple[str, float]]:
    """Returns the `k` best classes, best first, as (name, score).

    Args:
        scores: (classes,).
        k: How many, at most.
        labels: Names of the classes; their numbers by default.

    Raises:
        ValueError: If there are not as many labels as scores.
    """
    if labels is not None and len(labels) != len(scores):
        raise ValueError(
            f"`labels` must name each of {len(scores)} classes; got {len(labels)}"
        )
    order = np.argsort(-np.asarray(scores), kind="stable")[:k]
    return [
        (labels[i] if labels is not None else str(i), float(scores[i])) for i in order
    ]


def clip_indices(
    length: int,
    num_frames: int,
    stride: float,
    *,
    clips: int = 1,
    placement: Placement = "spread",
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Chooses the frames of clips.

    A clip spans num_frames x stride frames, sampled evenly and rounded down. Where the
    video is shorter, its last frame repeats.

    Args:
        length: Frames of the video.
        num_frames: Frames of a clip.
        stride: Frames of the video to one of a clip; any positive number.
        clips: Number of clips; "dense" ignores it.
        placement: Where they start. "spread": from the first possible place to the
            last, evenly; one clip is in the middle. "pyslowfast": the same, but of n
            clips none starts in the last n-th, as its decoder does. "random": anywhere.
            "dense": one behind the other until the end.
        generator: Source of the random places.

    Returns:
        (clips, num_frames) integers.

    Raises:
        ValueError: If a number is not positive or the placement unknown.
    """
    _checks.one_of("placement", placement, PLACEMENTS)
    numbers = {"length": length, "num_frames": num_frames, "stride": stride}
    for name, value in (numbers | {"clips": clips}).items():
        _checks.positive(name, value)
    span = num_frames * stride
    room = max(length - span, 0)
    if placement == "dense":
        starts = np.arange(max(1, int(np.ceil(length / span)))) * span
    elif placement == "random":
        generator = generator or np.random.default_rng(0)
        starts = generator.uniform(0, room, clips)
    elif placement == "pyslowfast":
        starts = room * np.arange(clips) / clips
    else:
        starts = np.array([room / 2]) if clips == 1 else np.linspace(0, room, clips)
    offsets = np.linspace(0, span - 1, num_frames) if num_frames > 1 else np.zeros(1)
    frames = starts[:, None] + np.maximum(offsets, 0)
    return np.clip(np.floor(frames + 1e-6), 0, length - 1).astype(np.int64)


def spatial_views(
    clip: np.ndarray, side: int, *, count: Literal[1, 3, 5, 10] = 1
) -> list[np.ndarray]:
    """Crops squares.

    Args:
        clip: (T, H, W, C).
        side: Height and width of the squares.
        count: 1: the centre. 3: centre and both ends of the longer side, in order. 5:
            four corners and the centre. 10: those, and their mirror images.

    Returns:
        `count` arrays (T, side, side, C).

    Raises:
        ValueError: If the clip is smaller than the square or `count` is another.
    """
    _checks.one_of("count", count, CROPS)
    height, width = clip.shape[1:3]
    if min(height, width) < side:
        raise ValueError(f"`clip` is {height} x {width}, smaller than the crop {side}")
    low, high = height - side, width - side
    middle = (-(-low // 2), -(-high // 2))
    if count == 1:
        places = [middle]
    elif count == 3:
        ends = (0, middle[1], high) if width >= height else (0, middle[0], low)
        places = [
            (middle[0], end) if width >= height else (end, middle[1]) for end in ends
        ]
    else:
        places = [(0, 0), (0, high), (low, 0), (low, high), middle]
    views = [clip[:, y : y + side, x : x + side] for y, x in places]
    return views + [view[:, :, ::-1] for view in views] if count == 10 else views


def layer_names(model: nnx.Module) -> list[str]:
    """Returns the dotted paths of all layers of a model, in no promised order."""
    return sorted(
        ".".join(map(str, path))
        for path, node in nnx.iter_graph(model)
        if path and isinstance(node, nnx.Module)
    )


def extract_features(model: nnx.Module, clip: jax.Array, layer: str) -> jax.Array:
    """Returns what a layer puts out.

    Args:
        model: Any network.
        clip: What the model is called with, (B, T, H, W, 3) in [0, 1].
        layer: Dotted path of the layer; one of `layer_names(model)`.

    Returns:
        The layer's output: of its last call, if it is called more than once.

    Raises:
        ValueError: If there is no such layer, or the model does not call it.
    """
    graph, state = nnx.split(model)
    _find(model, layer)
    return _tapped(graph, layer)(state, clip)[1]


def grad_cam(
    model: nnx.Module,
    clip: jax.Array,
    *,
    layer: str | None = None,
    class_index: int | None = None,
) -> jax.Array:
    """Shows where a network sees a class.

    Selvaraju et al., "Grad-CAM" (ICCV 2017), Eqs. 1 and 2: the mean gradient of the
    class's score weighs the channels of a layer, whose weighted sum keeps what is
    positive.

    Args:
        model: A recognition network.
        clip: (B, T, H, W, 3), RGB in [0, 1].
        layer: Dotted path of a layer with output (B, T', H', W', C);
            `model.cam_layer` by default.
        class_index: The class; each example's best by default.

    Returns:
        (B, T, H, W) in [0, 1], float32: 0 where nothing speaks for the class; each
        example's greatest value is 1, if any is positive.

    Raises:
        ValueError: If there is no such layer, or its output has another rank.
    """
    layer = model.cam_layer if layer is None else layer
    _find(model, layer)
    graph, state = nnx.split(model)
    heat = _heat(graph, layer, class_index)(state, clip)
    return heat


def overlay(
    frames: np.ndarray, heat: np.ndarray, *, opacity: float = 0.5
) -> np.ndarray:
    """Blends a heat map over frames: blue is 0, red is 1.

    Args:
        frames: (..., H, W, 3) in [0, 1].
        heat: (..., H, W) in [0, 1].
        opacity: Weight of the colours.

    Returns:
        (..., H, W, 3) uint8, ready for `io.write_image`.
    """
    level = np.clip(np.asarray(heat, np.float32), 0, 1)[..., None]
    centres = np.array([0.75, 0.5, 0.25], np.float32)
    colours = np.clip(1.5 - np.abs(level - centres) * 4, 0, 1)
    mixed = (1 - opacity) * np.asarray(frames, np.float32) + opacity * colours
    return np.round(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


class _Source:
    """Frames of a file or an array, by number."""

    def __init__(self, video: Any, fps: float | None, channels: int):
        self.path = video if isinstance(video, (str, os.PathLike)) else None
        if self.path is None:
            self.frames = _as_frames(video, channels)
            self.length, self.fps = len(self.frames), fps
        else:
            info = io.video_info(self.path)
            self.fps = fps or info.fps
            self.length = info.length or sum(1 for _ in io.read_video(self.path))

    def stride(self, num_frames, stride, seconds, model_stride) -> float:
        """Returns the step between the frames of a clip, in frames of the video."""
        if stride is not None and seconds is not None:
            raise ValueError("give `stride` or `seconds`, not both")
        if seconds is not None:
            if self.fps is None:
                raise ValueError("`seconds` needs the rate of the frames: give `fps`")
            return seconds * self.fps / num_frames
        if stride is not None:
            return stride
        return model_stride * (self.fps or TARGET_FPS) / TARGET_FPS

    def clips(self, indices: np.ndarray, short: int):
        """Yields clips, (T, H', W', C) float32 in [0, 1], of that shorter side."""
        kept = self._read(np.unique(indices), short)
        for row in indices:
            yield np.stack([kept[index] for index in row])

    def _read(self, wanted: np.ndarray, short: int) -> dict[int, np.ndarray]:
        if self.path is None:
            return {i: _resized(self.frames[i], short) for i in wanted}
        kept, frame = {}, None
        remaining = set(wanted.tolist())
        stream = io.read_video(self.path, stop=int(wanted.max()) + 1)
        for index, frame in enumerate(stream):
            if index in remaining:
                kept[index] = _resized(_as_frames(frame[None], 3)[0], short)
                remaining.discard(index)
        if frame is None:
            raise ValueError(f"{self.path}: holds no frames")
        # A header may promise more frames than there are.
        last = _resized(_as_frames(frame[None], 3)[0], short) if remaining else None
        return kept | dict.fromkeys(remaining, last)


def _as_frames(video: Any, channels: int) -> np.ndarray:
    """Checks frames: (T, H, W, channels), float32 in [0, 1]."""
    frames = np.asarray(video)
    if frames.ndim == 3:
        frames = frames[..., None]
    if frames.ndim != 4 or frames.shape[-1] not in (1, channels) or 0 in frames.shape:
        raise ValueError(
            f"`video` must be (T, H, W, {channels}), (T, H, W, 1) or (T, H, W); "
            f"got {np.shape(video)}"
        )
    if frames.dtype == np.uint8:
        frames = frames.astype(np.float32) / 255
    elif not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`video` must be uint8 or float; got {frames.dtype}")
    elif not (np.isfinite(frames).all() and frames.min() >= 0 and frames.max() <= 1):
        raise ValueError(
            "`video` must be finite and in [0, 1] if it is float; got values from "
            f"{frames.min()} to {frames.max()}: divide 8-bit frames by 255"
        )
    return np.broadcast_to(frames, (*frames.shape[:-1], channels))


def _resized(frame: np.ndarray, short: int) -> np.ndarray:
    """Resizes (H, W, C) so that its shorter side is `short`, bilinearly."""
    height, width = frame.shape[:2]
    if min(height, width) == short:
        return frame.astype(np.float32)
    if height < width:
        size = (short, max(short, int(width / height * short)))
    else:
        size = (max(short, int(height / width * short)), short)
    return np.asarray(_resize(jnp.asarray(frame, jnp.float32), size))


@functools.partial(jax.jit, static_argnums=1)
def _resize(frame: jax.Array, size: tuple[int, int]) -> jax.Array:
    return ops.resize(frame, size)


def _random_crop(clip: np.ndarray, side: int, generator) -> np.ndarray:
    y, x = (generator.integers(0, n - side + 1) for n in clip.shape[1:3])
    return clip[:, y : y + side, x : x + side]


def _scores(model, views, batch_size, activation) -> np.ndarray:
    """Runs up to `batch_size` views, always that many, to compile once."""
    filled = views + [views[-1]] * (batch_size - len(views))
    graph, state = nnx.split(model)
    scores = _run(graph, state, jnp.asarray(np.stack(filled)))
    if getattr(model.config, "head_mode", "logit_mean") == "logit_mean":
        scores = getattr(jax.nn, activation)(scores)
    return np.asarray(scores, np.float32)[: len(views)]


@functools.partial(jax.jit, static_argnums=0)
def _run(graph, state, clip):
    return nnx.merge(graph, state, copy=True)(clip)


class _Tap:
    """Stands in for a layer, and keeps what it puts out."""

    def __init__(self, layer: nnx.Module, change: Callable):
        self._layer = layer
        self._change = change
        self.seen = None

    def __call__(self, *args, **kwargs):
        self.seen = self._change(self._layer(*args, **kwargs))
        return self.seen

    def __getattr__(self, name):
        return getattr(self._layer, name)


def _find(model: nnx.Module, layer: str) -> tuple[Any, str | int]:
    """Returns the owner of a layer, and the layer's name there."""
    if layer not in layer_names(model):
        raise ValueError(
            f"`layer` {layer!r} is not in the model; among its layers are "
            f"{', '.join(name for name in layer_names(model) if name.count('.') < 2)}"
        )
    *parents, last = (int(p) if p.isdigit() else p for p in layer.split("."))
    owner = model
    for part in parents:
        owner = owner[part] if isinstance(part, int) else getattr(owner, part)
    return owner, last


def _tapped(graph, layer: str, change: Callable = lambda y: y):
    """Returns a function (state, clip) -> (output, what the layer put out)."""

    @jax.jit
    def run(state, clip):
        model = nnx.merge(graph, state, copy=True)
        owner, name = _find(model, layer)
        if isinstance(name, int):
            owner[name] = tap = _Tap(owner[name], change)
        else:
            tap = _Tap(getattr(owner, name), change)
            # Past the bookkeeping of nnx: a tap is no part of the model.
            object.__setattr__(owner, name, tap)
        output = model(clip)
        if tap.seen is None:
            raise ValueError(f"the model does not call its layer {layer!r}")
        return output, tap.seen

    return run


def _heat(graph, layer: str, class_index: int | None):
    """Returns a function (state, clip) -> Grad-CAM, (B, T, H, W)."""

    @jax.jit
    def run(state, clip):
        features = jax.eval_shape(_tapped(graph, layer), state, clip)[1]
        if features.ndim != 5:
            raise ValueError(
                f"layer {layer!r} puts out rank {features.ndim}; Grad-CAM needs "
                "(B, T, H, W, C)"
            )

        def score(nudge):
            nudged = _tapped(graph, layer, lambda y: y + nudge)
            scores, seen = nudged(state, clip)
            best = jnp.argmax(scores, -1) if class_index is None else class_index
            chosen = jnp.broadcast_to(best, scores.shape[:1])[:, None]
            return jnp.sum(jnp.take_along_axis(scores, chosen, axis=-1)), seen

        zeros = jnp.zeros(features.shape, features.dtype)
        slope, seen = jax.grad(score, has_aux=True)(zeros)
        slope, seen = slope.astype(jnp.float32), seen.astype(jnp.float32)
        weights = jnp.mean(slope, axis=(1, 2, 3), keepdims=True)
        heat = jax.nn.relu(jnp.sum(weights * seen, axis=-1))
        heat = ops.resize(heat[..., None], clip.shape[2:4])[..., 0]
        # Time is stretched like an axis of a picture.
        flat = heat.reshape(*heat.shape[:2], -1, 1)
        flat = ops.resize(flat, (clip.shape[1], flat.shape[2]))
        heat = flat.reshape(*clip.shape[:4])
        top = jnp.max(heat, axis=(1, 2, 3), keepdims=True)
        return heat / jnp.where(top > 0, top, 1)

    return run
