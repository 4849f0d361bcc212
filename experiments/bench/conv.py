"""Times 2-D convolution, transposed convolution and pooling against PyTorch.

PyTorch runs in its faster layout, channels last.
"""

import functools

import numpy as np

from experiments.bench import runner

# name: (input shape, C_out, window, settings)
CONVOLUTIONS = {
    "112x256 117->128 k3": ((1, 112, 256, 117), 128, 3, {}),
    "28x64 437->96 k3": ((1, 28, 64, 437), 96, 3, {}),
    "4x64x64 117->128 k3": ((4, 64, 64, 117), 128, 3, {}),
    "4x64x64 128->128 k3 dilation 4": ((4, 64, 64, 128), 128, 3, {"dilation": 4}),
    "4x128x128 64->96 k3 stride 2": ((4, 128, 128, 64), 96, 3, {"stride": 2}),
    "8x128x128 16->16 k3": ((8, 128, 128, 16), 16, 3, {}),
    "4x56x56 64->256 k1": ((4, 56, 56, 64), 256, 1, {}),
    "1x56x56 96 depthwise k3": ((1, 56, 56, 96), 96, 3, {"groups": 96}),
}
TRANSPOSED = {
    "28x64 512->256 transposed": ((1, 28, 64, 512), 256),
    "56x128 565->2 transposed": ((1, 56, 128, 565), 2),
}
POOLS = {"8x112x112x64 max k3 stride 2": (8, 112, 112, 64)}


def normal(*shape):
    """Gaussian numbers."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def ours(call, shape, features, window, settings):
    """Prepares our convolution."""
    from jaxflow import ops

    groups, dilation = settings.get("groups", 1), settings.get("dilation", 1)
    function = functools.partial(
        ops.conv,
        strides=settings.get("stride", 1),
        padding=dilation * (window - 1) // 2,
        dilation=dilation,
        groups=groups,
    )
    kernel = normal(window, window, shape[-1] // groups, features)
    return getattr(runner, f"jax_{call}")(function, normal(*shape), kernel)


def peer(call, shape, features, window, settings):
    """Prepares PyTorch's."""
    import torch

    padding = settings.get("dilation", 1) * (window - 1) // 2
    function = functools.partial(
        torch.nn.functional.conv2d, padding=padding, **settings
    )
    kernel = normal(features, window, window, shape[-1] // settings.get("groups", 1))
    arrays = (a.transpose(0, 3, 1, 2) for a in (normal(*shape), kernel))
    return getattr(runner, f"torch_{call}")(function, *arrays)


def our_transposed(call, shape, features):
    """Prepares our transposed convolution."""
    from jaxflow import ops

    function = functools.partial(ops.conv_transpose, strides=2, padding=1)
    kernel = normal(4, 4, shape[-1], features)
    return getattr(runner, f"jax_{call}")(function, normal(*shape), kernel)


def peer_transposed(call, shape, features):
    """Prepares PyTorch's."""
    import torch

    function = functools.partial(
        torch.nn.functional.conv_transpose2d, stride=2, padding=1
    )
    kernel = normal(shape[-1], 4, 4, features)
    arrays = (a.transpose(0, 3, 1, 2) for a in (normal(*shape), kernel))
    return getattr(runner, f"torch_{call}")(function, *arrays)


def our_pool(call, shape):
    """Prepares our pooling."""
    from jaxflow import ops

    function = functools.partial(ops.max_pool, window=3, strides=2, padding=1)
    return getattr(runner, f"jax_{call}")(function, normal(*shape))


def peer_pool(call, shape):
    """Prepares PyTorch's."""
    import torch

    function = functools.partial(
        torch.nn.functional.max_pool2d, kernel_size=3, stride=2, padding=1
    )
    array = normal(*shape).transpose(0, 3, 1, 2)
    return getattr(runner, f"torch_{call}")(function, array)


KINDS = (
    (CONVOLUTIONS, ours, peer),
    (TRANSPOSED, our_transposed, peer_transposed),
    ({name: (shape,) for name, shape in POOLS.items()}, our_pool, peer_pool),
)
CASES = {
    f"{name} {what}": runner.Rivals(
        functools.partial(mine, call, *settings),
        functools.partial(other, call, *settings),
    )
    for table, mine, other in KINDS
    for name, settings in table.items()
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
}
