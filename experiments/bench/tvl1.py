"""Times TV-L1 against OpenCV's DualTVL1OpticalFlow; see `runner` for usage.

The peer is OpenCV, which the test extra brings: name the interpreter that runs this,

    JAXFLOW_PEER_PYTHON=.venv/bin/python .venv/bin/python experiments/bench/tvl1.py

"equal work": the same scales, warps and iterations, no median, no early stop.
"""

import functools

import numpy as np
import runner


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


def ours(size, **options):
    """Prepares our side."""
    from jaxflow.classical import tvl1

    gray = (frame[..., None] / np.float32(255) for frame in frames(*size))
    return runner.jax_call(functools.partial(tvl1.tvl1, **options), *gray)


def peer(size, **settings):
    """Prepares OpenCV."""
    import cv2

    cv2.setNumThreads(1)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    for name, value in settings.items():
        getattr(solver, f"set{name}")(value)
    pair = frames(*size)
    return lambda: solver.calc(*pair, None)


EQUAL = (
    dict(outer_iterations=1, median=1, tolerance=0.0),
    dict(OuterIterations=1, MedianFiltering=1, Epsilon=0.0),
)
SETTINGS = {
    "436x1024 defaults": ((436, 1024), {}, {}),
    "436x1024 equal work": ((436, 1024), *EQUAL),
    "388x584 equal work": ((388, 584), *EQUAL),
}
CASES = {
    name: (
        functools.partial(ours, size, **options),
        functools.partial(peer, size, **settings),
    )
    for name, (size, options, settings) in SETTINGS.items()
}

if __name__ == "__main__":
    runner.main(CASES)
