"""RVD: residual video diffusion, one frame after the other.

Yang, Srivastava, Mandt, "Diffusion Probabilistic Modeling for Video Generation" (2022;
Entropy 2023).

    y_t = mu(y_<t) + sigma r_t, Sec. 3.2      Model.watch: `mean`; sigma is 1
    r_t by diffusion given y_<t               Denoiser, conditioned by Watcher's states
    convolutional recurrence                  ConvGRU
    autoregressive sampling                   sample

Weights: the authors'; neither they nor the code have a licence, so this file follows
the paper, and official outputs.

Deviations: none in the numbers. A noisy clip here is one of frames. Noise on a frame is
noise on its residual, z - alpha mu = alpha (y - mu) + sigma e, so that the noise
predicted is the same, and the samplers and losses of other networks apply. The first
frame, of which the authors predict nothing, has states and a mean of 0.
`target="frame"` is the paper's ablation without mu.
"""

import dataclasses
import functools
import itertools
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import _mesh, spec
from jaxflow.diffusion import parameterisations, samplers, schedules
from jaxflow.diffusion import process as processes
from jaxflow.layers import attention, conv, generation, norm, timestep

_GROUPS, _SLOPE = 8, 0.2
_HEADS, _HEAD = 4, 16
_MOST_RESIDUAL = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an RVD network.

    Attributes:
        channels: Channels of a frame.
        dim: Channels behind the first block.
        dim_mults: Channels of each level of the denoiser, and of the states that it
            sees, as multiples of `dim`; each level but the first has half the height
            and width of the one before.
        transform_dim_mults: The same for the network of the mean.
        target: What is diffused: the "residual" of a frame to its predicted mean, or
            the "frame".
        count: Steps of the cosine schedule.
        num_frames: Frames of the clips it is made for; it takes any number.
        image_size: Side of those clips; it takes any multiple of `multiple`.
    """

    channels: int = 3
    dim: int = 48
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    transform_dim_mults: tuple[int, ...] = (1, 2, 2, 4)
    target: Literal["residual", "frame"] = "residual"
    count: int = 1600
    num_frames: int = 20
    image_size: int = 64

    def __post_init__(self):
        spec.check_config(self)
        if self.dim % _GROUPS:
            raise ValueError(f"`dim` must be a multiple of {_GROUPS}; got {self.dim}")


class Memory(NamedTuple):
    """States of all recurrences, finest first.

    Attributes:
        history: Of those that the denoiser sees, each (B, h, w, c).
        transform: Of the network of the mean.
    """

    history: tuple[jax.Array, ...]
    transform: tuple[jax.Array, ...]


class Block(nnx.Module):
    """A convolution, group normalisation and a leaky ReLU.

    Args:
        in_features: Channels in.
        features: Channels out.
        rngs: Source of the initial weights.
    """

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        self.conv = conv.Conv(in_features, features, rngs=rngs)
        self.norm = norm.GroupNorm(features, _GROUPS)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, in_features) to (B, H, W, features)."""
        return _leaky(self.norm(self.conv(x)))


