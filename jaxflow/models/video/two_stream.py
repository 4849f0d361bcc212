"""Two streams: a network on frames and a network on stacks of flow, and how they meet.

Simonyan and Zisserman, "Two-Stream Convolutional Networks for Action Recognition in
Videos" (NeurIPS 2014); Feichtenhofer, Pinz, Zisserman, "Convolutional Two-Stream
Network Fusion for Video Action Recognition" (CVPR 2016); Feichtenhofer, Pinz, Wildes,
"Spatiotemporal Residual Networks" (NeurIPS 2016) and "Spatiotemporal Multiplier
Networks" (CVPR 2017); Wang et al., "Temporal Segment Networks" (ECCV 2016).

    stacked flow, NeurIPS 2014, Sec. 3.1; late fusion       Model, fusion="late"
    sum, max and convolutional fusion, CVPR 2016, Sec. 3.1  Meeting
    motion into appearance, x' = f(x) + F(x + f(m))         Stage, fusion="add"
    gated by motion,        x' = f(x) + F(x f(m))           Stage, fusion="multiply"
    segments and their consensus, ECCV 2016, Sec. 3.1       Config.num_frames, stack
    partial batch normalisation, ECCV 2016, Sec. 3.2        Config.partial_norm

Here x and m are the sums at the end of a block of the frames' and of the flow's stream,
f is ReLU and F the residual branch of the next block; all but F see f(x), as in the
authors' code.

Weights: of torchvision's ResNets, trained on images (BSD-3-Clause), or of mmaction2's
TSN (Apache-2.0); `jaxflow.two_stream` loads them into the streams.

Deviations: the streams are ResNets, also where the paper has VGG or Inception. A
convolution that fuses begins as the sum. Fusion by a sum, maximum or convolution ends
the stream of flow. For "multiply", convolutions in time are where ST-ResNet has them;
neither has the max-pool over time of their second stage of training.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import basic3d, conv, dropout, norm, resnet3d, resnet3d_keys

FUSIONS = ("late", "sum", "max", "conv", "add", "multiply")
Streams = Literal["both", "rgb", "flow"]
STAGES = (2, 3, 4, 5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a two-stream network, or of one stream of it.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips; the head's window is a 32nd of it.
        head_mode: "logit_mean" returns logits, "softmax_mean", in evaluation,
            probabilities; those of both streams are averaged by `weights`.
        num_frames: Frames of a clip, a multiple of `stack`: there are
            num_frames / stack segments, whose logits are averaged. A clip of any number
            of segments runs.
        frame_stride: Steps between those frames, if another placement is asked for.
        frame_rate: Frames a second that these steps count in; None: the video's own.
        placement: Where the segments are; see `data.clips.clip_indices`.
        stack: Frames of a segment. Flow from all of them is one input of 2 x stack
            channels: u and v of the first, then of the second, and so on; the stream of
            frames sees the one in the middle, number stack / 2 from 0.
        streams: "both", or the stream of frames "rgb" or of "flow" alone.
        fusion: "late" averages scores; "sum", "max" and "conv" join features behind
            stage `fusion_after`; "add" and "multiply" lead motion into the stream of
            frames in each stage of two blocks or more.
        fusion_after: 2 to 5.
        weights: Of the scores of frames and of flow.
        temporal: Whether the second block of each stage looks at three segments, by its
            first and its last convolution (ST-ResNet).
        bottleneck: Whether blocks are bottlenecks: ResNet-50.
        blocks: Blocks in res2 to res5.
        width: Channels behind the stem.
        partial_norm: Whether all batch normalisation but the first of each stream stays
            as it is in training.
        dropout_rate: Before the classifier of frames, or of both.
        flow_dropout_rate: Before the classifier of flow.
        mean: Subtracted from RGB in [0, 1].
        std: Divided by.
        flow_mean: Subtracted from flow as a picture: no motion.
        flow_std: Divided by.
    """

    num_classes: int = 400
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "logit_mean"
    num_frames: int = 10
    frame_stride: int = 1
    frame_rate: float | None = None
    placement: Literal["spread", "pyslowfast", "segments", "random", "dense"] = (
        "segments"
    )
    stack: int = 10
    streams: Streams = "both"
    fusion: Literal["late", "sum", "max", "conv", "add", "multiply"] = "late"
    fusion_after: Literal[2, 3, 4, 5] = 5
    weights: tuple[float, float] = (1.0, 1.0)
    temporal: bool = False
    bottleneck: bool = True
    blocks: tuple[int, int, int, int] = resnet3d.DEPTHS[50]
    width: int = 64
    partial_norm: bool = False
    dropout_rate: spec.Share = 0.5
    flow_dropout_rate: spec.Share = 0.5
    mean: tuple[spec.Number, spec.Number, spec.Number] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    flow_mean: float = 128 / 255
    flow_std: float = 128 / 255

    def __post_init__(self):
        spec.check_config(self)
        if self.num_frames % self.stack:
            raise ValueError(
                f"`num_frames` must be a multiple of `stack`, {self.stack}; got "
                f"{self.num_frames}"
            )
        if self.streams != "both" and self.fusion != "late":
            raise ValueError(
                f"`fusion` must be 'late' where `streams` is {self.streams!r}; got "
                f"{self.fusion!r}"
            )
        if self.fusion in ("add", "multiply") and max(self.blocks) < 2:
            raise ValueError(
                f"`blocks` must be 2 or more in some stage for `fusion` "
                f"{self.fusion!r}; got {self.blocks}"
            )
        if self.temporal and not self.bottleneck:
            raise ValueError("`temporal` must be False without `bottleneck`")

    @property
    def in_features(self) -> int:
        """Channels of a frame: RGB, and flow from it to the next frame."""
        return {"both": 5, "rgb": 3, "flow": 2}[self.streams]


