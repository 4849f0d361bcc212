"""MCVD: masked conditional video diffusion.

Voleti, Jolicoeur-Martineau, Pal, "MCVD: Masked Conditional Video Diffusion for
Prediction, Generation, and Interpolation" (NeurIPS 2022). The U-Net is NCSN++ of Song
et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
(ICLR 2021).

    past and future frames, Sec. 3           Config.num_past, num_future
    random masks of them, Sec. 3             zero frames where `observed` is not set
    concatenation of frames, Sec. 4          Config(kind="2d"), on channels
    space-time-adaptive norm, Sec. 4         Config.spade, Spade
    3-D and pseudo-3-D, Appendix             Config(kind="3d"), Config(kind="pseudo3d")

Weights: the authors' for Stochastic Moving MNIST, KTH, BAIR, Cityscapes and UCF-101.
Their code is MIT, parts of it Apache-2.0 (score_sde) and derived from NVIDIA's; no
licence of the weights is stated.

Deviations: none in the numbers. The clip holds past, current and future frames, in this
order, and the prediction has as many; it is 0 for those that only condition. Each frame
of the past or future can be masked by itself, where the authors mask all of a side. The
3-D networks keep time as an axis, where the authors fold it into the channels. Their
output_all_frames and noise_in_cond are left out: no published configuration has them.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, cast

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.diffusion import process as processes
from jaxflow.layers import attention, conv, dropout, generation, norm, timestep
from jaxflow.ops import products


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an MCVD network.

    Attributes:
        channels: Channels of a frame.
        num_past: Frames before those that are generated.
        num_current: Frames that are generated.
        num_future: Frames behind them.
        kind: "2d" stacks frames on channels; "3d" convolves over time too; "pseudo3d"
            convolves in space, and then in time.
        ngf: Channels behind the first convolution: in all, or of each frame.
        ch_mult: Channels of each level, as multiples of `ngf`; each level but the first
            has half the height and width of the one before.
        num_res_blocks: Residual blocks of a level on the way down; one more on the way
            up.
        attn_resolutions: Widths of the maps that have attention, for clips of
            `image_size`.
        n_head_channels: Channels of a head.
        spade: Whether past and future frames modulate every normalisation, instead of
            being stacked on the current ones.
        spade_dim: Channels inside that modulation.
        cond_emb: Whether the network is told if the past is masked.
        dropout_rate: Before the last convolution of each residual block, in training.
        image_size: Side of the clips it is made for; it takes other heights, and widths
            that have attention at the same levels.
    """

    channels: int = 3
    num_past: spec.Count = 5
    num_current: int = 5
    num_future: spec.Count = 0
    kind: Literal["2d", "3d", "pseudo3d"] = "2d"
    ngf: int = 64
    ch_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (8, 16, 32)
    n_head_channels: int = 64
    spade: bool = False
    spade_dim: int = 128
    cond_emb: bool = False
    dropout_rate: spec.Share = 0.1
    image_size: int = 64

    def __post_init__(self):
        spec.check_config(self)
        if self.spade and not self.num_conditioning:
            raise ValueError("`spade` needs past or future frames; got none of either")

    @property
    def num_conditioning(self) -> int:
        """Frames of past and future together."""
        return self.num_past + self.num_future

    @property
    def num_frames(self) -> int:
        """Frames of the whole clip: past, current and future."""
        return self.num_conditioning + self.num_current


