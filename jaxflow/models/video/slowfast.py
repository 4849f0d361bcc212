"""SlowFast: a slow pathway for appearance and a thin fast one for motion.

Feichtenhofer, Fan, Malik, He, "SlowFast Networks for Video Recognition" (ICCV 2019).

    pathways, Table 1                       layers.resnet3d.Pathway
    lateral connections, Sec. 3.3           Model._joined, Lateral
    weaker fast input, Table 5(e)           fast_input
    detection on AVA, Sec. 5                layers.box_head.BoxHead, regions
    T x tau, alpha, beta                    Config.num_frames, alpha, beta_inv

Weights: PySlowFast and pytorchvideo (Apache-2.0), trained on Kinetics-400 and on AVA,
whose classes are its label numbers less 1. They read boxes in the "legacy" form;
PySlowFast's own training in the "aligned" one (`regions="aligned"`).

Deviations: the head pools over the whole time of a clip. A clip whose length alpha does
not divide runs too: the slow pathway then takes ceil(T / alpha) frames; for the other
lengths the frames are those of the original code. What the paper leaves open about the
weaker inputs is stated at `fast_input`.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import _checks, ops, spec
from jaxflow.layers import (
    box_head,
    non_local,
    representation_flow,
    resnet3d,
    resnet3d_keys,
)

Indices = tuple[tuple[spec.Count, ...], ...]
FAST_CHANNELS = {"rgb": 3, "gray": 1, "time_difference": 1, "flow": 2, "half_size": 3}
LATERALS = ("convolution", "sample", "channels", "none")
SAMPLINGS = ("linspace", "stride")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a SlowFast network.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the head's window is a 32nd of it.
        head_mode: "logit_mean" returns logits; "softmax_mean" and, for several labels
            at once, "sigmoid_mean" return, in evaluation, probabilities averaged over
            positions.
        regions: "none" is a classifier of clips. Others score boxes: res5 is dilated
            instead of strided, and a `layers.box_head.BoxHead` reads the boxes as the
            "legacy" or "aligned" form of `ops.roi_align`.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames, at 30 frames a second.
        alpha: Frames of the fast pathway to one of the slow pathway.
        beta_inv: Channels of the slow pathway to one of the fast pathway, rounded.
        blocks: Bottlenecks in res2 to res5.
        temporal_blocks: How many of the slow pathway's, from the first, have a window
            of 3 frames.
        fast_temporal_blocks: The same for the fast pathway.
        lateral: How fast features join the slow ones: "convolution" of stride alpha
            in time; "sample", every alpha-th frame; "channels", alpha frames stacked;
            "none".
        lateral_window: Size in time of the lateral convolution.
        lateral_ratio: Its output channels to one of its input.
        sampling: Slow frames: "linspace" as PySlowFast and pytorchvideo, "stride" as
            mmaction2.
        fast_input: What the fast pathway sees.
        non_local_after: For res2 to res5, bottlenecks of the slow pathway that a
            non-local block follows.
        non_local_form: Which non-local function.
        non_local_pool: Max-pool inside the non-local blocks.
        dropout_rate: Before the classifier.
        zero_init: Whether residual branches start at 0.
        width: Channels behind the stem of the slow pathway.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    regions: box_head.Regions = "none"
    num_frames: int = 32
    frame_stride: int = 2
    alpha: int = 8
    beta_inv: int = 8
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    temporal_blocks: tuple[spec.Count, ...] = (0, 0, 23, 3)
    fast_temporal_blocks: tuple[spec.Count, ...] = (3, 4, 23, 3)
    lateral: Literal["convolution", "sample", "channels", "none"] = "convolution"
    lateral_window: int = 5
    lateral_ratio: int = 2
    sampling: Literal["linspace", "stride"] = "linspace"
    fast_input: Literal["rgb", "gray", "time_difference", "flow", "half_size"] = "rgb"
    non_local_after: Indices = ((), (), (), ())
    non_local_form: non_local.Form = "dot_product"
    non_local_pool: tuple[int, int, int] = (1, 2, 2)
    dropout_rate: spec.Share = 0.5
    zero_init: bool = True
    width: int = 64

    def __post_init__(self):
        spec.check_config(self)


def slow_frames(
    num_frames: int, alpha: int, sampling: Literal["linspace", "stride"] = "linspace"
) -> np.ndarray:
    """Returns the indices of the frames that the slow pathway sees.

    Args:
        num_frames: Frames T of the clip.
        alpha: Frames to one slow frame; there are ceil(T / alpha) slow ones.
        sampling: "linspace" spreads them from the first frame to the last, rounded
            down; "stride" takes every alpha-th.

    Raises:
        ValueError: If there is no such sampling.
    """
    _checks.one_of("sampling", sampling, SAMPLINGS)
    count = -(-num_frames // alpha)
    if sampling == "stride":
        return np.arange(count) * alpha
    return np.arange(count) * (num_frames - 1) // max(count - 1, 1)


def fast_input(clip: jax.Array, kind: str) -> jax.Array:
    """Derives the input of the fast pathway from a clip.

    Args:
        clip: (B, T, H, W, 3), RGB in [0, 1].
        kind: "rgb"; "gray", the luma; "time_difference", luma minus that of the frame
            before (0 at the first); "flow", pixels that each frame moves to the next
            (0 at the last) by 10 TV-L1 iterations, divided by 20; "half_size", RGB at
            half the height and width.

    Returns:
        (B, T, H', W', C), normalised.

    Raises:
        ValueError: If there is no such kind.
    """
    _checks.one_of("fast_input", kind, FAST_CHANNELS)
    if kind == "rgb":
        return resnet3d.standardise(clip)
    if kind == "half_size":
        height, width = clip.shape[-3:-1]
        size = (-(-height // 2), -(-width // 2))
        return resnet3d.standardise(ops.resize(clip, size))
    luma = clip @ jnp.array([[0.299], [0.587], [0.114]], clip.dtype)
    if kind == "gray":
        return resnet3d.standardise(luma)
    if kind == "time_difference":
        step = jnp.diff(luma, axis=1, prepend=luma[:, :1])
        return step / jnp.asarray(0.225, clip.dtype)
    flow = representation_flow.tvl1(255 * luma[:, :-1], 255 * luma[:, 1:])
    flow = jnp.concatenate(flow, axis=-1) / 20
    return jnp.pad(flow, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))


def _windows(blocks, temporal) -> list[list[int]]:
    """Returns the window in time of every bottleneck: 3 for the first of a stage."""
    return [
        [3] * min(moving, count) + [1] * (count - min(moving, count))
        for moving, count in zip(temporal, blocks, strict=True)
    ]


def _lateral_ratio(config: Config) -> int:
    """Returns the channels that join the slow pathway, to one of the fast pathway."""
    return {
        "convolution": config.lateral_ratio,
        "sample": 1,
        "channels": config.alpha,
        "none": 0,
    }[config.lateral]


def _lateral(features: int, config: Config, *, rngs: nnx.Rngs) -> resnet3d.ConvNorm:
    """Makes a convolution that brings fast features to the slow pathway's times."""
    return resnet3d.ConvNorm(
        features,
        config.lateral_ratio * features,
        (config.lateral_window, 1, 1),
        strides=(config.alpha, 1, 1),
        rngs=rngs,
    )


