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
# # From an official checkpoint to jaxflow
#
# A published checkpoint names its weights as its authors did and lays them out as torch
# does. Here one is read, checked against an independent computation, and written as
# safetensors, which hold arrays alone and never run code. All of it is offline: the
# checkpoint, of a small SpyNet as `sniklaus/pytorch-spynet` lays it out, is made here.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/convert_weights.ipynb)

# %%
import itertools
import os
import pickle

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[video,experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from IPython.display import display
from PIL import Image

from jaxflow import convert
from jaxflow.data import synthetic

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (32, 32) if SMOKE else (96, 128)
SMALL = dict(networks=2, features=(8, 8, 8, 4), kernel_size=3)
print(jaxflow.__version__, jax.__version__, jax.devices())


def show(*pictures, labels, scale=2):
    """Shows pictures side by side, enlarged."""
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels)
    display(Image.fromarray(panel).quantize(128))


# %% [markdown]
# ## A checkpoint as its authors would write it
#
# Kernels are (out, in, height, width); layers are numbered with the ReLU between them,
# so that every second number has weights; `DataParallel` puts `module.` in front. With
# torch at hand it is a torch file, without it a pickle of arrays: both are read without
# torch, by a reader that refuses everything but arrays and plain containers.

# %%
random = np.random.default_rng(0)
channels = (8, *SMALL["features"], 2)
official = {}
for level in range(SMALL["networks"]):
    for layer, (before, after) in enumerate(itertools.pairwise(channels)):
        name = f"module.moduleBasic.{level}.moduleBasic.{2 * layer}"
        kernel = random.normal(size=(after, before, 3, 3)) / np.sqrt(9 * before)
        official[f"{name}.weight"] = kernel.astype(np.float32)
        official[f"{name}.bias"] = np.zeros(after, np.float32)

try:
    import torch

    state = {key: torch.from_numpy(array) for key, array in official.items()}
    torch.save({"state_dict": state}, "official.pth")
except ImportError:
    with open("official.pth", "wb") as file:
        pickle.dump({"state_dict": official}, file)
print(f"{len(official)} arrays:", *list(official)[:2], sep="\n  ")

# %% [markdown]
# ## Read it
#
# The table of keys is in the model's own file. Prefixes and wrappers are found; what is
# missing, left over or misshapen is an error, and the model stays as it was.

# %%
model = jaxflow.create_model("spynet", seed=0, **SMALL)
jaxflow.load_weights(model, "official.pth")
kernel = np.asarray(model.levels[0].convs[0].kernel[...])
print("levels.0.convs.0.kernel is (height, width, in, out):", kernel.shape)

broken = {key: array for key, array in official.items() if "Basic.1.moduleB" not in key}
try:
    jaxflow.convert_state_dict(model, broken)
except ValueError as error:
    print("half a checkpoint is refused:", error)

# %% [markdown]
# ## Check it
#
# Nothing is right because it loads: a kernel of the right shape may still be turned
# round. So the first layer is computed from the official arrays by SciPy, in torch's
# layout, and compared with what the converted layer puts out. (The network itself is
# checked in the suite against outputs of the authors' program.)

# %%
pair = synthetic.flow_pair(jax.random.key(8), preset="translation", size=SIZE)
frame1, frame2, truth = (np.asarray(pair[k]) for k in ("image1", "image2", "flow"))
seen = np.concatenate([frame1, frame2, truth], -1)  # eight channels, as a level sees
weight = official["module.moduleBasic.0.moduleBasic.0.weight"]
expected = np.stack(
    [
        sum(
            scipy.signal.correlate2d(seen[..., i], kernel[i], mode="same")
            for i in range(8)
        )
        for kernel in weight
    ],
    axis=-1,
)
ours = np.asarray(model.levels[0].convs[0](jnp.asarray(seen)))
turned = np.asarray(model.levels[0].convs[0](jnp.asarray(seen[::-1])))[::-1]
size = np.abs(expected).max()
print(
    "largest difference:", np.abs(ours - expected).max() / size, "of the largest value"
)
print("were the kernels upside down:", np.abs(turned - expected).max() / size)


def gray(array):
    return np.uint8(np.clip(127 + 127 * array / size, 0, 255))


show(
    frame1,
    gray(expected[..., 0]),
    gray(ours[..., 0]),
    gray(1000 * (ours - expected)[..., 0]),
    gray((turned - expected)[..., 0]),
    labels=["frame 1", "SciPy", "jaxflow", "difference x 1000", "if upside down"],
)

# %% [markdown]
# ## Write and read safetensors
#
# The file carries the config of its model, and refuses to be read into another one. On
# the command line: `jaxflow convert official.pth --model spynet -o mine.safetensors`.

# %%
jaxflow.save_weights(model, "mine.safetensors")
again = jaxflow.create_model("spynet", seed=1, **SMALL)
jaxflow.load_weights(again, "mine.safetensors")
after = convert.read_checkpoint("mine.safetensors")
flows = [jaxflow.estimate_flow(net, frame1, frame2) for net in (model, again)]
size = os.path.getsize("mine.safetensors")
print(f"{size} bytes, {len(after)} arrays:", *list(after)[:2], sep="\n  ")
print("the same bit for bit:", np.array_equal(*flows))

# %% [markdown]
# ## Weights that mean something
#
# The weights that come with jaxflow, through the same door: a network of fresh weights
# is filled from a file, and sees. (`jaxflow.load_pretrained("spynet/sintel-final")`
# fetches what authors offer, and says its licence first.)

# %%
jaxflow.save_weights(jaxflow.load_pretrained("jaxflow_fast"), "fast.safetensors")
fresh = jaxflow.create_model("jaxflow_fast", seed=3)
scale = jaxflow.viz.max_speed(truth)
pictures, labels = [frame1, jaxflow.viz.flow_to_image(truth, max_flow=scale)], []
for name in ("fresh", "filled"):
    flow = jaxflow.estimate_flow(fresh, frame1, frame2)
    epe = float(jaxflow.metrics.epe(flow, truth))
    print(f"{name}: endpoint error {epe:.2f} pixels")
    pictures.append(jaxflow.viz.flow_to_image(flow, max_flow=scale))
    labels.append(f"{name}, {epe:.2f}")
    jaxflow.load_weights(fresh, "fast.safetensors")
show(*pictures, labels=["frame 1", "truth", *labels])
