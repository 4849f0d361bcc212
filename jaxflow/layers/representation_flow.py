"""Representation flow: TV-L1 optical flow of feature maps, as a layer that learns.

Piergiovanni and Ryoo, "Representation Flow for Action Recognition" (CVPR 2019). The
iterations are those of `layers.feature_flow`.
"""

import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks
from jaxflow.layers import conv, norm
from jaxflow.layers.feature_flow import (
    LAMBDA,
    TAU,
    THETA,
    Border,
    initial_filters,
    iterate,
)
from jaxflow.layers.feature_flow import VARIANTS as VARIANTS
from jaxflow.layers.feature_flow import Variant as Variant
from jaxflow.layers.feature_flow import stretch as stretch
from jaxflow.layers.feature_flow import tvl1 as tvl1

Flag = Literal[0, 1]
Learn = tuple[Flag, Flag, Flag, Flag, Flag]


class Constant(nnx.Variable):
    """A number that checkpoints hold and training leaves alone."""


class FlowLayer(nnx.Module):
    """The iterations of `tvl1` with parameters that can learn.

    Three variants:

    - "paper": each channel by itself; 3 x 3 Sobel filters as gradient of the features
      (Eq. 8) and of the flow (Eq. 10), border replicated.
    - "hmdb_release" (the authors' code of February 2019, for HMDB): each channel by
      itself; central differences for the features, forward differences for the flow.
    - "kinetics_release" (June 2019, for Kinetics): every filter mixes all channels, and
      the four filters of the flow and its divergence are all vertical.

    Args:
        features: Channels C of the two inputs.
        iterations: Number of iterations.
        learn: Whether each of these learns: gradient of the features; gradient of the
            flow and divergence; theta; lambda; tau. The others are `Constant`.
        variant: One of the three.
        border: Whose differences stand at the border, for the releases.

    Raises:
        ValueError: If there is no such variant.
    """

    torch_names: ClassVar = {
        "img_grad": ("image_x", (2, 3, 1, 0)),
        "img_grad2": ("image_y", (2, 3, 1, 0)),
        "f_grad": ("flow_x", (2, 3, 1, 0)),
        "f_grad2": ("flow_y", (2, 3, 1, 0)),
        "div": ("div_x", (2, 3, 1, 0)),
        "div2": ("div_y", (2, 3, 1, 0)),
        "t": ("theta", None),
        "l": ("lam", None),
        "a": ("tau", None),
    }
    theta: nnx.Variable
    lam: nnx.Variable
    tau: nnx.Variable

    def __init__(
        self,
        features: int,
        *,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Variant = "paper",
        border: Border = "first",
    ):
        _checks.one_of("variant", variant, VARIANTS)
        _checks.one_of("border", border, ("first", "second"))
        self.iterations = iterations
        self.variant: Variant = variant
        self.border: Border = border
        mixed = features if variant == "kinetics_release" else 1
        image, flow, *numbers = (nnx.Param if flag else Constant for flag in learn)
        for name, taps in initial_filters(variant).items():
            kind = image if name.startswith("image") else flow
            shape = (*taps.shape, mixed, features)
            kernel = jnp.broadcast_to(taps[..., None, None], shape)
            setattr(self, name, kind(jnp.array(kernel, jnp.float32)))
        values = {"theta": THETA, "lam": LAMBDA, "tau": TAU}
        for (name, value), kind in zip(values.items(), numbers, strict=True):
            setattr(self, name, kind(jnp.array([value], jnp.float32)))

    def __call__(
        self, first: jax.Array, second: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns u and v from `first` to `second`, each (..., H, W, C)."""
        kernels = {
            name: getattr(self, name)[...] for name in initial_filters(self.variant)
        }
        return iterate(
            first,
            second,
            kernels,
            self.theta[...],
            self.lam[...],
            self.tau[...],
            self.iterations,
            self.variant,
            self.border,
        )


def parameter_labels(parameters: nnx.State | dict) -> nnx.State | dict:
    """Labels what flow layers learn, for `optax.partition`.

    Its learning rate is a hundredth of that of all else in the paper (Sec. 4).

    Args:
        parameters: Parameters of any model.

    Returns:
        The same tree with "flow" and "other" in place of arrays.
    """
    names = {leaf for leaf, _ in FlowLayer.torch_names.values()}

    def label(path, _):
        keys = {getattr(part, "key", getattr(part, "name", None)) for part in path}
        return "flow" if keys & names else "other"

    return jax.tree_util.tree_map_with_path(label, parameters)


class RepresentationFlow(nnx.Module):
    """Replaces features by their flow: (B, T, H, W, C) -> (B, T - 1, H, W, C).

    A 1 x 1 convolution to `inner_features`, normalisation, flow between consecutive
    frames, and a convolution of (u, v) back to C channels:

    - "paper": 3 x 3 (Appendix A).
    - "hmdb_release": the same.
    - "kinetics_release": 1 x 1, batch normalisation, plus the features of the first of
      each two frames, ReLU.

    Args:
        features: Channels C.
        inner_features: Channels that flow is computed of.
        iterations: Number of iterations.
        learn: See `FlowLayer`.
        variant: See `FlowLayer`.
        normalise_over: See `stretch`.
        out_features: Channels of the output, if not C.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        inner_features: int = 32,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Variant = "paper",
        normalise_over: Literal["tensor", "sample"] = "tensor",
        out_features: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.normalise_over: Literal["tensor", "sample"] = normalise_over
        self.released = variant == "kinetics_release"
        self.reduce = conv.Conv3d(
            features, inner_features, 1, use_bias=False, rngs=rngs
        )
        self.flow = FlowLayer(
            inner_features, iterations=iterations, learn=learn, variant=variant
        )
        out_features = features if out_features is None else out_features
        window = 1 if self.released else (1, 3, 3)
        self.expand = conv.Conv3d(
            2 * inner_features, out_features, window, use_bias=False, rngs=rngs
        )
        self.norm = norm.BatchNorm(features) if self.released else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C) with T > 1."""
        y = self.expand(self.flows(x))
        if self.norm is None:
            return y
        return jax.nn.relu(x[:, :-1] + self.norm(y))

    def flows(self, x: jax.Array) -> jax.Array:
        """Returns (u, v) of the reduced features, (B, T - 1, H, W, 2 inner)."""
        if x.shape[1] < 2:
            raise ValueError(
                f"flow needs at least 2 frames; this layer got {x.shape[1]}: "
                "feed a longer clip"
            )
        reduced = stretch(self.reduce(x), over=self.normalise_over, sign=-1)
        u, v = self.flow(reduced[:, :-1], reduced[:, 1:])
        return jnp.concatenate([u, v], axis=-1).astype(x.dtype)


class FlowConvFlow(nnx.Module):
    """Flow of the flow: motion that changes, such as acceleration (Sec. 3.3).

    `RepresentationFlow` twice, the first without going back to C channels. With a
    convolution between them ("flow-conv-flow") the second sees features of the first
    flow; without ("flow-of-flow"), the first flow itself.

    Args:
        features: Channels C.
        inner_features: Channels that flow is computed of.
        iterations: Number of iterations.
        learn: See `FlowLayer`.
        variant: "paper", or "hmdb_release": then the result is batch-normalised from
            scale 0, and the mean of each three frames of the input is added, ReLU.
        normalise_over: See `stretch`.
        convolve: Whether there is a convolution between the two.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        inner_features: int = 32,
        iterations: int = 10,
        learn: Learn = (0, 1, 1, 1, 1),
        variant: Literal["paper", "hmdb_release"] = "paper",
        normalise_over: Literal["tensor", "sample"] = "tensor",
        convolve: bool = True,
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("variant", variant, ("paper", "hmdb_release"))
        self.convolve = convolve
        make = functools.partial(
            RepresentationFlow,
            inner_features=inner_features,
            iterations=iterations,
            learn=learn,
            variant=variant,
            normalise_over=normalise_over,
            rngs=rngs,
        )
        self.first = make(features, out_features=2 * inner_features)
        if not convolve:
            self.first.expand = nnx.data(None)  # pyright: ignore[reportAttributeAccessIssue] - only `flows` is called
        self.second = make(2 * inner_features, out_features=features)
        released = variant == "hmdb_release"
        self.norm = norm.BatchNorm(features) if released else nnx.data(None)
        if self.norm is not None and zero_init:
            self.norm.scale[...] = conv.zeros(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C) with T > 2, to (B, T - 2, H, W, C)."""
        y = self.first(x) if self.convolve else self.first.flows(x)
        y = self.second(y)
        if self.norm is None:
            return y
        mean = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
        return jax.nn.relu(mean + self.norm(y))
