"""What a model file says about itself beside its code, and the checks that follow."""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax import core


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """How a flow network's official script brings two frames to a size it accepts.

    Attributes:
        multiple: Height and width that the network sees are multiples of this.
        fit: "resize" stretches the frames up to the next multiple; "resize_nearest"
            to the multiple of closest aspect; "pad" adds border pixels; "crop" cannot
            change anything and is not offered.
        method: For the resizes, the kernel: "half_pixel" and "align_corners" are the
            two bilinear conventions; "opencv_uint8" is half-pixel in OpenCV's 8-bit
            fixed point, after quantising the frame to 8 bits.
        pad: For "pad", where the new rows and columns go: "both" sides, or "bottom"
            (rows below, columns on both sides).
        pad_mode: For "pad", what they hold: "edge" replicates, "constant" is 0.
        flow_method: How the network's flow is brought back to the input's size.
        flow_source: Which flow that is: "full" is the network's flow at full size;
            "finest" is its last prediction, in whatever size, so that it is resized
            once and not twice.
        minimum: Smallest height and width that the network can take, in pixels.
    """

    multiple: int = 64
    fit: Literal["resize", "resize_nearest", "pad"] = "resize"
    method: Literal["half_pixel", "align_corners", "opencv_uint8"] = "half_pixel"
    pad: Literal["both", "bottom"] = "both"
    pad_mode: Literal["edge", "constant"] = "edge"
    flow_method: Literal["half_pixel", "align_corners", "nearest"] = "half_pixel"
    flow_source: Literal["full", "finest"] = "full"
    minimum: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """A published checkpoint, described well enough to find and to trust it.

    Attributes:
        file: File name as its authors distribute it.
        source: Who publishes it and where to ask for it.
        licence: Terms of the weights, which may differ from those of the code; where
            the authors state none for them, those of the repository that offers them.
        dialect: Name of the key table that reads it.
        sha256: Checksum of the file, or the prefix that its name carries; "" if the
            authors publish none.
        num_params: Number of trained parameters.
        colour: Channel order that the official script feeds.
        metrics: What its authors claim, e.g. {"sintel_train_clean_epe": 2.55}.
        citation: Paper.
        url: Where the file itself can be fetched by a program; "" if nowhere.
        member: Name of the file in the zip archive at `url`; "" if `url` is the file.
        config: Fields of the variant's config that these weights need otherwise.
    """

    file: str
    source: str
    licence: str
    dialect: str
    sha256: str = ""
    url: str = ""
    member: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_params: int
    colour: Literal["rgb", "bgr"] = "rgb"
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    citation: str = ""


