"""The report of the demo: its pictures, and what it says."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxflow import evaluate, ops, viz
from jaxflow.demo import methods, page
from jaxflow.demo.methods import OURS, ZERO, Estimator
from jaxflow.io import files


@dataclasses.dataclass(frozen=True)
class Result:
    """What the demo found out.

    Attributes:
        scenes: Method -> metrics on held-out scenes.
        photograph: Method -> metrics on the moved photograph; {} without scikit-image.
        curve: (seconds of training, step, error relative to zero flow) along the way.
        restored: Whether every leg began with exactly what the one before had saved.
        seconds: How long it all took.
        path: The report.
    """

    scenes: dict[str, dict[str, float]]
    photograph: dict[str, dict[str, float]]
    curve: list[tuple[float, int, float]]
    restored: bool
    seconds: float
    path: pathlib.Path

    @property
    def ratio(self) -> float:
        """Error of the trained net over that of zero flow, on held-out scenes."""
        return self.scenes[OURS]["epe"] / self.scenes[ZERO]["epe"]


def show_pair(title: str, pair: evaluate.Pair, methods: Mapping[str, Estimator]) -> str:
    """Returns two rows of pictures: frames and truth; each method and its error."""
    first, second, target, _ = pair
    # The fastest hundredth may be dark, so that the rest is not pale.
    scale = max(float(np.quantile(np.linalg.norm(target, axis=-1), 0.99)), 1.0)
    given = [
        page.figure(first, "frame 1"),
        page.figure(second, "frame 2"),
        page.figure(viz.flow_to_image(target, max_flow=scale), "true flow"),
        page.figure(viz.legend(max_flow=scale), "direction and speed"),
    ]
    found = []
    for name, method in methods.items():
        if name == ZERO:
            continue
        flow = np.asarray(method(first, second))
        epe = np.linalg.norm(flow - target, axis=-1).mean()
        found.append(page.figure(viz.flow_to_image(flow, max_flow=scale), name))
        caption = f"its error, {epe:.2f} px (white: {scale / 2:.1f} px)"
        found.append(
            page.figure(viz.error_map(flow, target, max_error=scale / 2), caption)
        )
    return page.gallery(title, given, found)


def show_own(
    compared: Mapping[str, Estimator], first: np.ndarray, second: np.ndarray
) -> str:
    """Returns rows of pictures for frames without a known flow, a network a row."""
    first, second = (_at_most(frame, 512) for frame in (first, second))
    one, two = (jnp.asarray(frame, jnp.float32) / 255 for frame in (first, second))
    flows = {
        name: np.asarray(compared[name](first, second))
        for name in (methods.SHIPPED[-1], OURS)
    }
    scale = max(map(viz.max_speed, flows.values())) or 1.0
    rows = [
        [
            page.figure(first, "frame 1"),
            page.figure(second, "frame 2"),
            page.figure(viz.legend(max_flow=scale), "direction and speed"),
        ]
    ]
    said = [f"{float(jnp.abs(one - two).mean()):.4f} before"]
    for name, flow in flows.items():
        warped = ops.backward_warp(two, jnp.asarray(flow), padding="border")
        said.append(f"{float(jnp.abs(one - warped).mean()):.4f} after by {name}")
        back = np.rint(255 * np.asarray(warped)).astype(np.uint8)
        rows.append(
            [
                page.figure(viz.flow_to_image(flow, max_flow=scale), name),
                page.figure(viz.draw_arrows(first, flow, stride=24), "as arrows"),
                page.figure(back, "frame 2, moved back by it"),
            ]
        )
    text = (
        "Mean difference to frame 1 when frame 2 is moved back by the estimated flow "
        f"(1 is black against white): {', '.join(said)}."
    )
    return page.gallery("Your frames", *rows, text=text)


def write(result: Result, facts: Sequence[str], pictures: Sequence[str]) -> None:
    """Writes the report, one HTML page.

    Args:
        result: What was measured, and where the report goes.
        facts: Sentences about the training, as HTML.
        pictures: From `show_pair` and `show_own`.
    """
    zero = result.scenes[ZERO]["epe"]
    others = {
        name: row["epe"] / zero
        for name, row in result.scenes.items()
        if name not in (OURS, ZERO)
    }
    beside = ", ".join(f"{name} {ratio:.2f}" for name, ratio in others.items())
    facts = [
        *facts,
        f"Error on held-out scenes, as a multiple of that of zero flow: "
        f"<b>{result.ratio:.2f}</b>; {beside}.",
        f"All of it took {result.seconds / 60:.1f} minutes.",
    ]
    table = functools.partial(page.table, zero=ZERO, ours=OURS)
    tables = [table("Held-out scenes", result.scenes)]
    if result.photograph:
        tables.append(table("The moved photograph", result.photograph))
    text = page.render(
        facts=facts, tables=tables, curve=result.curve, pictures=pictures
    )
    files.write_bytes(result.path, text.encode())


def _at_most(frame: np.ndarray, side: int) -> np.ndarray:
    """Shrinks a picture until its longer side is at most `side`; returns uint8."""
    if frame.dtype != np.uint8:
        frame = (frame // 257).astype(np.uint8)
    picture = Image.fromarray(frame).convert("RGB")
    factor = min(side / max(picture.size), 1.0)
    width, height = (max(round(factor * n), 1) for n in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
