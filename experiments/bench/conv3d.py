"""Times 3-D convolution against PyTorch.

PyTorch runs in its own layout, channels second.
"""

import functools

import numpy as np

from experiments.bench import runner

# name: (input shape, kernel shape, strides, groups)
SETTINGS = {
    "8x56x56 64->64 3x3x3": ((1, 8, 56, 56, 64), (3, 3, 3, 64, 64), 1, 1),
    "8x56x56 64->64 1x3x3": ((1, 8, 56, 56, 64), (1, 3, 3, 64, 64), 1, 1),
    "8x28x28 256->256 3x1x1": ((1, 8, 28, 28, 256), (3, 1, 1, 256, 256), 1, 1),
    "8x112x112 3->64 1x7x7": ((1, 8, 112, 112, 3), (1, 7, 7, 3, 64), (1, 2, 2), 1),
    "8x28x28 64->128 3x3x3 stride 2": ((1, 8, 28, 28, 64), (3, 3, 3, 64, 128), 2, 1),
    "8x28x28 96 depthwise 3x3x3": ((1, 8, 28, 28, 96), (3, 3, 3, 1, 96), 1, 96),
}


def arrays(shape, kernel_shape):
    """A clip and a kernel, channels last."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s, dtype=np.float32) for s in (shape, kernel_shape)]


def ours(call, shape, kernel_shape, strides, groups):
    """Prepares our side."""
    from jaxflow import ops

    function = functools.partial(
        ops.conv3d,
        strides=strides,
        padding=tuple(size // 2 for size in kernel_shape[:3]),
        groups=groups,
    )
    return getattr(runner, f"jax_{call}")(function, *arrays(shape, kernel_shape))


def peer(call, shape, kernel_shape, strides, groups):
    """Prepares the peer's side."""
    import torch

    function = functools.partial(
        torch.nn.functional.conv3d,
        stride=strides,
        padding=tuple(size // 2 for size in kernel_shape[:3]),
        groups=groups,
    )
    clip, kernel = arrays(shape, kernel_shape)
    clip = np.ascontiguousarray(clip.transpose(0, 4, 1, 2, 3))
    kernel = np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))
    return getattr(runner, f"torch_{call}")(function, clip, kernel)


CASES = {
    f"{name} {what}": runner.Rivals(
        functools.partial(ours, call, *settings),
        functools.partial(peer, call, *settings),
    )
    for name, settings in SETTINGS.items()
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
}
