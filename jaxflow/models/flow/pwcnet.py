"""PWC-Net: pyramid, warping and cost volume.

Sun, Yang, Liu, Kautz, "PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost
Volume" (CVPR 2018); "Models Matter, So Does Training" (TPAMI 2020) for PWC-Net+.

    feature pyramid, Sec. 3         Stage
    warping layer, Eq. 1            ops.backward_warp
    cost volume layer, Eq. 2        ops.local_correlation
    optical flow estimator          Decoder, dense (PWC-Net) or plain (PWC-Net-small)
    context network                 Context

Weights: NVlabs/PWC-Net (CC BY-NC-SA 4.0), converted by sniklaus/pytorch-pwc;
open-mmlab/mmflow re-trained its own (Apache-2.0).

Deviations: none from NVlabs' PyTorch code, whose up-sampling of the finest flow is kept
though nothing uses it. pytorch-pwc masks warped features at 0.999 instead of 0.9999.
mmflow's correlation is not divided by the number of channels ("pwcnet_mmflow").
"pwcnet_small" follows the paper's description. Cost volumes are summed in float32.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import conv

DIV_FLOW = 20.0
FINEST = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a PWC-Net.

    Attributes:
        pyramid: Channels of the levels at 1/2, 1/4, … 1/64 of the size.
        convs_per_level: Convolutions that make a level from the one before.
        radius: Largest displacement that the cost volume compares, in pixels.
        decoder: Channels of the convolutions that estimate flow at a level.
        dense: Whether each of them sees the outputs of all before it.
        appended: For dense decoders, the convolutions whose output goes behind what
            they saw; that of the others goes in front.
        context: Channels of the context network.
        context_dilations: Its dilations.
        divide_by_channels: Whether the cost is the mean over channels, or the sum.
        standardise_features: Whether the features of a level are brought to mean 0 and
            variance 1 before they are compared (Jonschkowski et al., "What Matters in
            Unsupervised Optical Flow", 2020, Sec. 3.2). Published weights expect that
            they are not; training from scratch takes off many times sooner if they are.
        spare_upsampling: Whether it carries the up-sampling of the finest flow, which
            nothing uses but which is among the published parameters.
    """

    pyramid: tuple[int, ...] = (16, 32, 64, 96, 128, 196)
    convs_per_level: int = 3
    radius: int = 4
    decoder: tuple[int, ...] = (128, 128, 96, 64, 32)
    dense: bool = True
    appended: tuple[spec.Count, ...] = ()
    context: tuple[int, ...] = (128, 128, 128, 96, 64, 32)
    context_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1)
    divide_by_channels: bool = True
    standardise_features: bool = False
    spare_upsampling: bool = True

    def __post_init__(self):
        spec.check_config(self)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Returns x where it is positive and 0.1 x elsewhere."""
    return nnx.leaky_relu(x, 0.1)


def standardise(x1: jax.Array, x2: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Brings the features of a pair, (B, H, W, C) each, to mean 0 and variance 1."""
    both = jnp.stack([x1, x2]).astype(jnp.float32)
    axes = (0, 2, 3, 4)
    mean = jnp.mean(both, axes, keepdims=True)
    variance = jnp.mean(jnp.square(both - mean), axes, keepdims=True)
    both = ((both - mean) * lax.rsqrt(variance + 1e-6)).astype(x1.dtype)
    return both[0], both[1]