class ResnetBlock(nnx.Module):
    """Two blocks plus the input; the embedding of time is added between them.

    Args:
        in_features: Channels in.
        features: Channels out.
        embedding: Length of the embedding; None is none.
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
        self.mlp = self.res_conv = nnx.data(None)
        if embedding is not None:
            self.mlp = conv.Linear(embedding, features, rngs=rngs)
        self.block1 = Block(in_features, features, rngs=rngs)
        self.block2 = Block(features, features, rngs=rngs)
        if in_features != features:
            self.res_conv = conv.Conv(in_features, features, 1, rngs=rngs)

    def __call__(self, x: jax.Array, embedded: jax.Array | None = None) -> jax.Array:
        """Maps (B, H, W, in_features); `embedded` is (B, embedding)."""
        y = self.block1(x)
        if self.mlp is not None and embedded is not None:
            y = y + self.mlp(_leaky(embedded))[:, None, None]
        return self.block2(y) + (x if self.res_conv is None else self.res_conv(x))


class ConvGRU(nnx.Module):
    """A gated recurrent unit whose products are convolutions.

        r, z = sigmoid(conv([x, h]))
        h' = (1 - z) h + z tanh(conv([x, r h]))

    Args:
        features: Channels of the input x and of the state h.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.gates = conv.Conv(2 * features, 2 * features, rngs=rngs)
        self.candidate = conv.Conv(2 * features, features, rngs=rngs)

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        """Maps input and state, both (B, H, W, features), to the next state."""
        gates = nnx.sigmoid(self.gates(jnp.concatenate([x, h], axis=-1)))
        r, z = jnp.split(gates, 2, axis=-1)
        new = nnx.tanh(self.candidate(jnp.concatenate([x, r * h], axis=-1)))
        return (1 - z) * h + z * new


class Watcher(nnx.Module):
    """Looks at one frame after the other, and remembers at every level.

    Args:
        channels: Channels of a frame.
        widths: Channels of each level.
        rngs: Source of the initial weights.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        self.depth = len(widths)
        for i, (before, after) in enumerate(itertools.pairwise((channels, *widths))):
            setattr(self, f"block{i}", ResnetBlock(before, after, rngs=rngs))
            setattr(self, f"gru{i}", ConvGRU(after, rngs=rngs))
            if i < self.depth - 1:
                halve = conv.Conv(after, after, strides=2, rngs=rngs)
                setattr(self, f"halve{i}", halve)

    def __call__(
        self, frame: jax.Array, states: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        """Maps a frame, (B, H, W, C), and states, finest first, to the next states."""
        x, found = frame.astype(states[0].dtype), []
        for i, state in enumerate(states):
            x = getattr(self, f"gru{i}")(getattr(self, f"block{i}")(x), state)
            found.append(x)
            if i < self.depth - 1:
                x = getattr(self, f"halve{i}")(x)
        return tuple(found)


class Predictor(nnx.Module):
    """Turns the states of a `Watcher` into the mean of the next frame.

    Args:
        channels: Channels of a frame.
        widths: Channels of each level.
        rngs: Source of the initial weights.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        self.depth = len(widths)
        before = widths[-1]
        for i, after in enumerate(reversed(widths[:-1])):
            setattr(self, f"block{i}", ResnetBlock(before, after, rngs=rngs))
            setattr(self, f"double{i}", conv.ConvTranspose(after, after, rngs=rngs))
            before = 2 * after
        self.mean = conv.Conv(widths[0], channels, rngs=rngs)

    def __call__(self, states: tuple[jax.Array, ...]) -> jax.Array:
        """Maps states, finest first, to a frame in [-1, 1]."""
        x = states[-1]
        for i in range(self.depth - 1):
            if i > 0:
                x = jnp.concatenate([x, states[self.depth - 1 - i]], axis=-1)
            x = getattr(self, f"double{i}")(getattr(self, f"block{i}")(x))
        return jnp.clip(self.mean(x.astype(jnp.float32)), -1, 1)


def _linear_attention(features: int, *, rngs: nnx.Rngs) -> attention.LinearAttention:
    """Returns an attention over pixels, of four heads of 16 channels."""
    return attention.LinearAttention(features, _HEADS, _HEAD, bias=True, rngs=rngs)


