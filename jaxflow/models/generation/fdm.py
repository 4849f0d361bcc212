"""FDM: the flexible diffusion model, for any observed and any generated frames.

Harvey, Naderiparizi, Masrani, Weilbach, Wood, "Flexible Diffusion Modeling of Long
Videos" (NeurIPS 2022); its 2-D U-Net is that of Nichol and Dhariwal, "Improved
Denoising Diffusion Probabilistic Models" (ICML 2021), applied to every frame.

    observed frames and their mark, Sec. 3      Model._mark
    attention along frames, then over space     FrameAttention, SpaceAttention
    relative positions in time, Appendix A      RelativePositions

Weights: the authors' for CARLA Town01; their code is MIT, and no licence of the weights
is stated.

Deviations: none in the numbers of the variants that start with "fdm_", whose attentions
are as in the official code: the residual is around the normalised input, and the
normalisation before the attention along frames pools over the frames of a pixel, of
padding too, so that what stands in padding changes other frames. The variants
"flexible…" are ours: the residual is around the input, and every frame is normalised by
its own numbers. So padding changes nothing, and a network whose attention along frames
is fresh, or absent, is exactly one of pictures.
"""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import _checks, spec
from jaxflow.diffusion import process
from jaxflow.layers import attention, conv, generation, norm, timestep, unet
from jaxflow.ops import products

