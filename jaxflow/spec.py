"""What a model file says about itself beside its code, and the check that follows."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp


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
        minimum: Smallest height and width that the network can take, in pixels.
    """

    multiple: int = 64
    fit: Literal["resize", "resize_nearest", "pad"] = "resize"
    method: Literal["half_pixel", "align_corners", "opencv_uint8"] = "half_pixel"
    pad: Literal["both", "bottom"] = "both"
    pad_mode: Literal["edge", "constant"] = "edge"
    flow_method: Literal["half_pixel", "align_corners", "nearest"] = "half_pixel"
    minimum: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """A published checkpoint, described well enough to find and to trust it.

    Attributes:
        file: File name as its authors distribute it.
        source: Who publishes it and where to ask for it.
        licence: Terms of the weights, which may differ from those of the code.
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


def check_pair(image1: jax.Array, image2: jax.Array, frames: Frames) -> None:
    """Verifies what a flow network is given, at trace time.

    Args:
        image1: Frame 1; must be (B, H, W, 3) and floating.
        image2: Frame 2; must be alike.
        frames: Whose `multiple` and `minimum` the size must obey.

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
