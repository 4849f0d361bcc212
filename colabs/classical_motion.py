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
# # Motion before networks
#
# The field's lecture, executable: what one pixel can tell of motion (the aperture
# problem), Lucas and Kanade's window, the pyramid, total variation, the motion of a
# whole frame, and searching for a template. Every claim is a computation whose answer
# is known. It takes a minute on a CPU, and runs on a GPU or a TPU unchanged.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/classical_motion.ipynb)

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
from IPython.display import display
from PIL import Image

from jaxflow import ops
from jaxflow.classical import constraint, lucas_kanade, registration, template
from jaxflow.data import synthetic

# In the test suite the sizes are tiny.
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
SIZE = (32, 48) if SMOKE else (96, 144)
MARGIN = 16  # of the photograph, beyond what is shown
print(jaxflow.__version__, jax.__version__, jax.devices())


def photograph(name, height, width):
    """A photograph of scikit-image, or where that is missing a drawn scene."""
    try:
        from skimage import data

        picture = Image.fromarray(getattr(data, name)()).resize((width, height))
        return jnp.asarray(picture, jnp.float32) / 255
    except ImportError:
        return synthetic.flow_pair(jax.random.key(3), size=(height, width))["image1"]


def move(picture, matrix):
    """What a camera sees after points have moved by a 3 x 3 matrix."""
    grid = ops.pixel_grid(*picture.shape[:2])
    back = registration.apply(jnp.linalg.inv(matrix), grid)
    return ops.bilinear_sample(picture, back, padding="border")


def show(*pictures, labels, columns=None, scale=2):
    """Shows pictures side by side, enlarged."""
    pictures = [np.clip(p, 0, 1) if p.dtype == np.float32 else p for p in pictures]
    large = [np.asarray(p).repeat(scale, 0).repeat(scale, 1) for p in pictures]
    panel = jaxflow.viz.panel(large, labels=labels, columns=columns)
    display(Image.fromarray(panel).quantize(128))


# %% [markdown]
# ## One pixel: the aperture problem
#
# If brightness travels with the point, then `Ix u + Iy v + It = 0`: one equation a
# pixel for two unknowns. It determines the motion along the gradient alone, the *normal
# flow*. Stripes at 45 degrees that move one pixel to the right seem to move by
# (½, ½), down and to the right: the barber pole.

# %%
y, x = jnp.mgrid[: SIZE[0], : SIZE[1]].astype(jnp.float32)


def stripes(shift):
    return (0.5 + 0.4 * jnp.sin((x - shift + y) / 3))[..., None].repeat(3, -1)


true = jnp.zeros((*SIZE, 2)).at[..., 0].set(1.0)
normal, valid = constraint.normal_flow(stripes(0.0), stripes(1.0))
u, v = np.median(np.asarray(normal)[np.asarray(valid)], axis=0)
print(f"true motion (1, 0), normal flow ({u:.2f}, {v:.2f})")
arrows = dict(stride=12, scale=9)
show(
    jaxflow.viz.draw_arrows(stripes(0.0), true, **arrows, color=(0, 160, 255)),
    jaxflow.viz.draw_arrows(stripes(0.0), normal, **arrows, valid=valid),
    labels=["how it moves", "what a pixel tells"],
)

# %% [markdown]
# ## A window: Lucas and Kanade
#
# Pixels of a window share a motion, and give one equation each. How many directions
# they determine is the rank of their second moments `A'A`: 0 where nothing is seen, 1
# along an edge, 2 at corners and in texture. Below, a patch of each kind moves by
# (0.6, 0.3); then a photograph does. White is rank 2, gray 1, black 0.

# %%
third = SIZE[1] // 3
blobs = jnp.sin(x / 2) * jnp.sin(y / 2)
kinds = jnp.where(x < third, 0.0, jnp.where(x < 2 * third, jnp.sin(x / 2), blobs))
shift = jnp.array([[1, 0, 0.6], [0, 1, 0.3], [0, 0, 1]])
patches = (0.5 + 0.4 * kinds)[..., None].repeat(3, -1)
cat = photograph("chelsea", *SIZE)
ranks = []
for frame in (patches, cat):
    motion = lucas_kanade.local_motion(frame, move(frame, shift), tolerance=0.03)
    ranks.append(np.asarray(motion.rank))
    for rank in range(3):
        there = np.asarray(motion.flow)[ranks[-1] == rank]
        middle = np.median(there, axis=0).round(2) if len(there) else "nowhere"
        print(f"rank {rank}: {len(there):5d} pixels, motion (0.6, 0.3) seen as", middle)
gray = [np.uint8(127 * rank) for rank in ranks]
show(patches, gray[0], cat, gray[1], labels=["patches", "rank", "cat", "rank"])

# %% [markdown]
# ## Larger motion: iterate, and build a pyramid
#
# The equation is a tangent: it holds for a pixel or so. Warping by what was found and
# solving again helps as far as the texture is wide; beyond it the search lands in a
# wrong valley. In a pyramid each level halves the motion.

