"""RAFT: recurrent all-pairs field transforms.

Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV
2020).

    feature extraction, Sec. 3.1    Encoder
    visual similarity, Sec. 3.2     ops.all_pairs_correlation, ops.lookup
    alternate implementation        ops.lookup_on_demand (correlation="on_demand")
    iterative updates, Sec. 3.3     MotionEncoder, ConvGRU, FlowHead; one lax.scan
    convex up-sampling              ops.convex_upsample

Weights: princeton-vl/RAFT (BSD-3); torchvision re-trained its own (BSD-3).

In bfloat16 the encoders stay float32, as flow and correlation do: they run once, and
rounded features move the best match. The iterations are what runs in bfloat16.

Deviations: none in the numbers. The lookup offsets x in its slow index and y in its
fast one, as the released weights expect.
"""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import _mesh, ops, spec
from jaxflow.layers import conv, norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a RAFT.

    Attributes:
        iterations: Updates of the flow when a call does not say how many.
        stem: Channels of the encoders' first convolution.
        stages: Channels of the encoders' three stages.
        bottleneck: Whether residual blocks have three convolutions instead of two.
        feature_features: Channels of the features that are correlated.
        context_norm: Normalisation of the context encoder: "batch" or "none".
        hidden: Channels of the recurrent state.
        context: Channels of the context.
        levels: Levels of the correlation pyramid.
        radius: Half the side of the window that is looked up, in pixels of a level.
        correlation_features: Channels of the motion encoder's correlation branch.
        flow_features: Channels of the motion encoder's flow branch.
        motion: Channels that the motion encoder gives, without flow itself.
        separable: Whether the recurrent unit is a 1x5 and a 5x1 pass instead of 3x3.
        head: Channels inside the flow head.
        convex: Whether the flow is up-sampled by learned convex weights, or bilinearly.
        correlation: "all_pairs" keeps the whole volume of (HW / 64)^2 numbers;
            "on_demand" computes the windows when they are looked up: for large frames.
    """

    iterations: int = 20
    stem: int = 64
    stages: tuple[int, int, int] = (64, 96, 128)
    bottleneck: bool = False
    feature_features: int = 256
    context_norm: Literal["batch", "none"] = "batch"
    hidden: int = 128
    context: int = 128
    levels: int = 4
    radius: int = 4
    correlation_features: tuple[int, ...] = (256, 192)
    flow_features: tuple[int, int] = (128, 64)
    motion: int = 126
    separable: bool = True
    head: int = 256
    convex: bool = True
    correlation: Literal["all_pairs", "on_demand"] = "all_pairs"

    def __post_init__(self):
        spec.check_config(self)
        if self.bottleneck and min(self.stages) < 4:
            raise ValueError(
                "`stages` must be at least 4 each if `bottleneck` is True, as blocks "
                f"compute in a quarter of the channels; got {self.stages}"
            )


class Norm(nnx.Module):
    """Batch, instance or no normalisation.

    Args:
        kind: "batch", "instance" or "none".
        features: Channels.
    """

    def __init__(self, kind: str, features: int):
        self.kind = kind
        self.batch = norm.BatchNorm(features) if kind == "batch" else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x`, (B, H, W, C)."""
        if self.kind == "instance":
            return norm.instance_norm(x)
        return x if self.batch is None else self.batch(x)


