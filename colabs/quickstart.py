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
# # jaxflow in ten cells
#
# Flow of two frames, warping, the colour wheel; then a small PWC-Net is trained on
# scenes drawn on the device, saved and restored with Orbax. It runs on a CPU, a GPU or
# a TPU.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/quickstart.ipynb)

# %%
import os

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

import jax
import jax.numpy as jnp
import numpy as np
import optax
from IPython.display import display
from PIL import Image

from jaxflow.data import synthetic

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (64, 64) if SMOKE else (96, 128)
STEPS = 4 if SMOKE else 1000
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Two frames whose motion is known
#
# `flow[y, x] = (u, v)`: the point at `(x, y)` of frame 1 is at `(x + u, y + v)` in
# frame 2, in pixels. Images are RGB in [0, 1].

# %%
pair = synthetic.flow_pair(jax.random.key(8), preset="translation", size=SIZE)
frame1, frame2, truth = (np.asarray(pair[k]) for k in ("image1", "image2", "flow"))


def show(*pictures, labels):
    """Shows pictures side by side, enlarged."""
    image = Image.fromarray(jaxflow.viz.panel(pictures, labels=labels))
    display(image.resize((2 * image.width, 2 * image.height)))


scale = jaxflow.viz.max_speed(truth)
show(
    frame1,
    frame2,
    jaxflow.viz.flow_to_image(truth, max_flow=scale),
    labels=["frame 1", "frame 2", "true flow"],
)
display(Image.fromarray(jaxflow.viz.legend(max_flow=scale)))

# %% [markdown]
# ## Flow without training: TV-L1
#
# `estimate_flow` takes uint8 or float frames of any size, one pair or a batch; the name
# of a classical method, or a network.

# %%
flow = jaxflow.estimate_flow("tvl1", frame1, frame2)
print("EPE of TV-L1", float(jaxflow.metrics.epe(flow, truth)))
print("EPE of zero flow", float(jaxflow.metrics.epe(np.zeros_like(truth), truth)))
show(
    jaxflow.viz.flow_to_image(flow, max_flow=scale),
    jaxflow.viz.error_map(flow, truth),
    jaxflow.viz.draw_arrows(frame1, flow, stride=12),
    labels=["TV-L1", "its error", "as arrows"],
)

# %% [markdown]
# ## Warping
#
# Frame 2, pulled back by the flow, is frame 1 except where something was hidden.

# %%
warped = jaxflow.ops.backward_warp(jnp.asarray(frame2), jnp.asarray(truth))
error = np.abs(np.asarray(warped) - frame1).mean(-1)
print("difference where visible", error[~np.asarray(pair["occlusion"])].mean())
show(
    np.asarray(warped),
    jaxflow.viz.overlay(frame1, np.asarray(pair["occlusion"])),
    labels=["frame 2, warped", "hidden in frame 2"],
)

# %% [markdown]
# ## Train a network
#
# One pure step, compiled over all devices; a batch of new scenes is drawn inside it.
# `jaxflow.create_model("pwcnet")` is the published network; this one is a tenth of it,
# and standardises features before it compares them: training takes off sooner.

# %%
names = jaxflow.list_models("flow")
print(len(names), "flow networks:", names[:4], "…")


def build(seed):
    return jaxflow.create_model(
        "pwcnet_small",
        seed=seed,
        pyramid=(16, 24, 32, 48, 64),
        decoder=(64, 48, 48, 32, 24),
        context=(48, 48, 48, 32, 24, 16),
        standardise_features=True,
    )


def draw(key):
    size = 8 * len(jax.devices())
    return synthetic.flow_batch(key, preset="translation", batch_size=size, size=SIZE)


def loss(model, batch):
    flows = model(batch["image1"], batch["image2"]).predictions  # coarse to fine
    weights = jaxflow.losses.PWC_WEIGHTS[-len(flows) :]
    return jaxflow.losses.multi_scale(flows, batch["flow"], weights=weights)


model = build(seed=0)
schedule = optax.cosine_onecycle_schedule(STEPS, 1e-3, pct_start=0.1)
optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
step = jaxflow.train.make_step(model, loss, optimiser, draw=draw)
state = jaxflow.train.init(model, optimiser, seed=0)
state = jaxflow.train.fit(step, state, steps=STEPS, workdir="runs/quickstart")
jaxflow.train.finish(model, state)

# %%
flow = jaxflow.estimate_flow(model, frame1, frame2)
print("EPE of the trained net", float(jaxflow.metrics.epe(flow, truth)))
show(
    jaxflow.viz.flow_to_image(flow, max_flow=scale),
    jaxflow.viz.flow_to_image(truth, max_flow=scale),
    labels=["trained net", "true flow"],
)

# %% [markdown]
# ## Save and restore
#
# Orbax writes nested dictionaries of arrays, with a checksum. Running the training cell
# again would go on from its newest checkpoint in `runs/quickstart`.

# %%
jaxflow.checkpoint.save("quickstart_model", model)
restored = build(seed=1)
jaxflow.checkpoint.restore("quickstart_model", restored)
again = jaxflow.estimate_flow(restored, frame1, frame2)
print("the same bit for bit:", np.array_equal(again, flow))
