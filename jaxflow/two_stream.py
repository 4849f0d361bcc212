"""Flow for networks that see it: computed inside their program, or read beside frames.

    frames -> estimator of flow (`jaxflow.inference`) -> flow as a picture -> network

A network on flow takes clips of 2 channels, and one of two streams clips of 5: RGB, and
the flow from each frame to the next as a picture,

    (clip(u, -20, 20) + 20) / 40,    and v likewise,

so that no motion is 0.5. `WithFlow` puts any estimator of this library in front of such
a network, classical or learned: both are then one network on frames alone, one compiled
program, and can be trained as one.

    model = two_stream.WithFlow(jaxflow.create_model("two_stream_r34"), "tvl1")
    scores = jaxflow.classify_video(model, "clip.mp4")
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxflow import _checks, convert, inference, models, programs, spec, weights
from jaxflow.convert import slots

BOUND = 20.0
"""Largest component of flow in a picture of it, in pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What `jaxflow.views` has to know of frames: those of the network, and one more.

    Attributes:
        num_classes: Number of classes.
        crop_size: Side of the clips.
        head_mode: What the network returns.
        num_frames: Frames of a clip: one more than there are flows, in each segment.
        frame_stride: Steps between them.
        frame_rate: Frames a second that these steps count in.
        placement: Where they are.
        stack: Frames of a segment.
        network: The network's own numbers.
        estimator: Name of the classical method, or of the module of the flow network.
        options: Of the estimator's call.
    """

    num_classes: int
    crop_size: int
    head_mode: str
    num_frames: int
    frame_stride: int
    frame_rate: float | None
    placement: str
    stack: int
    network: Any
    estimator: str
    options: tuple[tuple[str, Any], ...] = ()


class WithFlow(nnx.Module):
    """A network that sees flow, and the estimator of it: a clip to one score a class.

    The estimator runs in evaluation mode, always. Its flow follows whole crops of the
    video, as the network sees them.

    Args:
        network: A network on clips of 2 or 5 channels (`config.in_features`), such as
            `two_stream_r50` or `i3d_inception_two_stream`.
        estimator: A flow network with its weights, or the name of a classical method.
        learn: Whether the estimator learns: otherwise no gradient goes through its
            flow. Weight decay does not need one; see `parameter_labels`.
        options: Keywords of the estimator's call, numbers and texts.

    Raises:
        ValueError: If the network sees no flow, or the estimator is none.
    """

    def __init__(
        self,
        network: nnx.Module,
        estimator: nnx.Module | str,
        *,
        learn: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        config: Any = getattr(network, "config", None)
        if getattr(config, "in_features", 3) not in (2, 5):
            raise ValueError(
                "`network` must see flow: its `config.in_features` must be 2 or 5; got "
                f"{getattr(config, 'in_features', 3)}"
            )
        if isinstance(estimator, str):
            inference.method_of(estimator)
        else:
            inference.check_model(estimator)
        programs.check_options(estimator, options)
        if learn and isinstance(estimator, str):
            raise ValueError(
                f"`learn` must be False: {estimator!r} has nothing that learns"
            )
        self.network: Any = network
        self.estimator: Any = estimator
        self.learn = learn
        self.deterministic = True
        own = getattr(config, "stack", config.num_frames)
        self.config = Config(
            num_classes=config.num_classes,
            crop_size=config.crop_size,
            head_mode=config.head_mode,
            num_frames=config.num_frames // own * (own + 1),
            frame_stride=config.frame_stride,
            frame_rate=config.frame_rate,
            placement=getattr(config, "placement", "spread"),
            stack=own + 1,
            network=config,
            estimator=estimator
            if isinstance(estimator, str)
            else type(estimator).__module__,
            options=tuple(sorted((options or {}).items())),
        )

    @property
    def cam_layer(self) -> str:
        """Name of the layer of Grad-CAM."""
        return f"network.{self.network.cam_layer}"

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Classifies a clip.

        Args:
            clip: (B, T, H, W, 3), RGB in [0, 1]: segments of one frame more than the
                network's `stack`; or, of a network without, one more than it has.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            What the network returns, (B, num_classes).

        Raises:
            ValueError: If the clip does not fit.
        """
        return self.network(self.joined(clip), key=key)

    def joined(self, clip: jax.Array) -> jax.Array:
        """Returns what the network sees of a clip: flow, or frames and flow."""
        clip = spec.check_clip(clip)
        batch, time = clip.shape[:2]
        config = self.network.config
        own = self.config.stack if hasattr(config, "stack") else time
        if time < 2 or time % own:
            raise ValueError(
                f"`clip` must have a multiple of {self.config.stack} frames, a frame "
                f"more than flows in each segment; got {time}"
            )
        parts = clip.reshape(-1, own, *clip.shape[2:])
        found = with_flow(
            self.estimator, parts, learn=self.learn, **dict(self.config.options)
        )
        found = found.reshape(batch, -1, *found.shape[2:])
        return found if config.in_features == 5 else found[..., 3:]


