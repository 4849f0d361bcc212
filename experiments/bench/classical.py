"""Times classical flow against OpenCV, on one thread of it.

"equal work" of TV-L1: the same scales, warps and iterations, no median, no early stop.
Lucas and Kanade's is dense here and at points there, so that OpenCV is given as many
points as it has pixels, at the same levels, window and iterations.
"""

import functools

import numpy as np

from experiments.bench import runner


def frames(height, width):
    """Blurred noise that turns by half a degree, grows by 1 % and moves, in gray."""
    import cv2

    rng = np.random.default_rng(0)
    noise = sum(
        s * cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), s)
        for s in (1.5, 4.0, 12.0)
    )
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), 0.5, 1.01)
    move[:, 2] += 2.5, -1.25
    border = cv2.BORDER_REFLECT
    return noise, cv2.warpAffine(noise, move, (width, height), None, 1, border)


def ours(method, size, **options):
    """Prepares one of our methods."""
    from jaxflow import classical

    gray = (frame[..., None] / np.float32(255) for frame in frames(*size))
    function = functools.partial(classical.METHODS[method], **options)
    return runner.jax_call(function, *gray)


def peer_tvl1(size, **settings):
    """Prepares OpenCV's TV-L1."""
    import cv2

    cv2.setNumThreads(1)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    for name, value in settings.items():
        getattr(solver, f"set{name}")(value)
    pair = frames(*size)
    return lambda: solver.calc(*pair, None)


def peer_lucas_kanade(size):
    """Prepares OpenCV's Lucas and Kanade, at every pixel."""
    import cv2

    cv2.setNumThreads(1)
    pair = frames(*size)
    y, x = np.indices(size, np.float32)
    points = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    end = (cv2.TERM_CRITERIA_COUNT, 5, 0.0)
    return lambda: cv2.calcOpticalFlowPyrLK(
        *pair, points, None, winSize=(15, 15), maxLevel=4, criteria=end
    )


EQUAL = (
    dict(outer_iterations=1, median=1, tolerance=0.0),
    dict(OuterIterations=1, MedianFiltering=1, Epsilon=0.0),
)
SETTINGS = {
    "TV-L1 436x1024 defaults": ((436, 1024), {}, {}),
    "TV-L1 436x1024 equal work": ((436, 1024), *EQUAL),
    "TV-L1 388x584 equal work": ((388, 584), *EQUAL),
}
CASES = {
    name: runner.Rivals(
        functools.partial(ours, "tvl1", size, **options),
        functools.partial(peer_tvl1, size, **settings),
        "cv2",
    )
    for name, (size, options, settings) in SETTINGS.items()
} | {
    "Lucas-Kanade 388x584 window 15, every pixel": runner.Rivals(
        functools.partial(ours, "lucas_kanade", (388, 584), tolerance=0.0),
        functools.partial(peer_lucas_kanade, (388, 584)),
        "cv2",
    )
}
