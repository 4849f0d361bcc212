# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # FlowNet2, taken apart
#
# Ilg et al. (CVPR 2017) stack networks, each of which sees what the one before it left
# over, and fuse the stack with a network for small motions. Here each part is called by
# itself, and what it passes on is shown. It runs on a CPU, a GPU or a TPU unchanged.
#
# The authors' weights are for research only and cannot come along. With their file
# `FlowNet2_checkpoint.pth.tar` in the folder, it is converted and taken apart. Without
# it a narrow stand-in learns the scene below by heart: it shows what goes where, and
# says nothing of how well FlowNet2 does on scenes that it has not seen.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/flownet2_anatomy.ipynb)

# %%
import os

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[video,experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from IPython.display import display
from PIL import Image

from jaxflow import losses, ops
from jaxflow.data import synthetic
from jaxflow.layers import flownet

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
OFFICIAL = "FlowNet2_checkpoint.pth.tar"
SIZE = (64, 64) if SMOKE else (64, 128)
if os.path.exists(OFFICIAL):
    SIZE = (256, 384)
STEPS = 3 if SMOKE else 150
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## A scene with small and large motions
#
# The background moves by less than a pixel or so, the objects by many: what is called
# fast below moves by more than 2 pixels.

# %%
spread, motion = synthetic.Spread, synthetic.Motion
recipe = synthetic.Recipe(
    background=motion(translation=spread(sigma=0.7, limit=1.2)),
    objects=motion(translation=spread(sigma=6.0, limit=9.0)),
    count=(3, 4),
    diameter=(240.0, 60.0, 150.0, 400.0),
    scaled=False,
)
pair = jax.jit(lambda key: synthetic.flow_pair(key, preset=recipe, size=SIZE))(
    jax.random.key(10)
)
image1, image2, truth = (pair[k][None] for k in ("image1", "image2", "flow"))
fast = jnp.linalg.norm(truth, axis=-1) > 2
LONGEST = jaxflow.viz.max_speed(np.asarray(truth))


def show(*pictures, labels, columns=None):
    """Shows pictures side by side, enlarged."""
    scale = max(1, 256 // SIZE[1])
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


def colours(flow):
    return jaxflow.viz.flow_to_image(np.asarray(flow[0]), max_flow=LONGEST)


def gray(error):
    """Shows a brightness error, (1, H, W, 1): white is a half or more."""
    return np.uint8(255 * np.clip(2 * np.asarray(error[0, ..., 0]), 0, 1))


print(f"{float(fast.mean()):.0%} of the pixels are fast")
show(
    image1[0],
    image2[0],
    colours(truth),
    np.uint8(255 * np.asarray(fast[0])),
    labels=["frame 1", "frame 2", "true flow", "fast"],
    columns=2,
)

# %% [markdown]
# ## The whole, from its parts
#
# A stage sees both frames, frame 2 warped by the flow so far, that flow in units of 20
# pixels, and the brightness error: how much frame 1 and the warped frame 2 differ. The
# fusion sees frame 1, and of both estimates the flow, its length and its brightness
# error. This is all of FlowNet2 but the networks themselves.


# %%
def taken_apart(model, image1, image2, between=lambda flow: flow):
    """Returns what each part puts out; `between` is done to flow that is passed on."""
    x1, x2 = flownet.centre(image1, image2, model.config.mean)
    parts, stacked = {}, None
    for name in model.config.stages:
        stage = getattr(model, name)
        flows = stage.flows(x1, x2) if stacked is None else stage.flows(stacked)
        flow = between(flownet.upsample(flownet.DIV_FLOW * flows[-1]))
        warped = ops.backward_warp(x2, flow, padding="border")
        error = flownet.brightness_error(x1, warped)
        stacked = jnp.concatenate(
            [x1, x2, warped, flow / flownet.DIV_FLOW, error], axis=-1
        )
        parts[name] = dict(flows=flows, flow=flow, error=error)
    small = model.flownets_d.flows(jnp.concatenate([x1, x2], axis=-1))
    for name, levels, unit in (
        ("flownets_d", small, model.config.small_scale),
        ("the stack", flows, flownet.DIV_FLOW),
    ):
        flow = between(flownet.upsample(unit * levels[-1], method="nearest"))
        warped = ops.backward_warp(x2, flow, padding="border")
        error = flownet.brightness_error(x1, warped)
        parts[name] = dict(flows=levels, flow=flow, error=error)
    estimates = parts["flownets_d"]["flow"], parts["the stack"]["flow"]
    fused = model.flownetfusion.fuse(x1, x2, *estimates)
    parts["flownetfusion"] = dict(flows=fused, flow=fused[-1])
    return parts


if os.path.exists(OFFICIAL):
    model = jaxflow.create_model("flownet2")
    jaxflow.load_weights(model, OFFICIAL)
else:
    model = jaxflow.create_model(
        "flownet2", seed=0, width=1 / 16 if SMOKE else 1 / 8, small_scale=20.0
    )
run = nnx.jit(taken_apart)
fresh = run(model, image1, image2)
whole = nnx.jit(lambda model, *frames: model(*frames).flow)(model, image1, image2)
print("the parts make the whole:", np.allclose(fresh["flownetfusion"]["flow"], whole))
count = {
    name: sum(x.size for x in jax.tree.leaves(nnx.state(getattr(model, name))))
    for name in sorted((*model.config.stages, "flownets_d", "flownetfusion"))
}
print("parameters:", count, "in all", sum(count.values()))

# %% [markdown]
# ## Each part learns what it is for
#
# In the paper the stack learns large motions on FlyingChairs and FlyingThings3D, stage
# after stage, and FlowNetSD small ones on ChairsSDHom; the fusion learns last. The
# stand-in learns one scene, all at once: the stack's loss counts fast pixels alone,
# FlowNetSD's slow ones, that of the fusion all; no gradient passes from part to part.


# %%
def loss(model, batch):
    parts = taken_apart(model, batch["image1"], batch["image2"], jax.lax.stop_gradient)
    total = losses.end_point(parts["flownetfusion"]["flow"], truth)
    for name in (*model.config.stages, "flownets_d"):
        levels = flownet.in_own_pixels(parts[name]["flows"], *SIZE)
        mask = ~fast if name == "flownets_d" else fast
        weights = (0.1,) * len(levels)
        total += losses.multi_scale(levels, truth, mask, weights=weights)
    return total


def draw(key):
    return {"image1": image1, "image2": image2}


if not os.path.exists(OFFICIAL):
    optimiser = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(2e-3))
    mesh = jaxflow.train.data_mesh(jax.devices()[:1])
    step = jaxflow.train.make_step(model, loss, optimiser, draw=draw, mesh=mesh)
    state = jaxflow.train.init(model, optimiser, seed=0)
    state = jaxflow.train.fit(step, state, steps=STEPS)
    jaxflow.train.finish(model, state)

# %% [markdown]
# ## Stage by stage
#
# Where a stage is right, the warped frame 2 is frame 1, and the brightness error is
# black: the next stage is told where something is left to do. What frame 2 hides stays
# bright even under the true flow.

# %%
parts = run(model, image1, image2)
x1, x2 = flownet.centre(image1, image2, model.config.mean)


def left_over(flow):
    return flownet.brightness_error(x1, ops.backward_warp(x2, flow, padding="border"))


def errors(flow):
    away = jnp.linalg.norm(flow - truth, axis=-1)
    return float(away[fast].mean()), float(away[~fast].mean())


rows = {"no flow": 0 * truth}
rows |= {name: parts[name]["flow"] for name in model.config.stages}
rows["true flow"] = truth
pictures, labels = [], []
for name, flow in rows.items():
    bright = left_over(flow)
    print(
        f"{name:>10}: endpoint error {errors(flow)[0]:.2f} pixels where fast, "
        f"brightness error {float(bright.mean()):.3f}"
    )
    warped = ops.backward_warp(image2, flow, padding="border")
    pictures += [colours(flow), np.asarray(warped[0]), gray(bright)]
    labels += [name, "frame 2, warped", "brightness error"]
show(*pictures, labels=labels, columns=3)

# %% [markdown]
# ## What the fusion does
#
# FlowNetSD knows small motions and the stack large ones; which of them is right at a
# pixel shows in their brightness errors, and the fusion takes it from there. Last:
# where the fused flow is nearer to the stack's (white) than to FlowNetSD's (black).

# %%
small, large = parts["flownets_d"], parts["the stack"]
fused = parts["flownetfusion"]["flow"]
for name, flow in (
    ("small", small["flow"]),
    ("large", large["flow"]),
    ("fused", fused),
):
    print(f"{name}: fast {errors(flow)[0]:.2f}, slow {errors(flow)[1]:.2f} pixels")
to_large, to_small = (
    jnp.linalg.norm(fused - part["flow"], axis=-1) for part in (large, small)
)
show(
    colours(small["flow"]),
    colours(large["flow"]),
    colours(fused),
    gray(small["error"]),
    gray(large["error"]),
    np.uint8(255 * np.asarray(to_large < to_small)[0]),
    labels=[
        "FlowNetSD",
        "the stack",
        "fused",
        "its brightness error",
        "its brightness error",
        "nearer to the stack",
    ],
    columns=3,
)
