"""FlowNet 2.0: stacked networks, each correcting the one before, and a fusion.

Ilg, Mayer, Saikia, Keuper, Dosovitskiy, Brox, "FlowNet 2.0: Evolution of Optical Flow
Estimation with Deep Networks" (CVPR 2017).

    stacking, Sec. 4                    _next_input: x1, x2, warp(x2, F), F / 20, error
    FlowNet2-CS, -CSS                   Config(stages=…)
    small displacements and fusion, 5   Config(fusion=True): FlowNetSD and FlowNetFusion
    3/8-width networks, Table 3         Config(width=3 / 8)

Weights: NVIDIA/flownet2-pytorch converted those of the authors (research only). The
reduced ones exist only in the authors' Caffe archive.

Deviations: as in NVIDIA's code, warping clamps at the border (the Caffe original fills
with 0), FlowNet2-CSS and the links into the fusion are up-sampled by nearest neighbour,
and FlowNetSD's output is divided by 20 where all others are multiplied: its weights
inside FlowNet2 were trained on that scale. The variants for mmflow's weights follow
mmflow: no mean is subtracted, FlowNetSD's output is multiplied by 20.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxflow import ops, spec
from jaxflow.layers import flownet
from jaxflow.models.flow import flownetc, flownetfusion, flownets, flownetsd

Stage = Literal["flownetc", "flownets", "flownets_1", "flownets_2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of a stack.

    Attributes:
        stages: Names of the stacked networks, in order; "flownetc" is a FlowNetC and
            all others are FlowNetS.
        width: Factor on every channel count.
        fusion: Whether FlowNetSD and the fusion network follow the stack.
        last_upsampling: How a stack without fusion brings its flow to full size.
        frozen: Names of the parts whose gradient is exactly 0: earlier stages, while a
            later one trains.
        mean: Subtracted from each channel; None takes the mean of the two frames.
        small_scale: Factor on FlowNetSD's output on its way into the fusion.
    """

    stages: tuple[Stage, ...] = ("flownetc", "flownets_1", "flownets_2")
    width: float = 1.0
    fusion: bool = False
    last_upsampling: Literal["bilinear", "nearest"] = "nearest"
    frozen: tuple[Stage | Literal["flownets_d"], ...] = ()
    mean: tuple[spec.Number, spec.Number, spec.Number] | None = None
    small_scale: float = 1 / flownet.DIV_FLOW

    def __post_init__(self):
        spec.check_config(self)


class Model(nnx.Module):
    """A stack of FlowNets.

    Its predictions are those of the last part: levels 6 to 2 of the last stage, or
    1/4, 1/2 and full size of the fusion.
    """

    record: ClassVar[spec.Record]
    dtype: DTypeLike = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=64, fit="resize")
        width = config.width
        for index, name in enumerate(config.stages):
            setattr(self, name, _build_stage(name, index, width, rngs=rngs))
        if config.fusion:
            self.flownets_d = flownetsd.Model(flownetsd.Config(width=width), rngs=rngs)
            self.flownetfusion = flownetfusion.Model(
                flownetfusion.Config(width=width), rngs=rngs
            )

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        height, width = image1.shape[-3:-1]
        x1, x2 = flownet.centre(image1, image2, self.config.mean)
        flows = self._run_stack(x1, x2)
        if self.config.fusion:
            fused = self._fuse(x1, x2, flows[-1])
            return spec.Flow(fused[-1], tuple(fused))
        full = flownet.upsample(
            flownet.DIV_FLOW * flows[-1], method=self.config.last_upsampling
        )
        return spec.Flow(full, flownet.in_own_pixels(flows, height, width))

    def _run_stack(self, x1: jax.Array, x2: jax.Array) -> list[jax.Array]:
        """Returns the last stage's flows in units of 20 pixels."""
        flows: list[jax.Array] = []
        for name in self.config.stages:
            stage = getattr(self, name)
            if flows:
                flows = stage.flows(_next_input(x1, x2, flows[-1]))
            elif name == "flownetc":
                flows = stage.flows(x1, x2)
            else:
                flows = stage.flows(jnp.concatenate([x1, x2], axis=-1))
            if name in self.config.frozen:
                flows = [lax.stop_gradient(flow) for flow in flows]
        return flows

    def _fuse(self, x1: jax.Array, x2: jax.Array, large: jax.Array) -> list[jax.Array]:
        small = self.flownets_d.flows(jnp.concatenate([x1, x2], axis=-1))[-1]
        if "flownets_d" in self.config.frozen:
            small = lax.stop_gradient(small)
        return self.flownetfusion.fuse(
            x1,
            x2,
            flownet.upsample(small * self.config.small_scale, method="nearest"),
            flownet.upsample(large * flownet.DIV_FLOW, method="nearest"),
        )


def _build_stage(name: str, index: int, width: float, *, rngs: nnx.Rngs) -> nnx.Module:
    if name == "flownetc":
        return flownetc.Model(flownetc.Config(width=width), rngs=rngs)
    in_features = 12 if index else 6
    config = flownets.Config(in_features=in_features, width=width)
    return flownets.Model(config, rngs=rngs)


def _next_input(x1: jax.Array, x2: jax.Array, flow: jax.Array) -> jax.Array:
    """Stacks what a later stage sees, from quarter-size flow in units of 20 pixels."""
    full = flownet.upsample(flownet.DIV_FLOW * flow)
    warped = ops.backward_warp(x2, full, padding="border")
    error = flownet.brightness_error(x1, warped)
    scaled = (full / flownet.DIV_FLOW).astype(x1.dtype)
    return jnp.concatenate([x1, x2, warped, scaled, error], axis=-1)


