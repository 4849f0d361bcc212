"""The Inception-v1 body that I3D and S3D share: its table of channels and its order."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks, ops
from jaxflow.layers import conv, dropout, resnet3d

# Branch 0; reduction and output of branches 1 and 2; branch 3 behind a max-pool.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Max-pools in front of those blocks: window and strides.
POOLS = {
    "mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
# conv(in_features, out_features, kernel_size, strides=..., rngs=...) -> module
Maker = Callable[..., nnx.Module]


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], *, same: bool
) -> jax.Array:
    """Pools (B, T, H, W, C); the margin never wins.

    Args:
        x: Features.
        window: Size in t, y and x.
        strides: Step in t, y and x.
        same: Whether the margin is TensorFlow's, or else that of the PyTorch networks:
            (window - 1) / 2 on both sides, rounded down.
    """
    sides = [(size - 1) // 2 for size in window]
    if same:
        sides = resnet3d.same_padding(x.shape[1:4], window, strides)
    return ops.max_pool(x, window, strides=strides, padding=sides)


class Mixed(nnx.Module):
    """Four branches side by side, their channels joined (Szegedy et al., CVPR 2015).

    Args:
        in_features: Channels of the input.
        features: Row of `MIXED`.
        pointwise: Makes the 1 x 1 x 1 convolutions.
        spatial: Makes the 3 x 3 x 3 convolutions.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: tuple[int, ...],
        *,
        pointwise: Maker,
        spatial: Maker,
        rngs: nnx.Rngs,
    ):
        b0, b1a, b1b, b2a, b2b, b3 = features
        self.b0 = pointwise(in_features, b0, 1, rngs=rngs)
        self.b1a = pointwise(in_features, b1a, 1, rngs=rngs)
        self.b1b = spatial(b1a, b1b, 3, rngs=rngs)
        self.b2a = pointwise(in_features, b2a, 1, rngs=rngs)
        self.b2b = spatial(b2a, b2b, 3, rngs=rngs)
        self.b3 = pointwise(in_features, b3, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1), same=True)
        branches = [
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3(pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class Inception(nnx.Module):
    """Everything before the classifier: (B, T, H, W, C_in) to an 8th and a 32nd.

    Args:
        in_features: Channels of the input.
        pointwise: Makes the 1 x 1 x 1 convolutions.
        spatial: Makes the larger ones.
        width: Factor on every channel count; 1 is the published network.
        same: Whether the max-pools have TensorFlow's margins; see `max_pool`.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        *,
        pointwise: Maker,
        spatial: Maker,
        width: float = 1.0,
        same: bool = True,
        rngs: nnx.Rngs,
    ):
        self.same = same
        scale = functools.partial(_scaled, width=width)
        self.conv_1a = spatial(in_features, scale(64), 7, strides=2, rngs=rngs)
        self.conv_2b = pointwise(scale(64), scale(64), 1, rngs=rngs)
        self.conv_2c = spatial(scale(64), scale(192), 3, rngs=rngs)
        features = scale(192)
        for name, row in MIXED.items():
            row = tuple(map(scale, row))
            block = Mixed(
                features, row, pointwise=pointwise, spatial=spatial, rngs=rngs
            )
            setattr(self, name, block)
            features = row[0] + row[2] + row[4] + row[5]
        self.out_features = features

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the last map, (B, T / 8, H / 32, W / 32, C), sizes rounded up."""
        x = max_pool(self.conv_1a(x), (1, 3, 3), (1, 2, 2), same=self.same)
        x = self.conv_2c(self.conv_2b(x))
        for name in MIXED:
            if name in POOLS:
                x = max_pool(x, *POOLS[name], same=self.same)
            x = getattr(self, name)(x)
        return x


class Classifier(nnx.Module):
    """Average-pools windows of 2 frames, and projects to classes at every position.

    Args:
        in_features: Channels of the input.
        num_classes: Number of classes.
        window: Side of the pooling window; a smaller map is pooled whole.
        mode: "logit_mean" averages the logits; "softmax_mean" or "sigmoid_mean",
            in evaluation, the probabilities of the time steps.
        dropout_rate: Share of the pooled features zeroed in training.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there is no such mode.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        window: int,
        mode: resnet3d.HeadMode,
        dropout_rate: float,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("head_mode", mode, resnet3d.HEAD_MODES)
        self.window = window
        self.mode = mode
        self.deterministic = True
        self.dropout = dropout.Dropout(dropout_rate)
        self.conv = conv.Conv3d(in_features, num_classes, 1, rngs=rngs)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Returns one score a class, (B, num_classes), float32."""
        scores = self.steps(x, key=key)
        if self.deterministic:
            scores = resnet3d.activated(scores, self.mode)
        return jnp.mean(scores, axis=1)

    def steps(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Returns the logits of every time step, (B, T', num_classes), float32."""
        limits = (2, self.window, self.window)
        x = x.astype(jnp.float32)
        x = ops.avg_pool(x, tuple(map(min, limits, x.shape[1:4])), strides=1)
        x = self.dropout(x, key=key)
        return jnp.mean(self.conv(x), axis=(2, 3))


def _scaled(features: int, width: float) -> int:
    return max(1, round(features * width))