class Stage(nnx.Module):
    """One level of the feature pyramid: halves the size.

    Args:
        in_features: Channels of the level before.
        out_features: Channels of this one.
        depth: Number of convolutions; the first has stride 2.
        rngs: Source of the initial weights.
    """

    def __init__(
        self, in_features: int, out_features: int, depth: int, *, rngs: nnx.Rngs
    ):
        convs = [conv.Conv(in_features, out_features, strides=2, rngs=rngs)]
        for _ in range(depth - 1):
            convs.append(conv.Conv(out_features, out_features, rngs=rngs))
        self.convs = nnx.data(convs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C_in) to (B, H / 2, W / 2, C_out)."""
        for layer in self.convs:
            x = leaky_relu(layer(x))
        return x


class Decoder(nnx.Module):
    """Estimates the flow of one level, and up-samples it for the next.

    Args:
        in_features: Channels of cost volume, features and up-sampled estimates.
        features: Channels of the convolutions.
        dense: Whether each convolution sees the outputs of all before it.
        appended: Convolutions whose output goes behind their input, if dense.
        upsamples_flow: Whether it up-samples its flow.
        upsamples_features: Whether it up-samples its features.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: tuple[int, ...],
        *,
        dense: bool,
        appended: tuple[int, ...],
        upsamples_flow: bool,
        upsamples_features: bool,
        rngs: nnx.Rngs,
    ):
        self.dense = dense
        self.appended = appended
        convs = []
        for out_features in features:
            convs.append(conv.Conv(in_features, out_features, rngs=rngs))
            in_features = in_features + out_features if dense else out_features
        self.convs = nnx.data(convs)
        self.out_features = in_features
        self.predict_flow = conv.Conv(in_features, 2, rngs=rngs)
        if upsamples_flow:
            self.up_flow = conv.ConvTranspose(2, 2, rngs=rngs)
        if upsamples_features:
            self.up_features = conv.ConvTranspose(in_features, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the flow, (B, H, W, 2), and the features that it comes from."""
        for index, layer in enumerate(self.convs):
            y = leaky_relu(layer(x))
            if not self.dense:
                x = y
            elif index in self.appended:
                x = jnp.concatenate([x, y], axis=-1)
            else:
                x = jnp.concatenate([y, x], axis=-1)
        return self.predict_flow(x.astype(jnp.float32)), x


class Context(nnx.Module):
    """Refines the finest flow with dilated convolutions.

    Args:
        in_features: Channels of the finest decoder.
        features: Channels of the convolutions.
        dilations: Their dilations.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        in_features: int,
        features: tuple[int, ...],
        dilations: tuple[int, ...],
        *,
        rngs: nnx.Rngs,
    ):
        convs = []
        for out_features, dilation in zip(features, dilations, strict=True):
            convs.append(
                conv.Conv(in_features, out_features, dilation=dilation, rngs=rngs)
            )
            in_features = out_features
        self.convs = nnx.data(convs)
        self.predict_flow = conv.Conv(in_features, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns a correction of the flow, (B, H, W, 2)."""
        for layer in self.convs:
            x = leaky_relu(layer(x))
        return self.predict_flow(x.astype(jnp.float32))


class Model(nnx.Module):
    """PWC-Net.

    It predicts flow at 1/64, 1/32, 1/16, 1/8 and 1/4 of the size; its flow is the
    finest of them, bilinearly up-sampled by 4.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.coarsest = len(config.pyramid)
        self.frames = spec.Frames(
            multiple=2**self.coarsest, method="opencv_uint8", flow_source="finest"
        )
        in_features = 3
        for level, out_features in enumerate(config.pyramid, start=1):
            stage = Stage(in_features, out_features, config.convs_per_level, rngs=rngs)
            setattr(self, f"stage{level}", stage)
            in_features = out_features
        for level in range(self.coarsest, FINEST - 1, -1):
            setattr(self, f"decoder{level}", self._build_decoder(level, rngs=rngs))
        self.context = Context(
            getattr(self, f"decoder{FINEST}").out_features,
            config.context,
            config.context_dilations,
            rngs=rngs,
        )

    def _build_decoder(self, level: int, *, rngs: nnx.Rngs) -> Decoder:
        config = self.config
        is_coarsest, is_finest = level == self.coarsest, level == FINEST
        displacements = (2 * config.radius + 1) ** 2
        # Below the coarsest level: features of frame 1, flow and features from above.
        others = 0 if is_coarsest else config.pyramid[level - 1] + 2 + 2
        return Decoder(
            displacements + others,
            config.decoder,
            dense=config.dense,
            appended=config.appended,
            upsamples_flow=config.spare_upsampling or not is_finest,
            upsamples_features=not is_finest,
            rngs=rngs,
        )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        pyramid1, pyramid2 = self._pyramids(image1, image2)
        flows: list[jax.Array] = []
        features = jnp.zeros(())
        for level in range(self.coarsest, FINEST - 1, -1):
            x1, x2 = pyramid1[level], pyramid2[level]
            if level == self.coarsest:
                x = self.cost(x1, x2)
            else:
                above = getattr(self, f"decoder{level + 1}")
                up_flow = above.up_flow(flows[-1])
                pixels = up_flow * (DIV_FLOW / 2**level)
                parts = [
                    self.cost(x1, self.warp(x2, pixels)),
                    x1,
                    up_flow.astype(x1.dtype),
                    above.up_features(features),
                ]
                x = jnp.concatenate(parts, axis=-1)
            flow, features = getattr(self, f"decoder{level}")(x)
            flows.append(flow)
        flows[-1] += self.context(features)
        flows = [
            flow.astype(jnp.float32) * (DIV_FLOW / 2**level)
            for flow, level in zip(
                flows, range(self.coarsest, FINEST - 1, -1), strict=True
            )
        ]
        full = ops.resize_flow(flows[-1], image1.shape[-3:-1])
        return spec.Flow(full, tuple(flows))

    def warp(self, x2: jax.Array, pixels: jax.Array) -> jax.Array:
        """Moves features of frame 2, (B, H, W, C), onto frame 1, by its flow."""
        return ops.backward_warp(x2, pixels, mask=0.9999)

    def cost(self, x1: jax.Array, x2: jax.Array) -> jax.Array:
        """Compares features with those around them: (B, H, W, (2 radius + 1)^2)."""
        if self.config.standardise_features:
            x1, x2 = standardise(x1, x2)
        cost = ops.local_correlation(
            x1,
            x2,
            radius=self.config.radius,
            normalise=self.config.divide_by_channels,
        )
        return leaky_relu(cost.astype(x1.dtype))

    def _pyramids(
        self, image1: jax.Array, image2: jax.Array
    ) -> tuple[dict[int, jax.Array], dict[int, jax.Array]]:
        """Returns level -> features of both frames; the weights are for BGR."""
        x = jnp.concatenate([image1, image2])[..., ::-1].astype(self.dtype)
        pyramid1, pyramid2 = {}, {}
        for level in range(1, self.coarsest + 1):
            x = getattr(self, f"stage{level}")(x)
            pyramid1[level], pyramid2[level] = jnp.split(x, 2)
        return pyramid1, pyramid2


TINY = Config(
    pyramid=(4, 8, 8, 8),
    convs_per_level=2,
    radius=2,
    decoder=(8, 8, 4),
    context=(8, 8, 4),
    context_dilations=(1, 2, 1),
    spare_upsampling=False,
)

VARIANTS = {
    "pwcnet": Config(),
    "pwcnet_old": Config(convs_per_level=2, appended=(0, 2, 3, 4)),
    "pwcnet_small": Config(convs_per_level=2, dense=False, spare_upsampling=False),
    "pwcnet_mmflow": Config(divide_by_channels=False, spare_upsampling=False),
}

OPTIONAL = (r"decoder2\.up_flow\.(kernel|bias)",)
"""Weights that no output depends on, and that only NVlabs' checkpoints carry."""

_CITATION = "Sun et al., PWC-Net, CVPR 2018"
WEIGHTS = {
    "pwcnet/sintel": spec.Weights(
        file="pwc_net.pth.tar",
        source="https://github.com/NVlabs/PWC-Net",
        licence="CC BY-NC-SA 4.0",
        dialect="nvlabs",
        num_params=9_374_340,
        colour="bgr",
        citation=_CITATION,
    ),
    "pwcnet/chairs": spec.Weights(
        file="pwc_net_chairs.pth.tar",
        source="https://github.com/NVlabs/PWC-Net",
        licence="CC BY-NC-SA 4.0",
        dialect="nvlabs",
        num_params=9_374_340,
        colour="bgr",
        citation=_CITATION,
    ),
    "pwcnet_mmflow/chairs": spec.mmflow_weights(
        "pwcnet",
        "pwcnet_8x1_slong_flyingchairs_384x448.pth",
        num_params=9_374_274,
        metrics={"sintel_train_clean_epe": 3.52, "sintel_train_final_epe": 4.81},
        citation=_CITATION,
    ),
    "pwcnet_mmflow/things": spec.mmflow_weights(
        "pwcnet",
        "pwcnet_8x1_sfine_flyingthings3d_subset_384x768.pth",
        num_params=9_374_274,
        metrics={"sintel_train_clean_epe": 2.26, "sintel_train_final_epe": 3.79},
        citation=_CITATION,
    ),
}

_LEAF = r"(weight|bias)"


def _nvlabs_rows(names: tuple[str, ...], names6: tuple[str, ...]) -> tuple:
    """Rows of NVlabs' names, given those of a level's convolutions in order."""
    return (
        *(
            (rf"conv([1-5]){name}\.0\.{_LEAF}", rf"stage\1.convs.{index}.\2")
            for index, name in enumerate(names)
        ),
        *(
            (rf"conv6{name}\.0\.{_LEAF}", rf"stage6.convs.{index}.\1")
            for index, name in enumerate(names6)
        ),
        (rf"conv(\d)_(\d)\.0\.{_LEAF}", r"decoder\1.convs.\2.\3"),
        (rf"predict_flow(\d)\.{_LEAF}", r"decoder\1.predict_flow.\2"),
        (rf"deconv(\d)\.{_LEAF}", r"decoder\1.up_flow.\2"),
        (rf"upfeat(\d)\.{_LEAF}", r"decoder\1.up_features.\2"),
        *(
            (rf"dc_conv{index + 1}\.0\.{_LEAF}", rf"context.convs.{index}.\1")
            for index in range(6)
        ),
        (rf"dc_conv7\.{_LEAF}", r"context.predict_flow.\1"),
    )


_NUMBERS = {"One": 1, "Two": 2, "Thr": 3, "Fou": 4, "Fiv": 5, "Six": 6}


def _sniklaus_rows() -> tuple:
    rows = []
    for name, number in _NUMBERS.items():
        rows += [
            (rf"moduleExtractor\.module{name}\.{2 * index}\.{_LEAF}",
             rf"stage{number}.convs.{index}.\1")
            for index in range(3)
        ]  # fmt: skip
        level = rf"module{name}\."
        # A decoder holds the up-sampling of the level above it.
        rows += [
            (rf"{level}moduleUpflow\.{_LEAF}", rf"decoder{number + 1}.up_flow.\1"),
            (rf"{level}moduleUpfeat\.{_LEAF}", rf"decoder{number + 1}.up_features.\1"),
            (rf"{level}moduleSix\.0\.{_LEAF}", rf"decoder{number}.predict_flow.\1"),
        ]
        rows += [
            (rf"{level}module{other}\.0\.{_LEAF}",
             rf"decoder{number}.convs.{index - 1}.\1")
            for other, index in _NUMBERS.items() if other != "Six"
        ]  # fmt: skip
    rows += [
        (rf"moduleRefiner\.moduleMain\.{2 * index}\.{_LEAF}",
         rf"context.convs.{index}.\1")
        for index in range(6)
    ]  # fmt: skip
    rows.append(
        (rf"moduleRefiner\.moduleMain\.12\.{_LEAF}", r"context.predict_flow.\1")
    )
    return tuple(rows)


def _mmflow_rows() -> tuple:
    decoder = r"decoder\.decoders\.level(\d)\."
    return (
        *(
            (rf"encoder\.layers\.{level}\.layers\.(\d)\.conv\.{_LEAF}",
             rf"stage{level + 1}.convs.\1.\2")
            for level in range(6)
        ),
        (rf"{decoder}dense_net\.layers\.(\d)\.layers\.conv\.{_LEAF}",
         r"decoder\1.convs.\2.\3"),
        (rf"{decoder}predict_layer\.{_LEAF}", r"decoder\1.predict_flow.\2"),
        (rf"{decoder}upflow_layer\.{_LEAF}", r"decoder\1.up_flow.\2"),
        (rf"{decoder}upfeat_layer\.{_LEAF}", r"decoder\1.up_features.\2"),
        (rf"decoder\.post_processor\.layers\.([0-5])\.conv\.{_LEAF}",
         r"context.convs.\1.\2"),
        (rf"decoder\.post_processor\.layers\.6\.{_LEAF}", r"context.predict_flow.\1"),
    )  # fmt: skip


KEYS = {
    "nvlabs": _nvlabs_rows(("a", "aa", "b"), ("aa", "a", "b")),
    "nvlabs_old": _nvlabs_rows(("a", "b"), ("a", "b")),
    "sniklaus": _sniklaus_rows(),
    "mmflow": _mmflow_rows(),
}

REQUIRES = {"mmflow": {"divide_by_channels": False}}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    optional=OPTIONAL,
    requires=REQUIRES,
)
