"""Times training steps against PyTorch: loss and gradient in all weights.

The optimizer is left out on both sides but for diffusion; see unet3d.py for that.
"""

import functools

import numpy as np

from experiments.bench import networks, runner

PAIRS = (4, 256, 256)


def pairs():
    """Random frames, (2, B, H, W, 3), and flows."""
    rng = np.random.default_rng(0)
    frames = rng.random((2, *PAIRS, 3), dtype=np.float32)
    return frames, rng.standard_normal((*PAIRS, 2), dtype=np.float32)


def gradient_call(name, loss, *arrays, **options):
    """Prepares the gradient of our loss(model, *arrays)."""
    import jax
    from flax import nnx

    import jaxflow

    model = jaxflow.create_model(name, **options)
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def slope(params, rest, *arrays):
        return jax.value_and_grad(
            lambda params: loss(nnx.merge(graph, params, rest, copy=True), *arrays)
        )(params)

    return runner.jax_call(slope, params, rest, *arrays)


def our_pwcnet():
    """Prepares ours: the multi-scale loss of PWC-Net."""
    from jaxflow import losses

    frames, flow = pairs()

    def loss(model, one, two, flow):
        return losses.multi_scale(model(one, two).predictions, flow)

    return gradient_call("pwcnet", loss, *frames, flow)


def peer_pwcnet(*, fair):
    """Prepares ptlflow's network with its own loss."""
    import torch

    model = networks.ptlflow_model("pwcnet", fair=fair).train()
    frames, flow = pairs()
    stacked = np.ascontiguousarray(frames.transpose(1, 0, 4, 2, 3))
    flow = np.ascontiguousarray(flow.transpose(0, 3, 1, 2)[:, None])
    stacked, flow = runner.tensors(stacked, flow)
    given = {
        "images": stacked,
        "flows": flow,
        "valids": torch.ones_like(flow[:, :, :1]),
    }
    weights = [p for p in model.parameters() if p.requires_grad]

    def call():
        found = model({"images": stacked})
        loss = model.loss_fn(found, given)
        loss = loss["loss"] if isinstance(loss, dict) else loss
        torch.autograd.grad(loss, weights, allow_unused=True)

    return runner.waited(call)


def our_video():
    """Prepares the cross-entropy of Slow-only R50 on two clips."""
    import jax

    clips, labels = clips_and_labels()

    def loss(model, clips, labels):
        scores = jax.nn.log_softmax(model(clips, key=jax.random.key(0)))
        return -scores[jax.numpy.arange(len(labels)), labels].mean()

    return gradient_call("slow_r50", loss, clips, labels)


def clips_and_labels():
    """Two random clips of 8 frames of 112x112 in [0, 1], and their classes."""
    rng = np.random.default_rng(0)
    return rng.random((2, 8, 112, 112, 3), dtype=np.float32), np.array([3, 5])


def peer_video():
    """Prepares pytorchvideo's."""
    import torch

    networks.declare_vision_operators()
    from pytorchvideo.models import resnet

    model = resnet.create_resnet(
        model_num_class=400, head_pool_kernel_size=(8, 4, 4)
    ).train()
    clips, labels = clips_and_labels()
    clips = np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))
    clips, labels = runner.tensors(clips, labels)
    weights = list(model.parameters())

    def call():
        loss = torch.nn.functional.cross_entropy(model(clips), labels)
        torch.autograd.grad(loss, weights)

    return runner.waited(call)


CASES = {
    **{
        f"pwcnet step 4x256x256 / ptlflow{said}": runner.Rivals(
            our_pwcnet, functools.partial(peer_pwcnet, fair=fair)
        )
        for said, fair in (("", False), (", fair correlation", True))
    },
    "slow_r50 step 2x8x112x112 / pytorchvideo": runner.Rivals(our_video, peer_video),
}
