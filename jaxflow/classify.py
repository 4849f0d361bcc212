"""Scores the classes of any video: it is decoded and seen in several views.

    video -> views (`jaxflow.views`) -> network -> mean or maximum over the views

`jaxflow.explain` looks inside the network instead; its functions are here, too.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from jaxflow import _checks, splitting, spreading
from jaxflow import views as sampling
from jaxflow.explain import check_layer as check_layer
from jaxflow.explain import extract_features as extract_features
from jaxflow.explain import grad_cam as grad_cam
from jaxflow.explain import layer_names as layer_names
from jaxflow.explain import overlay as overlay
from jaxflow.explain import view_features as view_features
from jaxflow.layers import precision as precisions
from jaxflow.views import CROPS as CROPS
from jaxflow.views import Placement as Placement
from jaxflow.views import Video as Video
from jaxflow.views import clip_indices as clip_indices
from jaxflow.views import sample_views as sample_views
from jaxflow.views import spatial_views as spatial_views


def classify_video(
    model: nnx.Module | str,
    video: Video,
    *,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    combine: Literal["mean", "max"] = "mean",
    batch_size: int = 4,
    precision: precisions.Precision = "highest",
    **options: Any,
) -> np.ndarray:
    """Scores the classes of a video.

    Args:
        model: A recognition network with its weights. It runs in evaluation mode,
            whatever mode it is in, and is not changed.
        video: A file, a folder of pictures or a pattern such as ``clip/*.png``; or
            frames, (T, H, W, 3), (T, H, W, 1) or (T, H, W), uint8 or float in [0, 1]. A
            network on flow takes (T, H, W, 2) or a folder of pictures of flow, one of
            two streams (T, H, W, 5); or they take frames and `flow` beside them.
        activation: What turns logits into scores. Probabilities that the model itself
            returns (`head_mode="softmax_mean"`) are left as they are.
        combine: How the scores of the views are joined.
        batch_size: Views that go through the network at once, shared by the devices
            that this process has.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.
        **options: Options of `sample_views`: `clips` and `crops` (10 and 3 are the
            usual 30 views), `random_views`, `placement`, `num_frames`, `stride`,
            `seconds`, `fps`, `crop_size`, `short_side`, `seed`, `flow`.

    Returns:
        (classes,) float32: probabilities of sum 1 for "softmax" and "mean".

    Raises:
        ValueError: If the video is damaged, empty, has NaN, or the wrong shape; if an
            option is out of range; or if `model` is no recognition network, such as a
            name without weights.
        TypeError: If there is no such option.

    Examples:
        >>> from flax import nnx
        >>> class Colour(nnx.Module):  # says which colour there is most of
        ...     def __call__(self, clip, *, key=None):
        ...         return 10 * clip.mean((1, 2, 3))
        >>> video = np.zeros((4, 8, 8, 3), np.uint8)
        >>> video[..., 1] = 255
        >>> scores = jaxflow.classify_video(
        ...     Colour(), video, num_frames=4, stride=1, crop_size=8
        ... )
        >>> scores.round(2).tolist()
        [0.0, 1.0, 0.0]
    """
    _checks.one_of("combine", combine, ("mean", "max"))
    _checks.one_of("activation", activation, ("softmax", "sigmoid"))
    network = sampling.check_network(model)
    views = sample_views(network, video, **options)
    scores = score_views(
        network,
        views,
        activation=activation,
        batch_size=batch_size,
        precision=precision,
    )
    return scores.mean(0) if combine == "mean" else scores.max(0)


def score_views(
    model: nnx.Module,
    views: Iterable[np.ndarray],
    *,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    batch_size: int = 4,
    precision: precisions.Precision = "highest",
) -> np.ndarray:
    """Scores the classes of every view.

    Args:
        model: A recognition network; it runs in evaluation mode, and is not changed.
        views: As `sample_views` gives them.
        activation: See `classify_video`.
        batch_size: Views that go through the network at once.
        precision: See `classify_video`.

    Returns:
        (views, classes) float32.

    Raises:
        ValueError: If an option is out of range, a view is not what the network takes,
            or there are none.

    Examples:
        >>> from flax import nnx
        >>> class Colour(nnx.Module):
        ...     def __call__(self, clip, *, key=None):
        ...         return 10 * clip.mean((1, 2, 3))
        >>> red, blue = np.zeros((2, 2, 4, 4, 3), np.float32)
        >>> red[..., 0], blue[..., 2] = 1, 1
        >>> jaxflow.classify.score_views(Colour(), [red, blue]).argmax(-1).tolist()
        [0, 2]
    """
    _checks.one_of("activation", activation, ("softmax", "sigmoid"))
    known = splitting.split(sampling.check_network(model))
    config = getattr(model, "config", None)
    logits = getattr(config, "head_mode", "logit_mean") == "logit_mean"
    scores = []
    for batch, count in sampling.batches(views, batch_size):
        with precisions.of_products(precision):
            out = spreading.call(_run, known, (batch,), len(batch))
        out = getattr(jax.nn, activation)(out) if logits else out
        scores.append(np.asarray(out, np.float32)[:count])
    if not scores:
        raise ValueError("`views` must not be empty")
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

    Examples:
        >>> scores = np.array([0.1, 0.7, 0.2])
        >>> jaxflow.classify.top_k(scores, 2, labels=("run", "jump", "rest"))
        [('jump', 0.7), ('rest', 0.2)]
    """
    if labels is not None and len(labels) != len(scores):
        raise ValueError(
            f"`labels` must name each of {len(scores)} classes; got {len(labels)}"
        )
    order = np.argsort(-np.asarray(scores), kind="stable")[:k]
    names = list(map(str, range(len(scores)))) if labels is None else list(labels)
    return [(names[i], float(scores[i])) for i in order]


@functools.partial(jax.jit, static_argnums=0)
def _run(structure, leaves, clip):
    model = structure.model(leaves)
    model.eval()
    return model(clip)
