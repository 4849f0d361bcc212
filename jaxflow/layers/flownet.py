"""What the networks of the FlowNet family share.

Fischer et al., "FlowNet: Learning Optical Flow with Convolutional Networks" (2015);
Ilg et al., "FlowNet 2.0" (2017). Inside these networks flow is in units of `DIV_FLOW`
pixels of the full-size frame, at every level.
"""

import functools
import re
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import ops
from jaxflow.layers import conv, norm

DIV_FLOW = 20.0
NO_MEAN = (0.0, 0.0, 0.0)
PINARD_MEAN = (0.45, 0.432, 0.411)
"""RGB means of ClementPinard/FlowNetPytorch's training."""
DECONV_FEATURES = {5: 512, 4: 256, 3: 128, 2: 64}


def leaky_relu(x: jax.Array) -> jax.Array:
    """Returns x where it is positive and 0.1 x elsewhere."""
    return nnx.leaky_relu(x, 0.1)


def scaled(features: int, width: float) -> int:
    """Returns the channels of a network `width` times as wide."""
    return round(features * width)


class ConvBlock(nnx.Module):
    """Convolution, batch normalisation if wanted, LeakyReLU(0.1).

    Args:
        in_features: Channels in.
        out_features: Channels out.
        kernel_size: Side of the window; the padding is half of it.
        strides: Step in y and x.
        batch_norm: Whether to normalise; the convolution then has no bias.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        batch_norm: bool = False,
        rngs: nnx.Rngs,
    ):
        self.conv = conv.Conv(
            in_features,
            out_features,
            kernel_size,
            strides=strides,
            use_bias=not batch_norm,
            rngs=rngs,
        )
        self.norm = norm.BatchNorm(out_features) if batch_norm else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / strides, W / strides, C_out)."""
        x = self.conv(x)
        return leaky_relu(x if self.norm is None else self.norm(x))


class UpBlock(nnx.Module):
    """A transposed convolution that doubles the size, and LeakyReLU(0.1).

    Args:
        in_features: Channels in.
        out_features: Channels out.
        use_bias: Whether it has a bias.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.conv = conv.ConvTranspose(
            in_features, out_features, use_bias=use_bias, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, 2H, 2W, C_out)."""
        return leaky_relu(self.conv(x))


class Decoder(nnx.Module):
    """The refinement of FlowNet: predicts flow from coarse to fine (2015, Fig. 3).

    At each level the features of the encoder, the up-sampled features and the
    up-sampled flow are concatenated:

        flow_l  = predict_l(inter_l(x_l))
        x_(l-1) = [skip_(l-1), lrelu(deconv(x_l)), up(flow_l)]

    Args:
        bottom_features: Channels of the coarsest features.
        skip_features: Level -> channels of the encoder's features there, from the
            second-coarsest level down.
        deconv_features: Level -> channels of the up-sampled features there.
        inter_features: Level -> channels of the extra convolution before the
            prediction (FlowNetSD and fusion); {} for none.
        upsample_bias: Whether the up-sampling of flow has a bias.
        use_bias: Whether predictions and the up-sampling of features have one.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        bottom_features: int,
        skip_features: dict[int, int],
        deconv_features: dict[int, int],
        *,
        inter_features: dict[int, int],
        upsample_bias: bool,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        predict = functools.partial(
            conv.Conv, out_features=2, use_bias=use_bias, rngs=rngs
        )
        self.levels = tuple(skip_features)
        self.has_inter = bool(inter_features)
        features = bottom_features
        top = self.levels[0] + 1
        setattr(self, f"predict_flow{top}", predict(features))
        for level in self.levels:
            up = deconv_features[level]
            block = UpBlock(features, up, use_bias=use_bias, rngs=rngs)
            setattr(self, f"deconv{level}", block)
            setattr(
                self,
                f"upsampled_flow{level + 1}_to_{level}",
                conv.ConvTranspose(2, 2, use_bias=upsample_bias, rngs=rngs),
            )
            features = skip_features[level] + up + 2
            predict_from = features
            if inter_features:
                predict_from = inter_features[level]
                inter = conv.Conv(features, predict_from, rngs=rngs)
                setattr(self, f"inter_conv{level}", inter)
            setattr(self, f"predict_flow{level}", predict(predict_from))

    def __call__(self, bottom: jax.Array, skips: dict[int, jax.Array]) -> list:
        """Predicts flow from the coarsest features and the encoder's others.

        Args:
            bottom: Coarsest features, (B, h, w, bottom_features).
            skips: Level -> features of the encoder, each twice the size of the last.

        Returns:
            Flow of every level, coarse to fine, in units of `DIV_FLOW` full-size
            pixels; float32 whatever the features are.
        """
        x = bottom
        wide = x.astype(jnp.float32)
        flows = [getattr(self, f"predict_flow{self.levels[0] + 1}")(wide)]
        for level in self.levels:
            up_flow = getattr(self, f"upsampled_flow{level + 1}_to_{level}")(flows[-1])
            up = getattr(self, f"deconv{level}")(x)
            parts = [skips[level], up, up_flow.astype(up.dtype)]
            x = jnp.concatenate(parts, axis=-1)
            features = getattr(self, f"inter_conv{level}")(x) if self.has_inter else x
            wide = features.astype(jnp.float32)
            flows.append(getattr(self, f"predict_flow{level}")(wide))
        return flows


def centre(
    image1: jax.Array,
    image2: jax.Array,
    mean: tuple[float, float, float] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Subtracts a mean from both frames.

    Args:
        image1: Frame 1, (B, H, W, 3).
        image2: Frame 2, alike.
        mean: Of each channel; None takes it over all pixels of the two frames.

    Returns:
        Both frames, centred; the mean is one for a pair and a channel.
    """
    if mean is not None:
        fixed = jnp.array(mean, image1.dtype)[None, None, None]
        return image1 - fixed, image2 - fixed
    own = 0.5 * (
        jnp.mean(image1, axis=(-3, -2), keepdims=True, dtype=jnp.float32)
        + jnp.mean(image2, axis=(-3, -2), keepdims=True, dtype=jnp.float32)
    )
    own = own.astype(image1.dtype)
    return image1 - own, image2 - own


