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
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.diffusion import process as processes
from jaxflow.layers import attention, conv, generation, norm, unet

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
        self.proj_out = unet.zeroed(conv.Linear(features, features, rngs=rngs))

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


class Model(nnx.Module):
    """RaMViD: a clip, clean where observed and noisy elsewhere, to its noise."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

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

        first = conv.Conv3d(config.channels, width, rngs=rngs)
        shape = (width, config.channel_mult, config.num_res_blocks)
        make = functools.partial(self._stage, rngs=rngs)
        layer = functools.partial(conv.Conv3d, rngs=rngs)

        def halve(features: int, level: int) -> conv.Conv3d:
            time = 2 if frames[level + 1] != frames[level] else 1
            return layer(features, features, strides=(time, 2, 2))

        down, widths = unet.way_down(first, *shape, make, halve)
        self.down, last = nnx.data(down), widths[-1]
        self.middle1 = self._res_block(last, last, rngs=rngs)
        self.middle_attend = AttentionBlock(last, config.num_heads, rngs=rngs)
        self.middle2 = self._res_block(last, last, rngs=rngs)
        up, features = unet.way_up(widths, *shape, make, lambda n: layer(n, n), frames)
        self.up = nnx.data(up)
        self.norm = norm.GroupNorm(features, _GROUPS)
        self.last = unet.zeroed(layer(features, config.channels))

    def _res_block(self, before: int, after: int, *, rngs: nnx.Rngs) -> unet.ResBlock:
        return unet.ResBlock(
            before,
            after,
            convolution=conv.Conv3d,
            groups=_GROUPS,
            embedding=self.embedding,
            scale_shift=self.config.scale_shift,
            dropout_rate=self.config.dropout_rate,
            rngs=rngs,
        )

    def _stage(
        self, before: int, after: int, level: int, *, rngs: nnx.Rngs
    ) -> unet.Stage:
        """Returns a residual block, with attention where the config has it."""
        res = self._res_block(before, after, rngs=rngs)
        if 2**level not in self.config.attention_downsampling:
            return unet.Stage(res)
        attend = AttentionBlock(after, self.config.num_heads, rngs=rngs)
        return unet.Stage(res, attend)

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
        noisy, clean = generation.check_inputs(
            self,
            noisy,
            time,
            clean,
            observed,
            latent,
            indices,
            num_frames=self.config.scale_time_dim or None,
        )
        generation.check_classes(condition, noisy.shape[0], self.config.num_classes)
        x = unet.through(
            self.down,
            (self.middle1, self.middle_attend, self.middle2),
            self.up,
            generation.paste(noisy, clean, observed).astype(self.dtype),
            self._embed(time, condition).astype(self.dtype),
            generation.draws(key),
        )
        return self.last(jax.nn.silu(self.norm(x)).astype(jnp.float32))

    def _embed(self, time: jax.Array, classes: jax.Array | None) -> jax.Array:
        """Embeds diffusion time and class: (B, 4 model_channels)."""
        width = self.config.model_channels
        x = unet.embed_time(time, self.time1, self.time2, width)
        if self.classes is not None and classes is not None:
            x = x + self.classes[...][classes]
        return x


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

KEYS = {"ramvid": unet.key_table({part: part for part in ("norm", "qkv", "proj_out")})}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
)
