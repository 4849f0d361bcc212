"""What every entry of classical.METHODS owes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import classical

# TV-L1's presets share their code with the defaults, and are tested on their own.
NAMES = sorted(set(classical.METHODS) - {"tvl1_skimage", "tvl1_wide"})


@pytest.mark.parametrize("name", NAMES)
def test_batched_bfloat16_colour_frames_give_float32_flow(name):
    frame = jax.ShapeDtypeStruct((2, 3, 40, 48, 3), jnp.bfloat16)
    flow = jax.eval_shape(classical.METHODS[name], frame, frame)
    assert flow.shape == (2, 3, 40, 48, 2) and flow.dtype == jnp.float32


@pytest.mark.parametrize("name", ["affine", "homography", "phase_correlation"])
def test_global_methods_find_a_shift(pair, epe, name):
    one, two, truth = pair((np.eye(2), (3.0, -2.0)))
    flow = jax.jit(classical.METHODS[name])(one, two)
    # Phase correlation is a search on whole pixels with a refined peak.
    assert epe(flow, truth) < (0.3 if name == "phase_correlation" else 0.02)