class Stage(nnx.Module):
    """Blocks of one size, the second of which another stream can speak to.

    Args:
        in_features: Channels of the input.
        inner_features: Channels inside bottlenecks, whose output has 4 times more; or
            those of the output.
        count: Blocks.
        stride: Step in y and x of the first.
        config: Of the network.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        inner_features: int,
        count: int,
        *,
        stride: int,
        config: Config,
        rngs: nnx.Rngs,
    ):
        self.out_features = inner_features * (4 if config.bottleneck else 1)
        blocks: list[Any] = []
        for index in range(count):
            known = in_features if index == 0 else self.out_features
            step = stride if index == 0 else 1
            if not config.bottleneck:
                blocks.append(
                    basic3d.BasicBlock(
                        known, self.out_features, kind="2d", stride=step, rngs=rngs
                    )
                )
                continue
            timed = config.temporal and index == 1
            block = resnet3d.Bottleneck(
                known,
                inner_features,
                self.out_features,
                window=3 if timed else 1,
                stride=step,
                zero_init=False,
                rngs=rngs,
            )
            if timed:
                block.c = resnet3d.ConvNorm(
                    inner_features, self.out_features, (3, 1, 1), relu=False, rngs=rngs
                )
            blocks.append(block)
        self.blocks = nnx.data(blocks)

    def __call__(
        self,
        x: jax.Array,
        motion: jax.Array | None = None,
        *,
        how: str = "late",
        begun: bool = False,
    ) -> jax.Array:
        """Transforms `x`, (B, T, H, W, C).

        Args:
            x: Features.
            motion: Output of the first block of the other stream, or None.
            how: "add" or "multiply": what motion does to what the residual branch of
                the second block sees.
            begun: Whether `x` is what `begin` returned.
        """
        first, *rest = self.blocks
        total = x if begun else _summed(first, x)
        x = jax.nn.relu(total)
        for index, block in enumerate(rest):
            seen = x
            if index == 0 and motion is not None:
                seen = total + motion if how == "add" else total * motion
            x = jax.nn.relu(_summed(block, x, seen))
        return x

    def begin(self, x: jax.Array) -> jax.Array:
        """Returns the output of the first block."""
        return self.blocks[0](x)


def _summed(block: Any, x: jax.Array, seen: jax.Array | None = None) -> jax.Array:
    """Returns what a block has before its last ReLU; its branch sees `seen`, or x."""
    seen = x if seen is None else seen
    if isinstance(block, resnet3d.Bottleneck):
        inner = block.c(block.b(block.a(seen)))
    else:
        inner = block.second(block.first(seen))
    return inner + (x if block.shortcut is None else block.shortcut(x))


class Stream(nnx.Module):
    """A ResNet on pictures of any number of channels, each segment for itself.

    Args:
        in_features: Channels of a picture.
        last: Its last stage.
        dropout_rate: Before its classifier; None leaves that out.
        config: Of the network.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        *,
        last: int,
        dropout_rate: float | None,
        config: Config,
        rngs: nnx.Rngs,
    ):
        self.stem = resnet3d.ConvNorm(
            in_features, config.width, (1, 7, 7), strides=(1, 2, 2), rngs=rngs
        )
        features = config.width
        for number in range(2, last + 1):
            stage = Stage(
                features,
                config.width * 2 ** (number - 2),
                config.blocks[number - 2],
                stride=1 if number == 2 else 2,
                config=config,
                rngs=rngs,
            )
            setattr(self, f"res{number}", stage)
            features = stage.out_features
        self.head: Any = nnx.data(None)
        if dropout_rate is not None:
            self.head = resnet3d.Head(
                features,
                config.num_classes,
                window=resnet3d.head_window(config.crop_size),
                mode=config.head_mode,
                dropout_rate=dropout_rate,
                rngs=rngs,
            )

    def start(self, x: jax.Array) -> jax.Array:
        """Applies the stem and its max-pool: a quarter of the height and width."""
        x = self.stem(x)
        return ops.max_pool(x, (1, 3, 3), strides=(1, 2, 2), padding=(0, 1, 1))

    def stage(self, number: int) -> Stage:
        """Returns res2, res3, res4 or res5."""
        return getattr(self, f"res{number}")


