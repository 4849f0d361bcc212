"""One-pathway 3-D ResNets: Slow-only, Fast-only, C2D, I3D, with or without non-local.

Wang, Girshick, Gupta, He, "Non-local Neural Networks" (CVPR 2018), Table 1 (C2D, I3D)
and Sec. 3; Feichtenhofer, Fan, Malik, He, "SlowFast Networks for Video Recognition"
(ICCV 2019), Sec. 4.2 (Slow-only, Fast-only).

    bottleneck, stages      layers.resnet3d
    non-local block         layers.non_local
    boxes of AVA            layers.box_head.BoxHead, regions
    the network             Model

They differ in the temporal windows of the convolutions, in the max-pool over time
behind res2 (C2D and I3D), and in width (Fast-only). Weights: PySlowFast and
pytorchvideo (Apache-2.0), trained on Kinetics-400 or AVA; or those of torchvision's
ResNets (BSD-3-Clause), trained on images, which are inflated (`num_classes=1000`).

Deviations: none. The head pools over the whole time of a clip, which may have any
length; the original code fixes it.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import box_head, non_local, resnet3d, resnet3d_keys

Windows = tuple[tuple[int, ...], ...]
Indices = tuple[tuple[spec.Count, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a one-pathway 3-D ResNet.

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
        blocks: Bottlenecks in res2 to res5.
        width: Channels behind the stem.
        stem_window: Size in time of the stem.
        windows: For res2 to res5, sizes in time of the bottlenecks, cycled.
        temporal_pool: Whether res2 is followed by a max-pool over pairs of frames.
        non_local_after: For res2 to res5, bottlenecks that a non-local block follows.
        non_local_form: Which non-local function.
        non_local_pool: Max-pool inside the non-local blocks.
        dropout_rate: Before the classifier.
        zero_init: Whether residual branches start at 0.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    regions: box_head.Regions = "none"
    num_frames: int = 8
    frame_stride: int = 8
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    width: int = 64
    stem_window: int = 1
    windows: Windows = ((1,), (1,), (3,), (3,))
    temporal_pool: bool = False
    non_local_after: Indices = ((), (), (), ())
    non_local_form: non_local.Form = "embedded_gaussian"
    non_local_pool: tuple[int, int, int] = (1, 2, 2)
    dropout_rate: spec.Share = 0.5
    zero_init: bool = True

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """A 3-D ResNet of bottlenecks: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "slow.res5"
        self.deterministic = True
        self.slow = resnet3d.Pathway(
            3,
            width=config.width,
            stem_window=config.stem_window,
            windows=[
                [cycle[index % len(cycle)] for index in range(blocks)]
                for cycle, blocks in zip(config.windows, config.blocks, strict=True)
            ],
            dilate_last=config.regions != "none",
            non_local_after=config.non_local_after,
            form=config.non_local_form,
            pool=config.non_local_pool,
            zero_init=config.zero_init,
            rngs=rngs,
        )
        self.head = box_head.head_of(32 * config.width, config, rngs=rngs)

    def __call__(
        self,
        clip: jax.Array,
        boxes: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Classifies a clip, or boxes in it.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].
            boxes: If `config.regions` is not "none": (K, 5), each example, x1, y1, x2
                and y2 in pixels of the clip; see `layers.box_head.check_boxes`. None
                scores each whole frame.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes), or (K, num_classes) for boxes: logits, float32; in
            evaluation probabilities if `config.head_mode` is not "logit_mean". Rows of
            boxes that pad are 0.
        """
        maps = (self.features(clip),)
        return box_head.scored(self.head, maps, clip, boxes, key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last stage's map, (B, T', H', W', C)."""
        clip = spec.check_clip(clip)
        x = self.slow.start(resnet3d.standardise(clip).astype(self.dtype))
        x = self.slow.stage(2, x)
        if self.config.temporal_pool and x.shape[1] > 1:
            x = ops.max_pool(x, (2, 1, 1))
        for number in (3, 4, 5):
            x = self.slow.stage(number, x)
        return x


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=4,
    blocks=(1, 1, 1, 1),
    width=4,
    temporal_pool=True,
    non_local_after=((), (0,), (), ()),
    zero_init=False,
)

_R101 = resnet3d.DEPTHS[101]
_I3D = ((3,), (3, 1), (3, 1), (1, 3))
_NON_LOCAL_R50 = ((), (1, 3), (1, 3, 5), ())

