"""Times the factorised 3-D U-Net against PyTorch.

The peer has the arithmetic of video-diffusion-pytorch's Unet3D, and reads its names:
with JAXFLOW_TEST_DATA its output is compared with that of the original first. A
training step is the mean absolute error of a prediction, its gradient, and Adam.
"""

import functools
import itertools
import json
import math
import os
import pathlib

import numpy as np

from experiments.bench import runner

NAME, SHAPE = "lucid_unet3d", (4, 8, 32, 32, 3)
DIM, MULTS, HEADS, RATE = 32, (1, 2), 8, 1e-4


def arrays():
    """A noisy clip, the noise to predict, and diffusion times."""
    rng = np.random.default_rng(0)
    noisy, noise = rng.standard_normal((2, *SHAPE), dtype=np.float32)
    return noisy, noise, rng.integers(1000, size=SHAPE[0])


def split():
    """Returns our network as graph, trained and other weights."""
    from flax import nnx

    import jaxflow

    return nnx.split(jaxflow.create_model(NAME), nnx.Param, ...)


def ours_forward():
    """Prepares our prediction."""
    from flax import nnx

    graph, params, rest = split()
    noisy, _, time = arrays()

    def run(params, rest, noisy, time):
        return nnx.merge(graph, params, rest)(noisy, time)

    return runner.jax_call(run, params, rest, noisy, time)


