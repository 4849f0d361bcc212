"""A page to look at flow: one HTML file that needs no server and no network.

It shows flow in colour with the numbers under the cursor, arrows, frame 1 in turn with
frame 2 warped onto it, the error where the truth is given, and a clip with a slider.
The numbers in the page are those of the array, to the last bit of float32.
"""

import base64
import html
import importlib.resources
import io
import zlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from PIL import Image

from jaxflow import ops, viz
from jaxflow.io import files, image
from jaxflow.viz import known


def render(
    flow: npt.ArrayLike,
    *,
    valid: npt.ArrayLike | None = None,
    frames: Sequence[npt.ArrayLike] = (),
    second_frames: Sequence[npt.ArrayLike] = (),
    target: npt.ArrayLike | None = None,
    target_valid: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
    title: str = "Flow",
    max_flow: float | None = None,
    fps: float = 5.0,
) -> str:
    """Returns the page as text; write it to a file that ends in .html.

    Args:
        flow: Flow of T pairs, (T, H, W, 2), or of one, (H, W, 2), in pixels. What is
            not finite, or beyond 1e9, is unknown.
        valid: Where the flow is known, (T, H, W) or (H, W); None takes all of it.
        frames: The pictures that the flow is between, each (H, W, 3) or (H, W): none,
            T first frames, or T + 1, of which the last is the second frame of the last
            pair. uint8 or uint16, or float in [0, 1].
        second_frames: The T pictures that the flow goes to, where they are not each
            the first frame of the next pair, as of flow backward in time or of pairs
            that overlap; `frames` are then T.
        target: The true flow, of the shape of `flow`; the page then shows the error.
        target_valid: Where the truth is known, of the shape of `valid`.
        names: What each pair is called; None numbers them.
        title: On top of the page, as text.
        max_flow: Length of a vector in full colour, in pixels; None takes the scale of
            `viz.clip_scale`.
        fps: Pairs a second when the clip is played.

    Returns:
        HTML. A pixel of flow takes about 6 to 10 bytes of it, and as much again if
        there is a target.

    Raises:
        ValueError: If a shape does not fit, or `max_flow` or `fps` is not positive.
    """
    flow = _unknown_as_nan("flow", flow, valid)
    truth = (
        target if target is None else _unknown_as_nan("target", target, target_valid)
    )
    pictures, seconds = (
        [_picture(name, frame, flow.shape[1:3]) for frame in given]
        for name, given in (("frames", frames), ("second_frames", second_frames))
    )
    names = [str(t) for t in range(len(flow))] if names is None else list(names)
    _check(flow, truth, pictures, seconds, names)
    seconds = seconds or pictures[1:]
    for name, value in (("max_flow", max_flow), ("fps", fps)):
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"`{name}` must be a positive number; got {value}")
    scale = max_flow or viz.clip_scale([viz.max_speed(each) for each in flow])
    truths = [None] * len(flow) if truth is None else truth
    pairs = [
        _pair(
            names[t],
            flow[t],
            truths[t],
            [*pictures[t : t + 1], *seconds[t : t + 1]],
            scale,
        )
        for t in range(len(flow))
    ]
    return _fill(
        title,
        {
            "size": flow.shape[1:3],
            "max_flow": float(scale),
            "fps": float(fps),
            "views": _views(pairs),
            "frames": pairs,
            "legend": _png(viz.legend(max_flow=scale)),
        },
    )


def _check(
    flow: np.ndarray,
    truth: np.ndarray | None,
    pictures: Sequence[np.ndarray],
    seconds: Sequence[np.ndarray],
    names: Sequence[str],
) -> None:
    """Raises unless there is as much of everything as there are pairs."""
    count = len(flow)
    if truth is not None and truth.shape != flow.shape:
        raise ValueError(
            f"`target` must have the shape of `flow`, {flow.shape}; got {truth.shape}"
        )
    if len(pictures) not in (0, count, count + 1):
        raise ValueError(
            f"`frames` must be {count} or {count + 1} pictures for {count} pairs; "
            f"got {len(pictures)}"
        )
    if seconds and not len(pictures) == len(seconds) == count:
        raise ValueError(
            f"`second_frames` and `frames` must be {count} pictures each for {count} "
            f"pairs; got {len(seconds)} and {len(pictures)}"
        )
    if len(names) != count:
        raise ValueError(
            f"`names` must be {count}, one for each pair; got {len(names)}"
        )


