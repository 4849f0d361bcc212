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
# # Recognise actions
#
# Why a single frame is not enough, what two streams add to it, and how a SlowFast
# network finds motion in frames alone: three small networks learn the same clips. Then
# a video file is classified, and Grad-CAM shows where a network looks. It takes minutes
# on a CPU, and runs on a GPU or a TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/recognition.ipynb)

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

from jaxflow import two_stream
from jaxflow.data import motion_classes

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
STEPS = 2 if SMOKE else 150
BATCH = 4 if SMOKE else 32
TESTED = 16 if SMOKE else 800
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Clips of what is seen times how it moves
#
# A texture of one of four tints moves along one of four ways: 16 classes. A frame tells
# the tint and nothing of the way; the motion tells the way and nothing of the tint. Who
# knows one of them alone is right once in four, if it knows all it can know.

# %%
TASK = "product"
NAMES = motion_classes.TASKS[TASK].classes
test = jax.device_get(motion_classes.load("test", TESTED, task=TASK))


def show(*pictures, labels=None, columns=None, scale=3):
    """Shows pictures side by side, enlarged."""
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


some = [4, 5, 8, 9]  # the same tint, opposite ways; and another tint
show(
    *(frame for number in some for frame in test["clip"][number][::2]),
    labels=[
        f"{NAMES[test['label'][number]]}" if time == 0 else f"frame {2 * time}"
        for number in some
        for time in range(4)
    ],
    columns=4,
)

# %% [markdown]
# ## Three networks
#
# The two streams are small ResNets: one sees the frame in the middle, the other a stack
# of seven flows, estimated by Lucas and Kanade's method inside the training step (any
# flow network does as well). SlowFast sees the eight frames: its slow pathway two of
# them with many channels, its fast one all with few. Published ones:
# `jaxflow.list_models("video")`.


# %%
def stream(kind, seed):
    """Builds a stream of frames, "rgb", or of flow."""
    frames = 1 if kind == "rgb" else 7
    model = jaxflow.create_model(
        "two_stream_r50",
        seed=seed,
        streams=kind,
        num_frames=frames,
        stack=frames,
        num_classes=len(NAMES),
        crop_size=32,
        bottleneck=False,
        blocks=(1, 1, 1, 1),
        width=8,
        dropout_rate=0.0,
        flow_dropout_rate=0.0,
    )
    return model if kind == "rgb" else two_stream.WithFlow(model, "lucas_kanade")


def build(seed):
    return jaxflow.create_model(
        "slowfast_4x16_r50",
        seed=seed,
        num_classes=len(NAMES),
        crop_size=32,
        num_frames=8,
        frame_stride=1,
        alpha=4,
        beta_inv=4,
        blocks=(1, 1, 1, 1),
        width=16,
        dropout_rate=0.0,
    )


models = {
    "one frame": stream("rgb", seed=0),
    "flow": stream("flow", seed=0),
    "SlowFast": build(seed=0),
}


def score(name, model, clip):
    return model(clip[:, 4:5] if name == "one frame" else clip)


for name, model in models.items():
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    print(f"{name}: {count} parameters")

# %% [markdown]
# ## Train
#
# New clips are drawn inside each step. The two streams are trained each by itself, as
# Simonyan and Zisserman did (2014).


# %%
def draw(key):
    return motion_classes.clip_batch(key, task=TASK, batch_size=BATCH)


def train(name, model):
    def loss(model, batch):
        logits = score(name, model, batch["clip"])
        right = jnp.mean(jnp.argmax(logits, -1) == batch["label"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return jnp.mean(losses), {"accuracy": right}

    pace = optax.warmup_cosine_decay_schedule(0.0, 1e-2, STEPS // 10, STEPS)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(pace))
    # The batch need not divide over more devices than one.
    mesh = jaxflow.train.data_mesh(jax.devices()[:1])
    step = jaxflow.train.make_step(model, loss, optimiser, draw=draw, mesh=mesh)
    state = jaxflow.train.init(model, optimiser, seed=0)
    folder = f"runs/{name.replace(' ', '_')}"
    state = jaxflow.train.fit(step, state, steps=STEPS, workdir=folder)
    jaxflow.train.finish(model, state)


for name, model in models.items():
    train(name, model)

# %% [markdown]
# ## Who is right how often
#
# Late fusion is the mean of the logits of both streams: each rules out what it can. A
# table of what is taken for what: the frame mixes up the ways of a tint (squares on the
# diagonal), flow the tints of a way (stripes).


# %%
def logits_of(name, model, clips):
    run = nnx.jit(lambda model, part: score(name, model, part))
    return np.concatenate(
        [np.asarray(run(model, p)) for p in np.split(clips, max(1, len(clips) // 100))]
    )


logits = {name: logits_of(name, model, test["clip"]) for name, model in models.items()}
logits["two streams"] = (logits["one frame"] + logits["flow"]) / 2
tables, labels = [], []
for name, values in logits.items():
    chosen = values.argmax(-1)
    right = np.mean(chosen == test["label"])
    print(f"{name}: {right:.1%} of {len(chosen)} new clips; chance is {1 / 16:.1%}")
    table = np.zeros((16, 16))
    np.add.at(table, (test["label"], chosen), 1)
    share = table / table.sum(1, keepdims=True)
    tables.append(np.uint8(255 * (1 - share)).repeat(3, 0).repeat(3, 1))
    labels.append(f"{name}, {right:.0%}")
show(*tables, labels=labels, columns=4)

# %% [markdown]
# ## A video file
#
# In several views, whose scores are averaged. On the command line:
# `jaxflow classify clip.mp4 --model slow_r50 --weights FILE --views 10x3`.

# %%
model, number = models["SlowFast"], 4
jaxflow.io.write_video("clip.mp4", test["clip"][number], fps=30, lossless=True)
scores = jaxflow.classify_video(model, "clip.mp4", clips=1, crops=1)
print("true class:", NAMES[test["label"][number]])
for name, value in jaxflow.classify.top_k(scores, 3, labels=NAMES):
    print(f"{value:.3f} {name}")

# %% [markdown]
# ## Where the network looks
#
# Grad-CAM: what of a layer speaks for the best class, from blue to red, for the slow
# pathway and the fast one.

# %%
clip = jnp.asarray(test["clip"][number])[None]
frames = np.asarray(clip[0, ::2])
rows = list(frames)
for layer in ("slow.res2", "fast.res2"):
    heat = np.asarray(jaxflow.classify.grad_cam(model, clip, layer=layer)[0, ::2])
    rows += list(jaxflow.classify.overlay(frames, heat))
labels = [f"{what} {2 * i}" for what in ("frame", "slow", "fast") for i in range(4)]
show(*rows, labels=labels, columns=4)

# %% [markdown]
# ## Save and restore
#
# Orbax writes nested dictionaries of arrays, with a checksum. Running the training cell
# again would go on from the newest checkpoints in `runs`.

# %%
jaxflow.checkpoint.save("recognition_model", model)
restored = build(seed=1)
jaxflow.checkpoint.restore("recognition_model", restored)
again = jaxflow.classify_video(restored, "clip.mp4", clips=1, crops=1)
print("the same bit for bit:", np.array_equal(again, scores))