VARIANTS = {
    "slow_r50": Config(),
    "slow_4x16_r50": Config(num_frames=4, frame_stride=16),
    # Boxes of AVA: classes are its label numbers less 1.
    "slow_4x16_r50_ava": Config(
        num_frames=4,
        frame_stride=16,
        num_classes=80,
        head_mode="sigmoid_mean",
        regions="legacy",
    ),
    # Temporal windows only in as many blocks as ResNet-50 has.
    "slow_16x8_r101_50_50": Config(
        num_frames=16,
        blocks=_R101,
        windows=((1,), (1,), (3,) * 6 + (1,) * 17, (3,)),
    ),
    "slow_nln_r50": Config(
        non_local_after=_NON_LOCAL_R50, non_local_form="dot_product"
    ),
    "fast_r50": Config(
        num_frames=32, frame_stride=2, width=8, stem_window=5, windows=((3,),) * 4
    ),
    "c2d_r50": Config(windows=((1,),) * 4, temporal_pool=True),
    "c2d_nopool_r50": Config(windows=((1,),) * 4),
    "i3d_r50": Config(stem_window=5, windows=_I3D, temporal_pool=True),
    "i3d_nopool_r50": Config(stem_window=5, windows=_I3D),
    "i3d_nln_r50": Config(
        stem_window=5,
        windows=_I3D,
        temporal_pool=True,
        non_local_after=_NON_LOCAL_R50,
    ),
}

WEIGHTS = {
    "slow_r50/kinetics400": resnet3d_keys.weights(
        "SLOW_8x8_R50.pyth", "pytorchvideo", 32_454_096, 74.58
    ),
    "slow_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "SLOWONLY_8x8_R50.pkl", "caffe2", 32_454_096, 74.8
    ),
    "slow_4x16_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "SLOWONLY_4x16_R50.pkl", "caffe2", 32_454_096, 72.7
    ),
    "slow_4x16_r50_ava/ava": resnet3d_keys.weights(
        "SLOW_4x16_R50_DETECTION.pyth",
        "pytorchvideo",
        31_798_416,
        19.5,
        data="ava",
        metric="ava22_map",
    ),
    "c2d_r50/kinetics400": resnet3d_keys.weights(
        "C2D_8x8_R50.pyth", "pytorchvideo_pool", 24_327_632, 71.46
    ),
    "c2d_nopool_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "C2D_NOPOOL_8x8_R50.pkl", "caffe2", 24_327_632, 67.2
    ),
    "i3d_r50/kinetics400": resnet3d_keys.weights(
        "I3D_8x8_R50.pyth", "pytorchvideo_pool", 28_043_472, 73.27
    ),
    "i3d_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "I3D_8x8_R50.pkl", "caffe2", 28_043_472, 73.5
    ),
    "i3d_nln_r50/kinetics400_caffe2": resnet3d_keys.weights(
        "I3D_NLN_8x8_R50.pkl", "caffe2", 35_401_936, 74.0
    ),
}

_PAPER = "Feichtenhofer et al., ICCV 2019"
_ZOO = "pytorchvideo's model zoo"
_WITH_NORMS = "the source also counts 5 operations for each normalised element"
PUBLISHED = {
    "slow_r50": spec.Published(
        source=_ZOO, parameters="32.45", multiply_adds="54.52", crop_size=256
    ),
    "slow_4x16_r50": spec.Published(
        source=f"{_PAPER}, ablations, and {_ZOO}",
        parameters="32.45",
        multiply_adds="20.9",
    ),
    "slow_4x16_r50_ava": spec.Published(
        source=f"{_ZOO}, on AVA",
        parameters="31.78",
        crop_size=256,
        reason="the number of its own code is 31,798,416",
    ),
    "slow_16x8_r101_50_50": spec.Published(
        source=f"{_PAPER}, on Charades", multiply_adds="187", crop_size=256
    ),
    "fast_r50": spec.Published(
        source=f"{_PAPER}, ablations",
        multiply_adds="4.9",
        reason="with the windows of 3 frames of the paper's Table 1; with 1 frame in "
        "res2 and res3 it would be 4.91",
    ),
    "c2d_r50": spec.Published(
        source=_ZOO,
        parameters="24.33",
        multiply_adds="25.89",
        crop_size=256,
        reason=_WITH_NORMS,
    ),
    "i3d_r50": spec.Published(
        source=_ZOO,
        parameters="28.04",
        multiply_adds="37.53",
        crop_size=256,
        reason=_WITH_NORMS,
    ),
    "i3d_nopool_r50": spec.Published(
        source=f"{_PAPER}, ablations", multiply_adds="44.9"
    ),
    "i3d_nln_r50": spec.Published(
        source="mmaction2's README", parameters="35.4", crop_size=256
    ),
}

KEYS = {
    "pyslowfast": resnet3d_keys.pyslowfast_keys("slow"),
    "pytorchvideo": resnet3d_keys.pytorchvideo_keys("slow", projection=5),
    # The pool behind res2 is a block of its own there, in C2D and I3D.
    "pytorchvideo_pool": resnet3d_keys.pytorchvideo_keys(
        "slow", stages=(1, 3, 4, 5), projection=6
    ),
    "caffe2": resnet3d_keys.caffe2_keys("slow"),
    # A 2-D ResNet, trained on images: its kernels are inflated.
    "torchvision_2d": resnet3d_keys.image_keys(
        "slow.stem", [f"slow.res{number}" for number in range(2, 6)], "abc"
    ),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
