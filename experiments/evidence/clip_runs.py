"""What the bench of motion recognition runs: a network, a task, a training each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxflow import ops
from jaxflow.data import motion_classes
from jaxflow.layers import representation_flow
from jaxflow.models.flow import tvnet
from jaxflow.models.video import (
    actionflownet,
    c3d_depth,
    mfnet,
    r3d,
    repflow,
    resnet3d,
    slowfast,
    two_stream,
)

View = Callable[[jax.Array, jax.Array], jax.Array]


def as_it_is(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the clips."""
    return clips


def shuffled(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Puts the frames of each clip, (B, T, H, W, C), in an order of its own."""
    count, frames = clips.shape[:2]
    keys = jax.random.split(key, count)
    orders = jax.vmap(lambda key: jax.random.permutation(key, frames))(keys)
    return jnp.take_along_axis(clips, orders[:, :, None, None, None], axis=1)


def averaged(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the mean frame of each clip, twice: (B, 2, H, W, C)."""
    mean = jnp.mean(clips, axis=1, keepdims=True)
    return jnp.concatenate([mean, mean], axis=1)


def middle(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the frame in the middle."""
    return clips[:, clips.shape[1] // 2][:, None]


def every_eighth(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns every eighth frame."""
    return clips[:, ::8]


def at_half_size(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the clips as they look at half their size: means of 2 x 2 pixels."""
    return ops.avg_pool(clips, 2).repeat(2, axis=2).repeat(2, axis=3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One network on one task.

    Attributes:
        task: A name in `motion_classes.TASKS`, or "linked": the four motions of
            "product", each in a tint of its own in training.
        file: The module of the model.
        config: The model's numbers, but for what the task decides.
        steps: Steps of training, a multiple of 25.
        batch_size: Clips a step.
        rate: Highest learning rate; of what a flow layer learns, a tenth.
        size: Side of the frames.
        frames: Length of the clips; None takes the task's.
        view: What the network sees of the clips, (key, clips) -> clips.
        test_clips: Clips that each seed is tested on.
        estimator: Of the flow that a network sees: the name of a classical method, or
            (rngs) -> a network, which learns.
        teacher: Classical method whose flow the network learns to give beside the
            class; "" for none.
    """

    task: str
    file: Any
    config: Any
    steps: int = 150
    batch_size: int = 16
    rate: float = 6e-3
    size: int = 16
    frames: int | None = None
    view: View = as_it_is
    test_clips: int = 800
    estimator: str | Callable[..., Any] = ""
    teacher: str = ""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return (
            4 if self.task == "linked" else len(motion_classes.TASKS[self.task].classes)
        )

    @property
    def clips(self) -> str:
        """The set of clips that the task is made of."""
        return "product" if self.task == "linked" else self.task

    @property
    def length(self) -> int:
        """Number of frames of a clip."""
        return self.frames or motion_classes.TASKS[self.clips].frames


_SMALL: dict[str, Any] = {"blocks": (1,), "width": 8, "dropout_rate": 0.0}
_FRAMES = repflow.Config(flow="none", **_SMALL)
_FLOW = dataclasses.replace(
    _FRAMES, flow="single", location="input", inner_features=3, iterations=5
)
_FIXED: representation_flow.Learn = (0, 0, 0, 0, 0)


def _repflow(**changes: Any) -> dict[str, Any]:
    """Returns the model of a run with representation flow."""
    return {"file": repflow, "config": dataclasses.replace(_FLOW, **changes)}


def _depths(*depths: int) -> dict[str, Any]:
    """Returns the model of a run whose convolutions span so many frames."""
    config = c3d_depth.Config(
        depths=depths, width=4, dense_features=32, dropout_rate=0.0
    )
    return {"file": c3d_depth, "config": config}


_SINGLE = {"file": repflow, "config": _FRAMES}
_THREE_D = {
    "file": r3d,
    "config": r3d.Config(kinds=("3d",), **_SMALL | {"width": 6}),
}
_BLIND: dict[str, Any] = {"task": "motion8", "test_clips": 1600}
_LOCAL: dict[str, Any] = {"task": "motion8-local"}
_ORDER: dict[str, Any] = {"task": "order2"}
_DEPTH: dict[str, Any] = {"task": "motion8", "rate": 3e-3}
_WHERE: dict[str, Any] = _LOCAL | {"size": 32}
_PATHWAYS: dict[str, Any] = {"blocks": (1, 1, 1, 1), "width": 8, "dropout_rate": 0.0}
_FASTSLOW: dict[str, Any] = {"task": "fastslow", "size": 32, "steps": 200}
_SLOWFAST = slowfast.Config(
    sampling="stride", fast_input="half_size", beta_inv=4, **_PATHWAYS
)
_PRODUCT: dict[str, Any] = {"task": "product", "size": 32, "steps": 75, "rate": 1e-2}

_DANCE: dict[str, Any] = {"task": "dance", "size": 48, "frames": 8, "rate": 1e-2}


def _place(location: Any, inner_features: int) -> dict[str, Any]:
    """Returns the model of a run whose flow layer stands there."""
    return _repflow(location=location, inner_features=inner_features, blocks=(1, 1))


def _slowfast(**changes: Any) -> dict[str, Any]:
    """Returns the model of a run with two pathways."""
    return {"file": slowfast, "config": dataclasses.replace(_SLOWFAST, **changes)}


def _streams(**changes: Any) -> dict[str, Any]:
    """Returns the model of a run on frames, on flow or on both."""
    config = two_stream.Config(
        bottleneck=False, flow_dropout_rate=0.0, **_PATHWAYS, **changes
    )
    estimator = "" if changes.get("streams") == "rgb" else "lucas_kanade"
    return {"file": two_stream, "config": config, "estimator": estimator}


def _tvnet(**options: Any) -> Any:
    """Returns a TVNet of as many iterations as the flow layers of the bench have."""
    return tvnet.Model(tvnet.Config(iterations=5, quantise=False), **options)


RUNS: Mapping[str, Run] = {
    "order/single frame": Run(**_BLIND, **_SINGLE),
    "order/mean frame": Run(view=averaged, **_BLIND, **_SINGLE),
    "order/3-D, shuffled": Run(view=shuffled, **_BLIND, **_THREE_D),
    "order/3-D": Run(**_BLIND, **_THREE_D),
    "bias/RGB": Run(task="linked", **_THREE_D),
    "bias/flow": Run(task="linked", **_repflow(learn=_FIXED)),
    "local/RGB": Run(**_LOCAL, **_SINGLE),
    "local/3-D": Run(**_LOCAL, **_THREE_D),
    "local/fixed, 5": Run(**_LOCAL, **_repflow(learn=_FIXED)),
    "local/1": Run(**_LOCAL, **_repflow(iterations=1)),
    "local/5": Run(**_LOCAL, **_repflow()),
    "local/10": Run(**_LOCAL, **_repflow(iterations=10)),
    "local/20": Run(**_LOCAL, **_repflow(iterations=20)),
    "local/5, gradients learn": Run(**_LOCAL, **_repflow(learn=(1, 1, 1, 1, 1))),
    "local/5, late fusion": Run(**_LOCAL, **_repflow(fusion="late")),
    "local/5, concatenated": Run(**_LOCAL, **_repflow(fusion="concat")),
    "order2/one layer": Run(**_ORDER, **_repflow()),
    "order2/flow of flow": Run(**_ORDER, **_repflow(flow="flow_of_flow")),
    "order2/flow, conv, flow": Run(**_ORDER, **_repflow(flow="flow_conv_flow")),
    "order2/TV-L1 twice": Run(**_ORDER, **_repflow(flow="flow_of_flow", learn=_FIXED)),
    "fastslow/SlowFast": Run(**_FASTSLOW, **_slowfast()),
    "fastslow/Slow": Run(
        file=resnet3d,
        config=resnet3d.Config(**_PATHWAYS),
        view=every_eighth,
        **_FASTSLOW,
    ),
    "fastslow/Fast": Run(
        file=resnet3d,
        config=resnet3d.Config(
            stem_window=5, windows=((3,),) * 4, **_PATHWAYS | {"width": 2}
        ),
        view=at_half_size,
        **_FASTSLOW,
    ),
    "depth/1": Run(**_DEPTH, **_depths(1, 1, 1, 1, 1)),
    "depth/3": Run(**_DEPTH, **_depths(3, 3, 3, 3, 3)),
    "depth/5": Run(**_DEPTH, **_depths(5, 5, 5, 5, 5)),
    "depth/increasing": Run(**_DEPTH, **_depths(3, 3, 5, 5, 7)),
    "depth/decreasing": Run(**_DEPTH, **_depths(7, 5, 5, 3, 3)),
    "local/5, added": Run(**_LOCAL, **_repflow(fusion="add")),
    "local/5, multiplied": Run(**_LOCAL, **_repflow(fusion="multiply")),
    "where/input": Run(**_WHERE, **_place("input", 3)),
    "where/stem": Run(**_WHERE, **_place("stem", 8)),
    "where/stage 1": Run(**_WHERE, **_place("stage1", 8)),
    "peers/RepFlow": Run(**_WHERE, **_repflow(blocks=(1, 1, 1))),
    "peers/TVNet": Run(
        **_WHERE,
        file=two_stream,
        config=two_stream.Config(
            bottleneck=False,
            flow_dropout_rate=0.0,
            streams="flow",
            **_PATHWAYS | {"width": 4},
        ),
        estimator=_tvnet,
    ),
    "peers/MFNet": Run(
        **_WHERE,
        file=mfnet,
        config=mfnet.Config(reduction=4, **_PATHWAYS | {"width": 2}),
    ),
    "peers/ActionFlowNet": Run(
        **_WHERE,
        file=actionflownet,
        config=actionflownet.Config(**_SMALL | {"blocks": (1, 1), "width": 7}),
        teacher="lucas_kanade",
    ),
    "fastslow/SlowFast, 1 channel": Run(**_FASTSLOW, **_slowfast(beta_inv=8)),
    "fastslow/SlowFast, RGB": Run(**_FASTSLOW, **_slowfast(fast_input="rgb")),
    "fastslow/SlowFast, time difference": Run(
        **_FASTSLOW, **_slowfast(fast_input="time_difference")
    ),
    "product/frame": Run(
        view=middle,
        **_PRODUCT,
        **_streams(streams="rgb", stack=1, num_frames=1),
    ),
    "product/flow": Run(**_PRODUCT, **_streams(streams="flow")),
    "product/scores": Run(**_PRODUCT, **_streams()),
    "product/features, late": Run(
        **_PRODUCT, **_streams(fusion="conv", fusion_after=5)
    ),
    "product/features, early": Run(
        **_PRODUCT, **_streams(fusion="conv", fusion_after=2)
    ),
    "dance/frame": Run(
        view=middle,
        **_DANCE,
        **_streams(streams="rgb", stack=1, num_frames=1),
    ),
    "dance/two streams": Run(**_DANCE, **_streams()),
}
