"""Times the representation flow layer against PyTorch.

Gradients are those in both frames and in all that learns. The peer has the arithmetic
of the authors' layer of February 2019, each channel by itself, as depthwise
convolutions; where theirs assigns through masks it has `torch.where`, which is faster.
"""

import functools

import numpy as np

from experiments.bench import runner

TWO = np.array([[-1.0, 1.0]], np.float32)


def frames(count, height, width, channels):
    """Smooth features of one frame and the next, channels last, from 0 to 255."""
    rng = np.random.default_rng(0)
    y, x = np.indices((height, width))[..., None]
    phase = 2 * np.pi * rng.random((count + 1, 1, 1, channels))
    angle = 0.4 * np.cos(phase) * x + 0.4 * np.sin(phase) * y
    clip = 127.5 * (
        1 + np.sin(angle + phase + 0.5 * np.arange(count + 1)[:, None, None, None])
    )
    noise = 4 * rng.standard_normal(clip.shape)
    clip = (clip + noise).astype(np.float32)
    return clip[:-1], clip[1:]


def layer(channels, iterations):
    """Returns our layer as (function of two frames and parameters, parameters)."""
    from flax import nnx

    from jaxflow.layers import representation_flow

    made = representation_flow.FlowLayer(
        channels, iterations=iterations, variant="hmdb_release"
    )
    graph, learns, fixed = nnx.split(made, nnx.Param, ...)

    def run(first, second, learns):
        import jax.numpy as jnp

        model = nnx.merge(graph, learns, fixed, copy=True)
        return jnp.concatenate(model(first, second), axis=-1)

    return run, learns


def ours(call, shape, iterations):
    """Prepares our side."""
    run, learns = layer(shape[-1], iterations)
    return getattr(runner, f"jax_{call}")(run, *frames(*shape), learns)


def temporary_memory():
    """Returns the megabytes that our gradient needs beside its inputs and outputs."""
    import jax

    run, learns = layer(SHAPE[-1], ITERATIONS)

    def loss(*arrays):
        return (run(*arrays) ** 2).sum()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    compiled = gradient.lower(*frames(*SHAPE), learns).compile()
    return {"temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6}


def iterate(x, y, grad_x, grad_y, div_x, div_y, theta, lam, tau, *, iterations):
    """The peer, on (N, C, H, W)."""
    import torch
    from torch.nn import functional

    depthwise = functools.partial(functional.conv2d, groups=x.shape[1])
    central = torch.tensor([[-0.5, 0, 0.5]]).expand(x.shape[1], 1, 1, 3)
    gx = depthwise(functional.pad(y, (1, 1, 0, 0)), central)
    gx[..., 0] = 0.5 * (x[..., 1] - x[..., 0])
    gx[..., -1] = 0.5 * (x[..., -1] - x[..., -2])
    gy = depthwise(functional.pad(y, (0, 0, 1, 1)), central.transpose(2, 3))
    gy[:, :, 0] = 0.5 * (x[:, :, 1] - x[:, :, 0])
    gy[:, :, -1] = 0.5 * (x[:, :, -1] - x[:, :, -2])
    square = gx**2 + gy**2 + 1e-12
    bound, rate = lam * theta, tau / theta

    def gradient(u):
        along_x = depthwise(functional.pad(u, (0, 1, 0, 0)), grad_x)
        along_y = depthwise(functional.pad(u, (0, 0, 0, 1)), grad_y)
        along_x[..., -1] = 0
        along_y[:, :, -1] = 0
        return along_x, along_y

    def divergence(px, py):
        px = functional.pad(px[..., :-1], (1, 1, 0, 0))
        py = functional.pad(py[:, :, :-1], (0, 0, 1, 1))
        return depthwise(px, div_x) + depthwise(py, div_y)

    u, v, *dual = (torch.zeros_like(x) for _ in range(6))
    for _ in range(iterations):
        rho = (y - x) + gx * u + gy * v + 1e-12
        low = (rho < -bound * square).detach()
        high = (rho > bound * square).detach()
        step = torch.where(low, bound, torch.where(high, -bound, -rho / square))
        u = u + step * gx + theta * divergence(*dual[:2])
        v = v + step * gy + theta * divergence(*dual[2:])
        new = []
        for component, px, py in ((u, *dual[:2]), (v, *dual[2:])):
            dx, dy = gradient(component)
            scale = 1 + rate * torch.sqrt(dx**2 + dy**2 + 1e-12)
            new += [(px + rate * dx) / scale, (py + rate * dy) / scale]
        dual = new
    return torch.cat([u, v], dim=1)


def peer(call, shape, iterations):
    """Prepares the peer's side."""
    arrays = [np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for x in frames(*shape)]
    kernels = [np.tile(TWO, (shape[-1], 1, 1, 1)) for _ in range(4)]
    kernels[1], kernels[3] = (k.transpose(0, 1, 3, 2).copy() for k in kernels[1::2])
    numbers = [np.array([x], np.float32) for x in (0.3, 0.15, 0.25)]
    function = functools.partial(iterate, iterations=iterations)
    return getattr(runner, f"torch_{call}")(function, *arrays, *kernels, *numbers)


SHAPE, ITERATIONS = (16, 28, 28, 32), 10
NAME = "16 frames of 28x28x32, 10 iterations"
CASES = {
    f"{NAME}, {what}": runner.Rivals(
        functools.partial(ours, call, SHAPE, ITERATIONS),
        functools.partial(peer, call, SHAPE, ITERATIONS),
    )
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
} | {f"{NAME}, memory of the gradient": runner.Alone(temporary_memory)}