class DenoiserLevel(nnx.Module):
    """Two residual blocks, of which the second may see more, and attention.

    Args:
        in_features: Channels in.
        features: Channels out.
        seen: Channels that are stacked on the input of the second block.
        embedding: Length of the embedding of time.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        seen: int,
        embedding: int,
        rngs: nnx.Rngs,
    ):
        make = functools.partial(ResnetBlock, embedding=embedding, rngs=rngs)
        self.block0 = make(in_features, features)
        self.block1 = make(features + seen, features)
        self.attend = _linear_attention(features, rngs=rngs)

    def __call__(
        self, x: jax.Array, embedded: jax.Array, seen: jax.Array | None = None
    ) -> jax.Array:
        """Maps (B, H, W, in_features), and `seen`, (B, H, W, C) or None."""
        x = self.block0(x, embedded)
        if seen is not None:
            x = jnp.concatenate([x, seen], axis=-1)
        return self.attend(self.block1(x, embedded))


class Denoiser(nnx.Module):
    """The U-Net of one frame, which sees what was remembered of those before.

    Args:
        config: Numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        dim = config.dim
        self.dim = dim
        widths = [dim * mult for mult in config.dim_mults]
        self.depth = len(widths)
        self.time1 = conv.Linear(dim, 4 * dim, rngs=rngs)
        self.time2 = conv.Linear(4 * dim, dim, rngs=rngs)
        level = functools.partial(DenoiserLevel, embedding=dim, rngs=rngs)
        pairs = list(itertools.pairwise((config.channels, *widths)))
        for i, (before, after) in enumerate(pairs):
            setattr(self, f"down{i}", level(before, after, seen=after))
            if i < self.depth - 1:
                halve = conv.Conv(after, after, strides=2, rngs=rngs)
                setattr(self, f"halve{i}", halve)
        last = widths[-1]
        self.mid1 = ResnetBlock(last, last, embedding=dim, rngs=rngs)
        self.mid_attend = _linear_attention(last, rngs=rngs)
        self.mid2 = ResnetBlock(last, last, embedding=dim, rngs=rngs)
        for i, (before, after) in enumerate(reversed(pairs[1:])):
            setattr(self, f"up{i}", level(2 * after, before, seen=0))
            double = conv.ConvTranspose(before, before, rngs=rngs)
            setattr(self, f"double{i}", double)
        self.final_block = Block(dim, dim, rngs=rngs)
        self.final_conv = conv.Conv(dim, config.channels, 1, rngs=rngs)

    def __call__(
        self, x: jax.Array, time: jax.Array, states: tuple[jax.Array, ...]
    ) -> jax.Array:
        """Predicts the noise of frames, (B, H, W, C); `states` are finest first."""
        embedded = timestep.sinusoid(time, self.dim)
        embedded = self.time2(jax.nn.gelu(self.time1(embedded), approximate=False))
        x, embedded = (part.astype(states[0].dtype) for part in (x, embedded))
        skips = []
        for i, state in enumerate(states):
            x = getattr(self, f"down{i}")(x, embedded, state)
            skips.append(x)
            if i < self.depth - 1:
                x = getattr(self, f"halve{i}")(x)
        x = self.mid_attend(self.mid1(x, embedded))
        x = self.mid2(x, embedded)
        for i in range(self.depth - 1):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = getattr(self, f"double{i}")(getattr(self, f"up{i}")(x, embedded))
        return self.final_conv(self.final_block(x).astype(jnp.float32))