def ours_step():
    """Prepares our training step."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    graph, params, rest = split()
    noisy, noise, time = map(jnp.asarray, arrays())
    optimiser = optax.adam(RATE)

    def loss(params):
        return jnp.abs(nnx.merge(graph, params, rest)(noisy, time) - noise).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    carry = [params, optimiser.init(params)]

    def call():
        carry[:] = jax.block_until_ready(step(*carry))

    return call


def build():
    """Returns the peer, a module whose names are those of the original."""
    import torch
    from torch import nn
    from torch.nn import functional

    class RMSNorm(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(features, 1, 1, 1))

        def forward(self, x):
            return functional.normalize(x, dim=1) * x.shape[1] ** 0.5 * self.gamma

    class LayerNorm(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(1, features, 1, 1, 1))

        def forward(self, x):
            var, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
            return (x - mean) * torch.rsqrt(var + 1e-5) * self.gamma

    class Block(nn.Module):
        def __init__(self, before, after):
            super().__init__()
            self.proj = nn.Conv3d(before, after, (1, 3, 3), padding=(0, 1, 1))
            self.norm = RMSNorm(after)

        def forward(self, x, scale_shift=None):
            x = self.norm(self.proj(x))
            if scale_shift is not None:
                x = x * (scale_shift[0] + 1) + scale_shift[1]
            return functional.silu(x)

    class ResnetBlock(nn.Module):
        def __init__(self, before, after, embedding=None):
            super().__init__()
            self.mlp = None
            if embedding is not None:
                self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * after))
            self.block1, self.block2 = Block(before, after), Block(after, after)
            same = before == after
            self.res_conv = nn.Identity() if same else nn.Conv3d(before, after, 1)

        def forward(self, x, embedded=None):
            scale_shift = None
            if self.mlp is not None:
                both = self.mlp(embedded)[:, :, None, None, None]
                scale_shift = both.chunk(2, dim=1)
            return self.block2(self.block1(x, scale_shift)) + self.res_conv(x)

    class Inner(nn.Module):
        """Gives its one child the name that the original has for it."""

        def __init__(self, fn, norm=None):
            super().__init__()
            self.fn = fn
            if norm is not None:
                self.norm = norm

    def wrap(module, features):
        return Inner(Inner(module, LayerNorm(features)))

    class Linear(nn.Module):
        """Attention over pixels at linear cost."""

        def __init__(self, features):
            super().__init__()
            self.to_qkv = nn.Conv2d(features, 3 * HEADS * 32, 1, bias=False)
            self.to_out = nn.Conv2d(HEADS * 32, features, 1)

        def forward(self, x):
            batch, _, frames, height, width = x.shape
            x = x.transpose(1, 2).flatten(0, 1)
            q, k, v = (
                part.reshape(batch * frames, HEADS, 32, -1)
                for part in self.to_qkv(x).chunk(3, dim=1)
            )
            q, k = q.softmax(dim=-2) * 32**-0.5, k.softmax(dim=-1)
            context = torch.einsum("bhdn,bhen->bhde", k, v)
            out = torch.einsum("bhde,bhdn->bhen", context, q)
            out = self.to_out(out.reshape(batch * frames, -1, height, width))
            return out.unflatten(0, (batch, frames)).transpose(1, 2)

    class Softmax(nn.Module):
        """Attention over the last axis but one; in time with positions."""

        def __init__(self, features, temporal):
            super().__init__()
            self.temporal = temporal
            self.to_qkv = nn.Linear(features, 3 * HEADS * 32, bias=False)
            self.to_out = nn.Linear(HEADS * 32, features, bias=False)

        def forward(self, x, bias=None, turn=None):
            q, k, v = (
                part.unflatten(-1, (HEADS, 32)).transpose(-3, -2)
                for part in self.to_qkv(x).chunk(3, dim=-1)
            )
            q = q * 32**-0.5
            if turn is not None:
                q, k = turn(q), turn(k)
            scores = torch.einsum("...id,...jd->...ij", q, k)
            if bias is not None:
                scores = scores + bias
            out = torch.einsum("...ij,...jd->...id", scores.softmax(dim=-1), v)
            return self.to_out(out.transpose(-3, -2).flatten(-2))

    class Unet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [DIM, *(DIM * mult for mult in MULTS)]
            pairs = list(itertools.pairwise(widths))
            embedding = 4 * DIM
            resnet = functools.partial(ResnetBlock, embedding=embedding)

            def temporal(features):
                return wrap(Inner(Softmax(features, True)), features)

            self.time_rel_pos_bias = nn.Module()
            self.time_rel_pos_bias.relative_attention_bias = nn.Embedding(32, HEADS)
            self.init_conv = nn.Conv3d(3, DIM, (1, 7, 7), padding=(0, 3, 3))
            self.init_temporal_attn = temporal(DIM)
            self.time_mlp = nn.Sequential(
                nn.Identity(),
                nn.Linear(DIM, embedding),
                nn.GELU(),
                nn.Linear(embedding, embedding),
            )
            self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
            size = {"kernel_size": (1, 4, 4), "stride": (1, 2, 2), "padding": (0, 1, 1)}

            def level(before, after, resize):
                blocks = [resnet(before, after), resnet(after, after)]
                blocks += [wrap(Linear(after), after), temporal(after)]
                return nn.ModuleList([*blocks, resize or nn.Identity()])

            for i, (before, after) in enumerate(pairs):
                last = i == len(pairs) - 1
                halve = None if last else nn.Conv3d(after, after, **size)
                self.downs.append(level(before, after, halve))
            mid = widths[-1]
            self.mid_block1, self.mid_block2 = resnet(mid, mid), resnet(mid, mid)
            self.mid_spatial_attn = wrap(Inner(Softmax(mid, False)), mid)
            self.mid_temporal_attn = temporal(mid)
            for i, (before, after) in enumerate(reversed(pairs)):
                last = i == len(pairs) - 1
                double = None if last else nn.ConvTranspose3d(before, before, **size)
                self.ups.append(level(2 * after, before, double))
            self.final_conv = nn.Sequential(
                ResnetBlock(2 * DIM, DIM), nn.Conv3d(DIM, 3, 1)
            )

        def attend(self, outer, x, *positions):
            inner = outer.fn
            module, y = inner.fn, inner.norm(x)
            if isinstance(module, Linear):
                return x + module(y)
            module = module.fn
            if module.temporal:
                y = module(y.permute(0, 3, 4, 2, 1), *positions)
                return x + y.permute(0, 4, 3, 1, 2)
            y = y.permute(0, 2, 3, 4, 1)
            out = module(y.flatten(2, 3)).reshape(y.shape)
            return x + out.permute(0, 4, 1, 2, 3)

        def forward(self, x, time):
            frames = x.shape[2]
            half = DIM // 2
            waves = torch.exp(torch.arange(half) * -(math.log(10_000) / (half - 1)))
            phase = time[:, None] * waves
            embedded = self.time_mlp(torch.cat([phase.sin(), phase.cos()], dim=-1))
            table = self.time_rel_pos_bias.relative_attention_bias.weight
            positions = table[buckets(frames)].permute(2, 0, 1), rotation(frames)

            def run(parts, x):
                x = parts[1](parts[0](x, embedded), embedded)
                return self.attend(parts[3], self.attend(parts[2], x), *positions)

            x = self.attend(self.init_temporal_attn, self.init_conv(x), *positions)
            first, skips = x, []
            for parts in self.downs:
                x = run(parts, x)
                skips.append(x)
                x = parts[4](x)
            x = self.attend(self.mid_spatial_attn, self.mid_block1(x, embedded))
            x = self.attend(self.mid_temporal_attn, x, *positions)
            x = self.mid_block2(x, embedded)
            for parts in self.ups:
                x = parts[4](run(parts, torch.cat([x, skips.pop()], dim=1)))
            return self.final_conv(torch.cat([x, first], dim=1))

    return Unet()


def buckets(frames):
    """The T5 buckets of distances in time, (T, T): row of the query."""
    import torch

    distance = torch.arange(frames)[None, :] - torch.arange(frames)[:, None]
    size = distance.abs()
    large = 8 + (torch.log(size.clamp(min=1) / 8) / math.log(4) * 8).long()
    exact = torch.where(size < 8, size, large.clamp(max=15))
    return exact + 16 * (distance > 0)


def rotation(frames):
    """Returns the rotary positions, as a function of (..., T, 32)."""
    import torch

    waves = 10_000 ** (-torch.arange(0, 32, 2) / 32)
    angle = (torch.arange(frames)[:, None] * waves).repeat_interleave(2, dim=-1)
    cosine, sine = angle.cos(), angle.sin()

    def turn(x):
        swapped = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return x * cosine + swapped * sine

    return turn


def peer():
    """Returns the peer and its arrays, after a look at whether it is right."""
    import torch

    model = build()
    if folder := os.environ.get("JAXFLOW_TEST_DATA"):
        verify(model, pathlib.Path(folder) / "golden" / "generation")
    noisy, noise, time = arrays()
    noisy, noise = (
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
        for x in (noisy, noise)
    )
    return model, noisy, noise, torch.from_numpy(time)


def verify(model, folder):
    """Raises AssertionError if the peer is not the original network."""
    import importlib.util

    import torch

    place = folder / "procedural.py"
    found = importlib.util.spec_from_file_location("procedural", place)
    procedural = importlib.util.module_from_spec(found)
    found.loader.exec_module(procedural)
    info = json.loads((folder / f"{NAME}.json").read_text())
    state = procedural.procedural_state_dict(info).items()
    state = {k: torch.from_numpy(v) for k, v in state if "rotary" not in k}
    model.load_state_dict(state)
    with np.load(folder / f"{NAME}.npz") as file, torch.inference_mode():
        out = model(*(torch.from_numpy(file[name]) for name in ("x", "time")))
        error = np.abs(out.numpy() - file["out"]).max()
    assert error < 2e-5, error


def peer_forward():
    """Prepares the peer's prediction."""
    import torch

    model, noisy, _, time = peer()

    def call():
        with torch.inference_mode():
            model(noisy, time)

    return call


def peer_step():
    """Prepares the peer's training step."""
    import torch

    model, noisy, noise, time = peer()
    optimiser = torch.optim.Adam(model.parameters(), RATE)

    def call():
        optimiser.zero_grad()
        torch.nn.functional.l1_loss(model(noisy, time), noise).backward()
        optimiser.step()

    return call


WHERE = f"{NAME}, {SHAPE[0]} clips of {SHAPE[1]} frames of {SHAPE[2]}x{SHAPE[3]}"
CASES = {
    f"{WHERE}, forward": runner.Rivals(ours_forward, peer_forward),
    f"{WHERE}, training step": runner.Rivals(ours_step, peer_step),
}
