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
# # Train a flow network
#
# A mesh of the devices that are there, one compiled step, a run that is stopped and
# goes on from its Orbax checkpoint, a test on scenes that no training draws. The
# network is a PWC-Net of a tenth of the published size, its scenes are drawn inside the
# step, so that nothing is downloaded. It takes minutes on a CPU, and runs on a GPU or a
# TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/train_flow.ipynb)

# %%
import json
import os
import pathlib

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[video,experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

import jax
import numpy as np
from flax import nnx
from IPython.display import Markdown, display
from PIL import Image, ImageDraw

from jaxflow import evaluate, mesh
from jaxflow.data import synthetic
from jaxflow.demo import flow as demo

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (64, 64) if SMOKE else (64, 96)
STEPS = 4 if SMOKE else 240
TESTED = 2 if SMOKE else 32
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## The devices
#
# Batches are split along the axis "data" of a mesh, weights are on every device; what
# the step computes is the same for any number of them. A batch that does not divide is
# refused in one line.

# %%
devices = mesh.data_mesh()
BATCH = 8 * devices.shape["data"]
print(dict(devices.shape), "of", devices.devices.flat[0].device_kind)
print("a batch of", BATCH, "scenes, 8 on each device")

# %% [markdown]
# ## The scenes
#
# A background and objects, each of which shifts; both frames, the motion and what it
# hides come from one formula. A key makes a scene, so that a run can be repeated.


# %%
def draw(key):
    return synthetic.flow_batch(key, preset="translation", batch_size=BATCH, size=SIZE)


def show(*pictures, labels, columns=None, scale=2):
    """Shows pictures side by side, enlarged."""
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


def tests(key):
    """Draws scenes that no training draws, as a data set."""
    scenes = jax.jit(
        lambda keys: jax.lax.map(
            lambda k: synthetic.flow_pair(k, preset="translation", size=SIZE), keys
        )
    )(jax.random.split(key, TESTED))
    parts = [np.asarray(scenes[k]) for k in ("image1", "image2", "flow")]
    known = np.ones((TESTED, *SIZE), bool)
    return list(zip(*parts, known, strict=True))


held_out = tests(jax.random.key(2**20))
frame1, frame2, truth, _ = held_out[0]
longest = jaxflow.viz.max_speed(truth)
show(
    frame1,
    frame2,
    jaxflow.viz.flow_to_image(truth, max_flow=longest),
    labels=["frame 1", "frame 2", "true flow"],
)

# %% [markdown]
# ## The step
#
# One pure function from a state to the next, compiled once. `jaxflow.create_model(
# "pwcnet")` is the published network, which takes thousands of steps to take off. Four
# things make it hundreds: features are standardised before they are compared; the first
# flow is near zero, so that little is warped; the first layer does not see mid-grey, so
# that features differ from the start; and Muon makes the update of each kernel
# orthogonal, where Adam's has few directions. The loss compares the flow of each level
# with the truth, as the paper does.


# %%
def build(seed):
    model = jaxflow.create_model(
        "pwcnet_small",
        seed=seed,
        pyramid=(16, 24, 32, 48, 64),
        decoder=(64, 48, 48, 32, 24),
        context=(48, 48, 48, 32, 24, 16),
        standardise_features=True,
    )
    for _, part in nnx.iter_graph(model):
        if isinstance(getattr(part, "predict_flow", None), nnx.Module):
            kernel = part.predict_flow.kernel
            kernel[...] = 0.1 * kernel[...]
    first = model.stage1.convs[0]
    first.bias[...] = -0.5 * first.kernel[...].sum((0, 1, 2))
    return model


def loss(model, batch):
    flows = model(batch["image1"], batch["image2"]).predictions  # coarse to fine
    weights = jaxflow.losses.PWC_WEIGHTS[-len(flows) :]
    return jaxflow.losses.multi_scale(flows, batch["flow"], weights=weights)


model = build(seed=0)
optimiser = demo.make_optimiser(STEPS)  # Muon; its rate rises, then falls
step = jaxflow.train.make_step(model, loss, optimiser, draw=draw, mesh=devices)
state = jaxflow.train.init(model, optimiser, seed=0)

# %% [markdown]
# ## Train, be stopped, go on
#
# `fit` writes an Orbax checkpoint every `save_every` steps: weights, the optimiser, the
# step, the random key. Here it is stopped half way; called again, it finds the newest
# checkpoint and goes on, with the same scenes and to the same bits as if it had never
# been stopped. Ctrl-C in the middle is as good.

# %%
ROW = max(1, STEPS // 30)
state = jaxflow.train.fit(
    step, state, steps=STEPS // 2, workdir="runs/pwcnet", log_every=ROW
)
half = jaxflow.train.finish(build(seed=0), state)

fresh = jaxflow.train.init(build(seed=0), optimiser, seed=0)  # as a new process would
state = jaxflow.train.fit(
    step, fresh, steps=STEPS, workdir="runs/pwcnet", log_every=ROW
)
jaxflow.train.finish(model, state)

log = pathlib.Path("runs/pwcnet/metrics.jsonl").read_text().splitlines()
rows = [row for row in map(json.loads, log) if "loss" in row]


def curve(x, y, width=640, height=200):
    """Draws a curve with the numbers of its ends."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    right, bottom = width - 10, height - 24
    pen.line([50, 8, 50, bottom, right, bottom], fill="gray")
    points = [
        (50 + (right - 50) * a / max(x), bottom - (bottom - 8) * b / max(y))
        for a, b in zip(x, y, strict=True)
    ]
    pen.line(points, fill="steelblue", width=2)
    pen.text((4, 4), f"{max(y):.1f}", fill="black")
    pen.text((4, bottom - 6), "0", fill="black")
    pen.text((right - 60, bottom + 6), f"step {max(x)}", fill="black")
    pen.text((60, 8), "loss", fill="steelblue")
    return image


display(curve([row["step"] for row in rows], [row["loss"] for row in rows]))

# %% [markdown]
# ## Save and restore
#
# The model alone: arrays in nested dictionaries, with a checksum and the config that
# they belong to, so that no other network takes them. `jaxflow.save_weights` writes the
# same as safetensors.

# %%
jaxflow.checkpoint.save("pwcnet_model", model)
restored = build(seed=1)
jaxflow.checkpoint.restore("pwcnet_model", restored)
flow = jaxflow.estimate_flow(model, frame1, frame2)
again = jaxflow.estimate_flow(restored, frame1, frame2)
print("the same bit for bit:", np.array_equal(again, flow))

# %% [markdown]
# ## Evaluate
#
# As the benchmarks do, on the scenes that were kept apart; every estimator is called in
# the same way. For files: `jaxflow evaluate flow --model runs/pwcnet --data
# chairs=DIR`. So short a training does not reach the network that comes with the
# package, which has seen ten thousands of steps; it shows that all is in order.

# %%
estimators = {
    "no motion": lambda one, two: np.zeros_like(truth),
    "half way": half,
    "trained": restored,
    "jaxflow_fast": "jaxflow_fast",
}
tables = {name: evaluate.evaluate_flow(e, held_out) for name, e in estimators.items()}
columns = ("epe", "3px", "seconds")
rows = {n: {c: row[c] for c in columns if c in row} for n, row in tables.items()}
display(Markdown(evaluate.format_markdown({f"{TESTED} scenes": rows})))
flows = {
    name: jaxflow.estimate_flow(e, frame1, frame2)
    for name, e in estimators.items()
    if name != "no motion"
}
show(
    jaxflow.viz.flow_to_image(truth, max_flow=longest),
    *(jaxflow.viz.flow_to_image(f, max_flow=longest) for f in flows.values()),
    labels=[
        "true flow",
        *(
            f"{name}, {float(jaxflow.metrics.epe(f, truth)):.2f}"
            for name, f in flows.items()
        ),
    ],
    columns=2,
)
print("mean endpoint error in pixels, trained:", round(tables["trained"]["epe"], 2))