class Meeting(nnx.Module):
    """Joins the features of two streams, place by place (CVPR 2016, Sec. 3.1).

    Args:
        features: Channels of each.
        how: "sum"; "max", the larger; or "conv", a 1 x 1 convolution of both, with a
            bias, which begins as the sum.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, how: str, *, rngs: nnx.Rngs):
        self.how = how
        self.conv: Any = nnx.data(None)
        if how == "conv":
            self.conv = conv.Conv3d(2 * features, features, 1, rngs=rngs)
            twice = np.tile(np.eye(features, dtype=np.float32), (2, 1))
            self.conv.kernel[...] = jax.device_put(
                twice.reshape(self.conv.kernel.shape)
            )

    def __call__(self, appearance: jax.Array, motion: jax.Array) -> jax.Array:
        """Joins features, both (B, T, H, W, C)."""
        if self.how == "sum":
            return appearance + motion
        if self.how == "max":
            return jnp.maximum(appearance, motion)
        return self.conv(jnp.concatenate([appearance, motion], axis=-1))


class Model(nnx.Module):
    """Two streams: a clip of frames and their flow to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.deterministic = True
        self.cam_layer = "flow.res5" if config.streams == "flow" else "rgb.res5"
        meets = config.fusion in ("sum", "max", "conv")
        self.rgb: Any = nnx.data(None)
        self.flow: Any = nnx.data(None)
        self.meeting: Any = nnx.data(None)
        if config.streams != "flow":
            self.rgb = Stream(
                3, last=5, dropout_rate=config.dropout_rate, config=config, rngs=rngs
            )
        if config.streams != "rgb":
            self.flow = Stream(
                2 * config.stack,
                last=config.fusion_after if meets else 5,
                dropout_rate=None if meets else config.flow_dropout_rate,
                config=config,
                rngs=rngs,
            )
        if meets:
            features = self.flow.stage(config.fusion_after).out_features
            self.meeting = Meeting(features, config.fusion, rngs=rngs)
        if config.partial_norm:
            streams = [s for s in (self.rgb, self.flow) if s is not None]
            norm.freeze(self, but=[stream.stem.norm for stream in streams])

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, C) in [0, 1]; T a multiple of `config.stack`. C is 5: RGB
                and, as a picture, the flow from each frame to the next: u and v clipped
                to 20 pixels, plus 20, divided by 40. Or it is 3 or 2 for one stream;
                see `config.in_features`. `jaxflow.two_stream` computes the flow.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes) logits, float32; probabilities in evaluation if
            `config.head_mode` is "softmax_mean".

        Raises:
            ValueError: If the clip does not fit.
        """
        scores = self.scores(clip, key=key)
        if len(scores) == 1:
            return scores[0]
        rgb, flow = self.config.weights
        return (rgb * scores[0] + flow * scores[1]) / (rgb + flow)

    def scores(
        self, clip: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, ...]:
        """Returns the scores of the stream of frames and of that of flow.

        Each can have a loss of its own. Of one stream alone, or of streams that meet
        before their classifiers, there is one.

        Args:
            clip: See `__call__`, as for the rest.
            key: Random key.
        """
        keys = dropout.split(key, 2)
        maps = self.maps(clip)
        heads = [s.head for s in (self.rgb, self.flow) if s is not None and s.head]
        return tuple(
            head(each, key=own)
            for head, each, own in zip(heads, maps, keys, strict=False)
        )

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map, (B, segments, H / 32, W / 32, C), of both streams."""
        return jnp.concatenate(self.maps(clip), axis=-1)

    def maps(self, clip: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the last map of each stream that has a classifier."""
        frames, stacks = self._parts(clip)
        config, rgb, flow = self.config, self.rgb, self.flow
        x = None if rgb is None else rgb.start(frames)
        motion = None if flow is None else flow.start(stacks)
        injects = config.fusion in ("add", "multiply")
        for number in STAGES:
            begun = None
            if motion is not None:
                stage = getattr(flow, f"res{number}")
                begun = stage.begin(motion) if injects else None
                motion = stage(begun, begun=True) if injects else stage(motion)
            if x is not None:
                x = getattr(rgb, f"res{number}")(x, begun, how=config.fusion)
            if self.meeting is not None and number == config.fusion_after:
                x, motion = self.meeting(x, motion), None
        return tuple(each for each in (x, motion) if each is not None)

    def _parts(self, clip: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns frames and stacks of flow, both (B, segments, H, W, C)."""
        config = self.config
        clip = spec.check_clip(clip, channels=config.in_features)
        batch, time, height, width, _ = clip.shape
        if time % config.stack:
            raise ValueError(
                f"`clip` must have a multiple of {config.stack} frames, `stack` of the "
                f"network; got {time}"
            )
        parts = clip.reshape(batch, -1, config.stack, height, width, clip.shape[-1])
        mean, std = (
            jnp.asarray(c, clip.dtype)[None, None, None, None]
            for c in (config.mean, config.std)
        )
        frames = parts[:, :, config.stack // 2, ..., :3]
        if config.streams != "flow":
            frames = (frames - mean) / std
        flow = jnp.moveaxis(
            (parts[..., -2:] - config.flow_mean) / config.flow_std, 2, 4
        )
        stacks = flow.reshape(*flow.shape[:4], -1)
        return frames.astype(self.dtype), stacks.astype(self.dtype)


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=4,
    stack=2,
    fusion="multiply",
    temporal=True,
    blocks=(2, 1, 1, 1),
    width=4,
)

_R34: Any = {"bottleneck": False, "blocks": basic3d.DEPTHS[34]}
# Three segments of 5 flows, the surer stream counting more.
_TSN: Any = {
    "num_frames": 15,
    "stack": 5,
    "weights": (1.0, 1.5),
    "partial_norm": True,
    "dropout_rate": 0.8,
    "flow_dropout_rate": 0.7,
}
_INJECTED: Any = {"num_frames": 50, "temporal": True}
VARIANTS = {
    "two_stream_r34": Config(**_R34),
    "two_stream_r50": Config(),
    "two_stream_flow_r34": Config(streams="flow", **_R34),
    "two_stream_flow_r50": Config(streams="flow"),
    "two_stream_sum_r50": Config(fusion="sum"),
    "two_stream_max_r50": Config(fusion="max"),
    "two_stream_conv_r50": Config(fusion="conv"),
    "st_resnet_r50": Config(fusion="add", **_INJECTED),
    "st_mulnet_r50": Config(fusion="multiply", **_INJECTED),
    "tsn_r50": Config(**_TSN),
    "tsn_rgb_r50": Config(streams="rgb", **(_TSN | {"num_frames": 3, "stack": 1})),
    "tsn_flow_r50": Config(streams="flow", **_TSN),
}

WEIGHTS = {}

PUBLISHED = {
    "two_stream_r34": spec.Published(
        source="Piergiovanni and Ryoo, CVPR 2019",
        parameters="42",
        reason="43.03 M is "
        "the sum of two of its own networks on frames and on 20 channels",
    ),
    "tsn_rgb_r50": spec.Published(source="mmaction2's README", parameters="24.33"),
}


def _mmaction2(stream: str, theirs: str = "") -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of mmaction2's TSN for one stream."""
    leaves = "weight|bias|running_mean|running_var"
    parts = {f"conv{number}": part for number, part in enumerate("abc", start=1)}
    rows = [
        (r"backbone\.conv1\.conv\.weight", f"{stream}.stem.conv.weight"),
        (rf"backbone\.conv1\.bn\.({leaves})", rf"{stream}.stem.norm.\1"),
        (r"cls_head\.fc_cls\.(weight|bias)", rf"{stream}.head.projection.\1"),
    ]
    for layer in range(1, 5):
        block = rf"backbone\.layer{layer}\.(\d+)"
        ours = rf"{stream}.res{layer + 1}.blocks.\1"
        for their, our in (*parts.items(), ("downsample", "shortcut")):
            rows += [
                (rf"{block}\.{their}\.conv\.weight", f"{ours}.{our}.conv.weight"),
                (rf"{block}\.{their}\.bn\.({leaves})", rf"{ours}.{our}.norm.\2"),
            ]
    return tuple((theirs + pattern, path) for pattern, path in rows)


def _images(
    stream: str, parts: Sequence[str], theirs: str = ""
) -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of torchvision's ResNets for one stream."""
    stages = [f"{stream}.res{number}" for number in STAGES]
    rows = resnet3d_keys.image_keys(f"{stream}.stem", stages, parts)
    return tuple(
        (theirs + pattern, re.sub("^head", f"{stream}.head", path or ""))
        for pattern, path in rows
    )


_BASIC = ("first", "second")
# Files of both streams are read together, the names in them behind "rgb." and "flow.".
KEYS = {
    "mmaction2_rgb": _mmaction2("rgb"),
    "mmaction2_flow": _mmaction2("flow"),
    "mmaction2": _mmaction2("rgb", r"rgb\.") + _mmaction2("flow", r"flow\."),
    "torchvision": _images("rgb", "abc", r"rgb\.") + _images("flow", "abc", r"flow\."),
    "torchvision_basic": _images("rgb", _BASIC, r"rgb\.")
    + _images("flow", _BASIC, r"flow\."),
}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    published=PUBLISHED,
)
