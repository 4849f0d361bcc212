"""Parts of the U-Net of Nichol and Dhariwal, for the networks that are made of it.

"Improved Denoising Diffusion Probabilistic Models" (ICML 2021). A network convolves
each frame by itself (`conv.Conv`) or a clip as a whole (`conv.Conv3d`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow.layers import conv, dropout, norm, remat, timestep


class ResBlock(nnx.Module):
    """Two convolutions with normalisation, conditioned on time, plus the input.

    Args:
        in_features: Channels in.
        features: Channels out.
        convolution: `conv.Conv`, whose normalisations see one frame each, or
            `conv.Conv3d`, whose see the clip.
        groups: Groups of the normalisations.
        embedding: Length of the embedding of time.
        scale_shift: Whether the embedding scales and shifts the second normalisation,
            or is added before it.
        dropout_rate: Before the last convolution, in training.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        convolution: type[conv.Conv] | type[conv.Conv3d],
        groups: int,
        embedding: int,
        scale_shift: bool,
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        self.scale_shift = scale_shift
        self.batch_axes = 2 if convolution is conv.Conv else 1
        self.dropout = dropout.Dropout(dropout_rate)
        self.norm1 = norm.GroupNorm(in_features, groups)
        self.conv1 = convolution(in_features, features, rngs=rngs)
        width = 2 * features if scale_shift else features
        self.embed = conv.Linear(embedding, width, rngs=rngs)
        self.norm2 = norm.GroupNorm(features, groups)
        self.conv2 = zeroed(convolution(features, features, rngs=rngs))
        self.shortcut = (
            nnx.data(None)
            if in_features == features
            else convolution(in_features, features, 1, rngs=rngs)
        )

    def __call__(
        self, x: jax.Array, embedded: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Maps a clip to one of other channels.

        Args:
            x: (B, T, H, W, in_features).
            embedded: Of time, (B, embedding) or (B, T or 1, embedding).
            key: Of the dropout.

        Returns:
            (B, T, H, W, features).
        """
        y = self.conv1(jax.nn.silu(self.norm1(x, batch_axes=self.batch_axes)))
        embedded = self.embed(jax.nn.silu(embedded))
        ones = (1,) * (x.ndim - embedded.ndim)
        embedded = embedded.reshape(*embedded.shape[:-1], *ones, -1)
        if self.scale_shift:
            scale, shift = jnp.split(embedded, 2, axis=-1)
            y = self.norm2(y, batch_axes=self.batch_axes) * (1 + scale) + shift
        else:
            y = self.norm2(y + embedded, batch_axes=self.batch_axes)
        y = self.dropout(jax.nn.silu(y), key=key)
        return self.conv2(y) + (x if self.shortcut is None else self.shortcut(x))


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
        self.remat = False
        self.res = nnx.data(res)
        self.attend = nnx.data(attend)
        self.resize = nnx.data(resize)
        self.frames = frames

    def __call__(self, x: jax.Array, embedded: jax.Array, draws, *context) -> jax.Array:
        """Transforms a clip.

        Args:
            x: (B, T, H, W, C).
            embedded: Of time; see `ResBlock`.
            draws: Gives keys of the dropout.
            *context: What the attention takes besides.
        """
        if self.res is not None:
            x = remat.call(self.res, x, embedded, key=next(draws), remat=self.remat)
        if self.attend is not None:
            x = self.attend(x, *context)
        if self.resize is not None:
            x = self.resize(x if self.frames is None else enlarge(x, self.frames))
        return x


def enlarge(x: jax.Array, num_frames: int = 0) -> jax.Array:
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


def way_down(
    first: Any,
    width: int,
    mults: Sequence[int],
    blocks: int,
    stage: Callable[[int, int, int], Stage],
    halve: Callable[[int, int], Any],
) -> tuple[list[Stage], list[int]]:
    """Makes the stages down to the middle.

    Args:
        first: The first convolution.
        width: Channels behind it.
        mults: Channels of each level, as multiples of `width`.
        blocks: Residual blocks of a level.
        stage: (channels before, channels behind, level) -> stage.
        halve: (channels, level) -> convolution to the next level.

    Returns:
        The stages, and the channels behind each.
    """
    stages, widths = [Stage(resize=first)], [width]
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            stages.append(stage(widths[-1], mult * width, level))
            widths.append(mult * width)
        if level < len(mults) - 1:
            stages.append(Stage(resize=halve(widths[-1], level)))
            widths.append(widths[-1])
    return stages, widths


def way_up(
    widths: Sequence[int],
    width: int,
    mults: Sequence[int],
    blocks: int,
    stage: Callable[[int, int, int], Stage],
    convolution: Callable[[int], Any],
    frames: Sequence[int] | None = None,
) -> tuple[list[Stage], int]:
    """Makes the stages up from the middle, each of which takes what one down gave too.

    Args:
        widths: Channels behind the stages down.
        width: See `way_down`, and so for the next three.
        mults: As on the way down.
        blocks: As on the way down; here there is one more.
        stage: As on the way down.
        convolution: (channels) -> the one behind an increase in size.
        frames: Frames of each level; None leaves them alone.

    Returns:
        The stages, and the channels behind the last.
    """
    features, skips, stages = widths[-1], list(widths), []
    for level, mult in reversed(list(enumerate(mults))):
        for i in range(blocks + 1):
            made = stage(features + skips.pop(), mult * width, level)
            features = mult * width
            if level and i == blocks:
                made.resize = convolution(features)
                made.frames = 0 if frames is None else frames[level - 1]
            stages.append(made)
    return stages, features


def through(
    down: Sequence[Stage],
    middle: tuple[Any, Any, Any],
    up: Sequence[Stage],
    x: jax.Array,
    embedded: jax.Array,
    draws: Iterator[jax.Array | None],
    *context,
) -> jax.Array:
    """Runs a clip through a whole U-Net, but for what comes behind the way up.

    Args:
        down: Stages down.
        middle: Residual block, attention, residual block.
        up: Stages up.
        x: (B, T, H, W, C).
        embedded: Of time; see `ResBlock`.
        draws: Gives keys of the dropout.
        *context: What the attentions take besides.
    """
    skips = []
    for stage in down:
        x = stage(x, embedded, draws, *context)
        skips.append(x)
    first, attend, second = middle
    x = attend(first(x, embedded, key=next(draws)), *context)
    x = second(x, embedded, key=next(draws))
    for stage in up:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = stage(x, embedded, draws, *context)
    return x


def embed_time(
    time: jax.Array, first: conv.Linear, second: conv.Linear, features: int
) -> jax.Array:
    """Embeds diffusion time: (B,) to (B, embedding), in float32.

    Args:
        time: Of each clip.
        first: Behind the sinusoids; SiLU follows.
        second: Behind that.
        features: Number of sinusoids.
    """
    x = timestep.sinusoid(time, features, cosine_first=True)
    return second(jax.nn.silu(first(x)))


def zeroed(layer: Any) -> Any:
    """Returns a fresh layer that gives nothing yet."""
    layer.kernel[...] = jax.device_put(np.zeros(layer.kernel.shape, np.float32))
    return layer


_LEAF = r"(weight|bias)"
_RES = {
    r"in_layers\.0": "norm1",
    r"in_layers\.2": "conv1",
    r"emb_layers\.1": "embed",
    r"out_layers\.0": "norm2",
    r"out_layers\.3": "conv2",
    "skip_connection": "shortcut",
}


def key_table(attend: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Returns the key table of a network of the official code's names.

    Ours are `time1`, `time2`, `classes`, `down`, `middle1`, `middle_attend`, `middle2`,
    `up`, `norm` and `last`.

    Args:
        attend: Pattern of the official name -> our name of each part of an attention.
    """
    return (
        (rf"time_embed\.0\.{_LEAF}", r"time1.\1"),
        (rf"time_embed\.2\.{_LEAF}", r"time2.\1"),
        (r"label_emb\.weight", "classes"),
        (rf"input_blocks\.(\d+)\.0(?:\.op)?\.{_LEAF}", r"down.\1.resize.\2"),
        (rf"output_blocks\.(\d+)\.[12]\.conv\.{_LEAF}", r"up.\1.resize.\2"),
        (rf"out\.0\.{_LEAF}", r"norm.\1"),
        (rf"out\.2\.{_LEAF}", r"last.\1"),
        *(
            (
                rf"{half}put_blocks\.(\d+)\.{place}\.{theirs}\.{_LEAF}",
                rf"{way}.\1.{name}.{ours}.\2",
            )
            for half, way in (("in", "down"), ("out", "up"))
            for place, name, table in ((0, "res", _RES), (1, "attend", attend))
            for theirs, ours in table.items()
        ),
        *(
            (rf"middle_block\.{place}\.{theirs}\.{_LEAF}", rf"{name}.{ours}.\1")
            for place, name, table in (
                (0, "middle1", _RES),
                (1, "middle_attend", attend),
                (2, "middle2", _RES),
            )
            for theirs, ours in table.items()
        ),
    )
