"""What people in given boxes of a video do.

boxes at moments -> clip around each (`views.clips_around`) -> network -> scores

The networks score boxes; they do not find them. The boxes come from a person detector.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import splitting, views
from jaxflow.data import ava
from jaxflow.layers import precision as precisions


class Moment(NamedTuple):
    """What was scored at one moment of a video.

    Attributes:
        second: When, in seconds from the start.
        corners: Boxes, (N, 4): x1, y1, x2, y2 as parts of the frame.
        scores: One for each class, (N, classes) float32. Of a network for AVA, class i
            is action i + 1.
    """

    second: float
    corners: np.ndarray
    scores: np.ndarray


def detect_actions(
    model: nnx.Module,
    video: views.Video,
    boxes: Iterable[ava.Box],
    *,
    num_frames: int | None = None,
    stride: float | None = None,
    fps: float | None = None,
    short_side: int | None = None,
    precision: precisions.Precision = "highest",
) -> Iterator[Moment]:
    """Scores what people do, at every moment of which there are boxes.

    Boxes that are the same at one moment are scored once: annotations repeat them for
    each action. As in PySlowFast, a box is cut off at the frame's border.

    Args:
        model: A network that scores boxes, such as slowfast_8x8_r50_ava, with its
            weights. It runs in evaluation mode, and is not changed.
        video: See `jaxflow.classify_video`.
        boxes: Of this video, whatever the name in them; from a person detector, such as
            `jaxflow.data.ava.read_boxes` reads.
        num_frames: See `views.clips_around`, as for those below.
        stride: See there.
        fps: See there.
        short_side: See there.
        precision: Of products of float32 numbers; as for `jaxflow.estimate_flow`.

    Returns:
        An iterator over moments, in order of time. The memory it takes does not grow
        with the length of the video.

    Raises:
        ValueError: If there are no boxes or one is not in the video, `model` scores no
            boxes, or as `jaxflow.classify_video`.

    Examples:
        >>> import types
        >>> from flax import nnx
        >>> from jaxflow.data import ava
        >>> class Bright(nnx.Module):  # says whether a box is bright or dark
        ...     config = types.SimpleNamespace(
        ...         regions="aligned", num_frames=2, frame_stride=1, crop_size=14
        ...     )
        ...     def __call__(self, clip, boxes, *, key=None):
        ...         left = boxes[:, 1].astype(int)
        ...         light = clip[0, 0, 8, left, 0]
        ...         return jnp.stack([light - 0.5, 0.5 - light], axis=-1) * 10
        >>> video = np.zeros((8, 16, 16, 3), np.uint8)
        >>> video[:, :, 8:] = 255
        >>> boxes = [ava.Box("film", 1.0, (x, 0.25, x + 0.4, 0.75)) for x in (0.1, 0.6)]
        >>> for second, corners, scores in jaxflow.detect_actions(
        ...     Bright(), video, boxes, fps=4
        ... ):
        ...     print(second, scores.argmax(-1).tolist())
        1.0 [1, 0]
    """
    network = views.check_network(model)
    if getattr(getattr(network, "config", None), "regions", "none") == "none":
        raise ValueError(
            "`model` must score boxes, as slowfast_8x8_r50_ava and slow_4x16_r50_ava "
            'do, or a network that is created with regions="legacy" or "aligned"'
        )
    moments = _moments(boxes)
    clips = views.clips_around(
        network,
        video,
        list(moments),
        num_frames=num_frames,
        stride=stride,
        fps=fps,
        short_side=short_side,
    )
    return _scored(network, clips, moments, precision)


def _moments(boxes: Iterable[ava.Box]) -> dict[float, np.ndarray]:
    """Groups boxes by time: second -> (N, 4)."""
    found: dict[float, dict[tuple, None]] = {}
    for box in boxes:
        found.setdefault(float(box.second), {})[tuple(box.corners)] = None
    if not found:
        raise ValueError("`boxes` must not be empty")
    return {second: np.array(list(found[second])) for second in sorted(found)}


def _scored(
    network: Any, clips: Iterator[np.ndarray], moments: dict, precision
) -> Iterator[Moment]:
    """Runs the network at each moment, always on the same number of rows."""
    structure, leaves = splitting.split(network)
    logits = getattr(network.config, "head_mode", "logit_mean") == "logit_mean"
    most = max(map(len, moments.values()))
    for (second, corners), clip in zip(moments.items(), clips, strict=True):
        height, width = clip.shape[1:3]
        sides = np.array([width, height, width, height])
        rows = np.full((most, 5), -1.0)
        rows[: len(corners), 0] = 0
        rows[: len(corners), 1:] = np.clip(corners * sides, 0, sides - 1)
        with precisions.of_products(precision):
            out = _run(structure, leaves, jnp.asarray(clip)[None], jnp.asarray(rows))
        out = jax.nn.sigmoid(out) if logits else out
        yield Moment(second, corners, np.asarray(out, np.float32)[: len(corners)])


@functools.partial(jax.jit, static_argnums=0)
def _run(structure, leaves, clip, boxes):
    model = structure.model(leaves)
    model.eval()
    return model(clip, boxes)
