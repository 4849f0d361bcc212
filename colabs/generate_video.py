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
# # One model that predicts, looks back, interpolates and invents
#
# A diffusion model of video that can be given any frames: it is trained once, with
# masks that are drawn at random, and then asked four different questions. It takes
# minutes on a CPU, and runs on a GPU or a TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/generate_video.ipynb)

# %%
import os

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

import jax
import numpy as np
import optax
from IPython.display import display
from PIL import Image

from jaxflow import averaging, generation, quality
from jaxflow.cli.generate import contact_sheet
from jaxflow.data import moving_shapes
from jaxflow.diffusion import training

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
STEPS = 2 if SMOKE else 600
BATCH = 8 if SMOKE else 16
SAMPLING = generation.Settings(steps=2 if SMOKE else 25)
TESTED = 1 if SMOKE else 8
LENGTH = 12 if SMOKE else 60
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Clips
#
# A soft disc or square moves along a line and bounces off the walls: two of its frames
# determine all others.


# %%
def clips_of(seed, count, frames=8):
    """Draws clips, (count, frames, 16, 16, 1) in [0, 1]."""
    key = jax.random.key(seed)
    clips = moving_shapes.clip_batch(
        key, kind="shapes", batch_size=count, frames=frames
    )
    return np.asarray((clips + 1) / 2)


def show(video, observed=None):
    """Shows the frames of a video; those that were given have a green border."""
    frames = np.repeat(np.round(255 * np.clip(video, 0, 1)).astype(np.uint8), 3, -1)
    given = np.zeros(len(video), bool) if observed is None else observed
    display(Image.fromarray(contact_sheet(frames, given)))


tests = clips_of(1_000_003, TESTED)
show(tests[0])

# %% [markdown]
# ## Train
#
# Each clip gets a noise level, and a mask from the distribution of the flexible
# diffusion model: which frames are given, which are asked for. The average of the
# weights over the last steps is what is tested.

# %%
model = jaxflow.create_model("flexible_16", seed=0)
schedule = optax.cosine_decay_schedule(2e-3, STEPS, alpha=0.02)
optimiser = averaging.averaged(
    optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)), decay=0.99
)


def draw(key):
    first, second = jax.random.split(key)
    clips = moving_shapes.clip_batch(first, kind="shapes", batch_size=BATCH, frames=8)
    return training.batch(second, clips, model.process, most=8)


# The batch need not divide over more devices than one.
mesh = jaxflow.train.data_mesh(jax.devices()[:1])
step = jaxflow.train.make_step(model, training.loss, optimiser, draw=draw, mesh=mesh)
state = jaxflow.train.init(model, optimiser, seed=0)
state = jaxflow.train.fit(step, state, steps=STEPS, workdir="runs/shapes")
jaxflow.train.finish(model, jaxflow.train.averaged(state))
jaxflow.save_weights(model, "shapes.safetensors")

# %% [markdown]
# ## Four questions to one checkpoint
#
# The future of three frames, the past of three, what is between two, and a video out of
# nothing. Frames that were given come back bit for bit. On the command line:
#
#     jaxflow generate --model flexible_16 --weights shapes.safetensors \
#         --observe clip.mp4 --task future --output future.mp4 --sheet future.png

# %%
clip = tests[0]
TASKS = {"future": clip[:3], "past": clip[-3:], "interpolate": clip[[0, -1]]}
for task, frames in TASKS.items():
    made = jaxflow.generate(model, frames, observed=task, length=8, settings=SAMPLING)
    observed = generation.places(task, 8, len(frames))
    print(task, "given frames kept:", np.array_equal(made[observed], frames))
    show(made, observed)
print("unconditional")
show(jaxflow.generate(model, settings=SAMPLING, seed=3))

# %% [markdown]
# How good is it? PSNR in decibels over the frames that were not given, of the mean of
# four samples, beside copying the nearest given frame and blending the nearest two.


# %%
def decibels(made, clips, observed):
    return quality.psnr(made[:, ~observed], clips[:, ~observed]).mean()


def sampled(clips, observed, numbers=None):
    """Returns the mean of four samples of each clip; all run in one batch."""
    sample = generation.clip_sampler(model, SAMPLING, process=model.process)
    mask = np.broadcast_to(observed, clips.shape[:2]).astype(np.float32)
    given = np.where(observed[:, None, None, None], 2 * clips - 1, 0)
    numbers = np.arange(clips.shape[1]) if numbers is None else numbers
    numbers = np.broadcast_to(numbers, clips.shape[:2]).astype(np.int32)
    given = given.astype(np.float32)
    runs = [sample(jax.random.key(i), given, mask, 1 - mask, numbers) for i in range(4)]
    return (np.clip(np.mean(runs, axis=0), -1, 1) + 1) / 2


for task, frames in TASKS.items():
    observed = generation.places(task, 8, len(frames))
    for name, made in (
        ("model", sampled(tests, observed)),
        ("copy", quality.copy_nearest(tests, observed)),
        ("blend", quality.linear_blend(tests, observed)),
    ):
        print(f"{task:12} {name:6} {decibels(made, tests, observed):.1f} dB")

# %% [markdown]
# ## A long video from a model of eight frames
#
# Autoregressive: each stage goes on from the newest frames, so that errors grow.
# Hierarchical: a first stage makes frames that are far apart, and the next ones fill
# the gaps. Every fifth frame is shown.

# %%
long = clips_of(7, 1, frames=LENGTH)[0]
observed = generation.places("future", LENGTH, 3)
show(long[::5])
for scheme in ("autoreg", "hierarchy-2"):
    made = jaxflow.generate(
        model, long[:3], length=LENGTH, scheme=scheme, settings=SAMPLING
    )
    error = quality.psnr(made[None], long[None])[0, 3:]
    halves = [part.mean() for part in np.array_split(error, 2)]
    print(f"{scheme}: {halves[0]:.1f} dB in the first half, {halves[1]:.1f} after it")
    show(made[::5], observed[::5])

# %% [markdown]
# ## What the numbers of the frames do
#
# The network is told the number of each frame. If the frames keep their places and swap
# their numbers, it solves another puzzle.

# %%
shuffled = np.random.default_rng(0).permutation(8)
observed = generation.places("future", 8, 3)
for name, numbers in (("in order", None), ("shuffled", shuffled)):
    made = sampled(tests, observed, numbers)
    print(f"numbers {name}: {decibels(made, tests, observed):.1f} dB")
    show(made[0], observed)