# %%
shifts = [0.5, 1.0, 2.0, 4.0, 8.0, 12.0]
inside = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
large = photograph("chelsea", SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN)
matrices = jnp.stack([jnp.eye(3).at[0, 2].set(shift) for shift in shifts])
seconds = jax.vmap(move, (None, 0))(large, matrices)
firsts = jnp.broadcast_to(large, seconds.shape)
solvers = {
    "one step": dict(levels=1, iterations=1),
    "ten steps": dict(levels=1, iterations=10),
    "pyramid": dict(levels=4, iterations=5),
}
solve = jax.jit(lucas_kanade.lucas_kanade, static_argnames=("levels", "iterations"))
found = {name: solve(firsts, seconds, **how) for name, how in solvers.items()}
print("median error in pixels, for a motion of", *shifts)
for name, flow in found.items():
    errors = [
        float(np.median(np.hypot(*np.moveaxis(f[inside] - np.array([s, 0]), -1, 0))))
        for f, s in zip(np.asarray(flow), shifts, strict=True)
    ]
    print(f"{name:>10}", *(f"{error:7.3f}" for error in errors))
show(*ops.gaussian_pyramid(large, 4), labels=["level 0", "1", "2", "3"])
show(
    *(jaxflow.viz.flow_to_image(flow[4], max_flow=10) for flow in found.values()),
    labels=[f"8 pixels, {name}" for name in found],
)

# %% [markdown]
# ## A prior: smooth, or smooth in pieces
#
# Horn and Schunck ask for a smooth field by squared differences, which blurs the
# border of a moving object. TV-L1 asks by absolute ones: borders are as cheap as ramps,
# and the data term forgives pixels that are hidden. Here the truth is known. What
# leaves the frame is a guess in every method: see the bright spots of the error.

# %%
pair = synthetic.flow_pair(jax.random.key(8), preset="translation", size=SIZE)
frame1, frame2, truth = (np.asarray(pair[k]) for k in ("image1", "image2", "flow"))
scale = jaxflow.viz.max_speed(truth)
pictures, labels = [frame1, jaxflow.viz.flow_to_image(truth, max_flow=scale)], []
for name in ("lucas_kanade", "horn_schunck", "tvl1"):
    flow = jaxflow.estimate_flow(name, frame1, frame2)
    epe = float(jaxflow.metrics.epe(flow, truth))
    print(f"{name:>12}: endpoint error {epe:.2f} pixels")
    pictures.append(jaxflow.viz.flow_to_image(flow, max_flow=scale))
    labels.append(f"{name}, {epe:.2f}")
error = jaxflow.viz.error_map(flow, truth)
show(
    *pictures,
    error,
    labels=["frame 1", "truth", *labels, "error of TV-L1"],
    columns=3,
)

# %% [markdown]
# ## One motion for the whole frame
#
# A camera that turns and comes nearer moves everything by six numbers. Gauss-Newton on
# brightness differences finds them; with them a film is held still, and panoramas are
# made.

# %%
angle, zoom = np.deg2rad(4), 1.05
turn = zoom * np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
)
centre = np.array([large.shape[1], large.shape[0]]) / 2
matrix = np.eye(3)
matrix[:2, :2], matrix[:2, 2] = turn, centre - turn @ centre + [4, -3]
matrix = jnp.asarray(matrix, jnp.float32)
moved = move(large, matrix)
register = jax.jit(lambda a, b: registration.register(a, b, motion="affine"))
result = register(large, moved)
corners = jnp.array([[x, y] for x in (0, large.shape[1]) for y in (0, large.shape[0])])
points = [registration.apply(m, corners.astype(float)) for m in (matrix, result.matrix)]
still = move(moved, jnp.linalg.inv(result.matrix))
before, after = (jnp.abs(frame - large)[inside].mean() for frame in (moved, still))
print(
    "corners are off by at most", float(jnp.abs(points[0] - points[1]).max()), "pixels"
)
print(f"mean difference {before:.4f} before, {after:.4f} after")
show(
    large,
    moved,
    still,
    jnp.abs(moved - large) * 3,
    jnp.abs(still - large) * 3,
    labels=["frame 1", "turned", "brought back", "difference x 3", "and after"],
    columns=3,
    scale=1,
)

# %% [markdown]
# ## Searching: a template, and blocks
#
# Differentials are no help when nothing is known of where a thing went. Correlation
# tries every place; without the means it forgives a change of light. Block matching
# does so for a window around each pixel, and phase correlation for the frame at once.

# %%
top, left, side = 9 * SIZE[0] // 32, 15 * SIZE[1] // 48, 14
eye = cat[top : top + side, left : left + side]
darker = 0.5 * cat + 0.3
scores = {
    zero_mean: np.asarray(template.match_template(darker, eye, zero_mean=zero_mean))
    for zero_mean in (False, True)
}
for zero_mean, score in scores.items():
    place = np.unravel_index(score.argmax(), score.shape)
    print("without means:" if zero_mean else "with means:", [int(k) for k in place])
print("the template was cut at", [top, left])
one, two = large, seconds[4]
shift, peak = jax.jit(template.phase_correlation)(one, two)
print(
    "8 pixels by phase correlation:", np.asarray(shift).round(2), "peak", peak.round(2)
)
match = jax.jit(lambda a, b: template.block_matching(a, b, radius=10, cost="zncc"))
flow = np.asarray(match(one, 0.5 * two + 0.3))
print("8 pixels by blocks, darker:", np.median(flow[inside], axis=(0, 1)).round(2))
box = [[left, top, left + side, top + side]]
show(
    jaxflow.viz.draw_boxes(np.asarray(darker), box),
    np.uint8(255 * scores[False].clip(0)),
    np.uint8(255 * scores[True].clip(0)),
    jaxflow.viz.flow_to_image(flow, max_flow=10),
    labels=["where it was cut", "with means", "without", "block matching"],
    columns=2,
)
