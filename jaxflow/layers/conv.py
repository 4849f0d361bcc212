"""Convolution layers with explicit padding, whose parameters torch can fill.

Arithmetic follows the dtype of the input: parameters are kept in float32 and cast at
the door, so a bfloat16 image runs a bfloat16 network.
"""

import functools
import math
from typing import ClassVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxflow import ops

# Standard deviation of a standard normal that is cut off at -2 and 2.
_TRUNCATED_STD = 0.87962566103423978
# Numbers are drawn in pieces of these lengths: XLA compiles the generator once for
# each, and not, at a fifth of a second, for each shape of a weight.
_PIECES = (2**12, 2**16, 2**18, 2**20)


def _plus_bias(y: jax.Array, bias: nnx.Param | None) -> jax.Array:
    """Adds one number to each channel of (..., C), if there are any."""
    if bias is None:
        return y
    return y + lax.broadcast_to_rank(bias[...].astype(y.dtype), y.ndim)


def truncated_normal(
    key: jax.Array, shape: tuple[int, ...], *, std: float
) -> jax.Array:
    """Draws weights from a normal distribution cut off at two standard deviations.

    Args:
        key: Random key.
        shape: Shape of the weight.
        std: Standard deviation of the result.

    Returns:
        The weight, float32; a function of `key`, size and `std` alone.
    """
    size = math.prod(shape)
    piece = next((length for length in _PIECES if length >= size), _PIECES[-1])
    keys = [key, *(jax.random.fold_in(key, i) for i in range(1, -(-size // piece)))]
    pieces = [_draw(key, piece) for key in keys]
    if not isinstance(pieces[0], jax.core.Tracer):
        # Slicing and scaling by NumPy spares three more compilations a shape.
        pieces = [np.asarray(draw) for draw in pieces]
    library = np if isinstance(pieces[0], np.ndarray) else jnp
    flat = library.concatenate(pieces)[:size] * np.float32(std / _TRUNCATED_STD)
    return jax.device_put(flat.reshape(shape))


def he_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws a kernel (*window, C_in, C_out) so that ReLU keeps the variance.

    He et al., "Delving deep into rectifiers" (2015): std = sqrt(2 / fan-in).

    Args:
        key: Random key.
        shape: Shape of the kernel.
    """
    return truncated_normal(key, shape, std=math.sqrt(2 / math.prod(shape[:-1])))


def zeros(features: int) -> jax.Array:
    """Returns zeros, without compiling anything for their number."""
    return jax.device_put(np.zeros(features, np.float32))


@functools.partial(jax.jit, static_argnames="length")
def _draw(key: jax.Array, length: int) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, (length,), jnp.float32)


def _pair(value: int | tuple[int, ...], length: int = 2) -> tuple[int, ...]:
    return (value,) * length if isinstance(value, int) else tuple(value)


def _padding(
    value: int | tuple[int, ...] | None,
    window: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """Returns the padding of each axis; None keeps the size at stride 1."""
    if value is not None:
        return _pair(value, len(window))
    return tuple(d * (k - 1) // 2 for d, k in zip(dilation, window, strict=True))


class Conv(nnx.Module):
    """A 2-D convolution (cross-correlation): (*B, H, W, C_in) -> (*B, H', W', C_out).

    H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; the border is
    filled with zeros.

    Args:
        in_features: C_in.
        out_features: C_out.
        kernel_size: Height and width of the window.
        strides: Step in y and x.
        padding: Zeros added on both sides in y and x; None keeps the size at stride 1:
            dilation (kernel - 1) / 2.
        dilation: Spacing of the window in y and x.
        groups: Number of groups that channels are split into.
        use_bias: Whether to add one number a channel.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("kernel", (2, 3, 1, 0)), "bias": ("bias", None)}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        strides: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.strides = _pair(strides)
        self.dilation = _pair(dilation)
        window = _pair(kernel_size)
        self.padding = _padding(padding, window, self.dilation)
        self.groups = groups
        shape = (*window, in_features // groups, out_features)
        self.kernel = nnx.Param(he_normal(rngs.params(), shape))
        self.bias = nnx.Param(zeros(out_features)) if use_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves `x`, (*B, H, W, C_in)."""
        y = ops.conv(
            x,
            self.kernel[...].astype(x.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _plus_bias(y, self.bias)


class ConvTranspose(nnx.Module):
    """The transpose of a strided `Conv`: (*B, H, W, C_in) -> (*B, H', W', C_out).

    H' = (H - 1) stride - 2 padding + kernel: kernel 4, stride 2, padding 1 doubles.

    Args:
        in_features: C_in.
        out_features: C_out.
        kernel_size: Height and width of the window.
        strides: Up-sampling factor in y and x.
        padding: Rows and columns cut off on both sides of the full output.
        groups: Number of groups that channels are split into.
        use_bias: Whether to add one number a channel.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("kernel", (2, 3, 0, 1)), "bias": ("bias", None)}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, int] = 4,
        *,
        strides: int | tuple[int, int] = 2,
        padding: int | tuple[int, int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.strides = _pair(strides)
        self.padding = _pair(padding)
        self.groups = groups
        window = _pair(kernel_size)
        # An output pixel meets only 1/stride^2 of the window.
        scale = math.sqrt(
            2 * math.prod(self.strides) / (math.prod(window) * in_features / groups)
        )
        shape = (*window, in_features, out_features // groups)
        self.kernel = nnx.Param(truncated_normal(rngs.params(), shape, std=scale))
        self.bias = nnx.Param(zeros(out_features)) if use_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Up-samples `x`, (*B, H, W, C_in)."""
        y = ops.conv_transpose(
            x,
            self.kernel[...].astype(x.dtype),
            strides=self.strides,
            padding=self.padding,
            groups=self.groups,
        )
        return _plus_bias(y, self.bias)


class Conv3d(nnx.Module):
    """A 3-D convolution: (*B, T, H, W, C_in) -> (*B, T', H', W', C_out).

    Args:
        in_features: C_in.
        out_features: C_out.
        kernel_size: Window in t, y and x.
        strides: Step in t, y and x.
        padding: Zeros added on both sides in t, y and x; None keeps the size at
            stride 1.
        dilation: Spacing of the window in t, y and x.
        groups: Number of groups that channels are split into.
        use_bias: Whether to add one number a channel.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {
        "weight": ("kernel", (2, 3, 4, 1, 0)),
        "bias": ("bias", None),
    }

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, int, int] = 3,
        *,
        strides: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] | None = None,
        dilation: int | tuple[int, int, int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.strides = _pair(strides, 3)
        self.dilation = _pair(dilation, 3)
        window = _pair(kernel_size, 3)
        self.padding = _padding(padding, window, self.dilation)
        self.groups = groups
        shape = (*window, in_features // groups, out_features)
        self.kernel = nnx.Param(he_normal(rngs.params(), shape))
        self.bias = nnx.Param(zeros(out_features)) if use_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves `x`, (*B, T, H, W, C_in)."""
        y = ops.conv3d(
            x,
            self.kernel[...].astype(x.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _plus_bias(y, self.bias)


class Linear(nnx.Module):
    """A matrix product over the last axis: (..., C_in) -> (..., C_out).

    Args:
        in_features: C_in.
        out_features: C_out.
        use_bias: Whether to add one number a channel.
        rngs: Source of the initial weights.
    """

    torch_names: ClassVar = {"weight": ("kernel", (1, 0)), "bias": ("bias", None)}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        std = math.sqrt(1 / in_features)
        shape = (in_features, out_features)
        self.kernel = nnx.Param(truncated_normal(rngs.params(), shape, std=std))
        self.bias = nnx.Param(zeros(out_features)) if use_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiplies `x`, (..., C_in), by the kernel."""
        y = x @ self.kernel[...].astype(x.dtype)
        return _plus_bias(y, self.bias)


def flip_colours(kernel: np.ndarray) -> np.ndarray:
    """Makes a first kernel that was trained on BGR frames one for RGB.

    Args:
        kernel: In torch's layout, (O, I, H, W). The first channels are frames of three
            channels each, as many as there are; a rest of channels (12 = three frames,
            flow, error; 11 = one frame and the estimates) is not touched.
    """
    frames = {3: 1, 6: 2, 12: 3, 11: 1}[kernel.shape[1]]
    order = [3 * frame + channel for frame in range(frames) for channel in (2, 1, 0)]
    kernel = kernel.copy()
    kernel[:, : 3 * frames] = kernel[:, order]
    return kernel
