"""Parts of three-dimensional residual networks.

The bottleneck networks of PySlowFast and pytorchvideo (C2D, I3D, Slow, SlowFast) are
one `Pathway` or two and a `Head`. Arrays are (B, T, H, W, C).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import ops
from jaxflow.layers import conv, non_local, norm, remat
from jaxflow.layers.clip_head import HEAD_MODES as HEAD_MODES
from jaxflow.layers.clip_head import Head as Head
from jaxflow.layers.clip_head import HeadMode as HeadMode
from jaxflow.layers.clip_head import activated as activated
from jaxflow.layers.clip_head import head_window as head_window

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks in res2 to res5 of a bottleneck network of 50 or 101 layers."""

Size = int | tuple[int, int, int]


def standardise(clip: jax.Array) -> jax.Array:
    """Brings a clip in [0, 1] to the range that the Kinetics networks of FAIR see."""
    return (clip - 0.45) / 0.225


def same_padding(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Returns TensorFlow's "SAME" margins, the odd one behind: (before, after) an axis.

    The output then has ceil(size / stride) positions.
    """
    totals = (
        max(w - (s if n % s == 0 else n % s), 0)
        for n, w, s in zip(size, window, strides, strict=True)
    )
    return tuple((total // 2, total - total // 2) for total in totals)


class ConvNorm(nnx.Module):
    """A 3-D convolution without bias, batch normalisation, and ReLU if wanted.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        kernel_size: Window in t, y and x.
        strides: Step in t, y and x.
        padding: Zeros on both sides in t, y and x; None keeps the size at stride 1;
            "same" is TensorFlow's rule, see `same_padding`.
        dilation: Spacing of the window.
        epsilon: Added to the variance.
        momentum: Weight of a new batch in the running statistics.
        relu: Whether a ReLU follows.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Size,
        *,
        strides: Size = 1,
        padding: Size | Literal["same"] | None = None,
        dilation: Size = 1,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
        relu: bool = True,
        rngs: nnx.Rngs,
    ):
        self.relu = relu
        self.same = padding == "same"
        margin = 0 if padding == "same" else padding
        self.conv = conv.Conv3d(
            in_features,
            out_features,
            kernel_size,
            strides=strides,
            padding=margin,
            dilation=dilation,
            use_bias=False,
            rngs=rngs,
        )
        self.norm = norm.BatchNorm(out_features, epsilon=epsilon, momentum=momentum)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters `x`, (B, T, H, W, C_in)."""
        if self.same:
            window = self.conv.kernel.shape[:3]
            sides = same_padding(x.shape[1:4], window, self.conv.strides)
            x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
        x = self.norm(self.conv(x))
        return jax.nn.relu(x) if self.relu else x


class Bottleneck(nnx.Module):
    """T x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1 convolutions, plus the input.

    Args:
        in_features: Channels of the input.
        inner_features: Channels of the first two convolutions.
        out_features: Channels of the output.
        window: Size T in time of the first convolution.
        stride: Step in y and x, of the 3 x 3 convolution.
        dilation: Spacing of its window in y and x.
        zero_init: Whether the last normalisation starts at scale 0.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        inner_features: int,
        out_features: int,
        *,
        window: int,
        stride: int = 1,
        dilation: int = 1,
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        step = (1, stride, stride)
        self.a = ConvNorm(in_features, inner_features, (window, 1, 1), rngs=rngs)
        self.b = ConvNorm(
            inner_features,
            inner_features,
            (1, 3, 3),
            strides=step,
            dilation=(1, dilation, dilation),
            rngs=rngs,
        )
        self.c = ConvNorm(inner_features, out_features, 1, relu=False, rngs=rngs)
        if zero_init:
            self.c.norm.scale[...] = conv.zeros(out_features)
        self.shortcut = (
            ConvNorm(in_features, out_features, 1, strides=step, relu=False, rngs=rngs)
            if stride != 1 or in_features != out_features
            else nnx.data(None)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(residual + self.c(self.b(self.a(x))))


class Stage(nnx.Module):
    """Bottlenecks of one size, with non-local blocks behind some of them.

    Args:
        in_features: Channels of the input.
        inner_features: Channels inside the bottlenecks; the output has 4 times more.
        windows: Size in time of each bottleneck: as many as there are bottlenecks.
        stride: Step in y and x of the first.
        dilation: Spacing in y and x of the windows of their 3 x 3 convolutions.
        non_local_after: Indices of bottlenecks that a non-local block follows.
        form: Form of the non-local blocks.
        pool: Max-pool inside the non-local blocks.
        zero_init: Whether residual branches start at 0.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        inner_features: int,
        windows: Sequence[int],
        *,
        stride: int,
        dilation: int = 1,
        non_local_after: Sequence[int] = (),
        form: non_local.Form = "embedded_gaussian",
        pool: tuple[int, int, int] = (1, 2, 2),
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        out_features = 4 * inner_features
        self.remat = False
        self.blocks = nnx.data(
            [
                Bottleneck(
                    in_features if index == 0 else out_features,
                    inner_features,
                    out_features,
                    window=window,
                    stride=stride if index == 0 else 1,
                    dilation=dilation,
                    zero_init=zero_init,
                    rngs=rngs,
                )
                for index, window in enumerate(windows)
            ]
        )
        for index in non_local_after:
            block = non_local.NonLocal(
                out_features,
                out_features // 2,
                form=form,
                pool=pool,
                zero_init=zero_init,
                rngs=rngs,
            )
            setattr(self, f"non_local{index}", block)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C)."""
        for index, block in enumerate(self.blocks):
            x = remat.call(block, x, remat=self.remat)
            attention = getattr(self, f"non_local{index}", None)
            x = x if attention is None else attention(x)
        return x


class Pathway(nnx.Module):
    """A stem and four stages; callers step through them.

    Args:
        in_features: Channels of the input.
        width: Channels behind the stem.
        stem_window: Size in time of the stem's 7 x 7 convolution.
        windows: For res2 to res5, the size in time of each bottleneck.
        extra_features: Channels that callers append before res2, res3, res4 and res5.
        dilate_last: Whether res5 keeps the size of res4 and dilates its windows by 2
            instead, as for boxes.
        non_local_after: For res2 to res5, bottlenecks that a non-local block follows.
        form: Form of the non-local blocks.
        pool: Max-pool inside the non-local blocks.
        zero_init: Whether residual branches start at 0.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        *,
        width: int = 64,
        stem_window: int = 1,
        windows: Sequence[Sequence[int]],
        extra_features: Sequence[int] = (0, 0, 0, 0),
        dilate_last: bool = False,
        non_local_after: Sequence[Sequence[int]] = ((), (), (), ()),
        form: non_local.Form = "embedded_gaussian",
        pool: tuple[int, int, int] = (1, 2, 2),
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        self.stem = ConvNorm(
            in_features, width, (stem_window, 7, 7), strides=(1, 2, 2), rngs=rngs
        )
        features = width
        for index in range(4):
            dilates = index == 3 and dilate_last
            stage = Stage(
                features + extra_features[index],
                width * 2**index,
                windows[index],
                stride=1 if index == 0 or dilates else 2,
                dilation=2 if dilates else 1,
                non_local_after=non_local_after[index],
                form=form,
                pool=pool,
                zero_init=zero_init,
                rngs=rngs,
            )
            setattr(self, f"res{index + 2}", stage)
            features = width * 2 ** (index + 2)

    def start(self, x: jax.Array) -> jax.Array:
        """Applies the stem and its max-pool: a quarter of the height and width."""
        x = self.stem(x)
        return ops.max_pool(x, (1, 3, 3), strides=(1, 2, 2), padding=(0, 1, 1))

    def stage(self, number: int, x: jax.Array) -> jax.Array:
        """Applies res2, res3, res4 or res5."""
        return getattr(self, f"res{number}")(x)


def inflate_state_dict(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Brings the weights of a 2-D network in torch's layout to a 3-D one's shapes.

    Args:
        state: Key -> array of the 2-D network; kernels are (C_out, C_in, y, x).
        shapes: Key -> shape in the other network, where it differs. A fifth axis
            inflates; another C_in takes the mean over the C_in there is, as a first
            layer on flow does (Wang et al., "Temporal Segment Networks", ECCV 2016).

    Returns:
        Key -> array; entries that `shapes` does not mention are as they were.
    """
    inflated = dict(state)
    for key, shape in shapes.items():
        kernel = np.asarray(state[key])
        if kernel.shape[1] != shape[1]:
            kernel = np.repeat(kernel.mean(1, keepdims=True), shape[1], axis=1)
        if len(shape) == 5:
            kernel = np.repeat(kernel[:, :, None] / shape[2], shape[2], axis=2)
        inflated[key] = kernel
    return inflated
