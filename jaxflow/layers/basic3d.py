"""Residual blocks of two 3 x 3 x 3 convolutions, whole or split into space and time.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition" (CVPR
2018): R3D, MC3 and R(2+1)D; with windows of one frame, a 2-D ResNet on every frame.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
from flax import nnx

from jaxflow import _checks
from jaxflow.layers import conv, resnet3d

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks in the four stages of a network of 18 or 34 layers."""

Kind = Literal["3d", "2d", "2plus1d", "2plus1d_per_convolution"]
KINDS = ("3d", "2d", "2plus1d", "2plus1d_per_convolution")


def middle_features(in_features: int, out_features: int) -> int:
    """Returns the M for which a (2+1)D convolution has the weights of a 3 x 3 x 3 one.

    M = floor(t d^2 N_in N_out / (d^2 N_in + t N_out)),    t = d = 3
    """
    product = 27 * in_features * out_features
    return product // (9 * in_features + 3 * out_features)


class Conv2Plus1D(nnx.Module):
    """A convolution in space, ReLU, and one in time (Sec. 3.5).

    Args:
        in_features: Channels of the input.
        middle: Channels between the two.
        out_features: Channels of the output.
        window: Side of the convolution in space.
        strides: Step in t, y and x.
        relu: Whether a ReLU follows.
        epsilon: Of the normalisations.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        middle: int,
        out_features: int,
        *,
        window: int = 3,
        strides: tuple[int, int, int] = (1, 1, 1),
        relu: bool = True,
        epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ):
        self.spatial = resnet3d.ConvNorm(
            in_features,
            middle,
            (1, window, window),
            strides=(1, *strides[1:]),
            epsilon=epsilon,
            rngs=rngs,
        )
        self.temporal = resnet3d.ConvNorm(
            middle,
            out_features,
            (3, 1, 1),
            strides=(strides[0], 1, 1),
            epsilon=epsilon,
            relu=relu,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters `x`, (B, T, H, W, C_in)."""
        return self.temporal(self.spatial(x))


def _unit(
    kind: Kind, in_features: int, middle: int, out_features: int, **settings: Any
) -> resnet3d.ConvNorm | Conv2Plus1D:
    """Makes one convolution of a block; `middle` channels are of those in two parts."""
    if kind in ("3d", "2d"):
        window = (3 if kind == "3d" else 1, 3, 3)
        return resnet3d.ConvNorm(in_features, out_features, window, **settings)
    return Conv2Plus1D(in_features, middle, out_features, **settings)


class BasicBlock(nnx.Module):
    """Two convolutions plus the input.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        kind: "3d" 3 x 3 x 3; "2d" 1 x 3 x 3; "2plus1d" split, with the same number of
            middle channels in both convolutions, as torchvision; and
            "2plus1d_per_convolution", each with its own, as the paper.
        stride: Step of the first convolution: in y and x, and in t unless "2d".
        epsilon: Of the normalisations.
        zero_init: Whether the last normalisation starts at scale 0.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there is no such kind.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kind: Kind = "3d",
        stride: int = 1,
        epsilon: float = 1e-5,
        zero_init: bool = False,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("kind", kind, KINDS)
        step = (1 if kind == "2d" else stride, stride, stride)
        middle = middle_features(in_features, out_features)
        self.first = _unit(
            kind, in_features, middle, out_features,
            strides=step, relu=True, epsilon=epsilon, rngs=rngs,
        )  # fmt: skip
        if kind == "2plus1d_per_convolution":
            middle = middle_features(out_features, out_features)
        self.second = _unit(
            kind, out_features, middle, out_features,
            strides=(1, 1, 1), relu=False, epsilon=epsilon, rngs=rngs,
        )  # fmt: skip
        if zero_init:
            last = self.second
            if isinstance(last, Conv2Plus1D):
                last = last.temporal
            last.norm.scale[...] = conv.zeros(out_features)
        self.shortcut = nnx.data(None)
        if stride != 1 or in_features != out_features:
            self.shortcut = resnet3d.ConvNorm(
                in_features, out_features, 1,
                strides=step, padding=0, relu=False, epsilon=epsilon, rngs=rngs,
            )  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(residual + self.second(self.first(x)))


def stages(
    width: int, blocks: Sequence[int], kinds: Sequence[Kind], **settings
) -> list[list[BasicBlock]]:
    """Returns the stages of a network of `BasicBlock`s, to be kept by `nnx.data`.

    Args:
        width: Channels behind the stem and of the first stage; each next has double.
        blocks: Blocks in each stage.
        kinds: Kind of each stage's blocks.
        **settings: Passed on to `BasicBlock`.
    """
    features = [width] + [width * 2**index for index in range(len(blocks))]
    return [
        [
            BasicBlock(
                features[index] if block == 0 else features[index + 1],
                features[index + 1],
                kind=kind,
                stride=2 if block == 0 and index > 0 else 1,
                **settings,
            )
            for block in range(count)
        ]
        for index, (count, kind) in enumerate(zip(blocks, kinds, strict=True))
    ]