class Model(nnx.Module):
    """RVD: noisy frames, each with the clean ones before it, to their noise."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    takes: ClassVar[tuple[str, ...]] = ("clean",)

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.process = processes.Process(
            schedule="cosine", count=config.count, time_range=config.count
        )
        widths = tuple(config.dim * mult for mult in config.dim_mults)
        self.denoiser = Denoiser(config, rngs=rngs)
        self.history = Watcher(config.channels, widths, rngs=rngs)
        self.transform = self.predictor = nnx.data(None)
        levels = len(widths)
        if config.target == "residual":
            widths = tuple(config.dim * mult for mult in config.transform_dim_mults)
            self.transform = Watcher(config.channels, widths, rngs=rngs)
            self.predictor = Predictor(config.channels, widths, rngs=rngs)
            levels = max(levels, len(widths))
        self.multiple = 2 ** (levels - 1)

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
    ) -> jax.Array:
        """Predicts the noise of every frame, given the clean frames before it.

        Args:
            noisy: (B, T, H, W, channels), about [-1, 1]; H and W are multiples of
                `self.multiple`, T is any number.
            time: Diffusion step of each clip, (B,), from 0 to `config.count` - 1.
            clean: The clip without noise, like `noisy`; the prediction for a frame
                depends on those before it.
            observed: Not used: all frames before one are given.
            latent: Not used.
            indices: Not used: frames are consecutive.
            condition: Not used.

        Returns:
            The prediction, like `noisy`.

        Raises:
            ValueError: If an argument has a wrong shape or type, or cannot be used.
        """
        noisy, clean = generation.check_inputs(
            self, noisy, time, clean, observed, latent, indices
        )
        generation.check_classes(condition, noisy.shape[0], None)
        if clean is None:
            raise ValueError(
                "`clean` must be the clip, whose frames are predicted each from those "
                "before; got None: to make frames, call jaxflow.generate"
            )
        means, states = self.watch(clean)
        # What is known before frame t was seen up to frame t - 1.
        means, *states = (_delay(x) for x in (means, *states))
        alphas = np.sqrt(processes.alpha_bars(self.process)).astype(np.float32)
        alpha = jnp.asarray(alphas)[jnp.round(time).astype(jnp.int32)]
        alpha = parameterisations.expand(alpha, noisy)
        x = _flat(noisy - alpha * means)
        times = jnp.repeat(time, noisy.shape[1])
        states = tuple(_flat(state) for state in states)
        return self.denoiser(x, times, states).reshape(noisy.shape)

    def start(self, batch: int, size: tuple[int, int]) -> Memory:
        """Returns the memory of having seen nothing.

        Args:
            batch: Number of clips.
            size: Their height and width.
        """
        dim = self.config.dim

        def blank(mults):
            return tuple(
                jnp.zeros((batch, size[0] >> i, size[1] >> i, dim * mult), self.dtype)
                for i, mult in enumerate(mults)
            )

        mults = self.config.transform_dim_mults if self.transform is not None else ()
        return Memory(blank(self.config.dim_mults), blank(mults))

    def see(self, frame: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        """Looks at a frame.

        Args:
            frame: (B, H, W, channels) in [-1, 1].
            memory: Of the frames before.

        Returns:
            The mean of the next frame, in [-1, 1] and 0 if frames are diffused
            themselves; and the memory with this frame.
        """
        history = self.history(frame, memory.history)
        if self.transform is None or self.predictor is None:
            return jnp.zeros_like(frame, jnp.float32), Memory(history, ())
        transform = self.transform(frame, memory.transform)
        return self.predictor(transform), Memory(history, transform)

    def watch(self, clean: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Looks at a clip from its first frame on.

        Args:
            clean: (B, T, H, W, channels) in [-1, 1].

        Returns:
            After each frame, the mean of the next one, (B, T, H, W, channels), and the
            states that the denoiser sees, each (B, T, h, w, c).
        """
        batch, _, height, width, _ = clean.shape

        def look(memory, frame):
            mean, memory = self.see(frame, memory)
            return memory, (mean, memory.history)

        memory = _mesh.alike(self.start(batch, (height, width)), clean)
        _, seen = lax.scan(look, memory, jnp.moveaxis(clean, 1, 0))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), seen)

    def extend(
        self,
        key: jax.Array,
        frames: jax.Array,
        *,
        count: int,
        steps: schedules.Steps,
        update: samplers.Update,
    ) -> jax.Array:
        """Makes the next frames of videos; see `sample`."""
        return sample(key, self, frames, count=count, steps=steps, update=update)


