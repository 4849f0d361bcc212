"""In what stages a network makes a video that is longer than its clips."""

from typing import Any

import numpy as np

from jaxflow import _checks
from jaxflow.diffusion import long_video


def plan(
    model: Any, mask: np.ndarray, task: str, scheme: Any, most: int
) -> list[long_video.Stage]:
    """Plans the stages of a video.

    Args:
        model: A network of task "generation".
        mask: Which frames are given, (T,) bool.
        task: A name in `jaxflow.diffusion.masks.TASKS`, or "any".
        scheme: A name in `long_video.SCHEMES`, or None; see `jaxflow.generate`.
        most: Frames of a clip.

    Raises:
        ValueError: If the network cannot make the video, or not by this scheme.
    """
    length, numbered = len(mask), "indices" in model.takes
    if scheme is not None:
        _checks.one_of("scheme", scheme, long_video.SCHEMES)
    ordered = task in ("future", "past", "unconditional")
    if scheme is not None and not ordered:
        raise ValueError(
            f"`scheme` is for frames given at one end; got {scheme!r} for {task!r}"
        )
    if not numbered and scheme not in (None, "autoreg"):
        raise ValueError(
            f"`scheme` {scheme!r} needs a network that is told the numbers of frames; "
            "this one takes 'autoreg'"
        )
    slots = getattr(model, "generates", None)
    new = None if slots is None else len(slots)
    if length <= most or not ordered:
        stages = long_video.between(mask, most=most, new=new if new != most else None)
    else:
        scheme = scheme or ("hierarchy-2" if numbered else "autoreg")
        given = int(mask.sum())
        stages = long_video.schedule(scheme, length, given=given, most=most, new=new)
    if length > most and task == "past":
        stages = [
            long_video.Stage(
                [length - 1 - i for i in stage.observed],
                sorted(length - 1 - i for i in stage.latent),
            )
            for stage in stages
        ]
    if slots is not None:
        for stage in stages:
            _check_slots(stage, slots, model.config.num_frames)
    return stages


def _check_slots(
    stage: long_video.Stage, slots: tuple[int, ...], num_frames: int
) -> None:
    """Raises if a network that generates certain frames of a clip cannot do a stage."""
    frames = sorted({*stage.observed, *stage.latent})
    places = tuple(frames.index(frame) for frame in stage.latent)
    if places != slots or len(frames) != num_frames:
        raise ValueError(
            f"this network generates frames {slots[0]} to {slots[-1]} of {num_frames}, "
            f"from the {num_frames - len(slots)} others: it cannot generate "
            f"{stage.latent} from {sorted(stage.observed)}; give it as many frames, "
            f"and a `length` of these and a multiple of {len(slots)}"
        )
