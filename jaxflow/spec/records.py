"""What a model file says about itself beside its code."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal


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