def sample(
    key: jax.Array,
    model: Model,
    frames: jax.Array,
    *,
    count: int,
    steps: schedules.Steps | None = None,
    update: samplers.Update = samplers.ddpm,
    draws: jax.Array | None = None,
) -> jax.Array:
    """Makes the next frames of videos, each by a whole run of a sampler.

    A residual is clipped to +-2 in every step, and a frame to +-1 before it is looked
    at. A pure function of its arrays, to be compiled by the caller.

    Args:
        key: Random key.
        model: An RVD network, in evaluation mode.
        frames: The frames before, (B, T, H, W, channels) in [-1, 1], T > 0.
        count: Number of frames to make.
        steps: Of the sampler, from `process.sampling_steps`; None is all of the
            network's process.
        update: A step of the sampler; the authors' is the ancestral one.
        draws: Noise in place of the key's, (count, 1 + steps, B, H, W, channels): to
            start with, and that of each step.

    Returns:
        The new frames, (B, count, H, W, channels).

    Raises:
        ValueError: If there are no frames before.
    """
    batch, given, height, width, _ = frames.shape
    if not given:
        raise ValueError("`frames` must hold at least one frame; got none")
    if steps is None:
        steps = processes.sampling_steps(model.process, model.config.count)
    memory, mean = _mesh.alike(
        (model.start(batch, (height, width)), frames[:, 0]), key, draws
    )
    for i in range(given):
        mean, memory = model.see(frames[:, i], memory)

    def make(carry, inputs):
        mean, memory = carry
        key, noise = inputs

        def predict(noisy, time):
            times = jnp.broadcast_to(time, batch)
            return model.denoiser(noisy, times, memory.history)

        def limit(estimate):
            return jnp.clip(estimate, -_MOST_RESIDUAL, _MOST_RESIDUAL)

        first, rest = jax.random.split(key)
        start = (
            jax.random.normal(first, mean.shape, mean.dtype)
            if noise is None
            else noise[0]
        )
        residual = samplers.sample(
            rest,
            parameterisations.denoiser(predict, "noise", threshold=limit),
            _mesh.alike(start, mean, memory),
            steps,
            update=update,
            draws=None if noise is None else noise[1:],
        )
        frame = mean + residual
        return model.see(jnp.clip(frame, -1, 1), memory), frame

    inputs = jax.random.split(key, count), draws
    _, made = lax.scan(make, (mean, memory), inputs)
    return jnp.moveaxis(made, 0, 1)


def _leaky(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, _SLOPE)


def _delay(x: jax.Array) -> jax.Array:
    """Shifts (B, T, ...) by one frame, after one of zeros."""
    return jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def _flat(x: jax.Array) -> jax.Array:
    """Lists the frames: (B, T, H, W, C) -> (B T, H, W, C)."""
    return x.reshape(-1, *x.shape[2:])


TINY = Config(
    dim=8,
    dim_mults=(1, 2),
    transform_dim_mults=(1, 1, 2),
    count=1000,
    num_frames=3,
    image_size=16,
)

VARIANTS = {
    "rvd": Config(
        dim=16,
        dim_mults=(1, 2, 2),
        transform_dim_mults=(1, 2, 3),
        count=20,
        num_frames=4,
        image_size=16,
    ),
    "rvd_64": Config(),
    "rvd_128": Config(
        dim=64,
        dim_mults=(1, 1, 2, 2, 4, 4),
        transform_dim_mults=(1, 2, 3, 4),
        image_size=128,
    ),
}


def _weights(num_params: int) -> spec.Weights:
    return spec.Weights(
        file="<model_name>_<0..2>.pt",
        source="https://github.com/buggyyang/RVD",
        licence="none stated",
        dialect="rvd",
        num_params=num_params,
        citation="Yang et al., Entropy 2023",
    )


WEIGHTS = {
    "rvd_64/authors": _weights(37_611_414),
    "rvd_128/authors": _weights(43_613_702),
}

_LEAF = r"(weight|bias)"