class Model(nnx.Module):
    """SlowFast: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "slow.res5"
        self.deterministic = True
        fast_width = round(config.width / config.beta_inv)
        fast_features = [fast_width * scale for scale in (1, 4, 8, 16)]
        ratio = _lateral_ratio(config)
        self.slow = resnet3d.Pathway(
            3,
            width=config.width,
            windows=_windows(config.blocks, config.temporal_blocks),
            extra_features=[ratio * features for features in fast_features],
            dilate_last=config.regions != "none",
            non_local_after=config.non_local_after,
            form=config.non_local_form,
            pool=config.non_local_pool,
            zero_init=config.zero_init,
            rngs=rngs,
        )
        self.fast = resnet3d.Pathway(
            FAST_CHANNELS[config.fast_input],
            width=fast_width,
            stem_window=5,
            windows=_windows(config.blocks, config.fast_temporal_blocks),
            dilate_last=config.regions != "none",
            zero_init=config.zero_init,
            rngs=rngs,
        )
        if config.lateral == "convolution":
            self.laterals = nnx.data(
                [_lateral(features, config, rngs=rngs) for features in fast_features]
            )
        self.head = box_head.head_of(
            32 * (config.width + fast_width), config, rngs=rngs
        )

    def __call__(
        self,
        clip: jax.Array,
        boxes: jax.Array | None = None,
        *,
        fast: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Classifies a clip, or boxes in it.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1]: all frames of the fast pathway.
            boxes: If `config.regions` is not "none": (K, 5), each example, x1, y1, x2
                and y2 in pixels of the clip; see `layers.box_head.check_boxes`. None
                scores each whole frame.
            fast: What the fast pathway sees instead of what `config.fast_input`
                derives from `clip`: (B, T, H', W', C), normalised; for instance the
                flow of a better estimator.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes), or (K, num_classes) for boxes: logits, float32; in
            evaluation probabilities if `config.head_mode` is not "logit_mean". Rows of
            boxes that pad are 0.
        """
        maps = self.features(clip, fast=fast)
        return box_head.scored(self.head, maps, clip, boxes, key)

    def features(
        self, clip: jax.Array, *, fast: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the last maps of the slow and the fast pathway."""
        clip = spec.check_clip(clip)
        frames = slow_frames(clip.shape[1], self.config.alpha, self.config.sampling)
        slow = resnet3d.standardise(clip[:, frames])
        slow = self.slow.start(slow.astype(self.dtype))
        if fast is None:
            fast = fast_input(clip, self.config.fast_input)
        fast = self.fast.start(fast.astype(self.dtype))
        for index in range(4):
            slow = self.slow.stage(index + 2, self._joined(index, slow, fast))
            fast = self.fast.stage(index + 2, fast)
        return slow, fast

    def _joined(self, index: int, slow: jax.Array, fast: jax.Array) -> jax.Array:
        """Appends fast features to the slow ones."""
        alpha = self.config.alpha
        if self.config.lateral == "none":
            return slow
        if self.config.lateral == "convolution":
            lateral = self.laterals[index](fast)
        elif self.config.lateral == "sample":
            lateral = fast[:, ::alpha]
        else:
            missing = -fast.shape[1] % alpha
            fast = jnp.pad(fast, ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)))
            batch, time, height, width, features = fast.shape
            split = fast.reshape(batch, time // alpha, alpha, height, width, features)
            lateral = jnp.moveaxis(split, 2, -2).reshape(
                *slow.shape[:2], height, width, alpha * features
            )
        if lateral.shape[2:4] != slow.shape[2:4]:
            height, width = slow.shape[2:4]
            lateral = ops.resize(lateral, (height, width), method="nearest")
        return jnp.concatenate([slow, lateral], axis=-1)


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=8,
    alpha=4,
    beta_inv=2,
    blocks=(1, 1, 1, 1),
    width=8,
    non_local_after=((), (0,), (), ()),
    zero_init=False,
)

_R101 = resnet3d.DEPTHS[101]
_NON_LOCAL_R50 = ((), (1, 3), (1, 3, 5), ())
_NON_LOCAL_R101 = ((), (), (6, 13, 20), ())
_8X8_R101 = Config(alpha=4, blocks=_R101)
_8X8_R101_50_101 = dataclasses.replace(_8X8_R101, temporal_blocks=(0, 0, 6, 3))
_8X8_R101_50_50 = dataclasses.replace(
    _8X8_R101_50_101, fast_temporal_blocks=(3, 4, 6, 3)
)

_OF_AVA: dict[str, Any] = {
    "num_classes": 80,
    "head_mode": "sigmoid_mean",
    "regions": "legacy",
}

VARIANTS = {
    "slowfast_4x16_r50": Config(),
    "slowfast_8x8_r50": Config(alpha=4, lateral_window=7),
    "slowfast_8x8_r101": _8X8_R101,
    "slowfast_8x8_r101_50_50": _8X8_R101_50_50,
    "slowfast_8x8_r101_50_101": _8X8_R101_50_101,
    "slowfast_16x8_r101_50_50": dataclasses.replace(_8X8_R101_50_50, num_frames=64),
    "slowfast_nln_4x16_r50": Config(non_local_after=_NON_LOCAL_R50),
    "slowfast_nln_8x8_r50": Config(alpha=4, non_local_after=_NON_LOCAL_R50),
    # With the pool of 2 frames the paper's multiply-adds come out, with that of 1 frame
    # the ones of the configuration file that PySlowFast ships.
    "slowfast_nln_8x8_r101_50_50": dataclasses.replace(
        _8X8_R101_50_50,
        non_local_after=_NON_LOCAL_R101,
        non_local_pool=(2, 2, 2),
    ),
    "slowfast_nln_16x8_r101_50_50": dataclasses.replace(
        _8X8_R101_50_50,
        num_frames=64,
        non_local_after=_NON_LOCAL_R101,
        non_local_pool=(2, 2, 2),
    ),
    # pytorchvideo's network for AVA, and those of PySlowFast's Caffe2 models.
    "slowfast_8x8_r50_ava": Config(alpha=4, lateral_window=7, **_OF_AVA),
    "slowfast_8x8_r101_50_50_ava": dataclasses.replace(_8X8_R101_50_50, **_OF_AVA),
    "slowfast_nln_16x8_r101_50_50_ava": dataclasses.replace(
        _8X8_R101_50_50,
        num_frames=64,
        non_local_after=_NON_LOCAL_R101,
        non_local_pool=(2, 2, 2),
        **_OF_AVA,
    ),
    "slowfast_4x16_r50_gray": Config(fast_input="gray"),
    "slowfast_4x16_r50_time_difference": Config(fast_input="time_difference"),
    "slowfast_4x16_r50_flow": Config(fast_input="flow"),
    "slowfast_4x16_r50_half_size": Config(
        fast_input="half_size", beta_inv=4, lateral_ratio=1
    ),
}

WEIGHTS = {
    "slowfast_4x16_r50/kinetics400": resnet3d_keys.weights(
        "SLOWFAST_4x16_R50.pyth", "pytorchvideo", 34_480_216, 75.34
    ),
    "slowfast_4x16_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "SLOWFAST_4x16_R50.pkl", "caffe2", 34_480_216, 75.6
    ),
    "slowfast_8x8_r50/kinetics400": resnet3d_keys.weights(
        "SLOWFAST_8x8_R50.pyth", "pytorchvideo", 34_566_488, 76.94
    ),
    "slowfast_8x8_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "SLOWFAST_8x8_R50.pkl", "caffe2", 34_566_488, 77.0
    ),
    "slowfast_8x8_r101/kinetics400": resnet3d_keys.weights(
        "SLOWFAST_8x8_R101.pyth", "pytorchvideo", 62_826_968, 77.9
    ),
    "slowfast_16x8_r101_50_50/kinetics400": resnet3d_keys.weights(
        "SLOWFAST_16x8_R101_50_50.pyth", "pytorchvideo", 53_774_808, 78.7
    ),
    "slowfast_8x8_r50_ava/ava": resnet3d_keys.weights(
        "SLOWFAST_8x8_R50_DETECTION.pyth",
        "pytorchvideo",
        33_828_888,
        24.67,
        data="ava",
        metric="ava22_map",
    ),
}

_PAPER = "Feichtenhofer et al., ICCV 2019"
_ZOO = "pytorchvideo's model zoo"
_WITH_NORMS = "the source also counts 5 operations for each normalised element"
_ABLATION = f"{_PAPER}, ablations"
PUBLISHED = {
    "slowfast_4x16_r50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="36.1",
        parameters="34.48",
        crop_size=256,
    ),
    "slowfast_8x8_r50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="65.7",
        parameters="34.57",
        crop_size=256,
    ),
    "slowfast_8x8_r101": spec.Published(
        source=_ZOO,
        multiply_adds="127.20",
        parameters="62.83",
        reason=_WITH_NORMS,
        crop_size=256,
    ),
    "slowfast_8x8_r101_50_50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="106",
        crop_size=256,
    ),
    "slowfast_16x8_r101_50_50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="213",
        parameters="53.77",
        crop_size=256,
    ),
    "slowfast_8x8_r50_ava": spec.Published(
        source=f"{_ZOO}, on AVA", parameters="33.82", crop_size=256
    ),
    "slowfast_nln_8x8_r50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="80.8",
        reason="no configuration that its authors published gives that; this is the "
        "one of PySlowFast, with non-local blocks in res3 and res4",
        crop_size=256,
    ),
    "slowfast_nln_8x8_r101_50_50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="116",
        crop_size=256,
    ),
    "slowfast_nln_16x8_r101_50_50": spec.Published(
        source=f"{_PAPER}, Table 2",
        multiply_adds="234",
        crop_size=256,
    ),
    "slowfast_4x16_r50_gray": spec.Published(
        source=_ABLATION, multiply_adds="26.1", crop_size=224
    ),
    "slowfast_4x16_r50_time_difference": spec.Published(
        source=_ABLATION,
        multiply_adds="26.2",
        crop_size=224,
        reason="a difference of two frames has one channel, as gray has, for which the "
        "source says 26.1",
    ),
    "slowfast_4x16_r50_flow": spec.Published(
        source=_ABLATION, multiply_adds="26.9", crop_size=224
    ),
    "slowfast_4x16_r50_half_size": spec.Published(
        source=_ABLATION,
        multiply_adds="26.3",
        crop_size=224,
        reason="the source does not say how wide the lateral connections are; with a "
        "ratio of 1 this is the nearest",
    ),
}

KEYS = {
    "pyslowfast": resnet3d_keys.pyslowfast_keys("slow", "fast"),
    "pytorchvideo": resnet3d_keys.pytorchvideo_keys("slow", "fast", projection=6),
    "caffe2": resnet3d_keys.caffe2_keys("slow", "fast"),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
