"""What the calls of the three kinds of network take and return."""

from typing import Any, NamedTuple, Protocol

import jax

from jaxflow.spec.records import Frames


class Flow(NamedTuple):
    """What a flow network returns, in training and in evaluation alike.

    It is a pytree whose structure does not depend on the mode. Inside `jax.jit` what
    the caller does not use is not computed: `model(image1, image2).flow` costs no more
    than if the network returned the flow alone.

    Attributes:
        flow: Motion from frame 1 to frame 2 at the size of the frames, (B, H, W, 2),
            in their pixels; float32.
        predictions: All flows that a loss can compare with the truth, the best one
            last, float32. Those of a pyramid go from coarse to fine and are
            (B, h, w, 2), each in pixels of its own grid; those of a recurrent network
            are one an iteration.
        occlusion: Probability that a pixel of frame 1 is hidden in frame 2, (B, H, W)
            in [0, 1], float32; None if the paper estimates none.
        confidence: How sure the network is of the flow, (B, H, W) in [0, 1], float32;
            None if the paper gives none. Each network says how it is measured.
    """

    flow: jax.Array
    predictions: tuple[jax.Array, ...]
    occlusion: jax.Array | None = None
    confidence: jax.Array | None = None


class FlowModel(Protocol):
    """What a network for flow owes: two frames in, flow out.

    `jaxflow.estimate_flow` and training need no more than this and `nnx.Module`.

    Attributes:
        frames: How frames of any size are brought to one that it takes.
    """

    frames: Frames

    def __call__(self, image1: jax.Array, image2: jax.Array) -> Flow:
        """Maps (B, H, W, 3) frames in [0, 1] to flow, in both modes.

        `jaxflow.estimate_flow` also takes bare flow, (B, h, w, 2) in its own pixels.
        """
        ...


class VideoModel(Protocol):
    """What a recognition network owes: a clip in, one score a class out.

    If it has a `config` with `num_frames`, `crop_size` and `frame_stride`, these are
    the defaults of `jaxflow.classify_video`; if it has a `cam_layer`, that of Grad-CAM.
    """

    def __call__(self, clip: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps (B, T, H, W, C) in [0, 1] to (B, classes), in both modes.

        `key` is that of the dropout in training; see `layers.dropout`.
        """
        ...


class GenerationModel(Protocol):
    """What a network of video diffusion owes: a noisy clip in, a prediction out."""

    def __call__(
        self,
        noisy: jax.Array,
        time: jax.Array,
        *,
        clean: jax.Array | None = None,
        observed: jax.Array | None = None,
        latent: jax.Array | None = None,
        indices: jax.Array | None = None,
        condition: Any = None,
    ) -> jax.Array:
        """Maps (B, T, H, W, C), about [-1, 1], and times (B,) to what is predicted.

        `clean` and `observed` say which frames are given, `latent` which are asked for
        and `indices` where they are in the video; a network refuses what it cannot use.
        """
        ...
