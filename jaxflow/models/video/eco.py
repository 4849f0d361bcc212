"""ECO: a 2-D network on every frame, and a 3-D one on what it sees in all of them.

Zolfaghari, Singh, Brox, "ECO: Efficient Convolutional Network for Online Video
Understanding" (ECCV 2018).

    2-D net (BN-Inception up to 3c), Sec. 3.1     Model.low, 96 channels at an 8th
    3-D net (ResNet-18's last stages), Sec. 3.1   Stage
    ECO Lite: 3-D net alone                       eco_lite
    ECO (full): beside it BN-Inception goes on,   eco
      and its mean over the frames is joined

Weights: the authors' (github.com/mzolfaghari/ECO-pytorch), for Kinetics;
they lie on Google Drive and no program can fetch them: pass the file. The table of keys
is that of their PyTorch code.

Deviations: the last maps are averaged whole, in windows of 7 x 7 there, which is the
same at 224 x 224. Before the classifier there is one dropout, of both parts.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv, norm, resnet3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of an ECO.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips it is published for; any other from 32 runs.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        num_frames: Frames of a clip: segments of the video.
        frame_stride: Steps between those frames, if another placement is asked for.
        placement: Where the frames of a video are; see `data.clips.clip_indices`.
        full: Whether BN-Inception goes on beside the 3-D net.
        width: Channels of the first convolution, of which all others are multiples.
        dropout_rate: Before the classifier.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 16
    frame_stride: int = 8
    placement: Literal["spread", "pyslowfast", "segments", "random", "dense"] = (
        "segments"
    )
    full: bool = True
    width: int = 64
    dropout_rate: spec.Share = 0.5

    def __post_init__(self):
        spec.check_config(self)
        if self.width % 2:
            raise ValueError(f"`width` must be even; got {self.width}")


class Row(NamedTuple):
    """Channels of one Inception block, for a width of 64.

    Attributes:
        one: Of the 1 x 1 branch; 0 for none.
        three: Reduction and output of the 3 x 3 branch.
        double: Reduction and output of the branch of two 3 x 3 convolutions.
        pool: Of the 1 x 1 convolution behind the pool; 0 leaves what is pooled.
        kind: How that branch pools.
    """

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pool: int
    kind: Literal["avg", "max"] = "avg"


# Without a 1 x 1 branch a block halves the size.
MIXED = {
    "mixed_3a": Row(64, (64, 64), (64, 96), 32),
    "mixed_3b": Row(64, (64, 96), (64, 96), 64),
    "mixed_3c": Row(0, (128, 160), (64, 96), 0, "max"),
    "mixed_4a": Row(224, (64, 96), (96, 128), 128),
    "mixed_4b": Row(192, (96, 128), (96, 128), 128),
    "mixed_4c": Row(160, (128, 160), (128, 160), 128),
    "mixed_4d": Row(96, (128, 192), (160, 192), 128),
    "mixed_4e": Row(0, (128, 192), (192, 256), 0, "max"),
    "mixed_5a": Row(352, (192, 320), (160, 224), 128),
    "mixed_5b": Row(352, (192, 320), (192, 224), 128, "max"),
}


class ConvNorm(nnx.Module):
    """A 2-D convolution with bias, batch normalisation and ReLU.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        window: Side of the window.
        strides: Step in y and x.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        window: int,
        *,
        strides: int = 1,
        rngs: nnx.Rngs,
    ):
        self.conv = conv.Conv(
            in_features, out_features, window, strides=strides, rngs=rngs
        )
        self.norm = norm.BatchNorm(out_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Filters `x`, (*B, H, W, C_in)."""
        return jax.nn.relu(self.norm(self.conv(x)))


class Inception(nnx.Module):
    """A block of BN-Inception: four branches, or three that halve the size.

    Args:
        in_features: Channels of the input.
        row: Channels, scaled.
        tap_only: Whether there is nothing but what `tap` needs.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, in_features: int, row: Row, *, tap_only: bool = False, rngs: nnx.Rngs
    ):
        self.kind = row.kind
        self.halves = not row.one
        self.tap_only = tap_only
        unit = functools.partial(ConvNorm, rngs=rngs)
        last = 2 if self.halves else 1
        self.double_reduce = unit(in_features, row.double[0], 1)
        self.double_1 = unit(row.double[0], row.double[1], 3)
        self.one: Any = nnx.data(None)
        self.pool_proj: Any = nnx.data(None)
        if tap_only:
            return
        self.double_2 = unit(row.double[1], row.double[1], 3, strides=last)
        self.three_reduce = unit(in_features, row.three[0], 1)
        self.three = unit(row.three[0], row.three[1], 3, strides=last)
        if row.one:
            self.one = unit(in_features, row.one, 1)
            self.pool_proj = unit(in_features, row.pool, 1)

    def tap(self, x: jax.Array) -> jax.Array:
        """Returns what the branch of two convolutions has after the first."""
        return self.double_1(self.double_reduce(x))

    def __call__(self, x: jax.Array, tapped: jax.Array | None = None) -> jax.Array:
        """Transforms `x`, (*B, H, W, C_in); `tapped` is `tap(x)`, if it is there."""
        if self.tap_only:
            raise ValueError("a block with `tap_only` has no output but `tap`")
        tapped = self.tap(x) if tapped is None else tapped
        branches = [self.three(self.three_reduce(x)), self.double_2(tapped)]
        if self.one is None:
            # As many as the convolutions leave, of odd sizes, too.
            odd = [(0, size % 2) for size in x.shape[-3:-1]]
            branches.append(ops.max_pool(x, 3, strides=2, padding=odd, ceil_mode=True))
        else:
            pool = ops.avg_pool if self.kind == "avg" else ops.max_pool
            pooled = pool(x, 3, strides=1, padding=1)
            branches = [self.one(x), *branches, self.pool_proj(pooled)]
        return jnp.concatenate(branches, axis=-1)