def fir_down(x: jax.Array) -> jax.Array:
    """Halves height and width through the taps [1, 3, 3, 1] / 8; zeros lie outside.

    Args:
        x: (*B, H, W, C), H and W even.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        x = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)])
        end = x.shape[axis]
        first, second, third, fourth = (
            jax.lax.slice_in_dim(x, tap, end - 3 + tap, 2, axis) for tap in range(4)
        )
        x = (first + fourth + 3 * (second + third)) / 8
    return x


def fir_up(x: jax.Array) -> jax.Array:
    """Doubles height and width: the transpose of `fir_down`, times 4.

    Args:
        x: (*B, H, W, C).
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        wide = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)])
        before = jax.lax.slice_in_dim(wide, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(wide, 2, size + 2, axis=axis)
        both = jnp.stack([(before + 3 * x) / 4, (3 * x + after) / 4], axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


def num_groups(features: int) -> int:
    """Returns the number of groups that a normalisation of so many channels has."""
    most = max(1, min(features // 4, 32))
    return next(count for count in range(most, 0, -1) if features % count == 0)


class TimeConv(nnx.Module):
    """A convolution over frames: (B, T, H, W, C) -> (B, T, H, W, C).

    Args:
        features: Channels in and out.
        window: Frames that it sees.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("kernel", (2, 1, 0)), "bias": ("bias", None)}

    def __init__(self, features: int, window: int, *, rngs: nnx.Rngs):
        shape = (window, features, features)
        self.kernel = nnx.Param(conv.he_normal(rngs.params(), shape))
        self.bias = nnx.Param(conv.zeros(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves `x`; zeros lie before the first and behind the last frame."""
        kernel = self.kernel[...].astype(x.dtype)[:, None, None]
        y = ops.conv3d(x, kernel, padding=(kernel.shape[0] // 2, 0, 0))
        return y + self.bias[...].astype(x.dtype)[None, None, None, None]


class PseudoConv3d(nnx.Module):
    """A convolution in space, SiLU, and one in time.

    Args:
        in_features: Channels in.
        features: Channels out.
        window: Side of both.
        rngs: Source of the initial weights.
    """

    def __init__(self, in_features: int, features: int, window: int, *, rngs: nnx.Rngs):
        self.space = conv.Conv(in_features, features, window, rngs=rngs)
        self.time = TimeConv(features, window, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, T, H, W, in_features) to (B, T, H, W, features)."""
        return self.time(jax.nn.silu(self.space(x)))


def convolution(kind: str, before: int, after: int, window: int, *, rngs: nnx.Rngs):
    """Returns the convolution of a kind of network; see `Config.kind`."""
    if kind == "pseudo3d":
        return PseudoConv3d(before, after, window, rngs=rngs)
    layer = conv.Conv3d if kind == "3d" else conv.Conv
    return layer(before, after, window, rngs=rngs)


class Spade(nnx.Module):
    """Normalises, and scales and shifts each pixel by what past and future show there.

    Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization" (CVPR
    2019), Eq. 1, with 1 + gamma.

    Args:
        features: Channels.
        config: Numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, config: Config, *, rngs: nnx.Rngs):
        make = functools.partial(convolution, config.kind, rngs=rngs)
        seen, inner = config.num_conditioning * config.channels, config.spade_dim
        self.converter = nnx.data(None)
        if config.kind != "2d":
            seen, inner = config.channels, config.spade_dim // config.num_current
            # It mixes frames, which stand where channels do.
            self.converter = make(config.num_conditioning, config.num_current, 1)
        self.norm = norm.GroupNorm(
            features, num_groups(features), epsilon=1e-6, affine=False
        )
        self.shared = make(seen, inner, 3)
        self.gamma = make(inner, features, 3)
        self.beta = make(inner, features, 3)

    def __call__(self, x: jax.Array, seen: jax.Array) -> jax.Array:
        """Transforms `x`, (B, [T,] H, W, C), by `seen`, (B, [T',] H', W', C')."""
        if self.converter is not None:
            mixed = self.converter(jnp.moveaxis(seen, 1, -1))
            seen = jnp.moveaxis(mixed, -1, 1)
        height, width = x.shape[-3:-1]
        seen = ops.resize(seen, (height, width), method="nearest")
        seen = jax.nn.silu(self.shared(seen))
        return self.norm(x) * (1 + self.gamma(seen)) + self.beta(seen)


class ActNorm(nnx.Module):
    """Normalisation, scale and shift by the embedding of time, SiLU.

    Args:
        features: Channels.
        config: Numbers of the network.
        embedding: Length of the embedding; None is none, and the normalisation then has
            a scale and a bias of its own.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        config: Config,
        *,
        embedding: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.dense = self.spade = self.norm = nnx.data(None)
        if embedding is not None:
            self.dense = conv.Linear(embedding, 2 * features, rngs=rngs)
        groups = num_groups(features)
        if config.spade:
            self.spade = Spade(features, config, rngs=rngs)
        else:
            self.norm = norm.GroupNorm(features, groups, affine=embedding is None)

    def __call__(
        self, x: jax.Array, embedded: jax.Array | None, seen: jax.Array
    ) -> jax.Array:
        """Transforms `x`, (B, [T,] H, W, C); `seen` is what `Spade` takes."""
        if self.norm is not None:
            x = self.norm(x)
        if self.spade is not None:
            x = self.spade(x, seen)
        if self.dense is not None and embedded is not None:
            both = self.dense(jax.nn.silu(embedded))
            both = both.reshape(x.shape[0], *[1] * (x.ndim - 2), -1)
            scale, shift = jnp.split(both, 2, axis=-1)
            x = x * (1 + scale) + shift
        return jax.nn.silu(x)


class ResBlock(nnx.Module):
    """Two convolutions plus the input, over sqrt(2).

    Args:
        in_features: Channels in.
        features: Channels out.
        config: Numbers of the network.
        embedding: Length of the embedding of time.
        resize: "up", "down" or "": a change of size behind the first normalisation.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        config: Config,
        *,
        embedding: int,
        resize: Literal["up", "down", ""] = "",
        rngs: nnx.Rngs,
    ):
        self.resize = resize
        self.dropout = dropout.Dropout(config.dropout_rate)
        make = functools.partial(convolution, config.kind, rngs=rngs)
        normal = functools.partial(ActNorm, config=config, embedding=embedding)
        self.act0 = normal(in_features, rngs=rngs)
        self.conv0 = make(in_features, features, 3)
        self.act1 = normal(features, rngs=rngs)
        self.conv1 = make(features, features, 3)
        _zero(self.conv1)
        self.conv2 = nnx.data(None)
        if resize or in_features != features:
            self.conv2 = make(in_features, features, 1)

    def __call__(
        self,
        x: jax.Array,
        embedded: jax.Array,
        seen: jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """Maps (B, [T,] H, W, in_features); `key` is that of the dropout."""
        y = self.act0(x, embedded, seen)
        if self.resize:
            change = fir_up if self.resize == "up" else fir_down
            x, y = change(x), change(y)
        y = self.act1(self.conv0(y), embedded, seen)
        y = self.conv1(self.dropout(y, key=key))
        return _halve(x if self.conv2 is None else self.conv2(x), y)


class Pointwise(nnx.Module):
    """A matrix product over channels, whose kernel checkpoints hold as we do.

    Args:
        features: Channels in and out.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        std = math.sqrt(1 / features)
        shape = (features, features)
        self.kernel = nnx.Param(conv.truncated_normal(rngs.params(), shape, std=std))
        self.bias = nnx.Param(conv.zeros(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiplies `x`, (..., C)."""
        bias = jax.lax.broadcast_to_rank(self.bias[...].astype(x.dtype), x.ndim)
        return x @ self.kernel[...].astype(x.dtype) + bias


class Attention(nnx.Module):
    """Softmax attention plus its input, over sqrt(2).

    Args:
        features: Channels.
        head_features: Channels of a head; with fewer channels there is one head.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If heads of that size do not make up the channels.
    """

    def __init__(self, features: int, head_features: int, *, rngs: nnx.Rngs):
        if features > head_features and features % head_features:
            raise ValueError(
                f"`n_head_channels` must divide the {features} channels of each map "
                f"that has attention; got {head_features}"
            )
        self.heads = max(1, features // head_features)
        self.norm = norm.GroupNorm(features, num_groups(features), epsilon=1e-6)
        self.query = Pointwise(features, rngs=rngs)
        self.key = Pointwise(features, rngs=rngs)
        self.value = Pointwise(features, rngs=rngs)
        self.out = Pointwise(features, rngs=rngs)
        _zero(self.out)

    def __call__(self, x: jax.Array, *, batch_axes: int = 1) -> jax.Array:
        """Lets positions of `x`, (*B, *positions, C), see those of the same example."""
        tokens = self.norm(x, batch_axes=batch_axes)
        tokens = tokens.reshape(*x.shape[:batch_axes], -1, x.shape[-1])
        query, key, value = (
            attention.split_heads(layer(tokens), self.heads)
            for layer in (self.query, self.key, self.value)
        )
        scale = query.shape[-1] ** -0.5
        gathered = attention.softmax_attention(query, key, value, scale=scale)
        return _halve(x, self.out(attention.join_heads(gathered)).reshape(x.shape))


class SpaceTimeAttention(nnx.Module):
    """Attention over the pixels of each frame, and then over the frames of each pixel.

    Args:
        features: Channels.
        head_features: Channels of a head.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, head_features: int, *, rngs: nnx.Rngs):
        self.space = Attention(features, head_features, rngs=rngs)
        self.time = Attention(features, head_features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        x = jnp.moveaxis(self.space(x, batch_axes=2), 1, 3)
        return jnp.moveaxis(self.time(x, batch_axes=3), 3, 1)


class FrameMix(nnx.Module):
    """Mixes the frames of each pixel and channel: (B, T, ...) -> (B, T', ...).

    Args:
        before: Frames T.
        after: Frames T'.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("kernel", (1, 0)), "bias": ("bias", None)}

    def __init__(self, before: int, after: int, *, rngs: nnx.Rngs):
        std = math.sqrt(1 / before)
        self.kernel = nnx.Param(
            conv.truncated_normal(rngs.params(), (before, after), std=std)
        )
        self.bias = nnx.Param(conv.zeros(after))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Mixes the frames of `x`, (B, T, H, W, C)."""
        kernel = self.kernel[...].astype(x.dtype)
        y = products.einsum("bthwc,ts->bshwc", x, kernel).astype(x.dtype)
        return y + self.bias[...].astype(x.dtype)[None, :, None, None, None]


class Flag(nnx.Module):
    """Embeds what is true or false.

    Args:
        features: Length of the embedding.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("rows", None)}

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.rows = nnx.Param(
            conv.truncated_normal(rngs.params(), (2, features), std=1.0)
        )

    def __call__(self, flags: jax.Array) -> jax.Array:
        """Maps (B,) to (B, features): the second row where a flag is true."""
        return self.rows[...][flags.astype(jnp.int32)]


class Model(nnx.Module):
    """MCVD: noisy current frames, and past and future ones, to the noise.

    `blocks` holds all layers in the order in which they run, as checkpoints do.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    takes: ClassVar[tuple[str, ...]] = ("clean", "observed")
    process: ClassVar[processes.Process] = processes.Process(noisiest_first=True)

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.multiple = 2 ** (len(config.ch_mult) - 1)
        first = config.num_past
        self.generates = tuple(range(first, first + config.num_current))
        stacked = not config.spade
        frames_in = config.num_frames if stacked else config.num_current
        self.embedding = config.ngf * (1 if config.kind == "2d" else frames_in)
        self.blocks = nnx.data(list(self._layers(frames_in, rngs)))

    def _layers(self, frames_in: int, rngs: nnx.Rngs):
        """Yields the layers, in order."""
        config, width = self.config, self.embedding
        make = functools.partial(convolution, config.kind, rngs=rngs)
        stacked = config.kind == "2d"
        channels = config.channels

        yield conv.Linear(width, 4 * width, rngs=rngs)
        yield conv.Linear(4 * width, 4 * width, rngs=rngs)
        if config.cond_emb:
            yield Flag(width // 2, rngs=rngs)
        yield make(channels * (frames_in if stacked else 1), config.ngf, 3)
        yield from self._levels(frames_in, rngs)
        features = config.ch_mult[0] * config.ngf
        yield ActNorm(features, config, rngs=rngs)
        final = make(features, channels * (config.num_current if stacked else 1), 3)
        _zero(final)
        yield final

    def _levels(self, frames_in: int, rngs: nnx.Rngs):
        """Yields the blocks, attentions and mixtures, down the levels and up again."""
        config, width = self.config, self.embedding
        embedding = 4 * width + (width // 2 if config.cond_emb else 0)
        block = functools.partial(
            ResBlock, config=config, embedding=embedding, rngs=rngs
        )
        attend = Attention if config.kind == "2d" else SpaceTimeAttention
        attend = functools.partial(
            attend, head_features=config.n_head_channels, rngs=rngs
        )
        mixes = config.kind != "2d" and not config.spade
        mix = functools.partial(FrameMix, frames_in, config.num_current, rngs=rngs)

        features, skips = config.ngf, [config.ngf]
        last = len(config.ch_mult) - 1
        for level, mult in enumerate(config.ch_mult):
            for _ in range(config.num_res_blocks):
                yield block(features, mult * config.ngf)
                features = mult * config.ngf
                if self._attends(level):
                    yield attend(features)
                skips.append(features)
            if level < last:
                yield block(features, features, resize="down")
                skips.append(features)
        yield block(features, features)
        yield attend(features)
        if mixes:
            yield mix()
        yield block(features, features)
        for level, mult in reversed(list(enumerate(config.ch_mult))):
            for _ in range(config.num_res_blocks + 1):
                if mixes:
                    yield mix()
                yield block(features + skips.pop(), mult * config.ngf)
                features = mult * config.ngf
            if self._attends(level):
                yield attend(features)
            if level:
                yield block(features, features, resize="up")

    def _attends(self, level: int, width: int | None = None) -> bool:
        """Tells whether the maps of a level have attention, for clips of some width."""
        width = self.config.image_size if width is None else width
        return width // 2**level in self.config.attn_resolutions

    def __call__(
        self,
        noisy: jax.Array,
        time: jax.Array,
        *,
        clean: jax.Array | None = None,
        observed: jax.Array | None = None,
        latent: jax.Array | None = None,
        indices: jax.Array | None = None,
        condition: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Predicts the noise of the current frames.

        Args:
            noisy: Past, current and future frames, (B, T, H, W, channels), about
                [-1, 1], T = `config.num_frames`; only the current ones are looked at. H
                and W are multiples of `self.multiple`.
            time: Noise level of each clip, (B,), from 0, the noisiest, to 999.
            clean: The clip without noise, (B, T, H, W, channels) in [-1, 1]; only past
                and future frames that are observed are looked at. None masks all.
            observed: (B, T), true for frames that are given; no current frame can be,
                and a clip of which one is gets a prediction of NaN.
            latent: Not used: the current frames are generated.
            indices: Not used: frames are consecutive.
            condition: Not used.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            The prediction, like `noisy`; 0 for past and future frames.

        Raises:
            ValueError: If an argument has a wrong shape or type, or cannot be used; of
                `observed` outside of `jax.jit`, also if a current frame is.
        """
        noisy, clean = self._check(
            noisy, time, clean, observed, latent, indices, condition
        )
        past, current = self.config.num_past, self.config.num_current
        seen, told = self._conditioning(noisy, clean, observed)
        x = self._enter(noisy[:, past : past + current]).astype(self.dtype)
        seen = self._enter(seen).astype(self.dtype)
        if not self.config.spade:
            axis = -1 if self.config.kind == "2d" else 1
            x = jnp.concatenate([x, seen], axis=axis)
        x = self._run(x, time, seen, told, generation.draws(key))
        if self.config.kind == "2d":
            x = x.reshape(*x.shape[:-1], current, -1)
            x = jnp.moveaxis(x, -2, 1)
        if observed is not None:
            wrong = observed[:, past : past + current].astype(bool).any(axis=1)
            x = jnp.where(wrong[:, None, None, None, None], jnp.nan, x)
        rest = self.config.num_future
        return jnp.pad(x, ((0, 0), (past, rest), (0, 0), (0, 0), (0, 0)))

    def _run(self, x, time, seen, told, draws) -> jax.Array:
        """Runs the layers in order on what is stacked already."""
        config = self.config
        walk = cast(Iterator[Any], iter(self.blocks))
        width = x.shape[-2]
        mixes = config.kind != "2d" and not config.spade
        embedded = next(walk)(timestep.sinusoid(time, self.embedding))
        embedded = next(walk)(jax.nn.silu(embedded))
        if config.cond_emb:
            embedded = jnp.concatenate([embedded, next(walk)(told)], axis=-1)
        embedded = embedded.astype(x.dtype)

        def block(x):
            return next(walk)(x, embedded, seen, next(draws))

        x = next(walk)(x)
        skips = [x]
        for level in range(len(config.ch_mult)):
            for _ in range(config.num_res_blocks):
                x = block(x)
                if self._attends(level, width):
                    x = next(walk)(x)
                skips.append(x)
            if level < len(config.ch_mult) - 1:
                x = block(x)
                skips.append(x)
        x = block(x)
        x = next(walk)(x)
        if mixes:
            x = next(walk)(x)
        x = block(x)
        for level in reversed(range(len(config.ch_mult))):
            for _ in range(config.num_res_blocks + 1):
                skip = next(walk)(skips.pop()) if mixes else skips.pop()
                x = block(jnp.concatenate([x, skip], axis=-1))
            if self._attends(level, width):
                x = next(walk)(x)
            if level:
                x = block(x)
        x = next(walk)(x, None, seen)
        return next(walk)(x.astype(jnp.float32))

    def _enter(self, x: jax.Array) -> jax.Array:
        """Stacks the frames of (B, T, H, W, C) on the channels, in a 2-D network."""
        if self.config.kind != "2d":
            return x
        x = jnp.moveaxis(x, 1, -2)
        return x.reshape(*x.shape[:-2], -1)

    def _conditioning(self, noisy, clean, observed) -> tuple[jax.Array, jax.Array]:
        """Returns past and future, 0 where masked, and whether the past is there."""
        past, current = self.config.num_past, self.config.num_current
        batch, frames, *_ = noisy.shape
        slots = np.r_[:past, past + current : frames]
        if clean is None or observed is None:
            shape = (batch, len(slots), *noisy.shape[2:])
            return jnp.zeros(shape, noisy.dtype), jnp.full(batch, past == 0)
        given = observed.astype(bool)
        frames = jnp.where(
            given[:, slots, None, None, None], clean[:, slots].astype(noisy.dtype), 0
        )
        return frames, given[:, :past].all(axis=1)

    def _check(self, noisy, time, clean, observed, latent, indices, condition):
        """Verifies what is given, and returns both clips in float32."""
        config = self.config
        clips = generation.check_inputs(
            self,
            noisy,
            time,
            clean,
            observed,
            latent,
            indices,
            num_frames=config.num_frames,
        )
        generation.check_classes(condition, noisy.shape[0], None)
        generation.check_together(clean, observed)
        levels = range(len(config.ch_mult))
        width = noisy.shape[-2]
        if any(self._attends(i) != self._attends(i, width) for i in levels):
            raise ValueError(
                f"`noisy` must have a width with attention at the same levels as "
                f"{config.image_size}, at maps of {config.attn_resolutions}; got "
                f"{width}: resize it to a width of {config.image_size}"
            )
        if observed is not None and not isinstance(observed, jax.core.Tracer):
            first, last = config.num_past, config.num_past + config.num_current
            if np.asarray(observed)[:, first:last].any():
                raise ValueError(
                    f"`observed` must not be set for the current frames, {first} to "
                    f"{last - 1}, which this network generates"
                )
        return clips


def _halve(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns (x + y) / sqrt(2), which keeps the variance."""
    return (x + y) / math.sqrt(2)


def _zero(layer) -> None:
    """Makes a fresh layer give its bias, which is 0."""
    layer = layer.time if isinstance(layer, PseudoConv3d) else layer
    layer.kernel[...] = jax.device_put(np.zeros(layer.kernel.shape, np.float32))


TINY = Config(
    channels=2,
    num_past=2,
    num_current=2,
    num_future=1,
    ngf=8,
    ch_mult=(1, 2),
    num_res_blocks=1,
    attn_resolutions=(8,),
    n_head_channels=8,
    spade_dim=8,
    cond_emb=True,
    image_size=16,
)

_SMALL = functools.partial(
    Config,
    channels=1,
    num_past=2,
    num_current=3,
    num_future=1,
    ch_mult=(1, 2),
    num_res_blocks=1,
    attn_resolutions=(8, 16),
    image_size=16,
)
_SMMNIST = Config(channels=1)
_CITYSCAPES = Config(
    num_past=2,
    ngf=128,
    ch_mult=(1, 1, 2, 3, 4),
    n_head_channels=128,
    dropout_rate=0.0,
    image_size=128,
)
VARIANTS = {
    "mcvd_concat": _SMALL(channels=3, ngf=32, ch_mult=(1, 2, 3), n_head_channels=32),
    "mcvd_spade": _SMALL(
        num_future=2,
        ngf=32,
        n_head_channels=32,
        spade=True,
        spade_dim=24,
        cond_emb=True,
    ),
    "mcvd_3d": _SMALL(
        num_current=2, num_future=0, kind="3d", ngf=12, n_head_channels=12
    ),
    "mcvd_pseudo3d": _SMALL(channels=2, kind="pseudo3d", ngf=8, n_head_channels=8),
    "mcvd_spade_pseudo3d": _SMALL(
        kind="pseudo3d", ngf=8, n_head_channels=8, spade=True, spade_dim=24
    ),
    "mcvd_diffusion": _SMALL(
        num_past=1,
        num_current=2,
        num_future=0,
        ngf=16,
        attn_resolutions=(8,),
        n_head_channels=16,
        image_size=8,
    ),
    "mcvd_smmnist": _SMMNIST,
    "mcvd_smmnist_future": dataclasses.replace(_SMMNIST, num_future=5),
    "mcvd_smmnist_spade": dataclasses.replace(_SMMNIST, spade=True),
    "mcvd_kth": Config(channels=1, num_past=10, ngf=96, n_head_channels=96),
    "mcvd_bair": Config(num_past=1, num_future=1, ngf=192, n_head_channels=192),
    "mcvd_cityscapes": _CITYSCAPES,
    "mcvd_cityscapes_spade": dataclasses.replace(
        _CITYSCAPES, ngf=192, n_head_channels=192, spade=True, spade_dim=256
    ),
    "mcvd_ucf101": Config(num_past=4, num_current=4, ngf=288, n_head_channels=288),
}


def _weights(num_params: int) -> spec.Weights:
    return spec.Weights(
        file="checkpoint_<step>.pt",
        source="https://github.com/voletiv/mcvd-pytorch",
        licence="none stated",
        dialect="mcvd",
        num_params=num_params,
        citation="Voleti et al., MCVD, NeurIPS 2022",
    )


WEIGHTS = {
    "mcvd_smmnist/smmnist": _weights(27_941_765),
    "mcvd_smmnist_future/smmnist": _weights(27_944_645),
    "mcvd_smmnist_spade/smmnist": _weights(53_953_989),
    "mcvd_kth/kth": _weights(62_831_141),
    "mcvd_bair/bair": _weights(251_174_991),
    "mcvd_cityscapes/cityscapes": _weights(116_551_695),
    "mcvd_cityscapes_spade/cityscapes": _weights(432_180_623),
    "mcvd_ucf101/ucf101": _weights(564_990_060),
}

_LEAF = r"(weight|bias)"
_BLOCK = r"unet\.all_modules\.(\d+)"


def _convolutions(theirs: str, ours: str, groups: int = 1):
    """Returns the rows of a convolution of each kind, behind some groups."""
    first, second = f"\\{groups + 1}", f"\\{groups + 2}"
    return (
        (rf"{_BLOCK}{theirs}(?:\.conv)?\.{_LEAF}", f"blocks.\\1{ours}.{first}"),
        (
            rf"{_BLOCK}{theirs}\.(space|time)_conv\.{_LEAF}",
            f"blocks.\\1{ours}.{first}.{second}",
        ),
    )


def _spade_rows(theirs: str, ours: str, groups: int = 1):
    """Returns the rows of a SPADE, behind some groups."""
    parts = {"converter": "converter", r"mlp_shared\.0": "shared"}
    parts |= {"mlp_gamma": "gamma", "mlp_beta": "beta"}
    return tuple(
        row
        for name, part in parts.items()
        for row in _convolutions(rf"{theirs}\.{name}", f"{ours}.{part}", groups)
    )


KEYS = {
    "mcvd": (
        # The schedule, which every checkpoint repeats.
        (r"betas|alphas|alphas_prev|unet\.sigmas", None),
        *_convolutions("", ""),
        (
            rf"{_BLOCK}\.actnorm([01])\.Dense_0\.{_LEAF}",
            r"blocks.\1.act\2.dense.\3",
        ),
        *_convolutions(r"\.Conv_([012])", r".conv\2", 2),
        *_spade_rows(r"\.actnorm([01])\.Norm_0", r".act\2.spade", 2),
        (rf"{_BLOCK}\.Norm_0\.{_LEAF}", r"blocks.\1.norm.\2"),
        *_spade_rows(r"\.Norm_0", ".spade"),
        *(
            row
            for theirs, ours in (
                ("", ""),
                (r"\.space_att", ".space"),
                (r"\.time_att", ".time"),
            )
            for row in (
                (
                    rf"{_BLOCK}{theirs}\.GroupNorm_0\.{_LEAF}",
                    rf"blocks.\1{ours}.norm.\2",
                ),
                *(
                    (
                        rf"{_BLOCK}{theirs}\.NIN_{index}\.{leaf}",
                        rf"blocks.\1{ours}.{layer}.{name}",
                    )
                    for index, layer in enumerate(("query", "key", "value", "out"))
                    for leaf, name in (("W", "kernel"), ("b", "bias"))
                ),
            )
        ),
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
