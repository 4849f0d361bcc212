"""Times whole networks against PyTorch's; see `runner` for usage.

The peers are torchvision's RAFT and pytorchvideo's SlowFast, with random weights. Their
interpreter needs torch, torchvision and pytorchvideo.
"""

import functools

import numpy as np
import runner


def images(count, height, width):
    """Random pictures in [0, 1], channels last."""
    rng = np.random.default_rng(0)
    return rng.random((count, 1, height, width, 3), dtype=np.float32)


def ours(name, arrays, options):
    """Prepares one of our networks, in evaluation mode."""
    from flax import nnx

    import jaxflow
    from jaxflow import spec

    graph, state = nnx.split(jaxflow.create_model(name))

    def run(state, *arrays):
        found = nnx.merge(graph, state)(*arrays, **options)
        return found.flow if isinstance(found, spec.Flow) else found

    return runner.jax_call(run, state, *arrays())


@functools.cache
def declare_vision_operators():
    """Lets torchvision's pure-Python parts be imported without its compiled ones."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou) -> Tensor")
    return library


def torchvision_raft(name, arrays, iterations):
    """Prepares torchvision's RAFT."""
    library = declare_vision_operators()
    from torchvision.models import optical_flow

    model = getattr(optical_flow, name)().eval()
    pair = (np.ascontiguousarray(2 * a.transpose(0, 3, 1, 2) - 1) for a in arrays())
    call = functools.partial(model, num_flow_updates=iterations)
    call.library = library
    return runner.torch_call(call, *pair)


def pytorchvideo_slowfast(arrays):
    """Prepares pytorchvideo's SlowFast 4x16, R50."""
    library = declare_vision_operators()
    import torch
    from pytorchvideo.models import slowfast

    # 32 frames: the fast pathway sees all of them, the slow one every eighth.
    model = slowfast.create_slowfast(
        slowfast_channel_reduction_ratio=(8,),
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(8, 1, 1),
        head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
    ).eval()
    (clip,) = arrays()
    fast = np.ascontiguousarray(clip.transpose(0, 4, 1, 2, 3))

    def call(fast):
        return model([fast[:, :, ::8], fast])

    call.library = library
    assert call(torch.from_numpy(fast)).shape == (1, 400)
    return runner.torch_call(call, fast)


def clip():
    """One clip of 32 frames at 224x224."""
    return images(32, 224, 224).transpose(1, 0, 2, 3, 4)[None]


PAIR = functools.partial(images, 2, 448, 1024)
CASES = {
    "raft_large 448x1024, 12 iterations": (
        functools.partial(ours, "raft_large", PAIR, {"iterations": 12}),
        functools.partial(torchvision_raft, "raft_large", PAIR, 12),
    ),
    "raft_small 448x1024, 12 iterations": (
        functools.partial(ours, "raft_small", PAIR, {"iterations": 12}),
        functools.partial(torchvision_raft, "raft_small", PAIR, 12),
    ),
    "slowfast_4x16_r50 224x224": (
        functools.partial(ours, "slowfast_4x16_r50", clip, {}),
        functools.partial(pytorchvideo_slowfast, clip),
    ),
}

if __name__ == "__main__":
    runner.main(CASES)
