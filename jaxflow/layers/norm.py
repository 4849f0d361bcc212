"""Normalisation layers that agree with torch's, running statistics included."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxflow.layers import variables


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy, 2015).

        y = (x - mean) / sqrt(var + epsilon) * scale + bias

    In training mode mean and var are those of the batch (two passes) and
    the running ones move by `momentum` towards them; as in torch, the running
    variance is the unbiased one. In evaluation mode, which a new layer is in, the
    running ones are used. Under `jax.jit` with a sharded batch the statistics are
    those of the global batch. A layer that is frozen (`freeze`) does in training what
    it does in evaluation, and its scale and bias have no gradient.

    Args:
        features: Channels.
        momentum: Weight of the new batch in the running statistics.
        epsilon: Added to the variance.
    """

    torch_names: ClassVar = {
        "weight": ("scale", None),
        "bias": ("bias", None),
        "running_mean": ("mean", None),
        "running_var": ("var", None),
    }

    def __init__(self, features: int, *, momentum: float = 0.1, epsilon: float = 1e-5):
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = True
        self.frozen = False
        self.scale = nnx.Param(_constant(1, features))
        self.bias = nnx.Param(_constant(0, features))
        self.mean = nnx.BatchStat(_constant(0, features))
        self.var = nnx.BatchStat(_constant(1, features))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x`, (..., C)."""
        scale, bias = self.scale[...], self.bias[...]
        if self.frozen:
            scale, bias = lax.stop_gradient((scale, bias))
        if self.use_running_average or self.frozen:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes, dtype=jnp.float32)
            centred = x.astype(jnp.float32) - lax.broadcast_to_rank(mean, x.ndim)
            var = jnp.mean(jnp.square(centred), axes)
            count = math.prod(x.shape[:-1])
            unbiased = var * (count / max(count - 1, 1))
            self._update(self.mean, mean)
            self._update(self.var, unbiased)
        scale = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * scale
        wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
        scale, shift = (
            lax.broadcast_to_rank(part.astype(wide), x.ndim) for part in (scale, shift)
        )
        return (x.astype(wide) * scale + shift).astype(x.dtype)

    def _update(self, running: nnx.BatchStat, new: jax.Array) -> None:
        """Moves a running statistic; its gradient is nobody's business."""
        new = lax.stop_gradient(new)
        moved = (1 - self.momentum) * running[...] + self.momentum * new
        variables.replace(running, moved)


def freeze(module: nnx.Module, *, but: Sequence[BatchNorm] = ()) -> None:
    """Freezes the batch normalisation in a module, in place.

    Wang et al., "Temporal Segment Networks" (ECCV 2016), Sec. 3.2: all but the first,
    which has to follow another kind of input.

    Args:
        module: Any module.
        but: Layers that stay as they are.
    """
    for _, node in nnx.iter_graph(module):
        if isinstance(node, BatchNorm) and not any(node is each for each in but):
            node.frozen = True


class GroupNorm(nnx.Module):
    """Normalises groups of channels over an example's pixels (Wu and He, ECCV 2018).

        y = (x - mean) / sqrt(var + epsilon) * scale + bias

    Mean and variance are those of the channels of a group at all positions of one
    example, in float32.

    Args:
        features: Channels.
        groups: Number of groups, of neighbouring channels.
        epsilon: Added to the variance.
        affine: Whether there are a scale and a bias for each channel.
    """

    torch_names: ClassVar = {"weight": ("scale", None), "bias": ("bias", None)}

    def __init__(
        self,
        features: int,
        groups: int = 32,
        *,
        epsilon: float = 1e-5,
        affine: bool = True,
    ):
        if groups < 1 or features % groups:
            raise ValueError(
                f"`groups` must divide the {features} features; got {groups}"
            )
        self.groups = groups
        self.epsilon = epsilon
        self.scale = nnx.Param(_constant(1, features)) if affine else nnx.data(None)
        self.bias = nnx.Param(_constant(0, features)) if affine else nnx.data(None)

    def __call__(self, x: jax.Array, *, batch_axes: int = 1) -> jax.Array:
        """Normalises `x`, whose first `batch_axes` axes tell examples apart."""
        wide = x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
        split = wide.reshape(*x.shape[:-1], self.groups, -1)
        axes = (*range(batch_axes, x.ndim - 1), x.ndim)
        mean = jnp.mean(split, axes, keepdims=True)
        var = jnp.mean(jnp.square(split - mean), axes, keepdims=True)
        y = ((split - mean) * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        if self.scale is not None and self.bias is not None:
            scale, bias = (
                lax.broadcast_to_rank(part[...].astype(y.dtype), y.ndim)
                for part in (self.scale, self.bias)
            )
            y = y * scale + bias
        return y.astype(x.dtype)


class ChannelNorm(nnx.Module):
    """Normalises the channels of each pixel by themselves.

        y = (x - mean) / sqrt(var + 1e-5) * scale [+ bias]

    Mean and variance are those of the channels of one pixel, in float32.

    Args:
        features: Channels.
        use_bias: Whether there is a bias for each channel.
    """

    torch_names: ClassVar = {
        "gamma": ("scale", None),
        "g": ("scale", None),
        "b": ("bias", None),
    }

    def __init__(self, features: int, *, use_bias: bool = False):
        self.scale = nnx.Param(_constant(1, features))
        self.bias = nnx.Param(_constant(0, features)) if use_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x`, (..., C)."""
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, axis=-1, keepdims=True)
        var = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
        y = (wide - mean) * lax.rsqrt(var + 1e-5)
        y *= lax.broadcast_to_rank(self.scale[...], y.ndim)
        if self.bias is not None:
            y += lax.broadcast_to_rank(self.bias[...], y.ndim)
        return y.astype(x.dtype)


def instance_norm(x: jax.Array, *, epsilon: float = 1e-5) -> jax.Array:
    """Normalises each channel of each example over its pixels, in float32.

    Args:
        x: Features, (*B, H, W, C).
        epsilon: Added to the variance.

    Returns:
        Features of mean 0 and variance 1 over H and W, in the dtype of `x`.
    """
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=(-3, -2), keepdims=True)
    var = jnp.mean(jnp.square(wide - mean), axis=(-3, -2), keepdims=True)
    return ((wide - mean) * lax.rsqrt(var + epsilon)).astype(x.dtype)


def _constant(value: int, features: int) -> jax.Array:
    """Returns a vector, without compiling anything for its length."""
    return jax.device_put(np.full(features, value, np.float32))
