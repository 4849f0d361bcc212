"""Times local correlation against PyTorch.

The peer multiplies one slice of the padded second map for each displacement.
"""

import functools

import numpy as np

from experiments.bench import runner


def maps(height, width, channels):
    """Two feature maps, channels last."""
    rng = np.random.default_rng(0)
    shape = (2, 1, height, width, channels)
    return tuple(rng.standard_normal(shape, dtype=np.float32))


def ours(call, shape, radius, dilation):
    """Prepares our side."""
    from jaxflow import ops

    function = functools.partial(
        ops.local_correlation, radius=radius, dilation=dilation
    )
    return getattr(runner, f"jax_{call}")(function, *maps(*shape))


def slices(one, two, radius, dilation):
    """The peer, on (1, C, H, W)."""
    import torch

    height, width = one.shape[2:]
    reach = radius * dilation
    padded = torch.nn.functional.pad(two, (reach, reach, reach, reach))
    steps = range(0, 2 * reach + 1, dilation)
    return torch.stack(
        [
            (one * padded[:, :, i : i + height, j : j + width]).mean(1)
            for i in steps
            for j in steps
        ],
        dim=1,
    )


def peer(call, shape, radius, dilation):
    """Prepares the peer's side."""
    function = functools.partial(slices, radius=radius, dilation=dilation)
    arrays = (np.ascontiguousarray(m.transpose(0, 3, 1, 2)) for m in maps(*shape))
    return getattr(runner, f"torch_{call}")(function, *arrays)


SETTINGS = {
    "112x256x32 radius 4": ((112, 256, 32), 4, 1),
    "56x128x64 radius 4": ((56, 128, 64), 4, 1),
    "28x64x96 radius 4": ((28, 64, 96), 4, 1),
    "48x64x256 radius 10 step 2": ((48, 64, 256), 10, 2),
}
CASES = {
    f"{name} {what}": runner.Rivals(
        functools.partial(ours, call, *settings),
        functools.partial(peer, call, *settings),
    )
    for name, settings in SETTINGS.items()
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
}