TimeEncoding = Literal["relative", "absolute", "none"]
ENCODINGS = ("relative", "absolute", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a flexible diffusion model.

    Attributes:
        channels: Channels of the clip.
        model_channels: Channels behind the first convolution.
        num_res_blocks: Residual blocks of a level on the way down; one more on the way
            up.
        channel_mult: Channels of each level, as multiples of `model_channels`; each
            level but the first has half the height and width of the one before.
        attention_downsampling: Reductions in size, such as 4 and 8, at which every
            residual block is followed by attention; the middle always has it.
        num_heads: Heads of the attentions.
        groups: Groups of the normalisations; divides all numbers of channels.
        scale_shift: Whether the embedding of time scales and shifts the second
            normalisation, or is added before it.
        attend_frames: Whether there is attention along frames. Without it the network
            is one of pictures, whose weights a video network can start from.
        time_encoding: What that attention knows of the frames' numbers: their
            differences, the numbers themselves, or nothing.
        official_attention: Whether normalisation and residual of the attentions are the
            official code's, or ours; see the top of this file.
        num_classes: Number of classes that condition the network; None is none.
        learns_variance: Whether the prediction has twice the channels: the second half
            is the variance.
        dropout_rate: Before the last convolution of each residual block, in training.
        schedule: Betas that it is trained with: "linear" or "cosine".
        diffusion_steps: Number of those betas.
        predicts: "noise", "data" or "velocity".
        num_frames: Frames of the clips it is made for; it takes any number.
        image_size: Side of those clips; it takes any multiple of `multiple`.
    """

    channels: int = 3
    model_channels: int = 128
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    attention_downsampling: tuple[int, ...] = (4, 8)
    num_heads: int = 4
    groups: int = 32
    scale_shift: bool = True
    attend_frames: bool = True
    time_encoding: TimeEncoding = "relative"
    official_attention: bool = True
    num_classes: int | None = None
    learns_variance: bool = False
    dropout_rate: spec.Share = 0.0
    schedule: Literal["linear", "cosine"] = "linear"
    diffusion_steps: int = 1000
    predicts: Literal["noise", "data", "velocity"] = "noise"
    num_frames: int = 20
    image_size: int = 64

    def __post_init__(self):
        spec.check_config(self)


class PositionNet(nnx.Module):
    """What a difference of frame numbers adds to queries, keys or values.

        R = out(silu(W_t t + W_d [log(1 + d+), log(1 + d-), d = 0]))

    where d+ and d- are the difference's size if it is positive or negative.

    Args:
        features: Channels.
        heads: Heads.
        embedding: Length of the embedding of diffusion time.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, heads: int, embedding: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.of_distance = conv.Linear(3, features, rngs=rngs)
        self.of_time = conv.Linear(embedding, features, rngs=rngs)
        self.out = unet.zeroed(conv.Linear(features, features, rngs=rngs))

    def __call__(self, embedded: jax.Array, distance: jax.Array) -> jax.Array:
        """Embeds differences.

        Args:
            embedded: Diffusion time of frame a, (B, T or 1, embedding).
            distance: Number of frame a less that of frame b, (B, T, T) float32.

        Returns:
            (B, heads, T, T, D).
        """
        features = jnp.stack(
            [
                jnp.log1p(jnp.maximum(distance, 0)),
                jnp.log1p(jnp.maximum(-distance, 0)),
                (distance == 0).astype(distance.dtype),
            ],
            axis=-1,
        )
        apart = self.of_distance(features).astype(embedded.dtype)
        x = self.of_time(embedded)[:, :, None] + apart
        x = self.out(jax.nn.silu(x))
        return jnp.moveaxis(x.reshape(*x.shape[:-1], self.heads, -1), -2, 1)


class FrameAttention(nnx.Module):
    """Attention along the frames of each pixel.

    With relative positions, and queries scaled by D^-1/2,

        logit_ts = q_t k_s + q_t R^k_ts + D^-1/2 k_s R^q_st
        out_t    = sum_s softmax_s(logit_ts) (v_s + R^v_ts)

    Args:
        features: Channels.
        config: Numbers of the network.
        embedding: Length of the embedding of diffusion time.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, features: int, config: Config, embedding: int, *, rngs: nnx.Rngs
    ):
        self.heads, self.official = config.num_heads, config.official_attention
        self.encoding = config.time_encoding
        self.norm = norm.GroupNorm(features, config.groups)
        self.qkv = conv.Linear(features, 3 * features, rngs=rngs)
        self.proj_out = unet.zeroed(conv.Linear(features, features, rngs=rngs))
        if self.encoding == "relative":
            make = functools.partial(PositionNet, features, self.heads, embedding)
            self.rpe_q = make(rngs=rngs)
            self.rpe_k = make(rngs=rngs)
            self.rpe_v = make(rngs=rngs)
        if self.encoding == "absolute":
            self.position = conv.Linear(features, features, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        embedded: jax.Array,
        indices: jax.Array,
        hidden: jax.Array | None,
    ) -> jax.Array:
        """Transforms `x`.

        Args:
            x: (B, T, H, W, C).
            embedded: Of diffusion time, (B, T or 1, embedding).
            indices: Numbers of the frames, (B, T) float32.
            hidden: True where frame t must not see frame s, (B, T, T); None is nowhere.
        """
        tokens = jnp.moveaxis(x, 1, 3)
        if self.official:
            tokens = self.norm(tokens, batch_axes=3)
        else:
            tokens = jnp.moveaxis(self.norm(x, batch_axes=2), 1, 3)
        seen = tokens
        if self.encoding == "absolute":
            places = self.position(timestep.sinusoid(indices, x.shape[-1]))
            seen = seen + places.astype(x.dtype)[:, None, None]
        out = self.proj_out(self._attend(seen, embedded, indices, hidden))
        base = jnp.moveaxis(tokens, 3, 1) if self.official else x
        return base + jnp.moveaxis(out, 3, 1)

    def _attend(self, tokens, embedded, indices, hidden) -> jax.Array:
        """Averages the values of the frames of each pixel, (B, H, W, T, C)."""
        batch, height, width, frames, features = tokens.shape
        split = self.qkv(tokens).reshape(
            batch, -1, frames, 3, self.heads, features // self.heads
        )
        query, key, value = (split[..., i, :, :].swapaxes(2, 3) for i in range(3))
        scale = query.shape[-1] ** -0.5
        query = query * scale
        logits = products.einsum("bphtd,bphsd->bphts", query, key)
        of_value = None
        if self.encoding == "relative":
            distance = indices[:, :, None] - indices[:, None]
            of_query, of_key, of_value = (
                net(embedded, distance) for net in (self.rpe_q, self.rpe_k, self.rpe_v)
            )
            logits = logits + products.einsum("bphtd,bhtsd->bphts", query, of_key)
            logits = logits + products.einsum(
                "bphsd,bhstd->bphts", key * scale, of_query
            )
        if hidden is not None:
            logits = jnp.where(hidden[:, None, None], -jnp.inf, logits)
        weights = jax.nn.softmax(logits, axis=-1).astype(tokens.dtype)
        out = products.einsum("bphts,bphsd->bphtd", weights, value)
        if of_value is not None:
            out = out + products.einsum("bphts,bhtsd->bphtd", weights, of_value)
        out = out.astype(tokens.dtype).swapaxes(2, 3)
        return out.reshape(batch, height, width, frames, features)


class SpaceAttention(nnx.Module):
    """Attention over the pixels of each frame.

    Args:
        features: Channels.
        config: Numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, config: Config, *, rngs: nnx.Rngs):
        self.heads, self.official = config.num_heads, config.official_attention
        self.norm = norm.GroupNorm(features, config.groups)
        self.qkv = conv.Linear(features, 3 * features, rngs=rngs)
        self.proj_out = unet.zeroed(conv.Linear(features, features, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        normed = self.norm(x, batch_axes=2)
        tokens = self.qkv(normed).reshape(*x.shape[:2], -1, 3 * x.shape[-1])
        query, key, value = attention.split_qkv(tokens, self.heads)
        out = attention.softmax_attention(
            query, key, value, scale=query.shape[-1] ** -0.5
        )
        out = self.proj_out(attention.join_heads(out)).reshape(x.shape)
        return out + (normed if self.official else x)


class Attention(nnx.Module):
    """Attention along frames, if there is any, and then over space.

    Args:
        features: Channels.
        config: Numbers of the network.
        embedding: Length of the embedding of diffusion time.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, features: int, config: Config, embedding: int, *, rngs: nnx.Rngs
    ):
        self.frames = nnx.data(None)
        if config.attend_frames:
            self.frames = FrameAttention(features, config, embedding, rngs=rngs)
        self.space = SpaceAttention(features, config, rngs=rngs)

    def __call__(self, x: jax.Array, *context) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C); `context` goes to `FrameAttention`."""
        return self.space(x if self.frames is None else self.frames(x, *context))


class Model(nnx.Module):
    """FDM: noisy and observed frames of a video to the noise in the noisy ones."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    takes: ClassVar[tuple[str, ...]] = ("clean", "observed", "latent", "indices")

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        _checks.one_of("time_encoding", config.time_encoding, ENCODINGS)
        self.config = config
        self.multiple = 2 ** (len(config.channel_mult) - 1)
        self.process = process.Process(
            schedule=config.schedule,
            count=config.diffusion_steps,
            predicts=config.predicts,
        )
        self.deterministic = True
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
        # One channel more marks observed frames.
        first = conv.Conv(config.channels + 1, width, rngs=rngs)
        shape = (width, config.channel_mult, config.num_res_blocks)
        make = functools.partial(self._stage, rngs=rngs)
        layer = functools.partial(conv.Conv, rngs=rngs)
        down, widths = unet.way_down(
            first, *shape, make, lambda n, _: layer(n, n, strides=2, padding=1)
        )
        self.down, last = nnx.data(down), widths[-1]
        self.middle1 = self._res_block(last, last, rngs=rngs)
        self.middle_attend = Attention(last, config, self.embedding, rngs=rngs)
        self.middle2 = self._res_block(last, last, rngs=rngs)
        up, features = unet.way_up(widths, *shape, make, lambda n: layer(n, n))
        self.up = nnx.data(up)
        self.norm = norm.GroupNorm(features, config.groups)
        outputs = config.channels * (2 if config.learns_variance else 1)
        self.last = unet.zeroed(layer(features, outputs))

    def _res_block(self, before: int, after: int, *, rngs: nnx.Rngs) -> unet.ResBlock:
        return unet.ResBlock(
            before,
            after,
            convolution=conv.Conv,
            groups=self.config.groups,
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
        attend = Attention(after, self.config, self.embedding, rngs=rngs)
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
        """Predicts the noise of a clip, or what else the config says.

        Args:
            noisy: (B, T, H, W, channels), about [-1, 1]; H and W are multiples of
                `self.multiple`, T is any number.
            time: Diffusion time of each clip, (B,), from 0 to 1000.
            clean: The clip without noise, like `noisy`, in [-1, 1]; only observed
                frames are looked at. None is no such frame.
            observed: (B, T), 1 for frames that are given.
            latent: (B, T), 1 for frames that are generated; frames that are neither are
                padding, which other frames do not see. None is all that is not
                observed.
            indices: Number of each frame in its video, (B, T) integers; None counts
                them from 0.
            condition: Class of each clip, (B,) integers, if `config.num_classes` says
                so. None, and -1 for a single clip, is no class; the answer to a class
                that there is not is NaN.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            The prediction, like `noisy`, with twice the channels if the config says so;
            of observed frames and padding it means nothing.

        Raises:
            ValueError: If an argument has a wrong shape or type, or cannot be used.
        """
        noisy, clean = generation.check_inputs(
            self, noisy, time, clean, observed, latent, indices
        )
        embedded = self._embed(time, condition).astype(self.dtype)[:, None]
        x = unet.through(
            self.down,
            (self.middle1, self.middle_attend, self.middle2),
            self.up,
            self._mark(noisy, clean, observed).astype(self.dtype),
            embedded,
            generation.draws(key),
            embedded,
            *_context(noisy, observed, latent, indices),
        )
        x = jax.nn.silu(self.norm(x, batch_axes=2))
        return self.last(x.astype(jnp.float32))

    def _mark(self, noisy, clean, observed) -> jax.Array:
        """Pastes observed frames, and adds the channel that says which they are."""
        x = generation.paste(noisy, clean, observed)
        mark = jnp.zeros(noisy.shape[:2], noisy.dtype) if observed is None else observed
        mark = mark.astype(noisy.dtype)[..., None, None, None]
        return jnp.concatenate(
            [x, jnp.broadcast_to(mark, (*noisy.shape[:-1], 1))], axis=-1
        )

    def _embed(self, time: jax.Array, classes: jax.Array | None) -> jax.Array:
        """Embeds diffusion time and class: (B, 4 model_channels)."""
        width = self.config.model_channels
        x = unet.embed_time(time, self.time1, self.time2, width)
        if classes is None:
            return x
        generation.check_classes(classes, time.shape[0], self.config.num_classes)
        assert self.classes is not None
        table = self.classes[...]
        rows = jnp.arange(table.shape[0])[None, :] == classes[:, None]
        found = rows.any(-1) | (classes == -1)
        chosen = jnp.where(found[:, None], rows.astype(table.dtype) @ table, jnp.nan)
        return x + chosen


def _context(noisy, observed, latent, indices):
    """Returns the numbers of the frames, and which must not see which."""
    shape = noisy.shape[:2]
    if indices is None:
        indices = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    numbers = indices.astype(jnp.float32)
    if latent is None:
        return numbers, None
    real = latent.astype(bool)
    if observed is not None:
        real = real | observed.astype(bool)
    return numbers, real[:, :, None] != real[:, None]


TINY = Config(
    model_channels=8,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_downsampling=(2,),
    num_heads=2,
    groups=4,
    official_attention=False,
    num_classes=3,
    dropout_rate=0.1,
    num_frames=3,
    image_size=8,
)

_OURS = {"official_attention": False, "schedule": "cosine", "predicts": "velocity"}
VARIANTS = {
    "fdm_unet": Config(
        model_channels=64,
        num_res_blocks=1,
        channel_mult=(1, 2, 2),
        attention_downsampling=(2, 4),
        num_frames=6,
        image_size=32,
    ),
    "fdm_sampling_chain": Config(
        model_channels=32,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(1, 2),
        num_frames=4,
        image_size=8,
    ),
    "fdm_carla": Config(
        num_res_blocks=1,
        channel_mult=(1, 1, 2, 3, 4),
        attention_downsampling=(8, 16),
        image_size=128,
    ),
    "fdm_64": Config(),
    "fdm_64_shallow": Config(num_res_blocks=1),
    "fdm_32": Config(
        channel_mult=(1, 2, 2, 2), attention_downsampling=(2, 4), image_size=32
    ),
    "flexible_16": Config(
        channels=1,
        model_channels=16,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
        groups=8,
        num_frames=8,
        image_size=16,
        **_OURS,
    ),
    "flexible_64": Config(
        model_channels=64,
        groups=16,
        **_OURS,
    ),
}

WEIGHTS = {
    "fdm_carla/carla_town01": spec.Weights(
        file="ema_0.9999_550000.pt",
        source="https://github.com/plai-group/flexible-video-diffusion-modeling",
        licence="none stated",
        dialect="fdm",
        num_params=80_358_147,
        citation="Harvey et al., NeurIPS 2022",
    ),
}

# Adds the same to all logits of a query, which a softmax does not see.
OPTIONAL = (r".*\.rpe_k\.out\.bias",)

_ATTEND = {
    rf"{theirs}_attention\.{part}": f"{ours}.{part}"
    for theirs, ours in (("temporal", "frames"), ("spatial", "space"))
    for part in ("norm", "qkv", "proj_out")
} | {
    rf"temporal_attention\.rpe_{which}\.rpe_net\.{theirs}": f"frames.rpe_{which}.{ours}"
    for which in "qkv"
    for theirs, ours in (
        ("embed_distances", "of_distance"),
        ("embed_diffusion_time", "of_time"),
        ("out", "out"),
    )
}
KEYS = {"fdm": unet.key_table(_ATTEND)}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
)
