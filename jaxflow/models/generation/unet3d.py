"""The factorised 3-D U-Net of video diffusion models.

Ho, Salimans, Gritsenko, Chan, Norouzi, Fleet, "Video Diffusion Models" (NeurIPS 2022),
as the library video-diffusion-pytorch (version 0.7.0) builds it.

    space-only convolutions, Sec. 3      conv.Conv on every frame
    attention over space, Sec. 3         attention.LinearAttention; in the middle
                                         SpatialAttention
    attention over time, Sec. 3          TemporalAttention, with rotary positions
    relative positions, Sec. 3           relative_buckets, Model.bias
    conditioning by embeddings, Sec. 3   Block.scale_shift
    joint training on images, Sec. 3.1   Condition.present

Weights: none are published. The code whose names `KEYS` reads is MIT.

Deviations: none in the numbers. Fresh weights differ: the last product of every
attention over time starts at 0, so that a fresh network treats each frame as a picture.
`condition=None` means no condition for every clip, where the library insists on one. As
in the library, `Condition.present` does not reach the attention behind the first
convolution, which still mixes frames.
"""

import dataclasses
import functools
import itertools
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.diffusion import process as processes
from jaxflow.layers import attention, conv, generation, norm, timestep

_BUCKETS, _MAX_DISTANCE = 32, 32
_SPATIAL_HEAD = 32
_MAX_ROTARY = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a factorised 3-D U-Net.

    Attributes:
        channels: Channels of the clip.
        dim: Channels behind the first convolution.
        dim_mults: Channels of each level, as multiples of `dim`; each level but the
            first has half the height and width of the one before.
        attn_heads: Heads of every attention.
        attn_dim_head: Channels of a head of the attention over time; those over space
            have 32.
        init_kernel_size: Side of the first convolution.
        cond_dim: Length of the embedding that conditions the network; None is no
            condition.
        attend_frames: Whether there is any attention over time. Without it the network
            is one of pictures, whose weights a video network can start from.
        num_frames: Frames of the clips it is made for; it takes any number.
        image_size: Side of those clips; it takes any multiple of `multiple`.
    """

    channels: int = 3
    dim: int = 64
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    attn_heads: int = 8
    attn_dim_head: int = 32
    init_kernel_size: int = 7
    cond_dim: int | None = None
    attend_frames: bool = True
    num_frames: int = 16
    image_size: int = 64

    def __post_init__(self):
        spec.check_config(self)


class Condition(NamedTuple):
    """What a call can be conditioned on, besides diffusion time.

    Attributes:
        embedding: (B, cond_dim), for instance of a text; None is no condition.
        dropped: (B,), true where a clip's embedding is replaced by the learned one that
            means no condition; None is nowhere. Draw it at random in training, for
            classifier-free guidance.
        present: (B,), true where the attentions over time see each frame's own only, to
            train on pictures; None is nowhere.
    """

    embedding: jax.Array | None = None
    dropped: jax.Array | None = None
    present: jax.Array | None = None


class Frequencies(nnx.Variable):
    """Frequencies of the rotary positions: in checkpoints, and not learned."""


def rotary_frequencies(features: int) -> np.ndarray:
    """Returns the angle that a step in time turns each pair of channels by.

    w_i = 10000^(-2 i / features); Su et al., "RoFormer" (2021), Eq. 15.
    """
    pairs = np.arange(0, features, 2, dtype=np.float32)
    return np.float32(1) / np.float32(10_000) ** (pairs / np.float32(features))


def rotate(x: jax.Array, frequencies: jax.Array) -> jax.Array:
    """Turns pairs of neighbouring channels by an angle that grows with time.

    Args:
        x: (*B, T, D).
        frequencies: (R,), with 2 R <= D; channels from 2 R on stay as they are.

    Returns:
        The rotated tokens, in the dtype of `x`.
    """
    count = 2 * frequencies.shape[0]
    angle = jnp.arange(x.shape[-2], dtype=jnp.float32)[:, None] * frequencies[None]
    angle = jax.lax.broadcast_to_rank(angle, x.ndim)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    pairs = x[..., :count].astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-1
    )
    turned = turned.reshape(*x.shape[:-1], count).astype(x.dtype)
    return jnp.concatenate([turned, x[..., count:]], axis=-1)


def relative_buckets(num_frames: int) -> np.ndarray:
    """Returns the bucket of each distance in time, as T5 has them.

    Raffel et al. (2020), Sec. 2.1. Distances 0 to 7 have a bucket each; up to 32 they
    share one by their logarithm; farther ones are all in the last. Keys later than the
    query have 16 buckets of their own.

    Args:
        num_frames: Frames T.

    Returns:
        (T, T) of 0 to 31: row of the query, column of the key.
    """
    half, exact = _BUCKETS // 2, _BUCKETS // 4
    frames = np.arange(num_frames)
    distance = frames[None, :] - frames[:, None]
    size = np.abs(distance)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    scale = np.float32(math.log(_MAX_DISTANCE / exact))
    large = exact + (ratio / scale * np.float32(half - exact)).astype(int)
    return (distance > 0) * half + np.where(
        size < exact, size, np.minimum(large, half - 1)
    )


class RMSNorm(nnx.Module):
    """Gives the channels of each pixel a root mean square of 1, times a scale.

    Args:
        features: Channels.
    """

    torch_names: ClassVar = {"gamma": ("scale", None)}

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x`, (..., C), in float32."""
        wide = x.astype(jnp.float32)
        power = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
        # The same as a division by max(sqrt(power), 1e-12), with a gradient at 0.
        y = wide * jax.lax.rsqrt(jnp.maximum(power, 1e-24))
        scale = jax.lax.broadcast_to_rank(self.scale[...], y.ndim)
        return (y * math.sqrt(x.shape[-1]) * scale).astype(x.dtype)


