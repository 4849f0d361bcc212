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
# # Representation flow
#
# Piergiovanni and Ryoo (CVPR 2019) made TV-L1 a layer: a few iterations at one scale,
# on any channels, whose numbers learn with the network around them. What its iterations
# do, where it falls behind TV-L1, what its parameters learn, and what flow of flow
# sees. It takes a minute on a CPU, and runs on a GPU or a TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/representation_flow.ipynb)

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

from jaxflow import ops
from jaxflow.data import synthetic
from jaxflow.layers import representation_flow

# In the test suite the steps are few.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (64, 96)
STEPS = 3 if SMOKE else 60
print(jaxflow.__version__, jax.__version__, jax.devices())


def show(*pictures, labels, columns=None, scale=2):
    """Shows pictures side by side, enlarged."""
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


def colours(flow, longest):
    return jaxflow.viz.flow_to_image(np.asarray(flow), max_flow=longest)


def errors(flow, truth):
    return jnp.linalg.norm(flow - truth, axis=-1).mean((-1, -2))


# %% [markdown]
# ## Iterations
#
# A scene whose background and objects move by parts of a pixel, and by pixels: the true
# flow is scaled, and frame 2 is drawn from frame 1 by it. Flow starts from 0, and a few
# iterations do not fill what has no texture: a layer in a network takes 10 to 20.

# %%
scene = synthetic.flow_pair(jax.random.key(8), preset="translation", size=SIZE)
texture = ops.gaussian_blur(scene["image1"], 0.7)
shape = ops.gaussian_blur(scene["flow"], 1.0)
unit = shape / jnp.abs(shape).max()


@jax.jit
def frames_of(flow):
    """Gray frames in [0, 255] of a motion, the first pulled back from the second."""
    gray = 255 * texture.mean(-1, keepdims=True)
    return ops.backward_warp(gray, flow, padding="border"), gray


def layer(first, second, iterations):
    u, v = representation_flow.tvl1(first, second, iterations=iterations)
    return jnp.concatenate([u, v], -1)


layer = jax.jit(layer, static_argnames="iterations")
truth = 0.8 * unit
first, second = frames_of(truth)
flows = {n: layer(first, second, iterations=n) for n in (1, 5, 20, 100)}
print("mean error of zero flow, in pixels:", float(errors(0 * truth, truth)))
for n, flow in flows.items():
    print(f"{n:4d} iterations: {float(errors(flow, truth)):.3f}")
show(
    np.uint8(first[..., 0]),
    colours(truth, 0.8),
    *(colours(flow, 0.8) for flow in flows.values()),
    labels=["frame 1", "truth", *(f"{n} iterations" for n in flows)],
    columns=3,
)

# %% [markdown]
# ## Against TV-L1
#
# The same energy, but TV-L1 warps and linearises again, from coarse to fine. For small
# motions the layer is as good; beyond a pixel it has one tangent and no pyramid.

# %%
tvl1 = jax.jit(jaxflow.classical.tvl1.tvl1)
rows, labels = [], []
for longest in (0.8, 2.0, 4.0):
    truth = longest * unit
    first, second = frames_of(truth)
    gray = [jnp.repeat(frame / 255, 3, -1) for frame in (first, second)]
    pair = layer(first, second, iterations=100), tvl1(*gray)
    found = [float(errors(flow, truth)) for flow in pair]
    print(f"{longest} pixels: layer {found[0]:.2f}, TV-L1 {found[1]:.2f}")
    rows += [colours(flow, longest) for flow in (truth, *pair)]
    labels += [f"{longest} pixels", f"layer {found[0]:.2f}", f"TV-L1 {found[1]:.2f}"]
show(*rows, labels=labels, columns=3)

# %% [markdown]
# ## What its parameters learn
#
# Tightness, weight, step, and the filters of the flow's derivatives are parameters.
# Here ten iterations learn to be as good as they can on scenes of small motion, seen
# against their truth; in a network they learn from the classes of actions.

# %%
net = representation_flow.FlowLayer(1, iterations=10, variant="hmdb_release")
graph, weights, rest = nnx.split(net, nnx.Param, ...)


def examples(key, count):
    """Draws gray frames in [0, 255] of motions up to a pixel."""
    batch = synthetic.flow_batch(key, preset="translation", batch_size=count, size=SIZE)
    gray = 255 * batch["image1"].mean(-1, keepdims=True)
    flow = batch["flow"] / jnp.abs(batch["flow"]).max((1, 2, 3), keepdims=True)
    return ops.backward_warp(gray, flow, padding="border"), gray, flow


def loss(weights, batch):
    u, v = nnx.merge(graph, weights, rest)(batch[0], batch[1])
    return errors(jnp.concatenate([u, v], -1), batch[2]).mean()


optimiser = optax.adam(2e-2)


@jax.jit
def step(weights, state, key):
    value, slope = jax.value_and_grad(loss)(weights, examples(key, 4))
    updates, state = optimiser.update(slope, state)
    return optax.apply_updates(weights, updates), state, value


new = jax.jit(lambda: examples(jax.random.key(99), 8))()
judge = jax.jit(loss)
print(f"new scenes, as published: {judge(weights, new):.3f} pixels")
learnt, state = weights, optimiser.init(weights)
for number in range(STEPS):
    learnt, state, _ = step(learnt, state, jax.random.key(number))
print(f"after {STEPS} steps: {judge(learnt, new):.3f} pixels")
after = nnx.merge(graph, learnt, rest)
for name in ("theta", "lam", "tau"):
    print(name, *(f"{float(getattr(x, name)[...][0]):.3f}" for x in (net, after)))

# %% [markdown]
# ## Flow of flow
#
# The layer takes any channels, so that it can take its own flow: motion that changes.
# A disc stands still, moves evenly, or speeds up. The flow of a still disc is empty,
# and so is its flow; where a moving disc's flow moves on, there is flow of flow.

# %%
y, x = jnp.mgrid[: SIZE[0], : SIZE[1]].astype(jnp.float32)


def disc(centre):
    away = jnp.hypot(x - SIZE[1] / 3 - centre, y - SIZE[0] / 2) - SIZE[0] / 4
    inside = jax.nn.sigmoid(-away)
    ripples = jnp.sin((x - centre) / 2) * jnp.cos(y / 2)
    return (127 + 100 * inside * ripples)[..., None]


@jax.jit
def twice(places):
    frames = jax.vmap(disc)(places)
    flow = layer(frames[:-1], frames[1:], iterations=20)
    stretched = representation_flow.stretch(flow)
    return flow, layer(stretched[:1], stretched[1:], iterations=20)


rows, labels = [], []
for name, places in {
    "still": [0.0, 0.0, 0.0],
    "even": [0.0, 0.8, 1.6],
    "faster": [0.0, 0.4, 1.6],
}.items():
    flow, change = twice(jnp.array(places))
    u = [flow[0, ..., 0], flow[1, ..., 0], change[0, ..., 0]]
    print(
        f"{name:>7}: mean |u| {abs(u[0]).mean():.3f}, {abs(u[1]).mean():.3f};", end=" "
    )
    print(f"of the flow of flow {abs(u[2]).mean():.3f}")
    rows += [np.uint8(np.clip(127 + 127 * np.asarray(a), 0, 255)) for a in u]
    labels += [f"{name}: flow 1", "flow 2", "flow of flow"]
show(*rows, labels=labels, columns=3)
