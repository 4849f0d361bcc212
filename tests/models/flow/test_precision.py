"""What bfloat16 changes in the flow of whole networks whose weights are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.layers import precision
from tests import golden

# Those that decide between matches: elsewhere the contract bounds the error.
NAMES = ("vcn_small", "hd3_dlaup_hda", "hd3_vgg_resnet", "hd3c_dlaup_hda")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_finds_the_same_matches(test_data, name):
    model, arrays = golden.filled(test_data / "golden" / "flow", name)
    frames = [arrays[key][None] / np.float32(255) for key in ("image1", "image2")]
    exact = np.asarray(golden.run(model, *map(jnp.asarray, frames)).flow)
    precision.set_dtype(model, jnp.bfloat16)
    half = np.asarray(golden.run(model, *map(jnp.asarray, frames)).flow)
    # Where two matches are as good, rounding decides: HD3 then takes the other one in 2
    # pixels of 100 where products of bfloat16 are an instruction (Intel's AMX).
    error = np.quantile(np.linalg.norm(half - exact, axis=-1), 0.95)
    speed = np.quantile(np.linalg.norm(exact, axis=-1), 0.99)
    assert 0 < error <= max(0.25, 0.01 * speed)
