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
# # Flow of two frames, and of a video
#
# Flow by a network that comes with the package, its colours, warping, what is hidden, a
# classical method, and a video. It takes a minute on a CPU, and runs on a GPU or a TPU
# unchanged; nothing is downloaded but the package.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/quickstart.ipynb)

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
from IPython.display import Video, display
from PIL import Image

from jaxflow.data import synthetic

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (64, 64) if SMOKE else (160, 224)
FRAMES = 2 if SMOKE else 13
NETWORK = "jaxflow_fast" if SMOKE else "jaxflow_accurate"
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Two frames whose motion is known
#
# `flow[y, x] = (u, v)`: the point at `(x, y)` of frame 1 is at `(x + u, y + v)` in
# frame 2, in pixels. Frames are RGB, uint8 or float in [0, 1]; for frames of your own,
# `jaxflow.io.read_image("a.png")`. The wheel is the key to the colours: where a colour
# is on it, there the point goes.

# %%
SCENE = jax.random.key(8)
pair = jax.jit(lambda key: synthetic.flow_pair(key, preset="translation", size=SIZE))(
    SCENE
)
frame1, frame2, truth = (np.asarray(pair[k]) for k in ("image1", "image2", "flow"))
scale = jaxflow.viz.max_speed(truth)


def show(*pictures, labels, columns=None):
    """Shows pictures side by side."""
    panel = jaxflow.viz.panel(pictures, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


def colours(flow):
    return jaxflow.viz.flow_to_image(flow, max_flow=scale)


show(frame1, frame2, colours(truth), labels=["frame 1", "frame 2", "true flow"])
display(Image.fromarray(jaxflow.viz.legend(max_flow=scale)))

# %% [markdown]
# ## Flow by the network that comes along
#
# `estimate_flow` takes frames of any size, one pair or a batch. The weights of
# "jaxflow_accurate" and of the smaller "jaxflow_fast" are part of the package; others
# are loaded: `jaxflow.load_pretrained("raft/sintel")`. On the command line:
# `jaxflow flow a.png b.png --model jaxflow_accurate -o flow.png`.

# %%
flow = jaxflow.estimate_flow(NETWORK, frame1, frame2)
print(f"mean endpoint error {float(jaxflow.metrics.epe(flow, truth)):.2f} pixels")
print(f"of zero flow {float(jaxflow.metrics.epe(0 * truth, truth)):.2f} pixels")
show(
    colours(flow),
    jaxflow.viz.draw_arrows(frame1, flow, stride=16),
    jaxflow.viz.error_map(flow, truth),
    labels=[NETWORK, "as arrows", "its error"],
)

# %% [markdown]
# ## A classical method
#
# The name of a method that needs no training does as well. `show` has the same scale
# of colours for all.

# %%
classical = jaxflow.estimate_flow("tvl1", frame1, frame2)
print(f"TV-L1: {float(jaxflow.metrics.epe(classical, truth)):.2f} pixels")
show(
    colours(truth),
    colours(classical),
    jaxflow.viz.error_map(classical, truth),
    labels=["true flow", "TV-L1", "its error"],
)

# %% [markdown]
# ## Warping, and what is hidden
#
# Frame 2, pulled back by the flow, is frame 1, except where frame 2 hides the point:
# there, flow and backward flow do not cancel.

# %%
both = jaxflow.estimate_both_ways(NETWORK, frame1, frame2)
warped = np.asarray(jaxflow.ops.backward_warp(jnp.asarray(frame2), both.forward))
hidden = np.asarray(pair["occlusion"])
found = both.occluded1
for name, other in (("as it is", frame2), ("warped", warped)):
    error = np.abs(other - frame1).mean(-1)
    print(f"frame 2 {name}: differs by {error[~hidden].mean():.3f} where visible")
print(f"of the hidden pixels {found[hidden].mean():.0%} are found")
show(
    warped,
    jaxflow.viz.overlay(frame1, hidden),
    jaxflow.viz.overlay(frame1, found),
    labels=["frame 2, warped", "hidden in truth", "hidden by both flows"],
)

# %% [markdown]
# ## Files
#
# Flow is kept in files of several kinds, by the ending of the name; `valid` tells where
# it is known. `jaxflow view flow.flo --frame a.png b.png` makes a page to look at it.

# %%
jaxflow.io.write_image("a.png", frame1)
jaxflow.io.write_image("flow.png", colours(flow))
jaxflow.io.write_flow("flow.flo", flow)
read, valid = jaxflow.io.read_flow("flow.flo")
print("the same bit for bit:", np.array_equal(read, flow), "known:", valid.all())

# %% [markdown]
# ## A video
#
# The same scene in many small steps, written as a video, read again, and the flow of
# each frame to the next, batch by batch, as a video. On the command line:
# `jaxflow flow clip.mp4 --model jaxflow_fast -o flow.mp4`.

# %%
draw = jax.jit(lambda key: synthetic.draw_scene(key, preset="translation", size=SIZE))
scene = draw(SCENE)
points = jnp.stack(jnp.meshgrid(*map(jnp.arange, SIZE[::-1])), -1)


@jax.jit
def frame_at(time):
    """Draws the scene at a time from 0, frame 1, to 1, frame 2."""
    layers = scene.layers._replace(backward=time * scene.layers.backward)
    return synthetic.render(scene._replace(layers=layers), points, frame=2)[0]


clip = [np.asarray(frame_at(time)) for time in np.linspace(0, 4, FRAMES)]
jaxflow.io.write_video("clip.mp4", clip, fps=10)

flows = list(jaxflow.stream_flow("jaxflow_fast", jaxflow.io.read_video("clip.mp4")))
longest = max(jaxflow.viz.max_speed(flow) for flow in flows)
painted = [jaxflow.viz.flow_to_image(flow, max_flow=longest) for flow in flows]
jaxflow.io.write_video("flow.mp4", painted, fps=10)
print(len(flows), "flows of", jaxflow.io.video_info("clip.mp4").length, "frames")
some = range(0, len(flows), 4)
show(
    *(clip[i] for i in some),
    *(painted[i] for i in some),
    labels=[f"{what} {i}" for what in ("frame", "flow") for i in some],
    columns=len(some),
)
display(Video("flow.mp4", embed=True))