def mmflow_weights(folder: str, file: str, **fields: Any) -> Weights:
    """Returns the description of a checkpoint that mmflow trained itself.

    Args:
        folder: Of mmflow's server that it is in.
        file: Its name there.
        **fields: The others of `Weights`.
    """
    return Weights(
        file=file,
        source="https://github.com/open-mmlab/mmflow",
        licence="Apache-2.0",
        dialect="mmflow",
        colour="bgr",
        url=f"https://download.openmmlab.com/mmflow/{folder}/{file}",
        **fields,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What others say that a network costs, with the digits that they print.

    Attributes:
        source: Where it stands.
        parameters: Millions, such as "34.48"; "" if they do not say.
        multiply_adds: Billions for one clip, such as "36.1"; "" if they do not say.
        crop_size: Height and width of that clip; None is the config's.
        num_frames: Its frames; None is the config's.
        reason: Why ours differ, where they do.
    """

    source: str
    parameters: str = ""
    multiply_adds: str = ""
    crop_size: int | None = None
    num_frames: int | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a model file hands over: `RECORD`, which is also `Model.record`.

    A model that is defined elsewhere, such as in a notebook, needs none.

    Attributes:
        model: The class, built as ``model(config, rngs=rngs)``.
        variants: Public name -> config.
        renamed: Name that a variant once had -> its name; it still reads.
        tiny: A config that tests run.
        tiny_size: Height and width of the frames they run it on; None is the least.
        weights: "variant/data" -> a published checkpoint.
        keys: Dialect of published checkpoints -> rows (pattern of a key, our path or
            None for what is left out).
        optional: Patterns of our paths that a checkpoint may lack.
        adapt: Dialect -> rows (pattern of a key, function of the array in torch's
            layout), where a dialect's arrays differ.
        requires: Dialect -> the fields of the config that its checkpoints need.
        indifferent: Fields of the config that change neither weights nor outputs, but
            how those are computed or what is trained.
        published: Public name -> what others say that it costs.
    """

    model: Callable[..., Any] | None = None
    variants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tiny: Any = None
    tiny_size: tuple[int, int] | None = None
    weights: Mapping[str, Weights] = dataclasses.field(default_factory=dict)
    keys: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    optional: Sequence[str] = ()
    adapt: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    requires: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    indifferent: Sequence[str] = ()
    published: Mapping[str, Published] = dataclasses.field(default_factory=dict)


def record_of(model: Any) -> Record:
    """Returns the record of a model, or an empty one if it has none.

    Args:
        model: A model, or its class.
    """
    return getattr(model, "record", None) or Record()


class Flow(NamedTuple):
    """What a flow network returns, in training and in evaluation alike.

    It is a pytree whose structure does not depend on the mode. Inside `jax.jit` what
    the caller does not use is not computed: `model(image1, image2).flow` costs no more
    than if the network returned the flow alone.

    Attributes:
        flow: Motion from frame 1 to frame 2 at the size of the frames, (B, H, W, 2),
            in their pixels; float32.
        predictions: All flows that a loss can compare with the truth, the best one
            last, float32. Those of a pyramid go from coarse to fine and are
            (B, h, w, 2), each in pixels of its own grid; those of a recurrent network
            are one an iteration.
        occlusion: Probability that a pixel of frame 1 is hidden in frame 2, (B, H, W)
            in [0, 1], float32; None if the paper estimates none.
        confidence: How sure the network is of the flow, (B, H, W) in [0, 1], float32;
            None if the paper gives none. Each network says how it is measured.
    """

    flow: jax.Array
    predictions: tuple[jax.Array, ...]
    occlusion: jax.Array | None = None
    confidence: jax.Array | None = None


class FlowModel(Protocol):
    """What a network for flow owes: two frames in, flow out.

    `jaxflow.estimate_flow` and training need no more than this and `nnx.Module`.

    Attributes:
        frames: How frames of any size are brought to one that it takes.
    """

    frames: Frames

    def __call__(self, image1: jax.Array, image2: jax.Array) -> Flow:
        """Maps (B, H, W, 3) frames in [0, 1] to flow, in both modes.

        `jaxflow.estimate_flow` also takes bare flow, (B, h, w, 2) in its own pixels.
        """
        ...


class VideoModel(Protocol):
    """What a recognition network owes: a clip in, one score a class out.

    If it has a `config` with `num_frames`, `crop_size` and `frame_stride`, these are
    the defaults of `jaxflow.classify_video`; if it has a `cam_layer`, that of Grad-CAM.
    """

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps (B, T, H, W, C) in [0, 1] to (B, classes), in both modes.

        `key` is that of the dropout in training; see `layers.dropout`.
        """
        ...


class GenerationModel(Protocol):
    """What a network of video diffusion owes: a noisy clip in, a prediction out."""

    def __call__(
        self,
        noisy: jax.Array,
        time: jax.Array,
        *,
        clean: jax.Array | None = None,
        observed: jax.Array | None = None,
        latent: jax.Array | None = None,
        indices: jax.Array | None = None,
        condition: Any = None,
    ) -> jax.Array:
        """Maps (B, T, H, W, C), about [-1, 1], and times (B,) to what is predicted.

        `clean` and `observed` say which frames are given, `latent` which are asked for
        and `indices` where they are in the video; a network refuses what it cannot use.
        """
        ...


def check_pair(
    image1: jax.Array, image2: jax.Array, frames: Frames
) -> tuple[jax.Array, jax.Array]:
    """Verifies what a flow network is given, at trace time, and makes it float32.

    Args:
        image1: Frame 1; must be (B, H, W, 3) and floating.
        image2: Frame 2; must be alike.
        frames: Whose `multiple` and `minimum` the size must obey.

    Returns:
        Both frames in float32: their type does not decide how a network computes.

    Raises:
        ValueError: If a shape, a size or a type is not what the network takes.
    """
    if image1.shape != image2.shape or image1.dtype != image2.dtype:
        raise ValueError(
            "`image1` and `image2` must be alike; got "
            f"{image1.dtype}{image1.shape} and {image2.dtype}{image2.shape}"
        )
    if image1.ndim != 4 or image1.shape[-1] != 3:
        raise ValueError(f"`image1` must be (B, H, W, 3); got {image1.shape}")
    if not jnp.issubdtype(image1.dtype, jnp.floating):
        raise ValueError(f"`image1` must be floating, in [0, 1]; got {image1.dtype}")
    size = image1.shape[-3:-1]
    if any(
        n % frames.multiple or n < least
        for n, least in zip(size, frames.minimum, strict=True)
    ):
        raise ValueError(
            f"`image1` must have height and width of at least {frames.minimum} that "
            f"are multiples of {frames.multiple}; got {size}: resize or pad it, or "
            "call jaxflow.estimate_flow, which does"
        )
    return jnp.asarray(image1, jnp.float32), jnp.asarray(image2, jnp.float32)


def check_clip(
    clip: jax.Array,
    *,
    channels: int = 3,
    minimum: tuple[int, int, int] = (1, 1, 1),
) -> jax.Array:
    """Verifies what a recognition network is given, at trace time, as float32.

    Args:
        clip: The clip; must be (B, T, H, W, channels) and floating.
        channels: 3 for RGB, 2 for flow.
        minimum: Least T, H and W that the network's strides leave something of.

    Returns:
        The clip in float32: its type does not decide how a network computes.

    Raises:
        ValueError: If the shape, a size or the type is not what the network takes.
    """
    shape, dtype = jnp.shape(clip), jnp.result_type(clip)
    if len(shape) != 5 or shape[-1] != channels:
        advice = ": add a batch axis, clip[None]" if len(shape) == 4 else ""
        raise ValueError(
            f"`clip` must be (B, T, H, W, {channels}); got {shape}{advice}"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"`clip` must be floating, in [0, 1]; got {dtype}: divide 8-bit frames by "
            "255, or call jaxflow.classify_video, which does"
        )
    if any(n < least for n, least in zip(shape[1:4], minimum, strict=True)):
        frames, height, width = minimum
        raise ValueError(
            f"`clip` must have at least {frames} frames of {height} x {width} pixels "
            f"for this network; got {shape[1]} of {shape[2]} x {shape[3]}"
        )
    return jnp.asarray(clip, jnp.float32)


def check_pixels(name: str, pixels: jax.Array | np.ndarray) -> None:
    """Verifies the values of frames outside of `jax.jit`, which cannot.

    Args:
        name: Of the argument, for the message.
        pixels: Floating frames of any shape, concrete.

    Raises:
        ValueError: If a value is NaN or infinite, or not in [0, 1] but for what
            filters and rounding leave.
    """
    if isinstance(pixels, core.Tracer) or not pixels.size:
        return
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        return
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"`{name}` must be finite; it contains NaN or infinity")
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(
            f"`{name}` must be in [0, 1] if it is float; got {low:g} to {high:g}: "
            "divide 8-bit pictures by 255"
        )


# How far beyond [0, 1] a float frame may stray: what filters and rounding leave.
_SLACK = 1e-2

Count = Annotated[int, "at least 0"]
"""An integer of a config that may be 0; all others must be positive."""
Share = Annotated[float, "in [0, 1)"]
"""A number of a config in [0, 1), such as a rate of dropout."""
Number = Annotated[float, "finite"]
"""A number of a config that may be 0 or negative; all others must be positive."""

_RANGES: dict[str, Callable[[float], bool]] = {
    "positive": lambda value: 0 < value < math.inf,
    "at least 0": lambda value: 0 <= value < math.inf,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "finite": math.isfinite,
}


def check_config(config: Any) -> None:
    """Verifies a model's config against its annotations; for its `__post_init__`.

    A `Literal` lists the values there are. Numbers must be positive, unless they are
    annotated as `Count`, `Share` or `Number`. Tuples are verified item by item.

    Args:
        config: A frozen dataclass of plain values.

    Raises:
        ValueError: If a field has a value that its annotation does not allow.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if not _allows(hint, value):
            raise ValueError(f"`{name}` must be {_describe(hint)}; got {value!r}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Returns the annotations of a dataclass's fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _allows(hint: Any, value: Any) -> bool:
    """Tells whether a value is what an annotation says."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(value == choice for choice in parts)
    if origin in (Union, types.UnionType):
        return any(_allows(part, value) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is Ellipsis:
            return all(_allows(parts[0], item) for item in value)
        return len(value) == len(parts) and all(map(_allows, parts, value))
    kind, limits = parts if origin is Annotated else (hint, "positive")
    if kind in (int, float):
        abstract = numbers.Integral if kind is int else numbers.Real
        real = isinstance(value, abstract) and not isinstance(value, bool)
        return real and _RANGES[limits](float(value))
    return isinstance(value, kind) if isinstance(kind, type) else True


def _describe(hint: Any) -> str:
    """Says in words what an annotation allows."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is tuple and parts[-1] is Ellipsis:
        return f"a tuple, each item {_describe(parts[0])}"
    if origin is tuple:
        each = dict.fromkeys(map(_describe, parts))
        return f"a tuple of {len(parts)}, each item {' or '.join(each)}"
    kind, limits = parts if origin is Annotated else (hint, "positive")
    if kind in (int, float):
        noun, article = ("integer", "an") if kind is int else ("number", "a")
        if limits in ("positive", "finite"):
            return f"a {limits} {noun}"
        return f"{article} {noun} {limits}"
    names = {types.NoneType: "None", bool: "True or False"}
    return names.get(kind) or str(getattr(kind, "__name__", kind))
