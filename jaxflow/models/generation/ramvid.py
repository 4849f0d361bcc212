"""RaMViD: random-mask video diffusion.

Hoeppe, Mehrjou, Bauer, Nielsen, Dittadi, "Diffusion Models for Video Prediction and
Infilling" (TMLR 2022); the network is that of Nichol and Dhariwal, "Improved Denoising
Diffusion Probabilistic Models" (ICML 2021), with 3-D convolutions.

    conditional frames stay clean, Sec. 3      Model.__call__: `clean` where `observed`
    3-D U-Net, Sec. 4, Appendix B              ResBlock, AttentionBlock, Model

Weights: the authors' for BAIR, Kinetics-600 and UCF-101; their code is MIT, and no
licence of the weights is stated.

Deviations: none in the numbers. The network pastes the clean frames itself, before its
first convolution, where the authors' samplers do; what it predicts for them means
nothing, and its loss leaves them out.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import spec
from jaxflow.diffusion import process as processes
from jaxflow.layers import attention, conv, dropout, generation, norm, timestep

_GROUPS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a RaMViD network.

    Attributes:
        channels: Channels of the clip.
        model_channels: Channels behind the first convolution, a multiple of 32.
        num_res_blocks: Residual blocks of a level on the way down; one more on the way
            up.
        channel_mult: Channels of each level, as multiples of `model_channels`; each
            level but the first has half the height and width of the one before.
        attention_downsampling: Reductions in size, such as 4 and 8, at which every
            residual block is followed by attention.
        num_heads: Heads of the attention.
        scale_shift: Whether the embedding of time scales and shifts the second
            normalisation, or is added before it.
        scale_time_dim: Number of frames that the network is bound to: time is then
            halved with height and width, as long as there are 2 frames. 0 leaves time
            alone, and takes any number of frames.
        num_classes: Number of classes that condition the network; None is none.
        dropout_rate: Before the last convolution of each residual block, in training.
        num_frames: Frames of the clips it is made for.
        image_size: Side of those clips.
    """

    channels: int = 3
    model_channels: int = 128
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    attention_downsampling: tuple[int, ...] = (4, 8)
    num_heads: int = 4
    scale_shift: bool = True
    scale_time_dim: spec.Count = 0
    num_classes: int | None = None
    dropout_rate: spec.Share = 0.0
    num_frames: int = 16
    image_size: int = 64

    def __post_init__(self):
        spec.check_config(self)


