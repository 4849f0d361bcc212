"""The pairs that an estimator of flow is worst at, as pictures."""

import heapq
import math
import pathlib
import re
from typing import Any

import numpy as np

from jaxflow import io, viz
from jaxflow.cli import common


class Worst:
    """Keeps the pairs with the largest mean endpoint errors.

    Args:
        count: How many; 0 keeps none.
    """

    def __init__(self, count: int):
        self.count = count
        self.seen = 0
        self._kept: list[tuple[float, int, Any]] = []

    def add(self, pair, flow: np.ndarray, row: dict[str, float]) -> None:
        """Looks at a pair; see `jaxflow.evaluate.evaluate_flow`.

        A pair without a pixel that counts is never among the worst; one whose error is
        NaN is worse than any number.
        """
        index, self.seen = self.seen, self.seen + 1
        if not self.count or not np.any(pair[3]):
            return
        error = math.inf if math.isnan(row["epe"]) else row["epe"]
        # Of equal errors the earlier pair stays; no two have one index.
        entry = (error, -index, (pair, flow))
        if len(self._kept) < self.count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def write(self, folder: str, name: str) -> list[str]:
        """Writes a picture for each, the worst first.

        Args:
            folder: That they go into.
            name: Begin of their names, before the place and the number of the pair.

        Returns:
            Their paths.
        """
        stem = re.sub(r"[^\w.=-]", "-", name)
        written = []
        for place, (error, index, (pair, flow)) in enumerate(
            sorted(self._kept, key=lambda entry: (-entry[0], -entry[1])), 1
        ):
            path = pathlib.Path(folder, f"{stem}_{place:02d}_pair{-index:05d}.png")
            io.write_image(path, draw(pair, flow, error))
            written.append(str(path))
        return written


def draw(pair, flow: np.ndarray, error: float) -> np.ndarray:
    """Draws a frame, its true flow, the estimate in the same colours, and the error.

    Args:
        pair: Frame 1, frame 2, the true flow, where it is known, and what else.
        flow: The estimate, (H, W, 2).
        error: Its mean endpoint error, in pixels.

    Returns:
        (H', W', 3) uint8.
    """
    frame, _, target, valid, *_ = pair
    scale = viz.max_speed(target, valid=valid) or 1.0
    return viz.panel(
        [
            np.round(255 * io.as_float(common.uint8_or_float(frame))).astype(np.uint8),
            viz.flow_to_image(target, max_flow=scale, valid=valid),
            viz.flow_to_image(flow, max_flow=scale),
            viz.error_map(flow, target, valid=valid),
        ],
        labels=[
            "frame 1",
            "true flow",
            "estimate",
            f"error, {error:.2f} px on average",
        ],
        columns=2,
    )
