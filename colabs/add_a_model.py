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
# # Add a model
#
# A flow network of your own, defined in a cell: it is estimated with, trained, saved
# and restored by the same functions as the published ones, and then needs two files to
# be one of them. It takes a minute on a CPU, and runs on a GPU or a TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/add_a_model.ipynb)

# %%
import dataclasses
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

from jaxflow import ops, spec
from jaxflow.data import synthetic
from jaxflow.layers import conv

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (32, 32) if SMOKE else (64, 96)
STEPS = 3 if SMOKE else 50
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## The network
#
# Features of both frames at a quarter of the size; the likeness of each pixel to those
# around it; the mean of the displacements, weighted by a softmax of the likeness. What
# is learned is what makes two pixels alike.
#
# A `Config` of plain numbers, a module that keeps nothing but weights, `frames` that
# say which sizes it takes, and one `spec.Flow` that it returns: that is all a flow
# network owes.


# %%
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Channels of the features, and how far a pixel looks, in features' pixels."""

    features: tuple[int, ...] = (16, 24, 32)
    radius: int = 3

    def __post_init__(self):
        spec.check_config(self)


class SoftMatch(nnx.Module):
    """Flow as the expected displacement under a softmax of likeness."""

    dtype = jnp.float32

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.frames = spec.Frames(multiple=4)
        channels, strides = (3, *config.features), (2, 2, 1)
        self.convs = nnx.data(
            [
                conv.Conv(channels[i], channels[i + 1], strides=strides[i], rngs=rngs)
                for i in range(3)
            ]
        )
        self.sharpness = nnx.Param(jnp.array(10.0))

    def __call__(self, image1: jax.Array, image2: jax.Array) -> spec.Flow:
        """Estimates flow from `image1` to `image2`, both (B, H, W, 3) in [0, 1]."""
        image1, image2 = spec.check_pair(image1, image2, self.frames)
        one, two = self.features(image1), self.features(image2)
        radius = self.config.radius
        likeness = ops.local_correlation(one, two, radius=radius, normalise=False)
        chance = jax.nn.softmax(self.sharpness[...] * likeness)
        v, u = jnp.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
        coarse = chance @ jnp.stack([u, v], -1).astype(chance.dtype)
        return spec.Flow(ops.resize_flow(coarse, image1.shape[1:3]), (coarse,))

    def features(self, image: jax.Array) -> jax.Array:
        """Maps (B, H, W, 3) to vectors of length one, (B, H / 4, W / 4, C)."""
        x = image - 0.5
        for layer in self.convs[:-1]:
            x = nnx.relu(layer(x))
        x = self.convs[-1](x)
        return x / jnp.sqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-6)


def build(seed):
    model = SoftMatch(Config(), rngs=nnx.Rngs(seed))
    model.eval()
    return model


model = build(seed=0)
print(sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))), "parameters")

# %% [markdown]
# ## Estimate
#
# `estimate_flow` takes it as it takes any other: frames of any size, one pair or a
# batch. Before it has learnt what is alike, it is no better than no flow at all.

# %%
pair = synthetic.flow_pair(jax.random.key(8), preset="translation", size=SIZE)
frame1, frame2, truth = (np.asarray(pair[k]) for k in ("image1", "image2", "flow"))
fresh = jaxflow.estimate_flow(model, frame1, frame2)
print("endpoint error, fresh:", float(jaxflow.metrics.epe(fresh, truth)))
print("of zero flow:", float(jaxflow.metrics.epe(0 * truth, truth)))

# %% [markdown]
# ## Train
#
# The step is one pure function, compiled over all devices; its scenes are drawn inside
# it.


# %%
def draw(key):
    size = 8 * len(jax.devices())
    return synthetic.flow_batch(key, preset="translation", batch_size=size, size=SIZE)


def loss(model, batch):
    found = model(batch["image1"], batch["image2"]).flow
    return jnp.mean(jnp.abs(found - batch["flow"]))


optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
step = jaxflow.train.make_step(model, loss, optimiser, draw=draw)
state = jaxflow.train.init(model, optimiser, seed=0)
state = jaxflow.train.fit(step, state, steps=STEPS, workdir="runs/soft_match")
jaxflow.train.finish(model, state)

# %%
trained = jaxflow.estimate_flow(model, frame1, frame2)
scale = jaxflow.viz.max_speed(truth)
colours = [
    jaxflow.viz.flow_to_image(f, max_flow=scale) for f in (truth, fresh, trained)
]
labels = ["frame 1", "truth"]
for name, flow in (("fresh", fresh), ("trained", trained)):
    labels.append(f"{name}, {float(jaxflow.metrics.epe(flow, truth)):.2f}")
print(labels[-2:])
large = [np.asarray(p).repeat(2, 0).repeat(2, 1) for p in (frame1, *colours)]
display(Image.fromarray(jaxflow.viz.panel(large, labels=labels)))

# %% [markdown]
# ## Save and restore

# %%
jaxflow.checkpoint.save("soft_match", model)
restored = build(seed=1)
jaxflow.checkpoint.restore("soft_match", restored)
again = jaxflow.estimate_flow(restored, frame1, frame2)
print("the same bit for bit:", np.array_equal(again, trained))

# %% [markdown]
# ## The two files
#
# To be created by name, listed, and held to the contract of all models, the network
# needs a record of its variants. With it, the cells above become
#
# 1. `jaxflow/models/flow/soft_match.py`: a docstring with the paper, the licence of its
#    weights and every deviation; `Config`; the module, named `Model`; and the record.
# 2. `tests/models/flow/test_soft_match.py`: what is compared with the authors' program,
#    and what is peculiar, such as the claim below.
#
# Nothing else names it: `jaxflow.list_models()` finds the file, and
# `tests/models/test_contract.py` checks it. `CONTRIBUTING.md` says the rest.

# %%
RECORD = SoftMatch.record = spec.Record(
    model=SoftMatch,
    variants={"soft_match": Config()},
    tiny=Config(features=(4, 4, 4), radius=2),
)


def test_no_flow_is_longer_than_the_search():
    tiny = RECORD.model(RECORD.tiny, rngs=nnx.Rngs(0))
    frames = jax.random.uniform(jax.random.key(0), (2, 1, 16, 16, 3))
    flow = jax.jit(lambda a, b: tiny(a, b).flow)(*frames)
    assert jnp.abs(flow).max() <= 4 * RECORD.tiny.radius  # a quarter of the size


test_no_flow_is_longer_than_the_search()
print("variants:", *RECORD.variants)