def frames_of_levels(config: Config) -> tuple[int, ...]:
    """Returns the frames of each level for a network bound to a number; else zeros.

    The way up has to meet the frames of the way down: 8, 4, 2 or 6, 3, 2.

    Raises:
        ValueError: If it does not: 5 frames become 3, where 2 are asked for.
    """
    found, asked = [config.scale_time_dim], config.scale_time_dim
    for level in range(1, len(config.channel_mult)):
        if asked != found[-1]:
            raise ValueError(
                f"`scale_time_dim` must be even until it is 1 or the last of "
                f"{len(config.channel_mult)} levels; got {config.scale_time_dim}, "
                f"which has {found[-1]} frames at level {level - 1}, not {asked}"
            )
        asked //= 2
        found.append(-(-found[-1] // 2) if asked else found[-1])
    return tuple(found)


class ResBlock(nnx.Module):
    """Two convolutions with normalisation, conditioned on time, plus the input.

    Args:
        in_features: Channels in.
        features: Channels out.
        embedding: Length of the embedding of time.
        scale_shift: See `Config`.
        dropout_rate: See `Config`.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        embedding: int,
        scale_shift: bool,
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        self.scale_shift = scale_shift
        self.dropout = dropout.Dropout(dropout_rate)
        self.norm1 = norm.GroupNorm(in_features, _GROUPS)
        self.conv1 = conv.Conv3d(in_features, features, rngs=rngs)
        width = 2 * features if scale_shift else features
        self.embed = conv.Linear(embedding, width, rngs=rngs)
        self.norm2 = norm.GroupNorm(features, _GROUPS)
        self.conv2 = conv.Conv3d(features, features, rngs=rngs)
        _zero(self.conv2)
        self.shortcut = (
            nnx.data(None)
            if in_features == features
            else conv.Conv3d(in_features, features, 1, rngs=rngs)
        )

    def __call__(
        self, x: jax.Array, embedded: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Maps (B, T, H, W, in_features); `key` is that of the dropout."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        embedded = self.embed(jax.nn.silu(embedded))[:, None, None, None]
        if self.scale_shift:
            scale, shift = jnp.split(embedded, 2, axis=-1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + embedded)
        y = jax.nn.silu(y)
        y = self.dropout(y, key=key)
        return self.conv2(y) + (x if self.shortcut is None else self.shortcut(x))


class AttentionBlock(nnx.Module):
    """Softmax attention over all pixels of all frames, added to its input.

    Args:
        features: Channels.
        heads: Heads.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.norm = norm.GroupNorm(features, _GROUPS)
        self.qkv = conv.Linear(features, 3 * features, rngs=rngs)
        self.proj_out = conv.Linear(features, features, rngs=rngs)
        _zero(self.proj_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        # Channels of qkv are split into heads first, and then into q, k and v.
        heads = self.qkv(self.norm(x)).reshape(
            x.shape[0], -1, self.heads, 3 * x.shape[-1] // self.heads
        )
        query, key, value = jnp.split(jnp.swapaxes(heads, 1, 2), 3, axis=-1)
        out = attention.softmax_attention(
            query, key, value, scale=query.shape[-1] ** -0.5
        )
        return x + self.proj_out(attention.join_heads(out)).reshape(x.shape)


class Stage(nnx.Module):
    """A residual block, attention if there is any, and a change of size if there is.

    Args:
        res: The residual block, or None for a convolution alone.
        attend: The attention, or None.
        resize: The first convolution, or that of a change of size; or None.
        frames: Frames behind an increase in size; 0 leaves them alone, and None stands
            for a decrease.
    """

    def __init__(self, res=None, attend=None, resize=None, frames: int | None = None):
        self.res = nnx.data(res)
        self.attend = nnx.data(attend)
        self.resize = nnx.data(resize)
        self.frames = frames

    def __call__(self, x: jax.Array, embedded: jax.Array, draws) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C); `draws` gives keys of the dropout."""
        if self.res is not None:
            x = self.res(x, embedded, key=next(draws))
        if self.attend is not None:
            x = self.attend(x)
        if self.resize is not None:
            x = self.resize(x if self.frames is None else enlarge(x, self.frames))
        return x


def enlarge(x: jax.Array, num_frames: int) -> jax.Array:
    """Doubles height and width by repetition, and brings the frames to a number.

    Args:
        x: (B, T, H, W, C).
        num_frames: Frames of the result, frame i being frame floor(i T / num_frames);
            0 leaves them alone.
    """
    batch, frames, height, width, features = x.shape
    if num_frames and num_frames != frames:
        x = x[:, np.arange(num_frames) * frames // num_frames]
    x = x[:, :, :, None, :, None]
    x = jnp.broadcast_to(x, (batch, x.shape[1], height, 2, width, 2, features))
    return x.reshape(batch, -1, 2 * height, 2 * width, features)


class Model(nnx.Module):
    """RaMViD: a clip, clean where observed and noisy elsewhere, to its noise."""

    record: ClassVar[spec.Record]

    takes: ClassVar[tuple[str, ...]] = ("clean", "observed")
    process: ClassVar[processes.Process] = processes.Process()

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.multiple = 2 ** (len(config.channel_mult) - 1)
        self.deterministic = True
        frames = frames_of_levels(config)
        width = config.model_channels
        self.embedding = 4 * width
        self.time1 = conv.Linear(width, self.embedding, rngs=rngs)
        self.time2 = conv.Linear(self.embedding, self.embedding, rngs=rngs)
        self.classes = nnx.data(None)
        if config.num_classes is not None:
            shape = (config.num_classes, self.embedding)
            self.classes = nnx.Param(
                conv.truncated_normal(rngs.params(), shape, std=1.0)
            )

        make = functools.partial(self._stage, rngs=rngs)
        first = conv.Conv3d(config.channels, width, rngs=rngs)
        down, widths, features = [Stage(resize=first)], [width], width
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                down.append(make(features, mult * width, level))
                features = mult * width
                widths.append(features)
            if level < len(config.channel_mult) - 1:
                halved = frames[level + 1] != frames[level]
                strides = (2 if halved else 1, 2, 2)
                halve = conv.Conv3d(features, features, strides=strides, rngs=rngs)
                down.append(Stage(resize=halve))
                widths.append(features)
        self.down = nnx.data(down)
        block = self._res_block
        self.middle1 = block(features, features, rngs=rngs)
        self.middle_attend = AttentionBlock(features, config.num_heads, rngs=rngs)
        self.middle2 = block(features, features, rngs=rngs)
        up = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                stage = make(features + widths.pop(), mult * width, level)
                features = mult * width
                if level and i == config.num_res_blocks:
                    stage.resize = conv.Conv3d(features, features, rngs=rngs)
                    stage.frames = frames[level - 1]
                up.append(stage)
        self.up = nnx.data(up)
        self.norm = norm.GroupNorm(features, _GROUPS)
        self.last = conv.Conv3d(features, config.channels, rngs=rngs)
        _zero(self.last)

    def _res_block(self, before: int, after: int, *, rngs: nnx.Rngs) -> ResBlock:
        return ResBlock(
            before,
            after,
            embedding=self.embedding,
            scale_shift=self.config.scale_shift,
            dropout_rate=self.config.dropout_rate,
            rngs=rngs,
        )

    def _stage(self, before: int, after: int, level: int, *, rngs: nnx.Rngs) -> Stage:
        """Returns a residual block, with attention where the config has it."""
        res = self._res_block(before, after, rngs=rngs)
        if 2**level not in self.config.attention_downsampling:
            return Stage(res)
        return Stage(res, AttentionBlock(after, self.config.num_heads, rngs=rngs))

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
        """Predicts the noise of a clip.

        Args:
            noisy: (B, T, H, W, channels), about [-1, 1]; H and W are multiples of
                `self.multiple`; T is any number, or `config.scale_time_dim`.
            time: Diffusion time of each clip, (B,), from 0 to 1000.
            clean: The clip without noise, (B, T, H, W, channels) in [-1, 1]; only
                observed frames are looked at. None is no such frame.
            observed: (B, T), true for frames that are given.
            latent: Not used: every frame that is not observed is generated.
            indices: Not used: frames are those of one clip, in order.
            condition: Class of each clip, (B,), if `config.num_classes` says so.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            The prediction, like `noisy`; of observed frames it means nothing.

        Raises:
            ValueError: If an argument has a wrong shape or type, or cannot be used.
        """
        generation.check_noisy(
            noisy,
            time,
            channels=self.config.channels,
            multiple=self.multiple,
            num_frames=self.config.scale_time_dim or None,
        )
        generation.check_companions(
            noisy,
            clean=clean,
            observed=observed,
            latent=latent,
            indices=indices,
            takes=self.takes,
        )
        generation.check_classes(condition, noisy.shape[0], self.config.num_classes)
        draws = generation.draws(key)
        embedded = self._embed(time, condition, noisy.dtype)
        x, skips = generation.paste(noisy, clean, observed), []
        for stage in self.down:
            x = stage(x, embedded, draws)
            skips.append(x)
        x = self.middle_attend(self.middle1(x, embedded, key=next(draws)))
        x = self.middle2(x, embedded, key=next(draws))
        for stage in self.up:
            x = stage(jnp.concatenate([x, skips.pop()], axis=-1), embedded, draws)
        return self.last(jax.nn.silu(self.norm(x)))

    def _embed(self, time: jax.Array, classes: jax.Array | None, dtype) -> jax.Array:
        """Embeds diffusion time and class: (B, 4 model_channels)."""
        x = timestep.sinusoid(time, self.config.model_channels, cosine_first=True)
        x = self.time2(jax.nn.silu(self.time1(x.astype(dtype))))
        if self.classes is not None and classes is not None:
            x = x + self.classes[...][classes].astype(dtype)
        return x


def _zero(layer: conv.Conv3d | conv.Linear) -> None:
    """Makes a fresh layer give nothing."""
    layer.kernel[...] = jax.device_put(np.zeros(layer.kernel.shape, np.float32))


TINY = Config(
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_downsampling=(2,),
    num_heads=2,
    num_classes=3,
    dropout_rate=0.1,
    num_frames=3,
    image_size=8,
)

VARIANTS = {
    "ramvid_unet": Config(
        model_channels=64,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
        num_frames=6,
        image_size=16,
    ),
    "ramvid_unet_b": Config(
        channels=1,
        model_channels=64,
        num_res_blocks=1,
        channel_mult=(1, 1, 2),
        attention_downsampling=(2, 4),
        num_heads=2,
        scale_shift=False,
        scale_time_dim=8,
        num_classes=5,
        dropout_rate=0.1,
        num_frames=8,
        image_size=16,
    ),
    "ramvid_bair": Config(),
    "ramvid_kinetics600": Config(num_res_blocks=3),
    "ramvid_ucf101": Config(num_res_blocks=3),
}


def _weights(num_params: int) -> spec.Weights:
    return spec.Weights(
        file="ema_0.9999_<step>.pt",
        source="https://github.com/Tobi-r9/RaMViD",
        licence="none stated",
        dialect="ramvid",
        num_params=num_params,
        citation="Hoeppe et al., TMLR 2022",
    )


WEIGHTS = {
    "ramvid_bair/bair": _weights(235_071_875),
    "ramvid_kinetics600/kinetics600": _weights(308_343_427),
    "ramvid_ucf101/ucf101": _weights(308_343_427),
}

_LEAF = r"(weight|bias)"
_RES = {
    r"in_layers\.0": "norm1",
    r"in_layers\.2": "conv1",
    r"emb_layers\.1": "embed",
    r"out_layers\.0": "norm2",
    r"out_layers\.3": "conv2",
    "skip_connection": "shortcut",
}
_ATTEND = r"(norm|qkv|proj_out)"
KEYS = {
    "ramvid": (
        (rf"time_embed\.0\.{_LEAF}", r"time1.\1"),
        (rf"time_embed\.2\.{_LEAF}", r"time2.\1"),
        (r"label_emb\.weight", "classes"),
        (rf"input_blocks\.(\d+)\.0(?:\.op)?\.{_LEAF}", r"down.\1.resize.\2"),
        (rf"output_blocks\.(\d+)\.[12]\.conv\.{_LEAF}", r"up.\1.resize.\2"),
        (rf"input_blocks\.(\d+)\.1\.{_ATTEND}\.{_LEAF}", r"down.\1.attend.\2.\3"),
        (rf"output_blocks\.(\d+)\.1\.{_ATTEND}\.{_LEAF}", r"up.\1.attend.\2.\3"),
        (rf"middle_block\.1\.{_ATTEND}\.{_LEAF}", r"middle_attend.\1.\2"),
        *(
            row
            for theirs, ours in _RES.items()
            for row in (
                (
                    rf"input_blocks\.(\d+)\.0\.{theirs}\.{_LEAF}",
                    rf"down.\1.res.{ours}.\2",
                ),
                (
                    rf"output_blocks\.(\d+)\.0\.{theirs}\.{_LEAF}",
                    rf"up.\1.res.{ours}.\2",
                ),
                (rf"middle_block\.0\.{theirs}\.{_LEAF}", rf"middle1.{ours}.\1"),
                (rf"middle_block\.2\.{theirs}\.{_LEAF}", rf"middle2.{ours}.\1"),
            )
        ),
        (rf"out\.0\.{_LEAF}", r"norm.\1"),
        (rf"out\.2\.{_LEAF}", r"last.\1"),
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
