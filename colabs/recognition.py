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
# A video goes in, an answer comes out: train a small 3-D network on motion, classify a
# video file, look at its features and at where it sees the action, save and restore it.
# It runs on a CPU, a GPU or a TPU.
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
from IPython.display import display
from PIL import Image

from jaxflow.data import motion_classes

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
STEPS = 3 if SMOKE else 200
BATCH = 32
TESTED = 16 if SMOKE else 400
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Clips whose class is in their motion alone
#
# A texture moves along, turns or grows. A single frame says nothing about the class:
# classes come in pairs that are each other's time reversal, such as the two below.

# %%
TASK = "motion8"
NAMES = motion_classes.TASKS[TASK].classes
test = jax.device_get(motion_classes.load("test", TESTED, task=TASK))


def show(*pictures, labels=None, columns=None, scale=3):
    """Shows pictures side by side, enlarged."""
    image = Image.fromarray(jaxflow.viz.panel(pictures, labels=labels, columns=columns))
    size = (scale * image.width, scale * image.height)
    display(image.resize(size, Image.Resampling.NEAREST))


print(NAMES)
show(*test["clip"][4], *test["clip"][5], columns=8)

# %% [markdown]
# ## Train a network
#
# `jaxflow.create_model("r3d_18")` is the published network, whose official weights
# `jaxflow.load_weights(model, "r3d_18-b3b3357e.pth")` reads. This one is tiny: three
# residual blocks of 3 x 3 x 3 convolutions.


# %%
def build(seed):
    return jaxflow.create_model(
        "r3d_18",
        seed=seed,
        num_classes=len(NAMES),
        num_frames=8,
        frame_rate=None,
        crop_size=32,
        blocks=(1, 1, 1),
        kinds=("3d", "3d", "3d"),
        width=16,
    )


def draw(key):
    return motion_classes.clip_batch(key, task=TASK, batch_size=BATCH)


def loss(model, batch):
    logits = model(batch["clip"])
    right = jnp.mean(jnp.argmax(logits, -1) == batch["label"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return jnp.mean(losses), {"accuracy": right}


model = build(seed=0)
schedule = optax.cosine_onecycle_schedule(max(STEPS, 4), 4e-3)
optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
step = jaxflow.train.make_step(model, loss, optimiser, draw=draw)
state = jaxflow.train.init(model, optimiser, seed=0)
state = jaxflow.train.fit(step, state, steps=STEPS, workdir="runs/recognition")
jaxflow.train.finish(model, state)

# %% [markdown]
# ## Classify
#
# Clips of the test set as they are; then a video file, in several views. A file may
# also be a folder of pictures. On the command line:
# `jaxflow classify clip.mp4 --model slow_r50 --weights FILE --views 10x3`.

# %%
scores = jaxflow.classify.score_views(model, test["clip"], batch_size=16)
print("accuracy on new clips", np.mean(scores.argmax(-1) == test["label"]))

number = 4
jaxflow.io.write_video("clip.mp4", test["clip"][number], fps=30, lossless=True)
scores = jaxflow.classify_video(model, "clip.mp4", clips=2, crops=3)
print("true class:", NAMES[test["label"][number]])
for name, score in jaxflow.classify.top_k(scores, 3, labels=NAMES):
    print(f"{score:.3f} {name}")

# %% [markdown]
# ## Features
#
# Any named layer can be asked for what it puts out.

# %%
print([name for name in jaxflow.classify.layer_names(model) if name.count(".") == 1])
features = jaxflow.classify.view_features(
    model, test["clip"], "stages.2.0", batch_size=16
)
vectors = features.mean((1, 2, 3))
vectors = vectors - vectors.mean(0)
vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
likeness = vectors @ vectors.T
same = test["label"][:, None] == test["label"][None]
other = ~np.eye(len(vectors), dtype=bool)
print(features.shape, "cosine within a class", likeness[same & other].mean())
print("between classes", likeness[~same].mean())

# %% [markdown]
# ## Where the network sees the action
#
# Grad-CAM: what of a layer speaks for the best class, from blue to red.

# %%
clip = jnp.asarray(test["clip"][number])[None]
heat = jaxflow.classify.grad_cam(model, clip, layer="stages.1.0")
frames = np.asarray(clip[0, ::2])
mixed = jaxflow.classify.overlay(frames, np.asarray(heat[0, ::2]))
show(*frames, *mixed, columns=len(frames))

# %% [markdown]
# ## Save and restore
#
# Orbax writes nested dictionaries of arrays, with a checksum. Running the training cell
# again would go on from its newest checkpoint in `runs/recognition`.

# %%
jaxflow.checkpoint.save("recognition_model", model)
restored = build(seed=1)
jaxflow.checkpoint.restore("recognition_model", restored)
again = jaxflow.classify_video(restored, "clip.mp4", clips=2, crops=3)
print("the same bit for bit:", np.array_equal(again, scores))