def in_own_pixels(
    flows: list[jax.Array], height: int, width: int
) -> tuple[jax.Array, ...]:
    """Rescales flow in units of `DIV_FLOW` full-size pixels to pixels of its own grid.

    Args:
        flows: Flows at several sizes, each (B, h, w, 2).
        height: Rows of the full-size frame.
        width: Columns of the full-size frame.

    Returns:
        The same flows in float32; u is multiplied by 20 w / width, and v by
        20 h / height.
    """

    def rescaled(flow):
        rows, columns = flow.shape[-3:-1]
        factors = [DIV_FLOW * columns / width, DIV_FLOW * rows / height]
        factors = jnp.array(factors, jnp.float32)[None, None, None]
        return flow.astype(jnp.float32) * factors

    return tuple(rescaled(flow) for flow in flows)


def upsample(
    flow: jax.Array, *, method: Literal["bilinear", "nearest"] = "bilinear"
) -> jax.Array:
    """Brings a quarter-size field to full size without touching its values.

    Args:
        flow: Field, (B, H / 4, W / 4, C).
        method: "bilinear" (half-pixel) or "nearest", as the stage's official code has.

    Returns:
        The field, (B, H, W, C), in float32.
    """
    height, width = flow.shape[-3:-1]
    flow = flow.astype(jnp.float32)
    return ops.resize(flow, (4 * height, 4 * width), method=method)


def brightness_error(image1: jax.Array, warped2: jax.Array) -> jax.Array:
    """Returns the norm over channels of the difference: (B, H, W, 1).

    The gradient is 0, not NaN, where the two are equal.
    """
    return channel_norm(image1 - warped2)


def channel_norm(x: jax.Array) -> jax.Array:
    """Returns the Euclidean norm over channels, (B, H, W, 1); its slope at 0 is 0."""
    squared = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    positive = squared > 0
    root = jnp.sqrt(jnp.where(positive, squared, 1.0))
    return jnp.where(positive, root, 0.0).astype(x.dtype)


def mmflow_rows(blocks: dict[str, str], levels: range) -> tuple:
    """Rows of mmflow's names.

    Args:
        blocks: mmflow's path of a convolution of the encoder -> our name of its block.
        levels: mmflow's numbers of the decoder's levels, fine to coarse. Ours begin at
            2, or at 0 for the fusion, whose levels mmflow counts from 1.
    """
    leaf = "(weight|bias)"
    shift = 0 if levels[0] == 2 else -1
    rows = [
        (rf"{re.escape(path)}\.conv\.{leaf}", rf"{block}.conv.\1")
        for path, block in blocks.items()
    ]
    for level in levels:
        ours = level + shift
        name = rf"decoder\.decoders\.level{level}\."
        up = f"decoder.upsampled_flow{ours}_to_{ours - 1}"
        rows += [
            (rf"{name}pred_out\.{leaf}", rf"decoder.predict_flow{ours}.\1"),
            (rf"{name}pred_out\.0\.{leaf}", rf"decoder.inter_conv{ours}.\1"),
            (rf"{name}pred_out\.1\.{leaf}", rf"decoder.predict_flow{ours}.\1"),
            (rf"{name}deconv_out\.deconvs\.0\.{leaf}",
             rf"decoder.deconv{ours - 1}.conv.\1"),
            (rf"{name}upsample_pred\.deconvs\.0\.{leaf}", rf"{up}.\1"),
        ]  # fmt: skip
    return tuple(rows)