class Block(nnx.Module):
    """A convolution of every frame, normalisation, scale and shift, SiLU.

    Args:
        in_features: Channels in.
        features: Channels out.
        rngs: Source of the initial weights.
    """

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        self.proj = conv.Conv(in_features, features, rngs=rngs)
        self.norm = RMSNorm(features)

    def __call__(
        self, x: jax.Array, scale_shift: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        """Maps (B, T, H, W, in_features) to (B, T, H, W, features)."""
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return jax.nn.silu(x)


class ResnetBlock(nnx.Module):
    """Two blocks plus the input; the embedding scales and shifts the first.

    Args:
        in_features: Channels in.
        features: Channels out.
        embedding: Length of the embedding of time and condition; None is none.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        embedding: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.mlp = (
            nnx.data(None)
            if embedding is None
            else conv.Linear(embedding, 2 * features, rngs=rngs)
        )
        self.block1 = Block(in_features, features, rngs=rngs)
        self.block2 = Block(features, features, rngs=rngs)
        self.res_conv = (
            nnx.data(None)
            if in_features == features
            else conv.Conv(in_features, features, 1, rngs=rngs)
        )

    def __call__(self, x: jax.Array, embedded: jax.Array | None = None) -> jax.Array:
        """Maps (B, T, H, W, in_features); `embedded` is (B, embedding)."""
        scale_shift = None
        if self.mlp is not None and embedded is not None:
            both = self.mlp(jax.nn.silu(embedded))[:, None, None, None]
            scale, shift = jnp.split(both, 2, axis=-1)
            scale_shift = scale, shift
        y = self.block2(self.block1(x, scale_shift))
        return y + (x if self.res_conv is None else self.res_conv(x))


class SpatialAttention(nnx.Module):
    """Softmax attention over the pixels of a frame, added to its input.

    Args:
        features: Channels.
        heads: Heads, of 32 channels each.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        inner = heads * _SPATIAL_HEAD
        self.norm = norm.ChannelNorm(features)
        self.to_qkv = conv.Linear(features, 3 * inner, use_bias=False, rngs=rngs)
        self.to_out = conv.Linear(inner, features, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        tokens = self.norm(x).reshape(*x.shape[:2], -1, x.shape[-1])
        query, key, value = attention.split_qkv(self.to_qkv(tokens), self.heads)
        out = attention.softmax_attention(query, key, value, scale=_SPATIAL_HEAD**-0.5)
        return x + self.to_out(attention.join_heads(out)).reshape(x.shape)


class TemporalAttention(nnx.Module):
    """Softmax attention over the frames of a pixel, added to its input.

    Args:
        features: Channels.
        heads: Heads.
        head_features: Channels of a head.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, features: int, heads: int, head_features: int, *, rngs: nnx.Rngs
    ):
        self.heads = heads
        self.scale = head_features**-0.5
        inner = heads * head_features
        self.norm = norm.ChannelNorm(features)
        self.to_qkv = conv.Linear(features, 3 * inner, use_bias=False, rngs=rngs)
        self.to_out = conv.Linear(inner, features, use_bias=False, rngs=rngs)
        self.to_out.kernel[...] = conv.zeros(inner * features).reshape(inner, features)

    def __call__(
        self, x: jax.Array, bias: jax.Array, frequencies: jax.Array
    ) -> jax.Array:
        """Transforms `x`.

        Args:
            x: (B, T, H, W, C).
            bias: Of the scores, (B or 1, 1, 1, heads, T, T).
            frequencies: Of the rotary positions.
        """
        tokens = jnp.moveaxis(self.norm(x), 1, 3)
        query, key, value = attention.split_qkv(self.to_qkv(tokens), self.heads)
        query, key = rotate(query, frequencies), rotate(key, frequencies)
        out = attention.softmax_attention(
            query, key, value, scale=self.scale, bias=bias
        )
        return x + jnp.moveaxis(self.to_out(attention.join_heads(out)), 3, 1)


class Level(nnx.Module):
    """Two residual blocks, attention over space and over time.

    Args:
        in_features: Channels in.
        features: Channels out.
        config: Numbers of the network.
        embedding: Length of the embedding of time and condition.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        config: Config,
        embedding: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.block0 = ResnetBlock(in_features, features, embedding=embedding, rngs=rngs)
        self.block1 = ResnetBlock(features, features, embedding=embedding, rngs=rngs)
        self.spatial = attention.LinearAttention(
            features,
            config.attn_heads,
            _SPATIAL_HEAD,
            normalise_query=True,
            rngs=rngs,
        )
        self.temporal = _temporal(features, config, rngs=rngs)

    def __call__(self, x: jax.Array, embedded: jax.Array, *positions) -> jax.Array:
        """Maps (B, T, H, W, in_features); `positions` go to `TemporalAttention`."""
        x = self.spatial(self.block1(self.block0(x, embedded), embedded))
        return x if self.temporal is None else self.temporal(x, *positions)


class Model(nnx.Module):
    """The factorised 3-D U-Net: a noisy clip to what a diffusion model predicts."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    takes: ClassVar[tuple[str, ...]] = ()
    process: ClassVar[processes.Process] = processes.Process(
        schedule="cosine", limit=0.9999
    )

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.multiple = 2 ** (len(config.dim_mults) - 1)
        dim, heads = config.dim, config.attn_heads
        widths = [dim, *(dim * mult for mult in config.dim_mults)]
        pairs = list(itertools.pairwise(widths))
        embedding = 4 * dim + (config.cond_dim or 0)
        self.depth = len(pairs)
        draw = functools.partial(conv.truncated_normal, std=1.0)
        block = functools.partial(ResnetBlock, embedding=embedding, rngs=rngs)
        level = functools.partial(Level, config=config, embedding=embedding, rngs=rngs)
        window = config.init_kernel_size
        self.init_conv = conv.Conv(config.channels, dim, window, rngs=rngs)
        self.init_temporal = _temporal(dim, config, rngs=rngs)
        if config.attend_frames:
            self.bias = nnx.Param(draw(rngs.params(), (_BUCKETS, heads)))
            rotary = rotary_frequencies(min(_MAX_ROTARY, config.attn_dim_head))
            self.frequencies = Frequencies(jnp.asarray(rotary))
        self.time1 = conv.Linear(dim, 4 * dim, rngs=rngs)
        self.time2 = conv.Linear(4 * dim, 4 * dim, rngs=rngs)
        self.null = nnx.data(None)
        if config.cond_dim is not None:
            self.null = nnx.Param(draw(rngs.params(), (config.cond_dim,)))

        for i, (before, after) in enumerate(pairs):
            setattr(self, f"down{i}", level(before, after))
            if i < self.depth - 1:
                halve = conv.Conv(after, after, 4, strides=2, padding=1, rngs=rngs)
                setattr(self, f"halve{i}", halve)
        last = widths[-1]
        self.mid1 = block(last, last)
        self.mid_spatial = SpatialAttention(last, heads, rngs=rngs)
        self.mid_temporal = _temporal(last, config, rngs=rngs)
        self.mid2 = block(last, last)
        for i, (before, after) in enumerate(reversed(pairs)):
            setattr(self, f"up{i}", level(2 * after, before))
            if i < self.depth - 1:
                double = conv.ConvTranspose(before, before, rngs=rngs)
                setattr(self, f"double{i}", double)
        self.final_block = ResnetBlock(2 * dim, dim, rngs=rngs)
        self.final_conv = conv.Conv(dim, config.channels, 1, rngs=rngs)

    def __call__(
        self,
        noisy: jax.Array,
        time: jax.Array,
        *,
        clean: jax.Array | None = None,
        observed: jax.Array | None = None,
        latent: jax.Array | None = None,
        indices: jax.Array | None = None,
        condition: jax.Array | Condition | None = None,
    ) -> jax.Array:
        """Predicts the noise of a clip, or whatever it was trained for.

        Args:
            noisy: (B, T, H, W, channels), about [-1, 1]; H and W are multiples of
                `self.multiple`, T is any number.
            time: Diffusion step of each clip, (B,), from 0 to 999.
            clean: Not used by this network, nor are the next three: it is conditioned
                on frames by its sampler.
            observed: Not used.
            latent: Not used.
            indices: Not used: positions are those in the clip.
            condition: An embedding, (B, cond_dim), or a `Condition`.

        Returns:
            The prediction, like `noisy`.

        Raises:
            ValueError: If an argument has a wrong shape or type, or cannot be used.
        """
        noisy, clean = generation.check_inputs(
            self, noisy, time, clean, observed, latent, indices
        )
        condition = self._check_condition(condition, noisy.shape[0])
        embedded = self._embed(time, condition).astype(self.dtype)
        everywhere, positions = self._positions(noisy.shape[1], condition.present)

        x = self.init_conv(noisy.astype(self.dtype))
        if self.init_temporal is not None:
            x = self.init_temporal(x, *everywhere)
        first, skips = x, []
        for i in range(self.depth):
            x = getattr(self, f"down{i}")(x, embedded, *positions)
            skips.append(x)
            if i < self.depth - 1:
                x = getattr(self, f"halve{i}")(x)
        x = self.mid_spatial(self.mid1(x, embedded))
        if self.mid_temporal is not None:
            x = self.mid_temporal(x, *positions)
        x = self.mid2(x, embedded)
        for i in range(self.depth):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = getattr(self, f"up{i}")(x, embedded, *positions)
            if i < self.depth - 1:
                x = getattr(self, f"double{i}")(x)
        x = self.final_block(jnp.concatenate([x, first], axis=-1))
        return self.final_conv(x.astype(jnp.float32))

    def _check_condition(self, condition, batch: int) -> Condition:
        """Brings a condition to one form, and verifies it."""
        if not isinstance(condition, Condition):
            condition = Condition(embedding=condition)
        length = self.config.cond_dim
        if condition.embedding is not None:
            if length is None:
                raise ValueError(
                    "this network takes no `condition`; its config's `cond_dim` is None"
                )
            if condition.embedding.shape != (batch, length):
                raise ValueError(
                    f"`condition` must be an embedding of shape {(batch, length)}; got "
                    f"{condition.embedding.shape}"
                )
        for name in ("dropped", "present"):
            value = getattr(condition, name)
            if value is not None and value.shape != (batch,):
                raise ValueError(
                    f"`condition.{name}` must be ({batch},), one flag a clip; got "
                    f"{value.shape}"
                )
        if condition.dropped is not None and condition.embedding is None:
            raise ValueError("`condition.dropped` needs `condition.embedding`")
        if condition.present is not None and not self.config.attend_frames:
            raise ValueError(
                "`condition.present` is for networks with attention over time; this "
                "one's config says attend_frames=False"
            )
        return condition

    def _embed(self, time: jax.Array, condition: Condition) -> jax.Array:
        """Embeds diffusion time and condition: (B, 4 dim + cond_dim), in float32."""
        x = timestep.sinusoid(time, self.config.dim)
        x = self.time2(jax.nn.gelu(self.time1(x), approximate=False))
        if self.null is None:
            return x
        embedding, dropped, _ = condition
        null = self.null[...]
        if embedding is None:
            embedding = jnp.broadcast_to(null, (x.shape[0], *null.shape))
        elif dropped is not None:
            keep = ~dropped.astype(bool)[:, None]
            embedding = jnp.where(keep, embedding.astype(x.dtype), null[None])
        return jnp.concatenate([x, embedding.astype(x.dtype)], axis=-1)

    def _positions(self, num_frames: int, present: jax.Array | None):
        """Returns what the first attention over time takes, and what the others do."""
        if not self.config.attend_frames:
            return (), ()
        frequencies = self.frequencies[...]
        table = self.bias[...][relative_buckets(num_frames)]
        bias = jnp.moveaxis(table, -1, 0)[None, None, None]
        if present is None:
            return (bias, frequencies), (bias, frequencies)
        others = ~np.eye(num_frames, dtype=bool)
        hidden = present.astype(bool).reshape(-1, 1, 1, 1, 1, 1)
        hidden &= jax.lax.broadcast_to_rank(others, hidden.ndim)
        return (bias, frequencies), (jnp.where(hidden, -jnp.inf, bias), frequencies)


def _temporal(features: int, config: Config, *, rngs: nnx.Rngs):
    """Returns an attention over time, or what stands for none."""
    if not config.attend_frames:
        return nnx.data(None)
    return TemporalAttention(
        features, config.attn_heads, config.attn_dim_head, rngs=rngs
    )


TINY = Config(
    dim=8,
    dim_mults=(1, 2),
    attn_heads=2,
    attn_dim_head=8,
    init_kernel_size=3,
    cond_dim=6,
    num_frames=4,
    image_size=16,
)

VARIANTS = {
    "lucid_unet3d": Config(dim=32, dim_mults=(1, 2), num_frames=5, image_size=16),
    "lucid_unet3d_cond": Config(
        channels=1,
        dim=16,
        dim_mults=(1, 2, 4),
        attn_heads=4,
        attn_dim_head=40,
        init_kernel_size=5,
        cond_dim=12,
        num_frames=20,
        image_size=16,
    ),
    "lucid_unet3d_base": Config(),
}

_LEAF = r"(weight|bias)"


def _rows(theirs: str, ours: str, tails: tuple[tuple[str, str], ...]):
    r"""Returns rows for the parts of a block; in `tails`, \0 is its first own group."""
    groups = theirs.count("(")
    return tuple(
        (rf"{theirs}\.{tail}", rf"{ours}.{part}".replace(r"\0", f"\\{groups + 1}"))
        for tail, part in tails
    )


_RESNET = (
    (rf"mlp\.1\.{_LEAF}", r"mlp.\0"),
    (rf"block1\.proj\.{_LEAF}", r"block1.proj.\0"),
    (r"block1\.norm\.gamma", "block1.norm.gamma"),
    (rf"block2\.proj\.{_LEAF}", r"block2.proj.\0"),
    (r"block2\.norm\.gamma", "block2.norm.gamma"),
    (rf"res_conv\.{_LEAF}", r"res_conv.\0"),
)
_SPATIAL = (
    (r"fn\.fn\.to_qkv\.weight", "to_qkv.weight"),
    (rf"fn\.fn\.to_out\.{_LEAF}", r"to_out.\0"),
    (r"fn\.norm\.gamma", "norm.gamma"),
)
_ATTENTION = (
    (r"fn\.fn\.fn\.to_(qkv|out)\.weight", r"to_\0.weight"),
    (r"fn\.norm\.gamma", "norm.gamma"),
)
KEYS = {
    "lucidrains": (
        # One tensor, registered by every attention over time.
        (r".*\.rotary_emb\.freqs", "frequencies"),
        (r"null_cond_emb", "null"),
        (r"time_rel_pos_bias\.relative_attention_bias\.weight", "bias"),
        (rf"init_conv\.{_LEAF}", r"init_conv.\1"),
        (rf"time_mlp\.1\.{_LEAF}", r"time1.\1"),
        (rf"time_mlp\.3\.{_LEAF}", r"time2.\1"),
        (rf"downs\.(\d+)\.4\.{_LEAF}", r"halve\1.\2"),
        (rf"ups\.(\d+)\.4\.{_LEAF}", r"double\1.\2"),
        (rf"final_conv\.1\.{_LEAF}", r"final_conv.\1"),
        *_rows(r"(down|up)s\.(\d+)\.([01])", r"\1\2.block\3", _RESNET),
        *_rows(r"mid_block([12])", r"mid\1", _RESNET),
        *_rows(r"final_conv\.0", "final_block", _RESNET),
        *_rows(r"(down|up)s\.(\d+)\.2", r"\1\2.spatial", _SPATIAL),
        *_rows(r"(down|up)s\.(\d+)\.3", r"\1\2.temporal", _ATTENTION),
        *_rows("mid_spatial_attn", "mid_spatial", _ATTENTION),
        *_rows("(init|mid)_temporal_attn", r"\1_temporal", _ATTENTION),
    ),
}

ADAPT = {
    "lucidrains": (
        (r".*\.gamma|null_cond_emb", np.ravel),
        # Their convolutions are 3-D, with a window of one frame.
        (
            r".*(conv|proj|res_conv|\.4)\.weight|final_conv\.1\.weight",
            lambda kernel: kernel[:, :, 0],
        ),
    )
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    keys=KEYS,
    adapt=ADAPT,
)
