"""What a recognition network looks at: its features, and Grad-CAM."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import ops, spec
from jaxflow import views as sampling
from jaxflow.layers import precision as precisions


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


def extract_features(
    model: nnx.Module,
    clip: jax.Array,
    layer: str,
    *,
    precision: precisions.Precision = "highest",
) -> jax.Array:
    """Returns what a layer puts out.

    Args:
        model: Any network; it runs in evaluation mode, and is not changed.
        clip: What the model is called with, (B, T, H, W, 3) in [0, 1].
        layer: Dotted path of the layer; one of `layer_names(model)`.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Returns:
        The layer's output: of its last call, if it is called more than once. It is
        float32 whatever the network computes in.

    Raises:
        ValueError: If there is no such layer, or the model does not call it, or the
            clip is not what it takes.
    """
    graph, state = nnx.split(sampling.check_network(model))
    _find(model, layer)
    clip = jnp.asarray(clip)
    spec.check_pixels("clip", clip)
    with precisions.of_products(precision):
        return _features(graph, layer, state, clip)


def view_features(
    model: nnx.Module,
    views: Iterable[np.ndarray],
    layer: str,
    *,
    batch_size: int = 4,
    precision: precisions.Precision = "highest",
) -> np.ndarray:
    """Returns what a layer puts out for every view.

    Args:
        model: A recognition network.
        views: As `jaxflow.views.sample_views` gives them.
        layer: Dotted path of the layer; see `extract_features`.
        batch_size: Views that go through the network at once.
        precision: As for `extract_features`.

    Returns:
        (views, ...) float32: the layer's output, without its batch axis.

    Raises:
        ValueError: As `extract_features`; or if the layer puts out no array whose first
            axis is the batch.
    """
    kept = []
    for batch, count in sampling.batches(views, batch_size):
        out = extract_features(model, batch, layer, precision=precision)
        if not isinstance(out, jax.Array) or out.shape[:1] != (batch_size,):
            raise ValueError(
                f"layer {layer!r} puts out {jax.tree.map(jnp.shape, out)}, not one "
                "array by view"
            )
        kept.append(np.asarray(out, np.float32)[:count])
    if not kept:
        raise ValueError("`views` must not be empty")
    return np.concatenate(kept)


def grad_cam(
    model: nnx.Module,
    clip: jax.Array,
    *,
    layer: str | None = None,
    class_index: int | None = None,
    precision: precisions.Precision = "highest",
) -> jax.Array:
    """Shows where a network sees a class.

    Selvaraju et al., "Grad-CAM" (ICCV 2017), Eqs. 1 and 2: the mean gradient of the
    class's score weighs the channels of a layer, whose weighted sum keeps what is
    positive. The score is that before the softmax: where the head averages
    probabilities, the mean of what they are made of, whose gradient does not vanish
    when the network is sure.

    Args:
        model: A recognition network; it runs in evaluation mode, and is not changed.
        clip: (B, T, H, W, 3), RGB in [0, 1].
        layer: Dotted path of a layer with output (B, T', H', W', C);
            `model.cam_layer` by default.
        class_index: The class; each example's best by default.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Returns:
        (B, T, H, W) in [0, 1], float32: 0 where nothing speaks for the class; each
        example's greatest value is 1, if any is positive.

    Raises:
        ValueError: If there is no such layer or class, or the layer's output has
            another rank.
    """
    graph, state = nnx.split(sampling.check_network(model))
    if layer is None:
        layer = getattr(model, "cam_layer", None)
    if layer is None:
        raise ValueError("`layer` must be given: the model has no `cam_layer`")
    _find(model, layer)
    clip = jnp.asarray(clip)
    spec.check_pixels("clip", clip)
    with precisions.of_products(precision):
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


def _evaluating(graph, state) -> Any:
    """Returns a copy of a model that lives for one trace, in evaluation mode."""
    model = nnx.merge(graph, state, copy=True)
    model.eval()
    return model


def _without_softmax(model: nnx.Module) -> None:
    """Makes heads that average probabilities average what they are made of."""
    for _, node in nnx.iter_graph(model):
        if getattr(node, "mode", None) in ("softmax_mean", "sigmoid_mean"):
            object.__setattr__(node, "mode", "logit_mean")


def logits(graph, state, clip: jax.Array) -> jax.Array:
    """Returns the scores of a clip before any softmax, in evaluation mode.

    Args:
        graph: The structure of a recognition network, as `nnx.split` gives it.
        state: Its weights and statistics.
        clip: What the network is called with.

    Returns:
        (B, classes); where the head averages probabilities, the mean of what they are
        made of.
    """
    model = _evaluating(graph, state)
    _without_softmax(model)
    return model(clip)


def _tapped(
    graph, layer: str, state, clip, change: Callable = lambda y: y, logits: bool = False
):
    """Runs a model; returns its output, and what the layer puts out."""
    model = _evaluating(graph, state)
    if logits:
        _without_softmax(model)
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
    return jax.tree.map(_in_float32, _tapped(graph, layer, state, clip)[1])


def _in_float32(x):
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _heat(graph, layer: str, class_index: int | None, state, clip):
    """Returns Grad-CAM, (B, T, H, W)."""
    features = jax.eval_shape(functools.partial(_tapped, graph, layer), state, clip)[1]
    if getattr(features, "ndim", None) != 5:
        raise ValueError(
            f"layer {layer!r} puts out {jax.tree.map(jnp.shape, features)}; Grad-CAM "
            "needs (B, T, H, W, C)"
        )

    scores = _evaluating(graph, state)(clip)
    if class_index is not None and not 0 <= class_index < scores.shape[-1]:
        raise ValueError(
            f"`class_index` must be at least 0 and below {scores.shape[-1]}; got "
            f"{class_index}"
        )
    best = jnp.argmax(scores, -1) if class_index is None else class_index
    chosen = jnp.broadcast_to(best, scores.shape[:1])[:, None]

    def score(nudge):
        scores, seen = _tapped(
            graph, layer, state, clip, lambda y: y + nudge, logits=True
        )
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
