"""Times backward warping by flow against PyTorch.

The peer is `grid_sample` with aligned corners, the grid built from the flow.
"""

import functools

import numpy as np

from experiments.bench import runner

SETTINGS = {
    "112x256x32": (1, 112, 256, 32),
    "4x64x64x64": (4, 64, 64, 64),
    "448x1024x3": (1, 448, 1024, 3),
}


def arrays(shape):
    """An image and a flow of a few pixels, channels last."""
    rng = np.random.default_rng(0)
    flow = 3 * rng.standard_normal((*shape[:-1], 2), dtype=np.float32)
    return rng.standard_normal(shape, dtype=np.float32), flow


def ours(call, *shape):
    """Prepares our side."""
    from jaxflow import ops

    return getattr(runner, f"jax_{call}")(ops.backward_warp, *arrays(shape))


def sample(image, flow):
    """The peer, on (B, C, H, W) and (B, H, W, 2)."""
    import torch

    height, width = image.shape[2:]
    x = torch.linspace(-1, 1, width) + flow[..., 0] * (2 / (width - 1))
    y = torch.linspace(-1, 1, height)[:, None] + flow[..., 1] * (2 / (height - 1))
    grid = torch.stack([x, y], dim=-1)
    return torch.nn.functional.grid_sample(image, grid, align_corners=True)


def peer(call, *shape):
    """Prepares the peer's side."""
    image, flow = arrays(shape)
    image = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    return getattr(runner, f"torch_{call}")(sample, image, flow)


CASES = {
    f"{name} {what}": runner.Rivals(
        functools.partial(ours, call, *shape),
        functools.partial(peer, call, *shape),
    )
    for name, shape in SETTINGS.items()
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
}