class Block(nnx.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 at a quarter width.

        y = relu(shortcut(x) + relu(norm(conv(… relu(norm(conv(x)))))))

    Args:
        in_features: Channels in.
        features: Channels out.
        strides: Step of the block; the shortcut is convolved where it is not 1.
        bottleneck: Whether there are three convolutions.
        kind: Normalisation, see `Norm`.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        strides: int,
        bottleneck: bool,
        kind: str,
        rngs: nnx.Rngs,
    ):
        inner = features // 4
        layers = (
            (
                (in_features, inner, 1, 1),
                (inner, inner, 3, strides),
                (inner, features, 1, 1),
            )
            if bottleneck
            else ((in_features, features, 3, strides), (features, features, 3, 1))
        )
        self.depth = len(layers)
        for i, (before, after, window, step) in enumerate(layers, start=1):
            layer = conv.Conv(before, after, window, strides=step, rngs=rngs)
            setattr(self, f"conv{i}", layer)
            setattr(self, f"norm{i}", Norm(kind, after))
        self.downsample = nnx.data(None)
        self.downsample_norm = nnx.data(None)
        if strides != 1:
            self.downsample = conv.Conv(
                in_features, features, 1, strides=strides, rngs=rngs
            )
            self.downsample_norm = Norm(kind, features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, in_features) to (B, H / strides, W / strides, features)."""
        y = x
        for i in range(1, self.depth + 1):
            y = nnx.relu(getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(y)))
        if self.downsample is not None and self.downsample_norm is not None:
            x = self.downsample_norm(self.downsample(x))
        return nnx.relu(x + y)


class Encoder(nnx.Module):
    """Six residual blocks down to 1/8 of the size (Sec. 3.1).

    Args:
        config: Numbers of the network; of them stem, stages and bottleneck.
        features: Channels out.
        kind: Normalisation, see `Norm`.
        rngs: Source of the initial weights.
    """

    def __init__(self, config: Config, features: int, kind: str, *, rngs: nnx.Rngs):
        self.conv1 = conv.Conv(3, config.stem, 7, strides=2, rngs=rngs)
        self.norm1 = Norm(kind, config.stem)
        before = config.stem
        for i, width in enumerate(config.stages, start=1):
            for j in range(2):
                block = Block(
                    before,
                    width,
                    strides=2 if i > 1 and j == 0 else 1,
                    bottleneck=config.bottleneck,
                    kind=kind,
                    rngs=rngs,
                )
                setattr(self, f"layer{i}_{j}", block)
                before = width
        self.num_stages = len(config.stages)
        self.conv2 = conv.Conv(before, features, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, 3) to (B, H / 8, W / 8, features)."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        for i in range(1, self.num_stages + 1):
            for j in range(2):
                x = getattr(self, f"layer{i}_{j}")(x)
        return self.conv2(x)


class MotionEncoder(nnx.Module):
    """Turns correlation and flow into motion features (supplement, Fig. 6).

    Args:
        config: Numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        planes = config.levels * (2 * config.radius + 1) ** 2
        first, *second = config.correlation_features
        self.convc1 = conv.Conv(planes, first, 1, rngs=rngs)
        self.convc2 = (
            conv.Conv(first, second[0], rngs=rngs) if second else nnx.data(None)
        )
        self.convf1 = conv.Conv(2, config.flow_features[0], 7, rngs=rngs)
        self.convf2 = conv.Conv(*config.flow_features, rngs=rngs)
        both = config.correlation_features[-1] + config.flow_features[-1]
        self.conv = conv.Conv(both, config.motion, rngs=rngs)

    def __call__(self, flow: jax.Array, correlation: jax.Array) -> jax.Array:
        """Maps (B, h, w, 2) and (B, h, w, planes) to (B, h, w, motion + 2)."""
        c = nnx.relu(self.convc1(correlation))
        c = c if self.convc2 is None else nnx.relu(self.convc2(c))
        f = nnx.relu(self.convf1(flow)).astype(c.dtype)
        f = nnx.relu(self.convf2(f))
        both = nnx.relu(self.conv(jnp.concatenate([c, f], axis=-1)))
        return jnp.concatenate([both, flow.astype(c.dtype)], axis=-1)


