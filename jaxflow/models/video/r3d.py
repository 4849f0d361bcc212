"""R3D, MC3 and R(2+1)D: residual networks of two-convolution blocks.

Tran, Wang, Torresani, Ray, LeCun, Paluri, "A Closer Look at Spatiotemporal Convolutions
for Action Recognition" (CVPR 2018).

    residual block, Sec. 3.1      layers.basic3d.BasicBlock
    R(2+1)D, Sec. 3.5             layers.basic3d.Conv2Plus1D
    R3D, MC3, R(2+1)D, Fig. 1     Model

Weights: torchvision (BSD-3-Clause), trained on Kinetics-400.

Deviations: none. torchvision computes the middle channels of R(2+1)D once a block, the
paper's own code (VMZ) once a convolution, with epsilon 1e-3: both are here.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import spec
from jaxflow.layers import basic3d, resnet3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a network of two-convolution blocks.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips it is published for; any other runs.
        head_mode: "logit_mean" returns logits; "softmax_mean", in evaluation,
            probabilities. The whole map is averaged first.
        num_frames: Frames of the clips it is published for.
        frame_stride: Steps between those frames.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        blocks: Blocks in the four stages.
        kinds: Kind of the four stages' blocks.
        stem_middle: Middle channels of a split stem; 0 is a 3 x 7 x 7 convolution.
        width: Channels behind the stem.
        epsilon: Of the normalisations.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 112
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 1
    frame_rate: float | None = 15.0
    blocks: tuple[int, ...] = basic3d.DEPTHS[18]
    kinds: tuple[basic3d.Kind, ...] = ("3d",) * 4
    stem_middle: spec.Count = 0
    width: int = 64
    epsilon: float = 1e-5
    dropout_rate: spec.Share = 0.0

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """A residual network of two-convolution blocks: a clip to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = f"stages.{len(config.blocks) - 1}.{config.blocks[-1] - 1}"
        self.deterministic = True
        if config.stem_middle:
            self.stem = basic3d.Conv2Plus1D(
                3,
                config.stem_middle,
                config.width,
                window=7,
                strides=(1, 2, 2),
                epsilon=config.epsilon,
                rngs=rngs,
            )
        else:
            self.stem = resnet3d.ConvNorm(
                3,
                config.width,
                (3, 7, 7),
                strides=(1, 2, 2),
                epsilon=config.epsilon,
                rngs=rngs,
            )
        self.stages = nnx.data(
            basic3d.stages(
                config.width,
                config.blocks,
                config.kinds,
                epsilon=config.epsilon,
                rngs=rngs,
            )
        )
        self.head = resnet3d.Head(
            config.width * 2 ** (len(config.blocks) - 1),
            config.num_classes,
            window=None,
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".
        """
        return self.head(self.features(clip), key=key)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last stage's map, (B, T / 8, H / 16, W / 16, C)."""
        clip = spec.check_clip(clip)
        x = self.stem(resnet3d.standardise(clip).astype(self.dtype))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x


TINY = Config(
    num_classes=5, crop_size=32, num_frames=4, blocks=(1, 1), kinds=("3d",) * 2, width=4
)

_SPLIT = ("2plus1d",) * 4
_SPLIT_VMZ = ("2plus1d_per_convolution",) * 4
VARIANTS = {
    "r3d_18": Config(),
    "r3d_34": Config(blocks=basic3d.DEPTHS[34]),
    "mc3_18": Config(kinds=("3d", "2d", "2d", "2d")),
    "r2plus1d_18": Config(kinds=_SPLIT, stem_middle=45),
    "r2plus1d_18_vmz": Config(kinds=_SPLIT_VMZ, stem_middle=45, epsilon=1e-3),
    "r2plus1d_34_vmz": Config(
        kinds=_SPLIT_VMZ,
        stem_middle=45,
        epsilon=1e-3,
        blocks=basic3d.DEPTHS[34],
        num_frames=32,
    ),
}


def _weights(file, num_params, top1, dialect="torchvision"):
    return spec.Weights(
        file=file,
        source="https://download.pytorch.org/models (torchvision)",
        licence="BSD-3-Clause",
        dialect=dialect,
        url=f"https://download.pytorch.org/models/{file}",
        sha256=file.rpartition("-")[2].removesuffix(".pth"),
        num_params=num_params,
        metrics={"kinetics400_top1": top1},
        citation="Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018",
    )


WEIGHTS = {
    "r3d_18/kinetics400": _weights("r3d_18-b3b3357e.pth", 33_371_472, 63.2),
    "mc3_18/kinetics400": _weights("mc3_18-a90a0ba3.pth", 11_695_440, 63.96),
    "r2plus1d_18/kinetics400": _weights(
        "r2plus1d_18-91a641e6.pth", 31_505_325, 67.463, "torchvision_2plus1d"
    ),
}

_TORCHVISION = "torchvision's documentation"
_VMZ = "https://github.com/facebookresearch/VMZ"
PUBLISHED = {
    "r3d_18": spec.Published(
        source=_TORCHVISION, parameters="33.371472", multiply_adds="40.697"
    ),
    "mc3_18": spec.Published(
        source=_TORCHVISION, parameters="11.695440", multiply_adds="43.343"
    ),
    "r2plus1d_18": spec.Published(
        source=_TORCHVISION, parameters="31.505325", multiply_adds="40.519"
    ),
    "r2plus1d_18_vmz": spec.Published(
        source=_VMZ, parameters="33.3", multiply_adds="41.5"
    ),
    "r2plus1d_34_vmz": spec.Published(
        source=f"{_VMZ}, and Feichtenhofer et al., ICCV 2019, Table 2",
        parameters="63.6",
        multiply_adds="152",
    ),
}

_NORM = "weight|bias|running_mean|running_var"


def _block_keys(split):
    """Returns the rows of the residual blocks; `split` ones are (2+1)D."""
    rows = []
    # Stages count from 1 there and from 0 here.
    for stage in range(4):
        theirs, ours = rf"layer{stage + 1}\.(\d+)", rf"stages.{stage}.\1"
        rows += [
            (rf"{theirs}\.downsample\.0\.weight", rf"{ours}.shortcut.conv.weight"),
            (rf"{theirs}\.downsample\.1\.({_NORM})", rf"{ours}.shortcut.norm.\2"),
        ]
        for number, name in ((1, "first"), (2, "second")):
            conv = rf"{theirs}\.conv{number}"
            inner = rf"{ours}.{name}"
            if split:
                rows += [
                    (rf"{conv}\.0\.0\.weight", rf"{inner}.spatial.conv.weight"),
                    (rf"{conv}\.0\.1\.({_NORM})", rf"{inner}.spatial.norm.\2"),
                    (rf"{conv}\.0\.3\.weight", rf"{inner}.temporal.conv.weight"),
                    (rf"{conv}\.1\.({_NORM})", rf"{inner}.temporal.norm.\2"),
                ]
            else:
                rows += [
                    (rf"{conv}\.0\.weight", rf"{inner}.conv.weight"),
                    (rf"{conv}\.1\.({_NORM})", rf"{inner}.norm.\2"),
                ]
    return rows


_HEAD = (r"fc\.(weight|bias)", r"head.projection.\1")
KEYS = {
    "torchvision": (
        (r"stem\.0\.weight", "stem.conv.weight"),
        (rf"stem\.1\.({_NORM})", r"stem.norm.\1"),
        *_block_keys(split=False),
        _HEAD,
    ),
    "torchvision_2plus1d": (
        (r"stem\.0\.weight", "stem.spatial.conv.weight"),
        (rf"stem\.1\.({_NORM})", r"stem.spatial.norm.\1"),
        (r"stem\.3\.weight", "stem.temporal.conv.weight"),
        (rf"stem\.4\.({_NORM})", r"stem.temporal.norm.\1"),
        *_block_keys(split=True),
        _HEAD,
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