class Stage(nnx.Module):
    """Two residual units of the 3-D net, whose sums are normalised afterwards.

    Args:
        in_features: Channels of the input.
        features: Channels of the output.
        halves: Whether the first unit halves time and size; or else it is one
            convolution without a shortcut.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, in_features: int, features: int, *, halves: bool, rngs: nnx.Rngs
    ):
        filters = functools.partial(conv.Conv3d, kernel_size=3, rngs=rngs)
        self.a_1: Any = nnx.data(None)
        self.a_1_norm: Any = nnx.data(None)
        self.down: Any = nnx.data(None)
        if halves:
            self.a_1 = filters(in_features, features, strides=2)
            self.a_1_norm = norm.BatchNorm(features)
            self.down = filters(in_features, features, strides=2)
        self.a_2 = filters(features if halves else in_features, features)
        self.a_norm = norm.BatchNorm(features)
        self.b_1 = filters(features, features)
        self.b_1_norm = norm.BatchNorm(features)
        self.b_2 = filters(features, features)
        self.b_norm = norm.BatchNorm(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C_in)."""
        if self.a_1 is None:
            total = self.a_2(x)
        else:
            inner = jax.nn.relu(self.a_1_norm(self.a_1(x)))
            total = self.a_2(inner) + self.down(x)
        x = jax.nn.relu(self.a_norm(total))
        inner = jax.nn.relu(self.b_1_norm(self.b_1(x)))
        return jax.nn.relu(self.b_norm(total + self.b_2(inner)))