TINY = Config(width=1 / 16, fusion=True)

_SMALL = 3 / 8
VARIANTS = {
    "flownet2cs": Config(stages=("flownetc", "flownets_1"), last_upsampling="bilinear"),
    "flownet2css": Config(),
    "flownet2": Config(fusion=True),
    "flownet2ss_small": Config(stages=("flownets", "flownets_1"), width=_SMALL),
    "flownet2cs_small": Config(stages=("flownetc", "flownets_1"), width=_SMALL),
    "flownet2css_small": Config(width=_SMALL),
    "flownet2cs_mmflow": Config(
        stages=("flownetc", "flownets_1"),
        last_upsampling="bilinear",
        mean=flownet.NO_MEAN,
    ),
    "flownet2css_mmflow": Config(last_upsampling="bilinear", mean=flownet.NO_MEAN),
    "flownet2_mmflow": Config(
        fusion=True, mean=flownet.NO_MEAN, small_scale=flownet.DIV_FLOW
    ),
}

_SOURCE = "https://github.com/NVIDIA/flownet2-pytorch"
_LICENCE = "research only (FlowNet 2.0 authors)"
WEIGHTS = {
    "flownet2/flownet2": spec.Weights(
        file="FlowNet2_checkpoint.pth.tar",
        source=_SOURCE,
        licence=_LICENCE,
        dialect="nvidia",
        num_params=162_518_834,
        metrics={"sintel_train_clean_epe": 2.02},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2css/flownet2": spec.Weights(
        file="FlowNet2-CSS_checkpoint.pth.tar",
        source=_SOURCE,
        licence=_LICENCE,
        dialect="nvidia",
        num_params=116_565_942,
        metrics={"sintel_train_clean_epe": 2.10, "sintel_train_final_epe": 3.23},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2cs/flownet2": spec.Weights(
        file="FlowNet2-CS_checkpoint.pth.tar",
        source=_SOURCE,
        licence=_LICENCE,
        dialect="nvidia",
        num_params=77_870_620,
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2cs_mmflow/things": spec.mmflow_weights(
        "flownet2",
        "flownet2cs_8x1_sfine_flyingthings3d_subset_384x768.pth",
        num_params=77_870_620,
        metrics={"sintel_train_clean_epe": 3.69},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2css_mmflow/things": spec.mmflow_weights(
        "flownet2",
        "flownet2css_8x1_sfine_flyingthings3d_subset_384x768.pth",
        num_params=116_565_942,
        metrics={"sintel_train_clean_epe": 3.57},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2css_mmflow/things_sdhom": spec.mmflow_weights(
        "flownet2",
        "flownet2css-sd_8x1_sfine_flyingthings3d_subset_chairssdhom_384x448.pth",
        num_params=116_565_942,
        metrics={"sintel_train_clean_epe": 3.69},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
    "flownet2_mmflow/things": spec.mmflow_weights(
        "flownet2",
        "flownet2_8x1_sfine_flyingthings3d_subset_384x768.pth",
        num_params=162_518_834,
        metrics={"sintel_train_clean_epe": 3.31},
        citation="Ilg et al., FlowNet 2.0, CVPR 2017",
    ),
}

# mmflow's path of a part, our name of it, its file. FlowNet2 holds its stack.
_MMFLOW_PARTS = (
    (r"(?:flownetCSS\.)?flownetC", "flownetc", flownetc),
    (r"(?:flownetCSS\.)?flownetS1", "flownets_1", flownets),
    (r"(?:flownetCSS\.)?flownetS2", "flownets_2", flownets),
    ("flownetSD", "flownets_d", flownetsd),
    ("flownet_fusion", "flownetfusion", flownetfusion),
)


def _inside(path: str, part: str, module) -> tuple:
    """Rows of mmflow's names of one part."""
    return tuple(
        (rf"{path}\.{pattern}", f"{part}.{template}")
        for pattern, template in module.KEYS["mmflow"]
    )


_PART = r"(flownet\w+)"
KEYS = {
    "nvidia": (
        (rf"{_PART}\.(conv\w+)\.0\.(weight|bias)", r"\1.\2.conv.\3"),
        (rf"{_PART}\.(deconv\d)\.0\.(weight|bias)", r"\1.decoder.\2.conv.\3"),
        (rf"{_PART}\.(inter_conv\d)\.0\.(weight|bias)", r"\1.decoder.\2.\3"),
        (
            rf"{_PART}\.(predict_flow\d|upsampled_flow\d_to_\d)\.(weight|bias)",
            r"\1.decoder.\2.\3",
        ),
    ),
    "mmflow": tuple(
        row
        for path, part, module in _MMFLOW_PARTS
        for row in _inside(path, part, module)
    ),
}

ADAPT = {
    "mmflow": tuple(
        (rf"{path}\.{pattern}", function)
        for path, _, module in _MMFLOW_PARTS
        for pattern, function in module.ADAPT["mmflow"]
    )
}

REQUIRES = {"mmflow": {"mean": flownet.NO_MEAN}}

RECORD = Model.record = spec.Record(
    model=Model,
    variants=VARIANTS,
    tiny=TINY,
    weights=WEIGHTS,
    keys=KEYS,
    indifferent=("frozen",),
    adapt=ADAPT,
    requires=REQUIRES,
)
