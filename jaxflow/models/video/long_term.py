"""Long-term feature banks: a clip, or people in it, seen in the light of their video.

Wu, Feichtenhofer, Fan, He, Krahenbuhl, Girshick, "Long-Term Feature Banks for Detailed
Video Understanding" (CVPR 2019).

    backbone, Sec. 3.4                      layers.resnet3d: I3D with non-local blocks
    the bank, Sec. 3.2                      jaxflow.banks
    feature bank operators, Sec. 3.3        layers.feature_bank
    STO: the operator on the clip itself    the model without a bank
    3D CNN x2, STO x2                       backbones=2

The authors publish weights (Caffe2, Apache-2.0) whose names are not read here.

Deviations: normalisation of batches is not frozen. Without a bank, the operator sees
the clip's own features, one for each step of time that is left, also for boxes, where
the paper takes those of all boxes. With two backbones the second one gives what stands
beside the first one's features, or what the operator sees. `timed` is not the paper's.
"""

import dataclasses
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import box_head, conv, dropout, feature_bank, non_local, resnet3d

Windows = tuple[tuple[int, ...], ...]
Indices = tuple[tuple[spec.Count, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a network with a long-term feature bank.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the training clips.
        head_mode: "logit_mean" returns logits; "softmax_mean" and "sigmoid_mean", in
            evaluation, probabilities.
        regions: Whether it scores boxes; see `layers.box_head.Regions`.
        num_frames: Frames of a clip.
        frame_stride: Steps between those frames, at 30 frames a second.
        operator: How the bank is used: "non_local"; "average" or "maximum", pooled; or
            "none", which is the backbone alone.
        backbones: 1, or 2 for the baselines of twice the size.
        bank_features: Channels of the bank; None are those of the backbone.
        inner_features: Channels of the non-local operator.
        operator_steps: Its steps of attention.
        operator_dropout: Its dropout.
        timed: Whether it is told when the entries of the bank are.
        blocks: Bottlenecks in res2 to res5.
        width: Channels behind the stem.
        stem_window: Size in time of the stem.
        windows: For res2 to res5, sizes in time of the bottlenecks, cycled.
        temporal_pool: Whether res2 is followed by a max-pool over pairs of frames.
        non_local_after: For res2 to res5, bottlenecks that a non-local block follows.
        non_local_form: Which non-local function.
        dropout_rate: Before the classifier.
        zero_init: Whether residual branches start at 0.
    """

    num_classes: int = 80
    crop_size: int = 224
    head_mode: resnet3d.HeadMode = "sigmoid_mean"
    regions: box_head.Regions = "none"
    num_frames: int = 32
    frame_stride: int = 2
    operator: Literal["none", "non_local", "average", "maximum"] = "non_local"
    backbones: Literal[1, 2] = 1
    bank_features: int | None = None
    inner_features: int = 512
    operator_steps: int = 2
    operator_dropout: spec.Share = 0.2
    timed: bool = False
    blocks: tuple[int, ...] = resnet3d.DEPTHS[50]
    width: int = 64
    stem_window: int = 5
    windows: Windows = ((3,), (3, 1), (3, 1), (1, 3))
    temporal_pool: bool = True
    non_local_after: Indices = ((), (1, 3), (1, 3, 5), ())
    non_local_form: non_local.Form = "embedded_gaussian"
    dropout_rate: spec.Share = 0.3
    zero_init: bool = True

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """A clip, with a window of the bank of its video, to one score a class."""

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.cam_layer = "slow.res5"
        self.deterministic = True
        self.mode = config.head_mode
        resnet3d.head_window(config.crop_size)
        self.slow = _backbone(config, rngs)
        if config.backbones == 2:
            self.second = _backbone(config, rngs)
        own = 32 * config.width
        known = config.bank_features or own
        beside = {"none": (config.backbones - 1) * own, "non_local": 0}
        if config.operator == "non_local":
            self.operator = feature_bank.NonLocalOperator(
                own,
                known,
                inner_features=config.inner_features,
                steps=config.operator_steps,
                timed=config.timed,
                dropout_rate=config.operator_dropout,
                rngs=rngs,
            )
            beside["non_local"] = config.inner_features
        features = own + beside.get(config.operator, known)
        self.dropout = dropout.Dropout(config.dropout_rate)
        self.projection = conv.Linear(features, config.num_classes, rngs=rngs)
        self.projection.kernel[...] = 0.01 * jax.random.normal(
            rngs.params(), (features, config.num_classes), jnp.float32
        )

    def __call__(
        self,
        clip: jax.Array,
        boxes: jax.Array | None = None,
        *,
        bank: jax.Array | None = None,
        valid: jax.Array | None = None,
        times: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Classifies a clip, or boxes in it.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1].
            boxes: If `config.regions` is not "none": (K, 5); see
                `layers.box_head.check_boxes`. None scores each whole frame.
            bank: What the video shows around the clip, (B, M, C), such as
                `jaxflow.banks.window` gives; None is the clip itself.
            valid: Which entries of the bank count, (B, M) bool; None counts all.
            times: If `config.timed`: seconds of the entries from the clip, (B, M).
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (B, num_classes), or (K, num_classes) for boxes: logits, float32; in
            evaluation probabilities if `config.head_mode` is not "logit_mean".

        Raises:
            ValueError: If an argument does not fit.
        """
        keys = dropout.split(key, 2)
        maps = [self.features(clip)]
        if self.config.backbones == 2:
            maps.append(self._last_map(self.second, clip))
        rows, owners = self._rows(maps, clip, boxes)
        found = rows
        if self.config.operator == "none":
            if bank is not None:
                raise ValueError('`bank` must be None where `operator` is "none"')
        else:
            parts = self._memory(maps, bank, valid, times)
            entries, counted, when = (part[owners] for part in parts)
            found = [rows[0], self._found(rows[0], entries, counted, when, keys[0])]
        features = self.dropout(jnp.concatenate(found, axis=-1), key=keys[1])
        scores = self.projection(features)
        if self.deterministic:
            scores = resnet3d.activated(scores, self.mode)
        if boxes is None:
            return scores
        first = jnp.asarray(boxes, jnp.float32)[:, :1]
        return jnp.where((first >= 0) & (first < clip.shape[0]), scores, 0)

    def features(self, clip: jax.Array) -> jax.Array:
        """Returns the last map of the first backbone, (B, T', H', W', C)."""
        return self._last_map(self.slow, clip)

    def _last_map(self, pathway: resnet3d.Pathway, clip: jax.Array) -> jax.Array:
        clip = spec.check_clip(clip)
        x = pathway.start(resnet3d.standardise(clip).astype(self.dtype))
        x = pathway.stage(2, x)
        if self.config.temporal_pool and x.shape[1] > 1:
            x = ops.max_pool(x, (2, 1, 1))
        for number in (3, 4, 5):
            x = pathway.stage(number, x)
        return x

    def _rows(self, maps, clip, boxes):
        """Returns short-term features of each map, (N, C), and the rows' examples."""
        regions = self.config.regions
        if regions == "none":
            if boxes is not None:
                raise ValueError('`boxes` must be None where `regions` is "none"')
            rows = [jnp.mean(each.astype(jnp.float32), (1, 2, 3)) for each in maps]
            return rows, jnp.arange(clip.shape[0])
        boxes = box_head.whole_frames(clip) if boxes is None else boxes
        boxes = box_head.check_boxes(boxes, clip.shape[0])
        owners = box_head.owners_of(boxes, clip.shape[0])
        aligned = regions == "aligned"
        rows = [
            box_head.pool([each], boxes[:, 1:], owners, aligned=aligned)
            for each in maps
        ]
        return rows, jnp.maximum(owners, 0)

    def _memory(self, maps, bank, valid, times):
        """Returns what the operator sees: entries, which count, and when they are."""
        if bank is None:
            bank = jnp.mean(maps[-1].astype(jnp.float32), axis=(2, 3))
        examples, known = maps[0].shape[0], self.config.bank_features
        shape = (examples, known or maps[0].shape[-1])
        if bank.ndim != 3 or (bank.shape[0], bank.shape[2]) != shape:
            raise ValueError(
                f"`bank` must be ({shape[0]}, M, {shape[1]}); got {bank.shape}"
            )
        for name, value in (("valid", valid), ("times", times)):
            if value is not None and value.shape != bank.shape[:2]:
                raise ValueError(
                    f"`{name}` must be {bank.shape[:2]}, as the entries of the bank; "
                    f"got {value.shape}"
                )
        if times is not None and not self.config.timed:
            raise ValueError("`times` must be None where `timed` is False")
        counted = jnp.ones(bank.shape[:2], bool) if valid is None else valid
        when = jnp.zeros(bank.shape[:2]) if times is None else times
        return jnp.asarray(bank, jnp.float32), counted.astype(bool), when

    def _found(self, row, entries, counted, when, key):
        """Returns what the operator finds, (N, C')."""
        if self.config.operator == "non_local":
            return self.operator(row, entries, counted, times=when, key=key)
        kind = cast(feature_bank.Pooling, self.config.operator)
        return feature_bank.pool_bank(entries, counted, kind=kind)


def _backbone(config: Config, rngs: nnx.Rngs) -> resnet3d.Pathway:
    return resnet3d.Pathway(
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
        zero_init=config.zero_init,
        rngs=rngs,
    )


TINY = Config(
    num_classes=5,
    crop_size=32,
    num_frames=4,
    head_mode="logit_mean",
    inner_features=8,
    timed=True,
    blocks=(1, 1, 1, 1),
    width=4,
    temporal_pool=False,
    non_local_after=((), (), (), ()),
    zero_init=False,
)

VARIANTS = {
    "lfb_nl_r50": Config(),
    "lfb_average_r50": Config(operator="average"),
    "lfb_maximum_r50": Config(operator="maximum"),
    "lfb_3d_x2_r50": Config(operator="none", backbones=2),
    "lfb_self_x2_r50": Config(backbones=2),
    "lfb_nl_r50_ava": Config(regions="legacy"),
    "lfb_nl3_r101_ava": Config(
        regions="legacy",
        operator_steps=3,
        blocks=resnet3d.DEPTHS[101],
        non_local_after=((), (1, 3), (6, 13, 20), ()),
    ),
}

RECORD = Model.record = spec.Record(model=Model, variants=VARIANTS, tiny=TINY)