class ConvGRU(nnx.Module):
    """A gated recurrent unit whose products are convolutions (Sec. 3.3).

        z  = sigmoid(conv([h, x]))
        r  = sigmoid(conv([h, x]))
        h' = (1 - z) h + z tanh(conv([r h, x]))

    Args:
        hidden: Channels of the state h.
        features: Channels of the input x.
        kernel_size: Window of all three convolutions.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        hidden: int,
        features: int,
        *,
        kernel_size: tuple[int, int],
        rngs: nnx.Rngs,
    ):
        layer = functools.partial(
            conv.Conv, hidden + features, hidden, kernel_size, rngs=rngs
        )
        self.convz, self.convr, self.convq = layer(), layer(), layer()

    def __call__(self, h: jax.Array, x: jax.Array) -> jax.Array:
        """Maps state (B, h, w, hidden) and input (B, h, w, features) to the state."""
        both = jnp.concatenate([h, x], axis=-1)
        z = nnx.sigmoid(self.convz(both))
        r = nnx.sigmoid(self.convr(both))
        q = nnx.tanh(self.convq(jnp.concatenate([r * h, x], axis=-1)))
        return (1 - z) * h + z * q


class UpdateBlock(nnx.Module):
    """One step of the recurrence: new state and change of the flow.

    Args:
        config: Numbers of the network.
        rngs: Source of the initial weights.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.encoder = MotionEncoder(config, rngs=rngs)
        features = config.context + config.motion + 2
        windows = ((1, 5), (5, 1)) if config.separable else ((3, 3),)
        self.passes = len(windows)
        for i, window in enumerate(windows, start=1):
            gru = ConvGRU(config.hidden, features, kernel_size=window, rngs=rngs)
            setattr(self, f"gru{i}", gru)
        self.flow_conv1 = conv.Conv(config.hidden, config.head, rngs=rngs)
        self.flow_conv2 = conv.Conv(config.head, 2, rngs=rngs)

    def __call__(
        self,
        hidden: jax.Array,
        context: jax.Array,
        correlation: jax.Array,
        flow: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the new state, (B, h, w, hidden), and the change, (B, h, w, 2)."""
        motion = self.encoder(flow, correlation)
        x = jnp.concatenate([context, motion], axis=-1)
        for i in range(1, self.passes + 1):
            hidden = getattr(self, f"gru{i}")(hidden, x)
        change = self.flow_conv2(nnx.relu(self.flow_conv1(hidden)).astype(jnp.float32))
        return hidden, change


class Model(nnx.Module):
    """RAFT.

    Its predictions are the full-size flow after every iteration, for `losses.sequence`.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.remat = False
        self.frames = spec.Frames(multiple=8, fit="pad", minimum=(128, 128))
        self.fnet = Encoder(config, config.feature_features, "instance", rngs=rngs)
        self.cnet = Encoder(
            config, config.hidden + config.context, config.context_norm, rngs=rngs
        )
        self.update_block = UpdateBlock(config, rngs=rngs)
        self.mask1 = self.mask2 = nnx.data(None)
        if config.convex:
            self.mask1 = conv.Conv(config.hidden, 256, rngs=rngs)
            self.mask2 = conv.Conv(256, 64 * 9, 1, rngs=rngs)

    def __call__(
        self,
        image1: jax.Array,
        image2: jax.Array,
        *,
        iterations: int | None = None,
        initial_flow: jax.Array | None = None,
    ) -> spec.Flow:
        """Estimates flow from `image1` to `image2`.

        Args:
            image1: Frame 1, (B, H, W, 3) in [0, 1]; H and W are multiples of 8, and at
                least 128 for the coarsest correlation level to have two pixels.
            image2: Frame 2, alike.
            iterations: Updates of the flow; None takes the config's.
            initial_flow: Where to start, (B, H / 8, W / 8, 2) in pixels of that grid,
                e.g. `ops.forward_interpolate` of the previous pair's; or in pixels of
                the frames, (B, H, W, 2), or of any other grid. None is zero.

        Returns:
            Flow; one prediction an iteration, all at full size.
        """
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        batch, height, width, _ = image1.shape
        iterations = self.config.iterations if iterations is None else iterations

        image1, image2 = 2 * image1 - 1, 2 * image2 - 1
        features = self.fnet(jnp.concatenate([image1, image2]))
        lookup = self._prepare_lookup(features[:batch], features[batch:])
        both = self.cnet(image1)
        hidden = nnx.tanh(both[..., : self.config.hidden]).astype(self.dtype)
        context = nnx.relu(both[..., self.config.hidden :]).astype(self.dtype)

        # Coordinates stay in float32: bfloat16 cannot tell pixels apart beyond 256.
        grid = ops.pixel_grid(height // 8, width // 8)[None]
        flow = jnp.zeros((batch, *grid.shape[1:]), jnp.float32)
        if initial_flow is not None:
            initial_flow = jnp.asarray(initial_flow, jnp.float32)
            if initial_flow.shape[-3:-1] != grid.shape[1:3]:
                initial_flow = ops.resize_flow(
                    initial_flow, grid.shape[1:3], antialias=True
                )
            flow = flow + initial_flow
        hidden, flow = _mesh.alike((hidden, flow), features)

        def update(carry, _):
            hidden, flow = carry
            flow = lax.stop_gradient(flow)
            correlation = lookup(grid + flow).astype(context.dtype)
            hidden, change = self.update_block(hidden, context, correlation, flow)
            flow = flow + change
            return (hidden, flow), (hidden, flow)

        if self.remat:
            update = jax.checkpoint(update, prevent_cse=False)
        (hidden, flow), (hiddens, flows) = lax.scan(
            update, (hidden, flow), None, length=iterations
        )
        # The last flow is taken from the state, so that a program that uses no other
        # keeps no earlier one and up-samples once.
        full = self._upsample(hidden, flow)
        before = (self._upsample(hiddens[i], flows[i]) for i in range(iterations - 1))
        return spec.Flow(full, (*before, full))

    def _prepare_lookup(self, f1: jax.Array, f2: jax.Array):
        """Returns the map from points (B, h, w, 2) to correlations around them."""
        radius = self.config.radius
        levels = [f2]
        for _ in range(self.config.levels - 1):
            levels.append(ops.avg_pool(levels[-1], 2, strides=2))
        if self.config.correlation == "on_demand":
            return lambda points: ops.lookup_on_demand(
                f1, levels, points, radius=radius
            )
        # The mean commutes with the product, and a map is smaller than a volume.
        pyramid = [ops.all_pairs_correlation(f1, level) for level in levels]
        return lambda points: ops.lookup(pyramid, points, radius=radius)

    def _upsample(self, hidden: jax.Array, flow: jax.Array) -> jax.Array:
        """Brings (B, h, w, 2) to (B, 8h, 8w, 2), in pixels of the finer grid."""
        if self.mask1 is None or self.mask2 is None:
            size = (8 * flow.shape[-3], 8 * flow.shape[-2])
            return 8 * ops.resize(flow, size, align_corners=True)
        mask = nnx.relu(self.mask1(hidden)).astype(jnp.float32)
        return ops.convex_upsample(flow, 0.25 * self.mask2(mask), factor=8)


_SMALL = Config(
    stem=32,
    stages=(32, 64, 96),
    bottleneck=True,
    feature_features=128,
    context_norm="none",
    hidden=96,
    context=64,
    radius=3,
    correlation_features=(96,),
    flow_features=(64, 32),
    motion=80,
    separable=False,
    head=128,
    convex=False,
)

TINY = Config(
    iterations=2,
    stem=4,
    stages=(4, 4, 8),
    feature_features=8,
    hidden=8,
    context=8,
    levels=2,
    radius=1,
    correlation_features=(8, 8),
    flow_features=(8, 4),
    motion=6,
    head=8,
)

VARIANTS = {"raft_large": Config(), "raft_small": _SMALL}

_PRINCETON = "https://github.com/princeton-vl/RAFT"
_ARCHIVE = "https://www.dropbox.com/s/npt24nvhoojdr0n/models.zip?dl=1"
_TORCHVISION = "https://pytorch.org/vision/stable/models/raft.html"


def _torchvision(file: str, num_params: int, *sintel: float) -> spec.Weights:
    names = ("sintel_train_clean_epe", "sintel_train_final_epe")
    return spec.Weights(
        file=file,
        source=_TORCHVISION,
        licence="BSD-3-Clause",
        dialect="torchvision",
        sha256=file.rpartition("-")[2].removesuffix(".pth"),
        url=f"https://download.pytorch.org/models/{file}",
        num_params=num_params,
        metrics=dict(zip(names, sintel, strict=False)),
        citation="Teed and Deng, RAFT, ECCV 2020",
    )


_LARGE, _LITTLE = 5_257_536, 990_162
WEIGHTS = {
    "raft_large/chairs_things": _torchvision(
        "raft_large_C_T_V2-1bb1363a.pth", _LARGE, 1.3822, 2.7161
    ),
    "raft_large/chairs_things_v1": _torchvision(
        "raft_large_C_T_V1-22a6c225.pth", _LARGE, 1.4411, 2.7894
    ),
    "raft_large/sintel": _torchvision("raft_large_C_T_SKHT_V2-ff5fadd5.pth", _LARGE),
    "raft_large/sintel_v1": _torchvision("raft_large_C_T_SKHT_V1-0b8c9e55.pth", _LARGE),
    "raft_large/kitti": _torchvision("raft_large_C_T_SKHT_K_V2-b5c70766.pth", _LARGE),
    "raft_large/kitti_v1": _torchvision(
        "raft_large_C_T_SKHT_K_V1-4a6a5039.pth", _LARGE
    ),
    "raft_small/chairs_things": _torchvision(
        "raft_small_C_T_V2-01064c6d.pth", _LITTLE, 1.9901, 3.2831
    ),
    "raft_small/chairs_things_v1": _torchvision(
        "raft_small_C_T_V1-ad48884c.pth", _LITTLE, 2.1231, 3.2790
    ),
    "raft_large/things": spec.Weights(
        file="raft-things.pth",
        source=_PRINCETON,
        licence="BSD-3-Clause",
        dialect="princeton",
        url=_ARCHIVE,
        member="models/raft-things.pth",
        num_params=5_257_536,
        metrics={"sintel_train_clean_epe": 1.43, "sintel_train_final_epe": 2.71},
        citation="Teed and Deng, RAFT, ECCV 2020",
    ),
    "raft_small/things": spec.Weights(
        file="raft-small.pth",
        source=_PRINCETON,
        licence="BSD-3-Clause",
        dialect="princeton",
        url=_ARCHIVE,
        member="models/raft-small.pth",
        num_params=990_162,
        metrics={"sintel_train_clean_epe": 2.21, "sintel_train_final_epe": 3.35},
        citation="Teed and Deng, RAFT, ECCV 2020",
    ),
    "raft_large/mmflow_chairs": spec.mmflow_weights(
        "raft",
        "raft_8x2_100k_flyingchairs.pth",
        num_params=5_257_536,
        metrics={"sintel_train_clean_epe": 2.27, "sintel_train_final_epe": 4.85},
        citation="Teed and Deng, RAFT, ECCV 2020",
    ),
    "raft_large/mmflow_things": spec.mmflow_weights(
        "raft",
        "raft_8x2_100k_flyingthings3d_400x720.pth",
        num_params=5_257_536,
        metrics={"sintel_train_clean_epe": 1.38, "sintel_train_final_epe": 2.79},
        citation="Teed and Deng, RAFT, ECCV 2020",
    ),
    "raft_large/mmflow_mixed": spec.mmflow_weights(
        "raft",
        "raft_8x2_100k_mixed_368x768.pth",
        num_params=5_257_536,
        metrics={"sintel_train_clean_epe": 0.63, "sintel_train_final_epe": 1.01},
        citation="Teed and Deng, RAFT, ECCV 2020",
    ),
}

_LEAF = r"(weight|bias|running_mean|running_var)"
KEYS = {
    "princeton": (
        (r".*\.num_batches_tracked", None),
        # The shortcut's normalisation is registered twice; this is its other name.
        (rf"cnet\.layer\d\.\d\.norm3\.{_LEAF}", None),
        (r"([fc]net\.conv[12])\.(weight|bias)", r"\1.\2"),
        (rf"cnet\.norm1\.{_LEAF}", r"cnet.norm1.batch.\1"),
        (
            r"([fc]net\.layer\d)\.(\d)\.(conv\d)\.(weight|bias)",
            r"\1_\2.\3.\4",
        ),
        (rf"(cnet\.layer\d)\.(\d)\.(norm[12])\.{_LEAF}", r"\1_\2.\3.batch.\4"),
        (
            r"([fc]net\.layer\d)\.(\d)\.downsample\.0\.(weight|bias)",
            r"\1_\2.downsample.\3",
        ),
        (
            rf"(cnet\.layer\d)\.(\d)\.downsample\.1\.{_LEAF}",
            r"\1_\2.downsample_norm.batch.\3",
        ),
        (r"(update_block\.encoder\.conv\w*)\.(weight|bias)", r"\1.\2"),
        (r"update_block\.gru\.(conv[zrq])\.(weight|bias)", r"update_block.gru1.\1.\2"),
        (
            r"update_block\.gru\.(conv[zrq])([12])\.(weight|bias)",
            r"update_block.gru\2.\1.\3",
        ),
        (
            r"update_block\.flow_head\.conv([12])\.(weight|bias)",
            r"update_block.flow_conv\1.\2",
        ),
        (r"update_block\.mask\.0\.(weight|bias)", r"mask1.\1"),
        (r"update_block\.mask\.2\.(weight|bias)", r"mask2.\1"),
    ),
    "torchvision": (
        (r".*\.num_batches_tracked", None),
        *(
            entry
            for theirs, ours in (("feature", "fnet"), ("context", "cnet"))
            for entry in (
                (
                    rf"{theirs}_encoder\.convnormrelu\.0\.(weight|bias)",
                    rf"{ours}.conv1.\1",
                ),
                (
                    rf"{theirs}_encoder\.convnormrelu\.1\.{_LEAF}",
                    rf"{ours}.norm1.batch.\1",
                ),
                (rf"{theirs}_encoder\.conv\.(weight|bias)", rf"{ours}.conv2.\1"),
                (
                    rf"{theirs}_encoder\.(layer\d)\.(\d)\.convnormrelu(\d)\.0\.(weight|bias)",
                    rf"{ours}.\1_\2.conv\3.\4",
                ),
                (
                    rf"{theirs}_encoder\.(layer\d)\.(\d)\.convnormrelu(\d)\.1\.{_LEAF}",
                    rf"{ours}.\1_\2.norm\3.batch.\4",
                ),
                (
                    rf"{theirs}_encoder\.(layer\d)\.(\d)\.downsample\.0\.(weight|bias)",
                    rf"{ours}.\1_\2.downsample.\3",
                ),
                (
                    rf"{theirs}_encoder\.(layer\d)\.(\d)\.downsample\.1\.{_LEAF}",
                    rf"{ours}.\1_\2.downsample_norm.batch.\3",
                ),
            )
        ),
        (
            r"update_block\.motion_encoder\.convcorr([12])\.0\.(weight|bias)",
            r"update_block.encoder.convc\1.\2",
        ),
        (
            r"update_block\.motion_encoder\.convflow([12])\.0\.(weight|bias)",
            r"update_block.encoder.convf\1.\2",
        ),
        (
            r"update_block\.motion_encoder\.conv\.0\.(weight|bias)",
            r"update_block.encoder.conv.\1",
        ),
        (
            r"update_block\.recurrent_block\.convgru([12])\.(conv[zrq])\.(weight|bias)",
            r"update_block.gru\1.\2.\3",
        ),
        (
            r"update_block\.flow_head\.conv([12])\.(weight|bias)",
            r"update_block.flow_conv\1.\2",
        ),
        (r"mask_predictor\.convrelu\.0\.(weight|bias)", r"mask1.\1"),
        (r"mask_predictor\.conv\.(weight|bias)", r"mask2.\1"),
    ),
    "mmflow": (
        (r".*\.num_batches_tracked", None),
        *(
            entry
            for theirs, ours in (("encoder", "fnet"), ("context", "cnet"))
            for entry in (
                (rf"{theirs}\.(conv[12])\.(weight|bias)", rf"{ours}.\1.\2"),
                (rf"{theirs}\.bn1\.{_LEAF}", rf"{ours}.norm1.batch.\1"),
                (
                    rf"{theirs}\.res_(layer\d)\.(\d)\.(conv\d)\.(weight|bias)",
                    rf"{ours}.\1_\2.\3.\4",
                ),
                (
                    rf"{theirs}\.res_(layer\d)\.(\d)\.bn(\d)\.{_LEAF}",
                    rf"{ours}.\1_\2.norm\3.batch.\4",
                ),
                (
                    rf"{theirs}\.res_(layer\d)\.(\d)\.downsample\.0\.(weight|bias)",
                    rf"{ours}.\1_\2.downsample.\3",
                ),
                (
                    rf"{theirs}\.res_(layer\d)\.(\d)\.downsample\.1\.{_LEAF}",
                    rf"{ours}.\1_\2.downsample_norm.batch.\3",
                ),
            )
        ),
        *(
            (
                rf"decoder\.encoder\.{theirs}\.conv\.(weight|bias)",
                rf"update_block.encoder.{ours}.\1",
            )
            for theirs, ours in (
                (r"corr_net\.0", "convc1"),
                (r"corr_net\.1", "convc2"),
                (r"flow_net\.0", "convf1"),
                (r"flow_net\.1", "convf2"),
                (r"out_net\.0", "conv"),
            )
        ),
        *(
            (
                rf"decoder\.gru\.conv_([zrq])\.{index}\.conv\.(weight|bias)",
                rf"update_block.gru{index + 1}.conv\1.\2",
            )
            for index in (0, 1)
        ),
        (
            r"decoder\.flow_pred\.layers\.0\.conv\.(weight|bias)",
            r"update_block.flow_conv1.\1",
        ),
        (
            r"decoder\.flow_pred\.predict_layer\.(weight|bias)",
            r"update_block.flow_conv2.\1",
        ),
        (r"decoder\.mask_pred\.layers\.0\.conv\.(weight|bias)", r"mask1.\1"),
        (r"decoder\.mask_pred\.predict_layer\.(weight|bias)", r"mask2.\1"),
    ),
}

ADAPT = {"mmflow": ((r"(encoder|context)\.conv1\.weight", conv.flip_colours),)}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    indifferent=("correlation",),
    adapt=ADAPT,
)
