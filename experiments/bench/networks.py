"""Times whole networks against PyTorch's, at the sizes that their papers time.

The peers are torchvision's RAFT, ptlflow's networks and pytorchvideo's, with random
weights. ptlflow correlates in Python where its extension for CUDA is missing, which
takes most of its PWC-Net's time: "fair correlation" has a product of slices instead.
"""

import functools

import numpy as np

from experiments.bench import correlation, runner


def images(count, height, width):
    """Random pictures in [0, 1], channels last."""
    rng = np.random.default_rng(0)
    return rng.random((count, 1, height, width, 3), dtype=np.float32)


def clip(frames, size):
    """One random clip, (1, T, size, size, 3)."""
    return images(frames, size, size).transpose(1, 0, 2, 3, 4)


def ours(name, arrays, options):
    """Prepares one of our networks, in evaluation mode."""
    from flax import nnx

    import jaxflow
    from jaxflow import spec

    graph, state = nnx.split(jaxflow.create_model(name))

    def run(state, *arrays):
        found = nnx.merge(graph, state, copy=True)(*arrays, **options)
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
    declare_vision_operators()
    from torchvision.models import optical_flow

    model = getattr(optical_flow, name)().eval()
    pair = (np.ascontiguousarray(2 * a.transpose(0, 3, 1, 2) - 1) for a in arrays())
    return runner.torch_call(
        functools.partial(model, num_flow_updates=iterations), *pair
    )


def ptlflow_network(name, arrays, fair=False):
    """Prepares one of ptlflow's networks."""
    model = ptlflow_model(name, fair=fair).eval()
    pair = np.stack([a.transpose(0, 3, 1, 2) for a in arrays()], axis=1)
    return runner.torch_call(lambda pair: model({"images": pair}), pair)


def ptlflow_model(name, *, fair=False):
    """Builds one of ptlflow's networks."""
    declare_vision_operators()
    import ptlflow

    model = ptlflow.get_model(name)
    if fair:
        model.corr = fair_correlation()
    return model


def fair_correlation():
    """Returns ptlflow's correlation of radius 4, as a product of slices."""
    import torch

    class Slices(torch.nn.Module):
        def forward(self, one, two):
            means = correlation.slices(one, two, 4, 1)
            sums = means * one.shape[1]
            return sums.unflatten(1, (9, 9))

    return Slices()


def pytorchvideo_slowfast(arrays):
    """Prepares pytorchvideo's SlowFast 4x16, R50."""
    declare_vision_operators()
    from pytorchvideo.models import slowfast

    # 32 frames: the fast pathway sees all of them, the slow one every eighth.
    model = slowfast.create_slowfast(
        slowfast_channel_reduction_ratio=(8,),
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(8, 1, 1),
        head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
    ).eval()
    fast = np.ascontiguousarray(arrays()[0].transpose(0, 4, 1, 2, 3))
    return runner.torch_call(lambda fast: model([fast[:, :, ::8], fast]), fast)


def pytorchvideo_network(name, arrays):
    """Prepares one of pytorchvideo's networks of one pathway."""
    declare_vision_operators()
    from pytorchvideo.models import hub

    model = getattr(hub, name)(pretrained=False).eval()
    fast = np.ascontiguousarray(arrays()[0].transpose(0, 4, 1, 2, 3))
    return runner.torch_call(model, fast)


def torchvision_video(name, arrays):
    """Prepares one of torchvision's networks."""
    declare_vision_operators()
    from torchvision.models import video

    model = getattr(video, name)().eval()
    fast = np.ascontiguousarray(arrays()[0].transpose(0, 4, 1, 2, 3))
    return runner.torch_call(model, fast)


def flow_case(name, size, peer, options=None):
    """Returns the case of one pair; `peer` prepares, given the arrays."""
    arrays = functools.partial(images, 2, *size)
    return runner.Rivals(
        functools.partial(ours, name, arrays, options or {}),
        functools.partial(peer, arrays=arrays),
    )


def video_case(name, frames, size, peer):
    """Returns the case of one clip."""
    arrays = functools.partial(lambda *shape: [clip(*shape)], frames, size)
    return runner.Rivals(
        functools.partial(ours, name, arrays, {}),
        functools.partial(peer, arrays=arrays),
    )


SINTEL = (448, 1024)
_ptlflow = functools.partial(functools.partial, ptlflow_network)
_video = functools.partial(functools.partial, pytorchvideo_network)
CASES = {
    "pwcnet 448x1024 / ptlflow": flow_case("pwcnet", SINTEL, _ptlflow("pwcnet")),
    "pwcnet 448x1024 / ptlflow, fair correlation": flow_case(
        "pwcnet", SINTEL, _ptlflow("pwcnet", fair=True)
    ),
    **{
        f"{name} 448x1024, 12 iterations / torchvision": flow_case(
            name,
            SINTEL,
            functools.partial(torchvision_raft, name, iterations=12),
            {"iterations": 12},
        )
        for name in ("raft_large", "raft_small")
    },
    **{
        f"{name} {size[0]}x{size[1]} / ptlflow": flow_case(name, size, _ptlflow(peer))
        for name, size, peer in (
            ("flownets", (384, 512), "flownets"),
            ("flownetc", (384, 512), "flownetc"),
            ("flownet2", (384, 512), "flownet2"),
            ("liteflownet", SINTEL, "liteflownet"),
            ("irr_pwc", SINTEL, "irr_pwcnet_irr"),
            ("hd3_dlaup_hda", SINTEL, "hd3_ctxt"),
            ("vcn", (256, 512), "vcn"),
        )
    },
    "slowfast_4x16_r50 32x224x224 / pytorchvideo": video_case(
        "slowfast_4x16_r50", 32, 224, pytorchvideo_slowfast
    ),
    **{
        f"{name} {frames}x{size}x{size} / pytorchvideo": video_case(
            name, frames, size, _video(name)
        )
        for name, frames, size in (
            ("slow_r50", 8, 224),
            ("c2d_r50", 8, 224),
            ("i3d_r50", 8, 224),
            ("r2plus1d_r50", 16, 224),
        )
    },
    **{
        f"{name} 16x112x112 / torchvision": video_case(
            name, 16, 112, functools.partial(torchvision_video, name)
        )
        for name in ("r3d_18", "mc3_18", "r2plus1d_18")
    },
}