def _resnet_rows(theirs: str, ours: str):
    """Returns the rows of a residual block."""
    groups = theirs.count("(")
    first, second = (rf"\{groups + i}" for i in (1, 2))
    return (
        (rf"{theirs}\.mlp\.1\.{_LEAF}", f"{ours}.mlp.{first}"),
        (
            rf"{theirs}\.block([12])\.block\.0\.{_LEAF}",
            f"{ours}.block{first}.conv.{second}",
        ),
        (
            rf"{theirs}\.block([12])\.block\.1\.{_LEAF}",
            f"{ours}.block{first}.norm.{second}",
        ),
        (rf"{theirs}\.res_conv\.{_LEAF}", f"{ours}.res_conv.{first}"),
    )


def _attention_rows(theirs: str, ours: str):
    """Returns the rows of an attention."""
    first = rf"\{theirs.count('(') + 1}"
    return (
        (rf"{theirs}\.fn\.fn\.to_qkv\.weight", f"{ours}.to_qkv.weight"),
        (rf"{theirs}\.fn\.fn\.to_out\.{_LEAF}", f"{ours}.to_out.{first}"),
        (rf"{theirs}\.fn\.norm\.([gb])", f"{ours}.norm.{first}"),
    )


_SCHEDULE = "betas|.*alphas_cumprod.*|posterior_.*"
KEYS = {
    "rvd": (
        (_SCHEDULE, None),
        (rf"denoise_fn\.time_mlp\.1\.{_LEAF}", r"denoiser.time1.\1"),
        (rf"denoise_fn\.time_mlp\.3\.{_LEAF}", r"denoiser.time2.\1"),
        *_resnet_rows(
            r"denoise_fn\.(down|up)s\.(\d+)\.([01])", r"denoiser.\1\2.block\3"
        ),
        *_attention_rows(r"denoise_fn\.(down|up)s\.(\d+)\.2", r"denoiser.\1\2.attend"),
        (rf"denoise_fn\.downs\.(\d+)\.3\.conv\.{_LEAF}", r"denoiser.halve\1.\2"),
        (rf"denoise_fn\.ups\.(\d+)\.3\.conv\.{_LEAF}", r"denoiser.double\1.\2"),
        *_resnet_rows(r"denoise_fn\.mid_block([12])", r"denoiser.mid\1"),
        *_attention_rows(r"denoise_fn\.mid_attn", "denoiser.mid_attend"),
        (
            rf"denoise_fn\.final_conv\.0\.block\.0\.{_LEAF}",
            r"denoiser.final_block.conv.\1",
        ),
        (
            rf"denoise_fn\.final_conv\.0\.block\.1\.{_LEAF}",
            r"denoiser.final_block.norm.\1",
        ),
        (rf"denoise_fn\.final_conv\.1\.{_LEAF}", r"denoiser.final_conv.\1"),
        *_resnet_rows(r"(history|transform)_fn\.downs\.(\d+)\.0", r"\1.block\2"),
        (
            rf"(history|transform)_fn\.downs\.(\d+)\.1\.conv_gates\.0\.{_LEAF}",
            r"\1.gru\2.gates.\3",
        ),
        (
            rf"(history|transform)_fn\.downs\.(\d+)\.1\.conv_cans\.0\.{_LEAF}",
            r"\1.gru\2.candidate.\3",
        ),
        (
            rf"(history|transform)_fn\.downs\.(\d+)\.2\.conv\.{_LEAF}",
            r"\1.halve\2.\3",
        ),
        *_resnet_rows(r"transform_fn\.ups\.(\d+)\.0", r"predictor.block\1"),
        (rf"transform_fn\.ups\.(\d+)\.1\.conv\.{_LEAF}", r"predictor.double\1.\2"),
        (rf"transform_fn\.mu\.{_LEAF}", r"predictor.mean.\1"),
    ),
}

ADAPT = {"rvd": ((r".*\.norm\.[gb]", np.ravel),)}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    adapt=ADAPT,
)
