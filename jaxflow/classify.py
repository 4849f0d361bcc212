"""Any video to scores: decode, sample views, run a recognition network, average.

    video -> clips of frames (`clip_indices`) -> crops (`spatial_views`) -> network
          -> mean or maximum over the views

`extract_features` and `grad_cam` look inside the network instead.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, io, models, ops
from jaxflow.data import clips as clip_data
from jaxflow.io import frames as sequences

Video = str | os.PathLike | np.ndarray | jax.Array
Placement = clip_data.Placement
CROPS = (1, 3, 5, 10)
clip_indices = clip_data.clip_indices


def classify_video(
    model: nnx.Module | str,
    video: Video,
    *,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    combine: Literal["mean", "max"] = "mean",
    batch_size: int = 4,
    **sampling: Any,
) -> np.ndarray:
    """Scores the classes of a video.

    Args:
        model: A recognition network, or a name of `models.list_models("video")` (whose
            weights are then random).
        video: A file, a folder of pictures or a pattern such as ``clip/*.png``; or
            frames, (T, H, W, 3), (T, H, W, 1) or (T, H, W), uint8 or float in [0, 1]. A
            network on flow takes (T, H, W, 2).
        activation: What turns logits into scores. Probabilities that the model itself
            returns (`head_mode="softmax_mean"`) are left as they are.
        combine: How the scores of the views are joined.
        batch_size: Views that go through the network at once.
        **sampling: Options of `sample_views`: `clips` and `crops` (10 and 3 are the
            usual 30 views), `random_views`, `placement`, `num_frames`, `stride`,
            `seconds`, `fps`, `crop_size`, `short_side`, `seed`.

    Returns:
        (classes,) float32: probabilities of sum 1 for "softmax" and "mean".

    Raises:
        ValueError: If the video is damaged, empty, has NaN, or the wrong shape; or an
            option is out of range.
        TypeError: If there is no such option.
    """
    model = models.create_model(model) if isinstance(model, str) else model
    _checks.one_of("combine", combine, ("mean", "max"))
    views = sample_views(model, video, **sampling)
    scores = score_views(model, views, activation=activation, batch_size=batch_size)
    return scores.mean(0) if combine == "mean" else scores.max(0)


def sample_views(
    model: nnx.Module,
    video: Video,
    *,
    clips: int = 1,
    crops: Literal[1, 3, 5, 10] = 1,
    random_views: int = 0,
    placement: Placement | None = None,
    num_frames: int | None = None,
    stride: float | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    short_side: int | None = None,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Cuts the views that a network shall see out of a video.

    Args:
        model: A recognition network, whose config has the defaults.
        video: See `classify_video`.
        clips: Clips sampled in time; 10, with 3 crops, are the usual 30 views.
        crops: Crops of each clip; see `spatial_views`.
        random_views: If positive, so many clips at random times, each cropped at a
            random place, instead of `clips` and `crops`; 25 in the paper of
            representation flow.
        placement: Where clips start; see `clip_indices`. By default the model's, which
            for most is "spread".
        num_frames: Frames of a clip; the model's by default.
        stride: Frames of the video from frame to frame of a clip. By default the
            model's, at the rate that the model counts in: 30 frames a second for most.
        seconds: Duration of a clip, instead of `stride`; needs a rate.
        fps: Rate of the video; a file's own by default. For frames without a rate,
            the model's stride counts them.
        crop_size: Side of the crops, in pixels; the model's by default.
        short_side: The video's shorter side is resized to this first; 8 / 7 of
            `crop_size` by default, or `crop_size` if there are several crops.
        seed: Of the random places.

    Returns:
        An iterator over (T, S, S, C) float32 in [0, 1]: the crops of the first clip,
        then those of the second, and so on. Frames are read when the first is asked
        for.

    Raises:
        ValueError: As `classify_video`: what the header tells at the call, damage of
            the file at the frame in question.
    """
    config = cast(Any, model).config
    _checks.positive("clips", clips)
    _checks.one_of("crops", crops, CROPS)
    num_frames = int(num_frames or config.num_frames)
    side = crop_size or config.crop_size
    short = short_side or (side if crops > 1 else round(side * 8 / 7))
    if short < side:
        raise ValueError(
            f"`short_side` must be at least the crop's {side}; got {short}"
        )
    source = _Source(video, fps, getattr(config, "in_features", 3))
    generator = np.random.default_rng(seed)
    if random_views:
        placement = "random"
    indices = clip_indices(
        source.length,
        num_frames,
        source.stride(num_frames, stride, seconds, config),
        clips=random_views or clips,
        placement=placement or getattr(config, "placement", "spread"),
        generator=generator,
    )

    def views() -> Iterator[np.ndarray]:
        for clip in source.clips(indices, short):
            if random_views:
                yield _random_crop(clip, side, generator)
            else:
                yield from spatial_views(clip, side, count=crops)

    return views()


def score_views(
    model: nnx.Module,
    views: Iterable[np.ndarray],
    *,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    batch_size: int = 4,
) -> np.ndarray:
    """Scores the classes of every view.

    Args:
        model: A recognition network.
        views: As `sample_views` gives them.
        activation: See `classify_video`.
        batch_size: Views that go through the network at once.

    Returns:
        (views, classes) float32.

    Raises:
        ValueError: If an option is out of range.
    """
    _checks.one_of("activation", activation, ("softmax", "sigmoid"))
    config = cast(Any, model).config
    logits = getattr(config, "head_mode", "logit_mean") == "logit_mean"
    graph, state = nnx.split(model)
    scores = []
    for batch, count in _batches(views, batch_size):
        out = _run(graph, state, batch)
        out = getattr(jax.nn, activation)(out) if logits else out
        scores.append(np.asarray(out, np.float32)[:count])
    return np.concatenate(scores)


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
    names = list(map(str, range(len(scores)))) if labels is None else list(labels)
    return [(names[i], float(scores[i])) for i in order]


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


def check_layer(model: nnx.Module, layer: str) -> None:
    """Raises ValueError, which names layers there are, if a model has not that one."""
    _find(model, layer)


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
    return _features(graph, layer, state, clip)


def view_features(
    model: nnx.Module,
    views: Iterable[np.ndarray],
    layer: str,
    *,
    batch_size: int = 4,
) -> np.ndarray:
    """Returns what a layer puts out for every view.

    Args:
        model: A recognition network.
        views: As `sample_views` gives them.
        layer: Dotted path of the layer; see `extract_features`.
        batch_size: Views that go through the network at once.

    Returns:
        (views, ...) float32: the layer's output, without its batch axis.

    Raises:
        ValueError: As `extract_features`; or if the layer puts out no array whose first
            axis is the batch.
    """
    kept = []
    for batch, count in _batches(views, batch_size):
        out = extract_features(model, batch, layer)
        if not isinstance(out, jax.Array) or out.shape[:1] != (batch_size,):
            raise ValueError(
                f"layer {layer!r} puts out {jax.tree.map(jnp.shape, out)}, not one "
                "array by view"
            )
        kept.append(np.asarray(out, np.float32)[:count])
    return np.concatenate(kept)


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
        ValueError: If there is no such layer or class, or the layer's output has
            another rank.
    """
    classes = cast(Any, model).config.num_classes
    if class_index is not None and not 0 <= class_index < classes:
        raise ValueError(f"`class_index` must be below {classes}; got {class_index}")
    layer = str(cast(Any, model).cam_layer if layer is None else layer)
    _find(model, layer)
    graph, state = nnx.split(model)
    return _heat(graph, layer, class_index, state, clip)


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
    """Frames of a file, a folder, a pattern or an array, by number."""

    def __init__(self, video: Any, fps: float | None, channels: int):
        self.path = video if isinstance(video, (str, os.PathLike)) else None
        self.fps = fps
        if self.path is None:
            self.frames = _as_frames(video, channels)
            self.length = len(self.frames)
            return
        if channels != 3:
            raise ValueError(
                f"{self.path}: the network takes {channels} channels, not the frames "
                "of a file: give it an array; for flow, clipped to 20 pixels, "
                "(flow + 20) / 40"
            )
        if sequences.is_sequence(self.path):
            self.length = len(io.list_frames(self.path))
        else:
            info = io.video_info(self.path)
            self.fps = fps or info.fps
            self.length = info.length or sum(1 for _ in io.read_video(self.path))

    def stride(self, num_frames, stride, seconds, config) -> float:
        """Returns the step between the frames of a clip, in frames of the video."""
        if stride is not None and seconds is not None:
            raise ValueError("give `stride` or `seconds`, not both")
        if seconds is not None:
            if self.fps is None:
                raise ValueError("`seconds` needs the rate of the frames: give `fps`")
            return seconds * self.fps / num_frames
        if stride is not None:
            return stride
        rate = getattr(config, "frame_rate", clip_data.TARGET_FPS)
        scale = self.fps / rate if self.fps and rate else 1
        return config.frame_stride * scale

    def clips(self, indices: np.ndarray, short: int) -> Iterator[np.ndarray]:
        """Yields clips, (T, H', W', C) float32 in [0, 1], of that shorter side."""
        kept = self._read(np.unique(indices), short)
        for row in indices:
            yield np.stack([kept[index] for index in row])

    def _read(self, wanted: np.ndarray, short: int) -> dict[int, np.ndarray]:
        if self.path is None:
            return {i: _resized(self.frames[i], short) for i in wanted}
        kept: dict[int, np.ndarray] = {}
        frame = None
        remaining = set(wanted.tolist())
        stream = io.read_frames(self.path, stop=int(wanted.max()) + 1)
        for index, frame in enumerate(stream):
            if index in remaining:
                kept[index] = _resized(_as_frames(frame[None], 3)[0], short)
                remaining.discard(index)
        if frame is None:
            raise ValueError(f"{self.path}: holds no frames")
        if remaining:
            # A header may promise more frames than there are.
            last = _resized(_as_frames(frame[None], 3)[0], short)
            kept |= dict.fromkeys(remaining, last)
        return kept


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
    if frames.dtype in (np.uint8, np.uint16):
        frames = frames.astype(np.float32) / np.float32(np.iinfo(frames.dtype).max)
    elif not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`video` must be uint8, uint16 or float; got {frames.dtype}")
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


def _batches(views: Iterable[np.ndarray], size: int) -> Iterator[tuple]:
    """Yields (batch, count): always `size` views, to compile once; `count` are real."""
    _checks.positive("batch_size", size)
    views = iter(views)
    while pending := list(itertools.islice(views, size)):
        count = len(pending)
        pending += [pending[-1]] * (size - count)
        yield jnp.asarray(np.stack(pending)), count


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
    owner: Any = model
    for part in parents:
        owner = owner[part] if isinstance(part, int) else getattr(owner, part)
    return owner, last


def _tapped(graph, layer: str, state, clip, change: Callable = lambda y: y):
    """Runs a model; returns its output, and what the layer puts out."""
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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _features(graph, layer: str, state, clip):
    return _tapped(graph, layer, state, clip)[1]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _heat(graph, layer: str, class_index: int | None, state, clip):
    """Returns Grad-CAM, (B, T, H, W)."""
    features = jax.eval_shape(functools.partial(_tapped, graph, layer), state, clip)[1]
    if getattr(features, "ndim", None) != 5:
        raise ValueError(
            f"layer {layer!r} puts out {jax.tree.map(jnp.shape, features)}; Grad-CAM "
            "needs (B, T, H, W, C)"
        )

    def score(nudge):
        scores, seen = _tapped(graph, layer, state, clip, lambda y: y + nudge)
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