def with_flow(
    estimator: nnx.Module | str,
    clip: jax.Array,
    *,
    learn: bool = False,
    **options: Any,
) -> jax.Array:
    """Joins frames and the flow from each to the next: a pure function.

    Args:
        estimator: A flow network, or the name of a classical method.
        clip: (B, T, H, W, 3), RGB: uint8, or floating in [0, 1].
        learn: Whether gradients go through the flow.
        **options: Keywords of the estimator's call.

    Returns:
        (B, T - 1, H, W, 5) float32 in [0, 1]; see `flow_picture`.

    Examples:
        >>> clip = jnp.zeros((1, 4, 16, 16, 3))
        >>> jaxflow.two_stream.with_flow("lucas_kanade", clip).shape
        (1, 3, 16, 16, 5)
    """
    if clip.ndim != 5 or clip.shape[1] < 2:
        raise ValueError(
            f"`clip` must be (B, T, H, W, 3), of two frames or more; got {clip.shape}"
        )
    flow = inference.flow(estimator, clip[:, :-1], clip[:, 1:], **options)
    flow = flow if learn else lax.stop_gradient(flow)
    frames = inference.as_float(clip[:, :-1])
    return jnp.concatenate([frames, flow_picture(flow)], axis=-1)


def flow_picture(flow: jax.Array, *, bound: float = BOUND) -> jax.Array:
    """Returns flow as a picture, as networks see it: (clip(f) + bound) / (2 bound).

    Args:
        flow: (..., 2), in pixels. NaN stays NaN.
        bound: Largest component; beyond it the gradient is 0.

    Returns:
        (..., 2) in [0, 1]; no motion is 0.5.

    Examples:
        >>> flow = jnp.array([-30.0, 5.0])
        >>> jaxflow.two_stream.flow_picture(flow).tolist()
        [0.0, 0.625]
    """
    return (jnp.clip(flow, -bound, bound) + bound) / (2 * bound)


def parameter_labels(params: Any) -> Any:
    """Labels the weights of `WithFlow` "network" or "estimator", for optax.partition.

    A frozen estimator has to be left out of the weight decay, too:

        optax.partition(
            {"network": optax.adamw(1e-3), "estimator": optax.set_to_zero()},
            two_stream.parameter_labels,
        )

    Args:
        params: Parameters, as a nested dict.
    """
    return {
        part: jax.tree.map(lambda _, part=part: part, values)
        for part, values in params.items()
    }


def load_streams(
    model: nnx.Module,
    rgb: weights.Source,
    flow: weights.Source | None = None,
    *,
    head: Literal["load", "fresh", "match"] = "load",
) -> nnx.Module:
    """Fills both streams of a network from a checkpoint each, or from one of images.

    Args:
        model: A network of two streams, or of one; it is changed in place.
        rgb: Weights of the stream of frames; see `jaxflow.weights.read`.
        flow: Weights of the stream of flow. None takes those of `rgb` there, too: where
            its first kernel sees RGB, the flow's has the mean over these (Wang et al.,
            "Temporal Segment Networks", ECCV 2016, Sec. 3.2).
        head: As for `jaxflow.convert_state_dict`: "fresh" for weights of images.

    Returns:
        `model`.

    Raises:
        ValueError: If the weights do not fit.
        OSError: If a file cannot be read.
    """
    config: Any = getattr(model, "config", None)
    _checks.one_of("head", head, ("load", "fresh", "match"))
    names = [name for name in ("rgb", "flow") if getattr(model, name, None) is not None]
    if not names:
        raise ValueError("`model` must have streams, `rgb` or `flow`")
    state = {}
    for name in names:
        source = flow if name == "flow" and flow is not None else rgb
        found = weights.read(source)
        axis = -2 if found.dialect == convert.OWN_DIALECT else 1
        for key, array in found.arrays.items():
            if name == "flow" and flow is None:
                array = _averaged(array, axis, 2 * getattr(config, "stack", 1))
            key = key.removeprefix("rgb.").removeprefix("flow.")
            state[f"{name}.{key}"] = array
    if getattr(model, "meeting", None) is None:
        return convert.convert_state_dict(model, state, head=head)
    # Streams that meet are parts of those that do not.
    apart = dataclasses.replace(config, fusion="late")
    whole = models.described(lambda rngs: cast(Any, type(model))(apart, rngs=rngs))
    convert.convert_state_dict(whole, state, head=head)
    left = slots.unfilled(whole)
    values = {
        path: slot.variable[...]
        for path, slot in slots.weight_slots(whole).items()
        if path not in left
    }
    slots.write(model, values)
    return model


def _averaged(array: np.ndarray, axis: int, channels: int) -> np.ndarray:
    """Returns a kernel on RGB as one on so many channels; another as it is."""
    if array.ndim < 4 or array.shape[axis] != 3:
        return array
    mean = array.mean(axis, keepdims=True)
    return np.repeat(mean, channels, axis)
