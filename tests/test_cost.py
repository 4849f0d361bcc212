"""Tests for jaxflow.cost."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxflow import cost, ops

# Billions of multiply-adds, counted by hooks in the official code, and sides of clips.
MULTIPLY_ADDS = {
    ("slowfast_4x16_r50", 256): 36.102,
    ("slowfast_nln_8x8_r50", 256): 99.124,
    ("slow_r50", 256): 54.521,
    ("fast_r50", 224): 5.283,
    ("c2d_r50", 256): 25.463,
    ("i3d_r50", 256): 37.106,
    ("i3d_nln_r50", 256): 48.917,
    ("r3d_18", 112): 40.697,
    ("r2plus1d_18", 112): 40.519,
    ("i3d_inception_rgb", 224): 111.153,
    ("c3d", 112): 38.547,
}


@pytest.mark.parametrize(("name", "side"), MULTIPLY_ADDS)
def test_counts_the_official_multiply_adds(name, side):
    _, count = cost.video_cost(name, crop_size=side)
    # The official figures are rounded to three digits.
    assert count / 1e9 == pytest.approx(MULTIPLY_ADDS[name, side], abs=6e-4)


# The paper's ablations at 224 pixels (Table 5), which no official code runs.
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"lateral": "none"}, 26.15),
        ({"lateral": "sample"}, 26.70),
        ({"lateral": "channels"}, 30.52),
        ({"fast_input": "gray"}, 26.07),
        ({"fast_input": "half_size", "beta_inv": 4, "lateral_ratio": 1}, 26.40),
        ({"beta_inv": 6}, 31.89),
    ],
    ids=str,
)
def test_counts_the_ablations_of_slowfast(overrides, expected):
    _, count = cost.video_cost("slowfast_4x16_r50", **overrides)
    assert count / 1e9 == pytest.approx(expected, abs=6e-3)


def test_counts_products_loops_and_branches():
    x = jnp.ones((2, 3))

    def loop(x):
        return lax.scan(lambda x, _: (x @ x.T @ x, None), x, length=5)[0]

    assert cost.multiply_adds(loop, x) == 5 * 2 * 2 * 2 * 3
    branch = [lambda x: x, lambda x: x @ x.T @ x]
    assert cost.multiply_adds(lambda x: lax.cond(True, *branch, x), x) == 24
    assert cost.multiply_adds(jax.checkpoint(branch[1]), x) == 24
    clip, kernel = jnp.ones((1, 4, 5, 6, 2)), jnp.ones((3, 1, 1, 2, 7))

    def conv3d(clip):
        return ops.conv3d(clip, kernel, padding=(1, 0, 0))

    assert cost.multiply_adds(conv3d, clip) == 4 * 5 * 6 * 7 * 3 * 2


def test_counts_parameters_but_not_statistics():
    parameters, _ = cost.video_cost("r3d_18", num_frames=1, crop_size=16)
    assert parameters == 33_371_472