def _views(pairs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what can be shown of every pair, in the order of the buttons."""
    order = ("flow", "frame1", "frame2", "warped", "blink", "truth", "error")
    needs = {"blink": "warped"}
    return [
        view
        for view in order
        if all(needs.get(view, view) in pair["pictures"] for pair in pairs)
    ]


def _fill(title: str, data: dict[str, Any]) -> str:
    """Returns the page with its data."""
    # "<" would end the element that holds the data.
    text = files.json_text(data).replace("<", "\\u003c")
    page = (
        importlib.resources.files("jaxflow").joinpath("viewer.html").read_text("utf-8")
    )
    before, after = page.replace("{{title}}", html.escape(title)).split("{{data}}")
    return f"{before}{text}{after}"


def _unknown_as_nan(name: str, flow: npt.ArrayLike, valid: Any) -> np.ndarray:
    """Returns flow as (T, H, W, 2) float32, NaN where it is unknown."""
    array = np.asarray(flow, np.float32)
    if array.ndim not in (3, 4) or array.shape[-1] != 2 or not array.size:
        raise ValueError(
            f"`{name}` must have the shape (T, H, W, 2) or (H, W, 2); got {array.shape}"
        )
    if valid is not None and np.shape(valid) != array.shape[:-1]:
        label = {"flow": "valid", "target": "target_valid"}[name]
        raise ValueError(
            f"`{label}` must have the shape {array.shape[:-1]} of `{name}`; "
            f"got {np.shape(valid)}"
        )
    _, is_known = known.split_known(array, valid)
    array = np.where(is_known[..., None], array, np.float32(np.nan))
    return array if array.ndim == 4 else array[None]


def _picture(name: str, frame: npt.ArrayLike, size: tuple[int, ...]) -> np.ndarray:
    """Returns a frame as (H, W, 3) float in [0, 1]."""
    frame = np.asarray(frame)
    if frame.shape[:2] != size or frame.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"`{name}` must have the size of the flow, {size[0]} x {size[1]} (height x "
            f"width), and three channels or none; got the shape {frame.shape}"
        )
    frame = frame[..., None] if frame.ndim == 2 else frame
    return np.broadcast_to(image.as_float(frame, name=name), (*size, 3))


def _pair(
    name: str,
    flow: np.ndarray,
    truth: np.ndarray | None,
    frames: Sequence[np.ndarray],
    scale: float,
) -> dict[str, Any]:
    """Returns what the page holds of one pair."""
    shown = {"flow": viz.flow_to_image(flow, max_flow=scale)}
    facts = [f"{flow.shape[1]} × {flow.shape[0]} px", f"full colour {scale:.3g} px"]
    facts.append(f"longest {viz.max_speed(flow):.3g} px")
    held = {"flow": _numbers(flow)}
    if frames:
        shown["frame1"] = _uint8(frames[0])
    if len(frames) == 2:
        shown["frame2"] = _uint8(frames[1])
        shown["warped"] = _warped(frames[1], flow)
    if truth is not None:
        held["truth"] = _numbers(truth)
        shown["truth"] = viz.flow_to_image(truth, max_flow=scale)
        shown["error"] = viz.error_map(flow, truth)
        error = np.hypot(*np.moveaxis(flow - truth, -1, 0))
        if np.isfinite(error).any():
            largest = f"largest {np.nanmax(error):.3g} px (white)"
            facts.append(f"mean error {np.nanmean(error):.3f} px, {largest}")
        missing = np.isnan(flow).any(-1) & ~np.isnan(truth).any(-1)
        if missing.any():
            facts.append(f"{missing.mean():.1%} of the true flow is not estimated")
    pictures = {view: _png(picture) for view, picture in shown.items()}
    return {"name": name, "facts": " · ".join(facts), "pictures": pictures, **held}


def _warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Returns frame 2 where frame 1 would see it; gray where nothing is known."""
    steps = jnp.asarray(np.nan_to_num(flow))
    ones = jnp.ones((*frame.shape[:2], 1), jnp.float32)
    source = jnp.concatenate([jnp.asarray(frame, jnp.float32), ones], -1)
    out = np.asarray(ops.backward_warp(source, steps, padding="zeros"))
    inside = ~np.isnan(flow).any(-1) & (out[..., 3] > 0.999)
    return _uint8(np.where(inside[..., None], out[..., :3], 0.5))


def _uint8(picture: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _png(picture: np.ndarray) -> str:
    """Returns a picture as the address of itself."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _numbers(array: np.ndarray) -> str:
    """Packs float32 numbers: all first bytes, all second ones …, zlib, base64.

    Neighbours have like exponents, so equal bytes come to lie side by side.
    """
    planes = np.ascontiguousarray(array, "<f4").view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()