class Model(nnx.Module):
    """ECO: the frames of a whole video to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32
    mixed_3a: Inception
    mixed_3b: Inception
    mixed_3c: Inception

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "res5"
        self.deterministic = True

        def scaled(count):
            return count * config.width // 64

        self.conv1 = ConvNorm(3, scaled(64), 7, strides=2, rngs=rngs)
        self.conv2_reduce = ConvNorm(scaled(64), scaled(64), 1, rngs=rngs)
        self.conv2 = ConvNorm(scaled(64), scaled(192), 3, rngs=rngs)
        features = scaled(192)
        for name, row in MIXED.items():
            if name > "mixed_3c" and not config.full:
                break
            row = Row(
                scaled(row.one),
                (scaled(row.three[0]), scaled(row.three[1])),
                (scaled(row.double[0]), scaled(row.double[1])),
                scaled(row.pool),
                row.kind,
            )
            tap_only = name == "mixed_3c" and not config.full
            block = Inception(features, row, tap_only=tap_only, rngs=rngs)
            setattr(self, name, block)
            rest = row.pool if row.one else features
            features = row.one + row.three[1] + row.double[1] + rest
        self.res3 = Stage(scaled(96), scaled(128), halves=False, rngs=rngs)
        self.res4 = Stage(scaled(128), scaled(256), halves=True, rngs=rngs)
        self.res5 = Stage(scaled(256), scaled(512), halves=True, rngs=rngs)
        self.head = resnet3d.Head(
            scaled(512) + (features if config.full else 0),
            config.num_classes,
            window=None,
            mode=config.head_mode,
            dropout_rate=config.dropout_rate,
            rngs=rngs,
        )

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies the frames of a video.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1], at least 32 x 32: its segments.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` asks for them.
        """
        before, tapped = self.low(clip)
        last = self.res5(self.res4(self.res3(tapped)))
        if not self.config.full:
            return self.head(last, key=key)
        x = self.mixed_3c(before, tapped)
        for name in MIXED:
            if name > "mixed_3c":
                x = getattr(self, name)(x)
        return self.head(x, last, key=key)

    def low(self, clip: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the input of block 3c, and what the 3-D net is given of it.

        Both are (B, T, H / 8, W / 8, C), of every frame for itself.
        """
        clip = spec.check_clip(clip, minimum=(1, 32, 32))
        mean = jnp.array([104.0, 117.0, 128.0], clip.dtype)[None, None, None, None]
        x = (255 * clip[..., ::-1] - mean).astype(self.dtype)
        x = ops.max_pool(self.conv1(x), 3, strides=2, ceil_mode=True)
        x = self.conv2(self.conv2_reduce(x))
        x = ops.max_pool(x, 3, strides=2, ceil_mode=True)
        x = self.mixed_3b(self.mixed_3a(x))
        return x, self.mixed_3c.tap(x)


TINY = Config(num_classes=5, crop_size=64, num_frames=4, full=False, width=4)

VARIANTS = {"eco": Config(), "eco_lite": Config(full=False, dropout_rate=0.3)}

PUBLISHED = {
    "eco": spec.Published(
        source="Lin et al., TSM, ICCV 2019, Table 2 (ECO, 16 frames)",
        parameters="47.5",
        multiply_adds="64",
    ),
}

_NORM = "weight|bias|running_mean|running_var"
_START = r"(?:module\.)?(?:base_model\.)?"
_UNITS = {
    r"conv1_7x7_s2": "conv1",
    r"conv2_3x3_reduce": "conv2_reduce",
    r"conv2_3x3": "conv2",
}
_BRANCHES = {
    "1x1": "one",
    "3x3_reduce": "three_reduce",
    "3x3": "three",
    "double_3x3_reduce": "double_reduce",
    "double_3x3_1": "double_1",
    "double_3x3_2": "double_2",
    "pool_proj": "pool_proj",
}
KEYS = {
    "original": (
        *(
            row
            for theirs, ours in _UNITS.items()
            for row in (
                (rf"{_START}{theirs}\.(weight|bias)", rf"{ours}.conv.\1"),
                (rf"{_START}{theirs}_bn\.({_NORM})", rf"{ours}.norm.\1"),
            )
        ),
        *(
            row
            for theirs, ours in _BRANCHES.items()
            for start in (rf"{_START}inception_(\d[a-e])_{theirs}",)
            for row in (
                (rf"{start}\.(weight|bias)", rf"mixed_\1.{ours}.conv.\2"),
                (rf"{start}_bn\.({_NORM})", rf"mixed_\1.{ours}.norm.\2"),
            )
        ),
        (rf"{_START}res(\d)([ab])_([12])\.(weight|bias)", r"res\1.\2_\3.\4"),
        (rf"{_START}res(\d)([ab])_1_bn\.({_NORM})", r"res\1.\2_1_norm.\3"),
        (rf"{_START}res(\d)([ab])_bn\.({_NORM})", r"res\1.\2_norm.\3"),
        (rf"{_START}res(\d)a_down\.(weight|bias)", r"res\1.down.\2"),
        (rf"{_START}(?:new_fc|fc_final)\.(weight|bias)", r"head.projection.\1"),
    )
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    keys=KEYS,
    # One branch of the code has no biases in its 3-D convolutions.
    optional=(r"res\d\.(?:[ab]_[12]|down)\.bias",),
    published=PUBLISHED,
)
