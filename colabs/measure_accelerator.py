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
# # Measure the accelerator that is there
#
# The job of `make accelerator`: rates of a large matrix product and a large copy, then
# what networks and operations reach of them, as a table. On a GPU or a TPU everything
# is measured, in eight minutes; on a CPU two operations on tiny arrays show the way,
# which says little of the CPU.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxflow/jaxflow/blob/main/colabs/measure_accelerator.ipynb)

# %%
import argparse
import os
import sys
import time

try:
    import jaxflow
except ImportError:
    # %pip install -q "jaxflow-motion[video,experiments] @ git+https://github.com/jaxflow/jaxflow"
    import jaxflow

try:
    from experiments.bench import accelerator
except ImportError:  # the job is not part of the package
    # !git clone -q --depth 1 https://github.com/jaxflow/jaxflow repository
    sys.path.insert(0, "repository")
    from experiments.bench import accelerator

import jax
from IPython.display import Markdown, display
from PIL import Image, ImageDraw

# In the test suite, and on a CPU, sizes are tiny and only operations are measured.
SMALL = jax.default_backend() == "cpu"
SMOKE = os.environ.get("JAXFLOW_SMOKE") == "1"
ONLY = "warp*" if SMOKE else "[cw]*, float32" if SMALL else "*"
MINUTES = 8
print(jaxflow.__version__, jax.__version__, jax.devices())

# %% [markdown]
# ## Measure
#
# Each case is compiled, its arrays are on the device, and the median call is taken. A
# case that fails says so and takes no other along; when the minutes are over, the rest
# is skipped.

# %%
arguments = argparse.Namespace(small=SMALL, only=ONLY)
about = accelerator.describe(SMALL)
lines = {}
for line in accelerator.measure(arguments, time.monotonic() + 60 * MINUTES):
    load = round(os.getloadavg()[0], 1)
    lines[about["device"], line["case"]] = {**line, "load": load, **about}
    print(line)

# %% [markdown]
# ## The table
#
# `matrix` is the share of the rate of the matrix product that a call reaches;
# `bandwidth` that of the copy, with each argument and result moved once. The larger of
# both is what bounds it. With a `load` above the number of cores, times mean little.

# %%
display(Markdown(accelerator.table(lines)))


def bars(shares):
    """Draws shares of what the device can do, a row each."""
    image = Image.new("RGB", (560, 22 * len(shares) + 4), "white")
    draw = ImageDraw.Draw(image)
    for row, (label, share) in enumerate(shares.items()):
        top = 22 * row + 4
        draw.text((4, top + 2), label, fill="black")
        draw.rectangle(
            [300, top, 300 + int(200 * min(share, 1)), top + 14], "steelblue"
        )
        draw.text((505, top + 2), f"{share:.1%}", fill="black")
    return image


display(
    bars(
        {
            f"{case}: {kind}": line[kind]
            for (_, case), line in lines.items()
            for kind in ("matrix", "bandwidth")
            if kind in line
        }
    )
)
